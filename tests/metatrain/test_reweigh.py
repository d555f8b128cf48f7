"""``handful checkpoint reweigh``, as a user types it: the same weights, other features."""

import os
from pathlib import Path

import pytest
import torch

from metalearn.encoder import Encoder, EncoderSettings
from metalearn.halves import Halves, side_by_side
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
    """A checkpoint with stock features beside those of one trained layer."""
    return make_checkpoint(ModelSpec(trained_layers=1, stock_view=True))


def test_a_copy_has_other_features_of_the_same_weights(handful: Handful, beside: Path, tiny_encoder: Path) -> None:
    handful("checkpoint", "reweigh", str(beside), "copy", "--stock-share", "0.7", "--stock-mix", "1,0.25")
    before, after = Checkpoint(beside, CPU), Checkpoint(handful.folder / "copy", CPU)
    assert after.encoder.settings.halves == Halves((1.0, 0.25), 0.7)
    assert after.fingerprint != before.fingerprint
    assert after.manifest.slow_weights == before.manifest.slow_weights
    assert after.manifest.hyperparameters == before.manifest.hyperparameters
    assert after.manifest.trained_on == before.manifest.trained_on
    assert "share of 0.7" in (handful.folder / "copy" / CARD).read_text()
    how = EncoderSettings(before.encoder.settings.max_tokens, halves=Halves((1.0, 0.25), 0.7))
    stock = Encoder(tiny_encoder, how, CPU)
    texts = stock.tokenize([TextInput("where is my card"), TextInput("a fee", "another fee")])
    trained = before.encoder.encode_batch(texts)[:, 32:] * 2**0.5
    expected = side_by_side(stock.stock_features(stock.begin_batch(texts, 1), 1), trained, 0.7)
    torch.testing.assert_close(after.encoder.encode_batch(texts), expected, atol=1e-6, rtol=0)


def test_a_copy_whose_trained_half_is_a_mix_too(handful: Handful, beside: Path) -> None:
    handful("checkpoint", "reweigh", str(beside), "copy", "--stock-share", "0.5", "--trained-mix", "1,0.5")
    before, after = Checkpoint(beside, CPU), Checkpoint(handful.folder / "copy", CPU)
    assert after.encoder.settings.halves == Halves(trained_mix=(1.0, 0.5))
    assert after.fingerprint != before.fingerprint
    assert "trained features are such a mix as 1 : 0.5." in (handful.folder / "copy" / CARD).read_text()
    texts = before.encoder.tokenize([TextInput("where is my card"), TextInput("a fee", "another fee")])
    assert torch.equal(after.encoder.encode_batch(texts)[:, :32], before.encoder.encode_batch(texts)[:, :32])
    assert not torch.allclose(after.encoder.encode_batch(texts)[:, 32:], before.encoder.encode_batch(texts)[:, 32:])
    # Once more without saying so: it stays
    handful("checkpoint", "reweigh", "copy", "again", "--stock-share", "0.5")
    assert read_manifest(handful.folder / "again").encoder == after.manifest.encoder


def test_a_copy_whose_pairs_are_told_by_their_tokens_too(handful: Handful, beside: Path) -> None:
    words = ("--stock-share", "0.5", "--token-similarity", "1.5")
    handful("checkpoint", "reweigh", str(beside), "copy", *words)
    before, after = Checkpoint(beside, CPU), Checkpoint(handful.folder / "copy", CPU)
    assert after.encoder.settings.halves == Halves(token_similarity=1.5)
    assert after.model.body.dim == before.model.body.dim + 2
    assert "counts 1.5 beside features" in (handful.folder / "copy" / CARD).read_text()
    texts = before.encoder.tokenize([TextInput("where is my card"), TextInput("a fee", "another fee")])
    assert torch.equal(after.encoder.encode_batch(texts)[:, :64], before.encoder.encode_batch(texts))


def test_a_copy_that_pools_words_alone(handful: Handful, beside: Path) -> None:
    handful("checkpoint", "reweigh", str(beside), "copy", "--stock-share", "0.5", "--words-only")
    before, after = Checkpoint(beside, CPU), Checkpoint(handful.folder / "copy", CPU)
    assert after.encoder.settings.halves == Halves(words_only=True)
    assert after.fingerprint != before.fingerprint
    assert "left out of the means" in (handful.folder / "copy" / CARD).read_text()
    texts = before.encoder.tokenize([TextInput("where is my card"), TextInput("a fee", "another fee")])
    assert not torch.allclose(after.encoder.encode_batch(texts), before.encoder.encode_batch(texts))


def test_a_copy_in_which_label_texts_count_otherwise(handful: Handful, beside: Path) -> None:
    words = ("--stock-share", "0.5", "--label-text-count", "3")
    handful("checkpoint", "reweigh", str(beside), "copy", *words)
    before, after = Checkpoint(beside, CPU).slow_weights, Checkpoint(handful.folder / "copy", CPU).slow_weights
    assert float(after["prior.log_weight"].exp()) == pytest.approx(3)
    assert all(torch.equal(after[name], weight) for name, weight in before.items() if name != "prior.log_weight")
    assert "counts 3 beside" in (handful.folder / "copy" / CARD).read_text()


def test_a_copy_whose_tasks_take_fewer_steps(handful: Handful, beside: Path) -> None:
    handful("checkpoint", "reweigh", str(beside), "copy", "--stock-share", "0.5", "--steps", "1")
    before, after = read_manifest(beside), read_manifest(handful.folder / "copy")
    assert before.hyperparameters.steps != 1
    assert after.hyperparameters == before.hyperparameters.model_copy(update={"steps": 1})
    assert "takes 1 inner step." in (handful.folder / "copy" / CARD).read_text()


def test_by_default_the_mix_is_that_of_training(handful: Handful, beside: Path) -> None:
    handful("checkpoint", "reweigh", str(beside), "same", "--stock-share", "0.5")
    same = read_manifest(handful.folder / "same")
    assert same.encoder.stock is None
    assert same.encoder.settings == read_manifest(beside).encoder.settings


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--stock-share", "1.5"), "less than or equal to 1"),
        (("--stock-share", "nan"), "share"),
        (("--stock-share", "0.5", "--stock-mix", "much"), "'much' is not a list of numbers"),
        (("--stock-share", "0.5", "--stock-mix", "1,1,1"), "there are 2 states"),
        (("--stock-share", "0.5", "--stock-mix", "0"), "no state counts"),
        (("--stock-share", "0.5", "--trained-mix", "1,1,1"), "there are 2 states"),
        (("--stock-share", "0.5", "--trained-mix", "0,0"), "no state counts"),
        (("--stock-share", "0.5", "--stock-mix", "1,-1"), "greater than or equal to 0"),
        (("--stock-share", "0.5", "--stock-mix", "inf"), "finite"),
        (("--stock-share", "0.5", "--token-similarity", "-1"), "greater than or equal to 0"),
        (("--stock-share", "0.5", "--token-similarity", "nan"), "greater than or equal to 0"),
        (("--stock-share", "0.5", "--label-text-count", "0"), "greater than or equal to 0.001"),
    ],
)
def test_weights_that_make_no_sense_are_refused(
    handful: Handful, beside: Path, words: tuple[str, ...], says: str
) -> None:
    said = handful.fails("checkpoint", "reweigh", str(beside), "copy", *words, codes=(1, 2))
    assert says in said.replace("│", " ").replace("  ", " ")
    assert not (handful.folder / "copy").exists()


def test_a_checkpoint_without_stock_features_is_refused(handful: Handful, tiny_checkpoint: Path) -> None:
    said = handful.fails("checkpoint", "reweigh", str(tiny_checkpoint), "copy", "--stock-share", "0.5")
    assert "no stock features" in said


# ---- handful checkpoint average --------------------------------------------------------------------------------------


def _moved(folder: Path, encoder: Path, seed: int) -> Path:
    """A checkpoint whose every slow weight was moved."""
    spec, how = ModelSpec(trained_layers=1, stock_view=True), EncoderSettings(64)
    draw = torch.Generator().manual_seed(seed)
    slow = make_text_model(spec, Encoder(encoder, how, CPU)).initial_slow_weights(steps=UNTRAINED.steps)
    write_checkpoint(
        folder,
        name=folder.name,
        spec=spec,
        hyperparameters=UNTRAINED,
        encoder_source=str(encoder),
        encoder_licence="none",
        card=f"# {folder.name}\n",
        slow_weights={n: w + 0.1 * torch.randn(w.shape, generator=draw) for n, w in slow.items()},
        settings=how,
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
    for one, other in ((beside, make_checkpoint(ModelSpec(trained_layers=1))), (tiny_checkpoint, tiny_checkpoint)):
        assert "can be averaged" in handful.fails("checkpoint", "average", str(one), str(other), "half")
    assert not (handful.folder / "half").exists()
