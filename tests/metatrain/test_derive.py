"""``handful checkpoint derive`` and ``average``, as a user types them."""

import json
import os
from pathlib import Path

import pytest
import torch

from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import Views, encoder_stages, views_of
from metalearn.encoder.views import side_by_side
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.types import TextInput
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
def beside(make_checkpoint: MakeCheckpoint) -> Path:
    """A checkpoint with a frozen view beside one tuned layer."""
    return make_checkpoint(ModelSpec(tuned_layers=1, frozen_view=True))


def derive(handful: Handful, base: object, *words: str, out: str = "copy", **features: object) -> None:
    """Derives a checkpoint; has to succeed."""
    handful("checkpoint", "derive", str(base), out, *file_of(handful, features), *words)


def file_of(handful: Handful, features: object) -> tuple[str, ...]:
    """The option that names a file of features; none where there are none."""
    if not features:
        return ()
    (handful.folder / "features.json").write_text(json.dumps(features))
    return "--features", "features.json"


def test_a_copy_has_other_features_of_the_same_weights(handful: Handful, beside: Path, tiny_encoder: Path) -> None:
    derive(handful, beside, view_weight=0.7, layer_weights=[1, 0.25])
    before, after = Checkpoint(beside, CPU), Checkpoint(handful.folder / "copy", CPU)
    assert after.encoder.views == Views(layer_weights=(1.0, 0.25), view_weight=0.7)
    assert after.fingerprint != before.fingerprint
    assert after.manifest.slow_weights == before.manifest.slow_weights
    assert after.manifest.hyperparameters == before.manifest.hyperparameters
    assert after.manifest.trained_on == before.manifest.trained_on
    assert "with view_weight 0.7, layer_weights [1, 0.25]." in (handful.folder / "copy" / CARD).read_text()
    how = encoder_stages(max_tokens=before.encoder.max_tokens, views=Views(layer_weights=(1.0, 0.25), view_weight=0.7))
    encoder = build_encoder(tiny_encoder, how, CPU)
    texts = encoder.tokenize([TextInput("where is my card"), TextInput("a fee", "another fee")])
    tuned = before.encoder.encode_batch(texts)[:, 32:] * 2**0.5
    expected = side_by_side(encoder.frozen_features(encoder.begin_batch(texts, 1), 1), tuned, 0.7)
    torch.testing.assert_close(after.encoder.encode_batch(texts), expected, atol=1e-6, rtol=0)


def test_a_copy_has_layer_weights_of_the_tuned_view(handful: Handful, beside: Path) -> None:
    derive(handful, beside, tuned_layer_weights=[1, 0.5])
    before, after = Checkpoint(beside, CPU), Checkpoint(handful.folder / "copy", CPU)
    assert after.encoder.views == Views(tuned_layer_weights=(1.0, 0.5))
    assert after.fingerprint != before.fingerprint
    assert "with tuned_layer_weights [1, 0.5]." in (handful.folder / "copy" / CARD).read_text()
    texts = before.encoder.tokenize([TextInput("where is my card"), TextInput("a fee", "another fee")])
    assert torch.equal(after.encoder.encode_batch(texts)[:, :32], before.encoder.encode_batch(texts)[:, :32])
    assert not torch.allclose(after.encoder.encode_batch(texts)[:, 32:], before.encoder.encode_batch(texts)[:, 32:])
    # What is not given stays as it is
    derive(handful, "copy", "--steps", "1", out="again", view_weight=0.4)
    again = read_manifest(handful.folder / "again")
    assert views_of(again.encoder.stages) == Views(view_weight=0.4, tuned_layer_weights=(1.0, 0.5))
    derive(handful, "again", out="same")
    same = read_manifest(handful.folder / "same")
    left_out = {"name", "fingerprint"}
    assert same.model_dump(exclude=left_out) == again.model_dump(exclude=left_out)


def test_a_copy_has_token_similarity_of_pairs(handful: Handful, beside: Path) -> None:
    derive(handful, beside, token_similarity=1.5)
    before, after = Checkpoint(beside, CPU), Checkpoint(handful.folder / "copy", CPU)
    assert after.encoder.views == Views(token_similarity=1.5)
    assert after.model.body.dim == before.model.body.dim + 2
    assert "token_similarity 1.5." in (handful.folder / "copy" / CARD).read_text()
    texts = before.encoder.tokenize([TextInput("where is my card"), TextInput("a fee", "another fee")])
    assert torch.equal(after.encoder.encode_batch(texts)[:, :64], before.encoder.encode_batch(texts))


def test_a_copy_in_which_label_texts_count_otherwise(handful: Handful, beside: Path) -> None:
    derive(handful, beside, "--label-text-count", "3")
    before, after = Checkpoint(beside, CPU).slow_weights, Checkpoint(handful.folder / "copy", CPU).slow_weights
    assert float(after["prior.log_weight"].exp()) == pytest.approx(3)
    assert all(torch.equal(after[name], weight) for name, weight in before.items() if name != "prior.log_weight")
    assert "with label text count 3." in (handful.folder / "copy" / CARD).read_text()


def test_a_copy_that_reads_shorter_texts(handful: Handful, beside: Path) -> None:
    derive(handful, beside, "--max-tokens", "16")
    before, after = read_manifest(beside), read_manifest(handful.folder / "copy")
    assert before.encoder.max_tokens != 16
    assert after.encoder.max_tokens == 16
    assert after.encoder.stages[1:] == before.encoder.stages[1:]
    assert "with texts of up to 16 tokens." in (handful.folder / "copy" / CARD).read_text()


def test_a_copy_whose_tasks_take_fewer_steps(handful: Handful, beside: Path) -> None:
    derive(handful, beside, "--steps", "1")
    before, after = read_manifest(beside), read_manifest(handful.folder / "copy")
    assert before.hyperparameters.steps != 1
    assert after.hyperparameters == before.hyperparameters.model_copy(update={"steps": 1})
    assert "with steps 1." in (handful.folder / "copy" / CARD).read_text()


def test_by_default_a_checkpoint_is_derived_as_it_is(handful: Handful, beside: Path, tiny_checkpoint: Path) -> None:
    for number, base in enumerate((beside, tiny_checkpoint)):
        derive(handful, base, out=f"same{number}")
        before, same = read_manifest(base), read_manifest(handful.folder / f"same{number}")
        assert same.name == f"same{number}"
        left_out = {"name", "fingerprint"}
        assert same.model_dump(exclude=left_out) == before.model_dump(exclude=left_out)


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"view_weight": 1.5}, "less than or equal to 1"),
        ({"view_weight": "much"}, "valid number"),
        ({"layer_weights": [1, 1, 1]}, "there are 2 states"),
        ({"layer_weights": [0]}, "every weight is zero"),
        ({"tuned_layer_weights": [1, 1, 1]}, "there are 2 states"),
        ({"tuned_layer_weights": [0, 0]}, "every weight is zero"),
        ({"layer_weights": [1, -1]}, "greater than or equal to 0"),
        ({"layer_weights": [float("inf")]}, "finite"),
        ({"token_similarity": -1}, "greater than or equal to 0"),
        ({"token_similarity": float("nan")}, "finite"),
        ({"view_weights": 0.5}, "features have no 'view_weights'; they have: stage, view_weight,"),
        ([1], "no JSON object"),
    ],
)
def test_features_that_make_no_sense_are_refused(handful: Handful, beside: Path, features: object, reason: str) -> None:
    message = handful.fails("checkpoint", "derive", str(beside), "copy", *file_of(handful, features), codes=(1, 2))
    assert reason in " ".join(message.replace("│", " ").split())
    assert not (handful.folder / "copy").exists()


def test_other_values_that_make_no_sense_are_refused(handful: Handful, beside: Path, tiny_checkpoint: Path) -> None:
    fails = handful.fails
    refused = fails("checkpoint", "derive", str(beside), "copy", "--label-text-count", "0", codes=(1, 2))
    assert "0.001" in refused
    assert "cannot read" in fails("checkpoint", "derive", str(beside), "copy", "--features", "absent", codes=(1, 2))
    words = file_of(handful, {"share": 0.5})
    assert "no frozen view" in fails("checkpoint", "derive", str(tiny_checkpoint), "copy", *words)
    assert not (handful.folder / "copy").exists()


# ---- handful checkpoint average --------------------------------------------------------------------------------------


def _moved(folder: Path, encoder: Path, seed: int) -> Path:
    """A checkpoint whose every slow weight was moved."""
    spec, how = ModelSpec(tuned_layers=1, frozen_view=True), encoder_stages(max_tokens=64)
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
    handful: Handful, beside: Path, make_checkpoint: MakeCheckpoint, tiny_checkpoint: Path
) -> None:
    for one, other in ((beside, make_checkpoint(ModelSpec(tuned_layers=1))), (tiny_checkpoint, tiny_checkpoint)):
        assert "can be averaged" in handful.fails("checkpoint", "average", str(one), str(other), "half")
    assert not (handful.folder / "half").exists()
