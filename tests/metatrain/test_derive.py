"""``handful checkpoint derive`` and ``average``, as a user types them."""

import os
from pathlib import Path

import pytest
import torch

from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.model_spec import ModelSpec, make_text_model
from model_store.checkpoint import UNTRAINED, Checkpoint, read_manifest, read_slow_weights, write_checkpoint
from model_store.manifest import CARD, TrainingTask
from service.settings import PREFIX
from tests.conftest import MakeCheckpoint
from tests.handful.cli.test_cli import Handful

CPU = torch.device("cpu")


@pytest.fixture
def handful(tmp_path: Path) -> Handful:
    """The command in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return Handful(tmp_path, {**kept, "COLUMNS": "200"})


@pytest.fixture
def tuned(make_checkpoint: MakeCheckpoint) -> Path:
    """A checkpoint with one tuned layer."""
    return make_checkpoint(ModelSpec(tuned_layers=1))


def derive(handful: Handful, base: object, *words: str, out: str = "copy") -> None:
    """Derives a checkpoint; has to succeed."""
    handful("checkpoint", "derive", str(base), out, *words)


def test_a_copy_in_which_label_texts_count_otherwise(handful: Handful, tuned: Path) -> None:
    derive(handful, tuned, "--label-text-count", "3")
    before, after = Checkpoint(tuned, CPU).slow_weights, Checkpoint(handful.folder / "copy", CPU).slow_weights
    assert float(after["prior.log_weight"].exp()) == pytest.approx(3)
    assert all(torch.equal(after[name], weight) for name, weight in before.items() if name != "prior.log_weight")
    assert "with label text count 3." in (handful.folder / "copy" / CARD).read_text()


def test_a_copy_that_reads_shorter_texts(handful: Handful, tuned: Path) -> None:
    derive(handful, tuned, "--max-tokens", "16")
    before, after = read_manifest(tuned), read_manifest(handful.folder / "copy")
    assert before.encoder.max_tokens != 16
    assert after.encoder.max_tokens == 16
    assert after.encoder.stages.pooling == before.encoder.stages.pooling
    assert "with texts of up to 16 tokens." in (handful.folder / "copy" / CARD).read_text()


def test_a_copy_whose_tasks_take_fewer_steps(handful: Handful, tuned: Path) -> None:
    derive(handful, tuned, "--steps", "1")
    before, after = read_manifest(tuned), read_manifest(handful.folder / "copy")
    assert before.hyperparameters.steps != 1
    assert after.hyperparameters == before.hyperparameters.model_copy(update={"steps": 1})
    assert "with steps 1." in (handful.folder / "copy" / CARD).read_text()


def test_by_default_a_checkpoint_is_derived_as_it_is(handful: Handful, tuned: Path, tiny_checkpoint: Path) -> None:
    for number, base in enumerate((tuned, tiny_checkpoint)):
        derive(handful, base, out=f"same{number}")
        before, same = read_manifest(base), read_manifest(handful.folder / f"same{number}")
        assert same.name == f"same{number}"
        left_out = {"name", "fingerprint"}
        assert same.model_dump(exclude=left_out) == before.model_dump(exclude=left_out)


def test_a_value_that_makes_no_sense_is_refused(handful: Handful, tuned: Path) -> None:
    words = ("checkpoint", "derive", str(tuned), "copy", "--label-text-count", "0")
    assert "0.001" in handful.fails(*words, codes=(1, 2))
    assert not (handful.folder / "copy").exists()


# ---- handful checkpoint average --------------------------------------------------------------------------------------


def _moved(folder: Path, encoder: Path, seed: int) -> Path:
    """A checkpoint whose every slow weight was moved."""
    spec, how = ModelSpec(tuned_layers=1), encoder_stages(max_tokens=64)
    draw = torch.Generator().manual_seed(seed)
    slow = make_text_model(spec, build_encoder(encoder, how, CPU)).initial_slow_weights(steps=UNTRAINED.steps)
    write_checkpoint(
        folder,
        name=folder.name,
        spec=spec,
        hyperparameters=UNTRAINED,
        encoder_source=str(encoder),
        encoder_licence="none",
        card=f"# {folder.name}\n",
        slow_weights={n: w + 0.1 * torch.randn(w.shape, generator=draw) for n, w in slow.items()},
        stages=how,
        trained_on=[TrainingTask(name="both", licence="MIT"), TrainingTask(name=folder.name, licence="MIT")],
    )
    return folder


@pytest.mark.parametrize(("options", "share"), [((), 0.5), (("--share", "0.3"), 0.3)])
def test_layers_between_two_checkpoints(
    handful: Handful, tiny_encoder: Path, options: tuple[str, ...], share: float
) -> None:
    one, other = (_moved(handful.folder / name, tiny_encoder, seed) for seed, name in enumerate(("a", "b")))
    handful("checkpoint", "average", str(one), str(other), "between", *options)
    between = handful.folder / "between"
    weights = [read_slow_weights(folder) for folder in (one, other, between)]
    assert weights[0].keys() == weights[2].keys()
    for name, found in weights[2].items():
        of_other = share if name.startswith("body.") else 0.0
        expected = (1 - of_other) * weights[0][name] + of_other * weights[1][name]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    assert any(name.startswith("body.") for name in weights[2])
    manifest = read_manifest(between)
    assert sorted(task.name for task in manifest.trained_on) == ["a", "b", "both"]
    assert f"{1 - share:g} of those of `a`" in (between / CARD).read_text()
    Checkpoint(between, CPU)


def test_checkpoints_of_another_make_are_not_averaged(
    handful: Handful, tuned: Path, make_checkpoint: MakeCheckpoint, tiny_checkpoint: Path
) -> None:
    for one, other in ((tuned, make_checkpoint(ModelSpec(tuned_layers=2))), (tiny_checkpoint, tiny_checkpoint)):
        assert "can be averaged" in handful.fails("checkpoint", "average", str(one), str(other), "half")
    assert not (handful.folder / "half").exists()
