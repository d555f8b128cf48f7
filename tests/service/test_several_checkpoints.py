"""Several checkpoints in one server: each version is answered by the checkpoint that made it."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from metalearn.model_spec import ModelSpec
from tests.conftest import MakeCheckpoint, StartService
from tests.service.conftest import adapt, predict


@pytest.fixture(scope="session")
def four_checkpoints(make_checkpoint: MakeCheckpoint, tiny_checkpoint: Path, other_checkpoint: Path) -> list[Path]:
    """Two checkpoints with heads and other limits, one whose learner keeps its texts, one with modulations."""
    modulated = make_checkpoint(ModelSpec("protomaml", "modulations", 1))
    return [tiny_checkpoint, other_checkpoint, make_checkpoint(ModelSpec("matching")), modulated]


def start(start_service: StartService, folders: Sequence[Path], **settings: object) -> httpx.Client:
    """A service with several checkpoints, the first of them the default."""
    return start_service(checkpoint=[str(folder) for folder in folders], **settings)


def loaded(client: httpx.Client) -> dict[str, str]:
    """Fingerprints of the loaded checkpoints by name, the default one first."""
    return {each["name"]: each["fingerprint"] for each in client.get("/v1/checkpoints").json()["checkpoints"]}


def test_each_version_is_answered_by_the_checkpoint_that_made_it(
    start_service: StartService, tiny_checkpoint: Path, other_checkpoint: Path, tmp_path: Path
) -> None:
    both = start(start_service, [tiny_checkpoint, other_checkpoint])
    prints = loaded(both)
    assert adapt(both)["checkpoint"] == prints["tiny"], "the first is the default"
    assert adapt(both, checkpoint="other", steps=3)["checkpoint"] == prints["other"]
    assert adapt(both, checkpoint=prints["tiny"][:12], steps=3)["version"] == 3
    for version, folder in ((1, tiny_checkpoint), (2, other_checkpoint), (3, tiny_checkpoint)):
        alone = start_service(checkpoint=str(folder), store=f"sqlite:{tmp_path / f'{version}.db'}")
        adapt(alone, **({} if version == 1 else {"steps": 3}))
        assert predict(both, version=version)["predictions"] == predict(alone)["predictions"]
