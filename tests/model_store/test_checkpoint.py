"""Checkpoint folders: whole or refused, never overwritten, the same input under the same fingerprint."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from metalearn.body import TextBody
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.source import encoder_files, locate_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.errors import EncoderUnavailable, InvalidModel, UnknownLearner, UnknownUpdateRule
from metalearn.learners import LEARNERS, make_learner
from metalearn.learners.interface import LearnerOptions
from metalearn.meta_model import MetaModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.types import SlowWeights, TextInput
from model_store.checkpoint import (
    DEFAULT_CHECKPOINT,
    SHIPPED,
    UNTRAINED,
    Checkpoint,
    Hyperparameters,
    Manifest,
    TrainingTask,
    read_manifest,
    resolve_checkpoint,
    write_checkpoint,
)
from model_store.errors import CheckpointInvalid

CPU = torch.device("cpu")
TWO_VIEWS = "two views.*handful metatrain.*handful tasks readapt"
SLOW = {
    "learner.log_scale": torch.tensor(0.5),
    "learner.log_head_rate": torch.tensor(-1.0),
    "prior.log_weight": torch.tensor(0.25),
    "prior.fade": torch.tensor(0.75),
}

SPECS = {
    "modulations": ModelSpec("protomaml", "modulations", 2, options=LearnerOptions(rates="per_layer_per_step")),
    "low_rank": ModelSpec("maml", "low_rank", 1, rank=3, tuned_layers=2),
    "full": ModelSpec("metasgd", "full", 1, options=LearnerOptions(update_rule="adam", body_rate=0.25)),
    "head": ModelSpec("anil", tuned_layers=1, options=LearnerOptions(order="first", head_rate=0.5)),
    "all_tuned": ModelSpec("metasgd", tuned_layers=2),
}


def _write(folder: Path, encoder: Path | str, **changes: Any) -> Manifest:
    return write_checkpoint(
        folder,
        **{
            "name": "test",
            "spec": ModelSpec(),
            "hyperparameters": UNTRAINED,
            "encoder_source": str(encoder),
            "encoder_licence": "none",
            "card": "# test\n\nÜberschrift\n",
            "stages": encoder_stages(max_tokens=64),
            **changes,
        },
    )


def _slow(encoder: Path) -> dict[str, torch.Tensor]:
    """All slow weights of the default spec, those above in the place of where they start."""
    model = make_text_model(ModelSpec(), build_encoder(encoder, encoder_stages(max_tokens=64), CPU))
    initial = model.initial_slow_weights(steps=UNTRAINED.steps)
    assert SLOW.keys() <= initial.keys()
    return {**initial, **SLOW}


@pytest.fixture
def encoder_copy(tiny_encoder: Path, tmp_path: Path) -> Path:
    """The tiny encoder in a folder that a test may alter."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


@pytest.fixture(scope="module")
def written(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint on the tiny encoder, to be copied."""
    folder = tmp_path_factory.mktemp("written") / "checkpoint"
    _write(folder, tiny_encoder)
    return folder


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may alter."""
    return Path(shutil.copytree(written, tmp_path / "checkpoint"))


# ---- there and back ------------------------------------------------------------------------------------------------


def test_what_was_written_is_loaded(tiny_encoder: Path, tmp_path: Path) -> None:
    slow = {name: torch.nn.Parameter(weight) for name, weight in _slow(tiny_encoder).items()}
    chosen = Hyperparameters(steps=3, abstain_threshold=0.25)
    trained_on = [TrainingTask(name="banking77", licence="CC-BY-4.0", language="en")]
    written = _write(
        tmp_path / "deep" / "er",
        tiny_encoder,
        slow_weights=slow,
        hyperparameters=chosen,
        trained_on=trained_on,
        stages=encoder_stages(max_tokens=32, normalize=False),
    )
    loaded = Checkpoint(tmp_path / "deep" / "er", CPU)
    assert loaded.manifest == written
    assert loaded.fingerprint == written.fingerprint == written.computed_fingerprint()
    assert loaded.manifest.hyperparameters == chosen
    assert loaded.manifest.trained_on == trained_on
    assert loaded.manifest.languages == ["en"]
    assert loaded.manifest.encoder.licence == "none"
    assert loaded.encoder.stages == encoder_stages(max_tokens=32, normalize=False)
    assert loaded.encoder.dim == loaded.manifest.encoder.dim == 32
    assert loaded.learner.name == "protomaml"
    assert loaded.learner is loaded.model.learner
    assert {name: float(loaded.slow_weights[name]) for name in SLOW} == {
        "learner.log_scale": 0.5,
        "learner.log_head_rate": -1.0,
        "prior.log_weight": 0.25,
        "prior.fade": 0.75,
    }
    assert loaded.slow_weights.keys() == slow.keys()
    assert all(torch.equal(weight, slow[name]) for name, weight in loaded.slow_weights.items())
    assert not any(weight.requires_grad for weight in loaded.slow_weights.values())
    features = loaded.encoder.encode_batch(loaded.encoder.tokenize([TextInput("hello")]))
    assert float(features.norm()) != pytest.approx(1)


def test_a_checkpoint_is_three_readable_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "manifest.json", "slow_weights.safetensors"]
    assert (folder / "README.md").read_text(encoding="utf-8") == "# test\n\nÜberschrift\n"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_the_same_input_gives_the_same_fingerprint_and_any_other_another(tiny_encoder: Path, tmp_path: Path) -> None:
    slow = _slow(tiny_encoder)
    variants: list[dict[str, Any]] = [
        {},
        {"name": "other"},
        {"hyperparameters": UNTRAINED.model_copy(update={"steps": 21})},
        {"slow_weights": slow},
        {"slow_weights": {**slow, "learner.log_scale": slow["learner.log_scale"] + 1e-6}},
        {"slow_weights": {**slow, "prior.fade": slow["prior.fade"] + 1e-6}},
        {"spec": ModelSpec(rank=5)},
        {"spec": ModelSpec(tuned_layers=1)},
        {"spec": ModelSpec(options=LearnerOptions(head_rate=1.5))},
        {"spec": ModelSpec("maml")},
        {"stages": encoder_stages(max_tokens=63)},
        {"stages": encoder_stages(max_tokens=64, normalize=False)},
        {"trained_on": [TrainingTask(name="x", licence="y")]},
    ]
    prints = [_write(tmp_path / str(n), tiny_encoder, **variant).fingerprint for n, variant in enumerate(variants)]
    assert len(set(prints)) == len(variants)
    again = {
        "slow_weights": dict(reversed(slow.items())),
        "card": "# another card\n",
        "extra_files": {"curves.png": b"x"},
    }
    same = next(n for n, variant in enumerate(variants) if variant == {"slow_weights": slow})
    assert _write(tmp_path / "again", tiny_encoder, **again).fingerprint == prints[same]
    files = ("manifest.json", "slow_weights.safetensors")
    assert all((tmp_path / "again" / name).read_bytes() == (tmp_path / str(same) / name).read_bytes() for name in files)


def test_an_encoder_may_be_named_from_the_checkpoints_folder(encoder_copy: Path, tmp_path: Path) -> None:
    _write(tmp_path / "checkpoint", f"../{encoder_copy.name}")
    assert Checkpoint(tmp_path / "checkpoint", CPU).manifest.encoder.source == "../encoder"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "checkpoint").rename(moved / "checkpoint")
    encoder_copy.rename(moved / "encoder")
    assert Checkpoint(moved / "checkpoint", CPU).encoder.dim == 32


# ---- altered -------------------------------------------------------------------------------------------------------


def _reading(fields: dict[str, Any]) -> dict[str, Any]:
    """The stage that reads texts."""
    stage: dict[str, Any] = fields["encoder"]["stages"][0]
    return stage


def _edit(change: Callable[[dict[str, Any]], object], *, seal: bool = False) -> Callable[[Path], None]:
    """Changes the manifest; with ``seal``, the fingerprint fits again."""

    def spoil(folder: Path) -> None:
        path = folder / "manifest.json"
        fields = json.loads(path.read_bytes())
        change(fields)
        if seal:
            fields["fingerprint"] = Manifest.model_validate_json(json.dumps(fields)).computed_fingerprint()
        path.write_text(json.dumps(fields))

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _edit(lambda fields: fields.update(name="renamed")),
        _edit(lambda fields: fields["hyperparameters"].update(steps=21)),
        _edit(lambda fields: _reading(fields).update(max_tokens=65)),
        _edit(lambda fields: fields["encoder"]["files"].pop("config.json")),
        _edit(lambda fields: fields["trained_on"].append({"name": "x", "licence": "y"})),
        _edit(lambda fields: fields.update(slow_weights="0" * 64)),
        _edit(lambda fields: fields.update(fingerprint="0" * 64)),
    ],
)
def test_an_altered_manifest_is_refused(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    with pytest.raises(CheckpointInvalid, match="fingerprint") as caught:
        Checkpoint(folder, CPU)
    assert str(folder) in str(caught.value)
    assert "manifest" in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_edit(lambda fields: fields.update(format=1)), "format"),
        (_edit(lambda fields: fields.update(format=2)), "format"),
        (_edit(lambda fields: fields.update(format=5)), "format"),
        (_edit(lambda fields: fields.pop("adaptation")), "adaptation"),
        (_edit(lambda fields: fields["adaptation"].update(surprise=1)), "surprise"),
        (_edit(lambda fields: fields["adaptation"].update(placement="nowhere")), "placement"),
        (_edit(lambda fields: fields["adaptation"].update(rank=0)), "rank"),
        (_edit(lambda fields: fields["adaptation"].update(head_rate=-1.0)), "head_rate"),
        (_edit(lambda fields: fields["adaptation"].pop("order")), "order"),
        (_edit(lambda fields: fields["adaptation"].update(frozen_view="yes")), "frozen_view"),
        (_edit(lambda fields: fields.update(surprise=1)), "surprise"),
        (_edit(lambda fields: fields["encoder"].update(surprise=1)), "surprise"),
        (_edit(lambda fields: fields["hyperparameters"].update(steps="20")), "steps"),
        (_edit(lambda fields: fields["hyperparameters"].update(steps=-1)), "steps"),
        (_edit(lambda fields: fields["hyperparameters"].update(label_text_weight=2.0)), "label_text_weight"),
        (_edit(lambda fields: fields["hyperparameters"].update(abstain_threshold=1.5)), "abstain_threshold"),
        (_edit(lambda fields: fields.pop("learner")), "learner"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "malformed"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "malformed"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json"),
        (_edit(lambda fields: fields.update(learner="no-such-learner"), seal=True), "no-such-learner.*protomaml"),
        (_edit(lambda fields: fields.update(learner="maml"), seal=True), r"lack learner\.head\.bias.*maml"),
        (_edit(lambda fields: fields["adaptation"].update(fast_layers=1), seal=True), "head.*1 fast"),
        (_edit(lambda fields: fields["adaptation"].update(tuned_layers=3), seal=True), "3 layers.*has 2"),
        (_edit(lambda fields: fields["adaptation"].update(frozen_view=True)), TWO_VIEWS),
        (_edit(lambda fields: fields["encoder"]["stages"].append({"stage": "views"})), TWO_VIEWS),
        (_edit(lambda fields: (fields.update(format=3), fields["adaptation"].update(stock_view=True))), TWO_VIEWS),
        (_edit(lambda fields: fields["adaptation"].update(tuned_layers=1), seal=True), r"lack body\.layers\.1"),
        (_edit(lambda fields: fields["adaptation"].update(update_rule="magic"), seal=True), "magic"),
        (_edit(lambda fields: fields["encoder"]["stages"].reverse()), "'transformer'.*'pooling'"),
        (_edit(lambda fields: fields["encoder"]["stages"].append({"stage": "magic"})), "at most 2 items"),
        (_edit(lambda fields: fields["encoder"]["stages"].pop()), r"stages\.1.*required"),
        (_edit(lambda fields: fields["encoder"].update(dim=33), seal=True), "33.*32"),
        (_edit(lambda fields: fields["encoder"].update(source="gone"), seal=True), "gone"),
        (_edit(lambda fields: _reading(fields).update(max_tokens=129), seal=True), "129"),
        (_edit(lambda fields: fields["encoder"]["files"].update({"more.json": "0"}), seal=True), r"more\.json"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_a_reason(
    folder: Path, tiny_encoder: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(folder)
    with pytest.raises(CheckpointInvalid, match=f"(?s){message}") as caught:
        Checkpoint(folder, CPU)
    if message != "33.*32" and "lack" not in message:
        named = any(str(each) in str(caught.value) for each in (folder.parent, tiny_encoder))
        assert named, "the message names the file or folder"


# ---- format 3 ------------------------------------------------------------------------------------------------------


def _of_format_3(folder: Path) -> None:
    """Writes a manifest as the release before did."""
    path = folder / "manifest.json"
    fields = json.loads(path.read_bytes())
    fields["format"] = 3
    transformer, pooling = fields["encoder"].pop("stages")
    fields["encoder"] |= {"max_tokens": transformer["max_tokens"], "normalize": pooling["normalize"]}
    fields["encoder"]["stock"] = {"mix": [1.0, 0.2], "share": 0.7}  # though nothing stood beside the tuned layers
    adaptation = fields["adaptation"]
    adaptation |= {"trained_layers": adaptation.pop("tuned_layers"), "stock_view": adaptation.pop("frozen_view")}
    if adaptation["placement"] == "full":
        adaptation["placement"] = "everything"
    content = {name: value for name, value in fields.items() if name != "fingerprint"}
    fields["fingerprint"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(fields))


@pytest.mark.parametrize("spec", [ModelSpec(), ModelSpec(tuned_layers=1), SPECS["full"]])
def test_a_manifest_of_format_3_is_converted(tiny_encoder: Path, tmp_path: Path, spec: ModelSpec) -> None:
    written = _write(tmp_path / "new", tiny_encoder, spec=spec)
    _of_format_3(tmp_path / "new")
    assert read_manifest(tmp_path / "new") == written
    assert Checkpoint(tmp_path / "new", CPU).encoder.stages == encoder_stages(max_tokens=64)
    _edit(lambda fields: fields.update(name="renamed"))(tmp_path / "new")
    with pytest.raises(CheckpointInvalid, match="fingerprint"):
        read_manifest(tmp_path / "new")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("spoil", [_flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_slow_weights_that_are_altered_or_missing_are_named(folder: Path, spoil: Callable[[Path], object]) -> None:
    path = folder / "slow_weights.safetensors"
    spoil(path)
    with pytest.raises(CheckpointInvalid) as caught:
        Checkpoint(folder, CPU)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("spoil", [_flip, Path.unlink])
def test_encoder_files_that_are_altered_or_missing_are_named(
    encoder_copy: Path, tmp_path: Path, name: str, spoil: Callable[[Path], object]
) -> None:
    _write(tmp_path / "new", encoder_copy)
    spoil(encoder_copy / name)
    with pytest.raises(CheckpointInvalid) as caught:
        Checkpoint(tmp_path / "new", CPU)
    assert str(encoder_copy / name) in str(caught.value)


# ---- writing -------------------------------------------------------------------------------------------------------


def test_what_is_there_is_never_overwritten(folder: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "file").write_text("mine")
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("mine")
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "curves.png").write_text("mine")
    for taken in (folder, tmp_path / "file", tmp_path / "project", tmp_path / "plots"):
        with pytest.raises(CheckpointInvalid, match=taken.name):
            _write(taken, tiny_encoder, name="other", extra_files={"curves.png": b"theirs"})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert (tmp_path / "file").read_text() == "mine"
    for kept in ("project/README.md", "plots/curves.png"):
        assert (tmp_path / kept).read_text() == "mine"
        assert len(list((tmp_path / kept).parent.iterdir())) == 1


def test_a_checkpoint_comes_into_a_folder_beside_what_meta_training_keeps_there(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "training").mkdir(parents=True)
    (out / "training" / "curves.jsonl").write_text("{}")
    written = _write(out, tiny_encoder, extra_files={"curves.png": b"a picture"})
    assert Checkpoint(out, CPU).manifest == written
    assert (out / "training" / "curves.jsonl").read_text() == "{}"
    assert (out / "curves.png").read_bytes() == b"a picture"
    names = {"README.md", "curves.png", "manifest.json", "slow_weights.safetensors", "training"}
    assert {path.name for path in out.iterdir()} == names
    assert _write(tmp_path / "new", tiny_encoder, extra_files={"curves.png": b"x"}).fingerprint == written.fingerprint
    assert (tmp_path / "new" / "curves.png").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["manifest.json", "README.md", "training/x", "../x", "", ".", "/x"])
def test_an_extra_file_has_a_plain_name_of_its_own(tiny_encoder: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointInvalid):
        _write(tmp_path / "new", tiny_encoder, extra_files={name: b"x"})
    assert sorted(path.name for path in tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_a_crash_while_writing_leaves_nothing_behind(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException
) -> None:
    calls = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == at:
            raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        _write(tmp_path / "checkpoints" / "new", tiny_encoder)
    assert len(calls) == at
    assert list((tmp_path / "checkpoints").iterdir()) == []
    monkeypatch.undo()
    _write(tmp_path / "checkpoints" / "new", tiny_encoder)
    assert Checkpoint(tmp_path / "checkpoints" / "new", CPU).manifest.name == "test"


@pytest.mark.parametrize("at", range(1, 8))
def test_a_crash_while_writing_into_a_folder_leaves_it_as_it_was(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    out = tmp_path / "out"
    (out / "training").mkdir(parents=True)
    calls = []
    real_sync, real_rename = os.fsync, Path.rename

    def count() -> None:
        calls.append(at)
        if len(calls) == at:
            raise KeyboardInterrupt

    def sync(descriptor: int) -> None:
        count()
        real_sync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        assert not (out / "manifest.json").exists(), "it comes last"
        count()
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "rename", rename)
    if at < 7:  # three files are written and then put in place
        with pytest.raises(KeyboardInterrupt):
            _write(out, tiny_encoder)
        assert [path.name for path in out.iterdir()] == ["training"]
        monkeypatch.undo()
    _write(out, tiny_encoder)
    assert Checkpoint(out, CPU).manifest.name == "test"


def test_the_folder_appears_only_when_it_is_whole(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = os.fsync, []

    def watch(descriptor: int) -> None:
        seen.append((tmp_path / "new").exists())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    _write(tmp_path / "new", tiny_encoder)
    assert len(seen) >= 3, "every file is on the disk before the folder has its name"
    assert not any(seen[:3])


def test_an_encoder_that_cannot_be_loaded_makes_no_checkpoint(encoder_copy: Path, tmp_path: Path) -> None:
    (encoder_copy / "model.safetensors").unlink()
    for source in (encoder_copy, tmp_path / "nowhere"):
        with pytest.raises(EncoderUnavailable):
            _write(tmp_path / "new", source)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (ModelSpec("no-such-learner"), UnknownLearner),
        (ModelSpec(options=LearnerOptions(update_rule="magic")), UnknownUpdateRule),
        (ModelSpec(fast_layers=1), InvalidModel),
        (ModelSpec(placement="full", fast_layers=3), InvalidModel),
        (ModelSpec(options=LearnerOptions(head_rate=float("nan"))), CheckpointInvalid),
        (ModelSpec(rank=0), CheckpointInvalid),
    ],
)
def test_a_spec_that_no_model_can_be_made_of_makes_no_checkpoint(
    tiny_encoder: Path, tmp_path: Path, spec: ModelSpec, error: type[Exception]
) -> None:
    with pytest.raises(error):
        _write(tmp_path / "new", tiny_encoder, spec=spec)
    assert not (tmp_path / "new").exists()


# ---- slow weights of every kind of model -------------------------------------------------------------------------


def _noisy(spec: ModelSpec, encoder_folder: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Slow weights as after meta-training: none is where it began."""
    encoder = build_encoder(encoder_folder, encoder_stages(max_tokens=64), CPU)
    draw = torch.Generator().manual_seed(1)
    slow = make_text_model(spec, encoder).initial_slow_weights(steps=UNTRAINED.steps)
    return {name: (w + 0.1 * torch.randn(w.shape, generator=draw)).to(dtype) for name, w in slow.items()}


def _features_at_start(model: MetaModel, slow: SlowWeights, texts: Sequence[TokenizedText]) -> torch.Tensor:
    """Features of a task's texts before the first inner step."""
    own = ({n.removeprefix(p): w for n, w in slow.items() if n.startswith(p)} for p in ("body.", "fast."))
    assert isinstance(model.body, TextBody)
    return model.features(slow, model.placement.start(*own), model.body.prepare(texts))


@pytest.mark.parametrize(
    ("spec", "dtype"), [*zip(SPECS.values(), cycle([torch.float32, torch.float16]), strict=False)], ids=SPECS
)
def test_a_meta_trained_model_is_loaded_as_it_was_trained(
    tiny_encoder: Path, tmp_path: Path, spec: ModelSpec, dtype: torch.dtype
) -> None:
    slow = _noisy(spec, tiny_encoder, dtype)
    _write(tmp_path / "new", tiny_encoder, spec=spec, slow_weights=slow)
    loaded = Checkpoint(tmp_path / "new", CPU)
    assert loaded.manifest.spec == spec
    assert loaded.manifest.adaptation.placement == spec.placement
    assert all(weight.dtype == torch.float32 for weight in loaded.slow_weights.values())
    # What the model is a function of are the fast layers; the trained ones below are the encoder's own by now
    fast = {f"layers.{i}." for i in range(2 - spec.fast_layers, 2)}
    for name, weight in slow.items():
        if not name.startswith("body.") or any(name.startswith(f"body.{layer}") for layer in fast):
            torch.testing.assert_close(loaded.slow_weights[name], weight.float(), atol=0, rtol=0)
        else:
            assert name not in loaded.slow_weights
    assert len(loaded.slow_weights) == len([n for n in slow if n in loaded.slow_weights])
    # And its features are those of the trained weights
    plain = build_encoder(tiny_encoder, encoder_stages(max_tokens=64), CPU)
    texts = plain.tokenize([TextInput("where is my card"), TextInput("why was I charged a fee, and where")])
    trained = make_text_model(spec, plain)
    whole = {name: weight.float() for name, weight in slow.items()}
    expected = _features_at_start(trained, whole, texts)
    found = _features_at_start(loaded.model, loaded.slow_weights, texts)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    untrained = trained.initial_slow_weights(steps=UNTRAINED.steps)
    before = _features_at_start(trained, untrained, texts)
    assert float((expected - before).abs().max()) > 1e-2, "else nothing was trained"


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_every_learner_has_a_checkpoint(tiny_encoder: Path, tmp_path: Path, learner: str) -> None:
    written = _write(tmp_path / "new", tiny_encoder, spec=ModelSpec(learner))
    loaded = Checkpoint(tmp_path / "new", CPU)
    assert loaded.learner.name == written.learner == learner
    draw = torch.Generator().manual_seed(0)
    expected = make_learner(learner).initial_slow_weights(32, {}, steps=UNTRAINED.steps, draw=draw)
    found = {name for name in loaded.slow_weights if name.startswith("learner.")}
    assert found == {f"learner.{name}" for name in expected}
    assert {"prior.log_weight", "prior.fade"} <= loaded.slow_weights.keys()
    assert loaded.slow_weights.keys() == loaded.model.initial_slow_weights(steps=UNTRAINED.steps).keys()


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_slow_weights_that_are_not_the_models_are_refused_by_name(
    tiny_encoder: Path, tmp_path: Path, spec: ModelSpec
) -> None:
    slow = _noisy(spec, tiny_encoder, torch.float32)
    spoiled: list[tuple[str, dict[str, torch.Tensor]]] = [
        ("learner.surprise", {**slow, "learner.surprise": torch.ones(2)})
    ]
    for name, weight in slow.items():
        spoiled.append((name, {n: w for n, w in slow.items() if n != name}))
        spoiled.append((name, {**slow, name: torch.ones(*weight.shape, 1)}))
    some = next(iter(slow))
    spoiled.append((some, {**slow, some: slow[some] * float("nan")}))
    spoiled.append((some, {**slow, some: slow[some].int()}))
    for name, weights in spoiled:
        with pytest.raises(CheckpointInvalid, match=re.escape(name)):
            _write(tmp_path / "new", tiny_encoder, spec=spec, slow_weights=weights)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda slow: {**slow, "learner.more": torch.ones(1)}, r"learner\.more"),
        (lambda slow: {n: w for n, w in slow.items() if n != "learner.log_head_rate"}, r"lack learner\.log_head_rate"),
        (lambda slow: {n: w for n, w in slow.items() if n != "prior.fade"}, r"lack prior\.fade"),
        (lambda slow: {**slow, "prior.log_weight": torch.tensor(torch.nan)}, r"prior\.log_weight.*finite"),
        (lambda slow: {**slow, "body.more": torch.zeros(())}, r"body\.more, for which"),
        (
            lambda slow: {**slow, "learner.log_scale": torch.ones(1)},
            r"learner\.log_scale has the shape \(1,\), not \(\)",
        ),
        (lambda slow: {**slow, "learner.log_scale": torch.tensor(torch.inf)}, r"learner\.log_scale.*finite"),
        (lambda slow: {**slow, "learner.log_scale": torch.tensor(4)}, r"learner\.log_scale.*floating"),
        (lambda slow: {n.removeprefix("learner."): w for n, w in slow.items()}, r"lack learner"),
    ],
)
def test_a_sealed_folder_with_other_slow_weights_is_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], message: str
) -> None:
    path = folder / "slow_weights.safetensors"
    data = safetensors.torch.save(change(safetensors.torch.load_file(path)))
    path.write_bytes(data)
    _edit(lambda fields: fields.update(slow_weights=hashlib.sha256(data).hexdigest()), seal=True)(folder)
    with pytest.raises(CheckpointInvalid, match=message):
        Checkpoint(folder, CPU)


def test_a_sealed_file_that_is_no_safetensors_is_refused(folder: Path) -> None:
    (folder / "slow_weights.safetensors").write_bytes(b"no tensors")
    digest = hashlib.sha256(b"no tensors").hexdigest()
    _edit(lambda fields: fields.update(slow_weights=digest), seal=True)(folder)
    with pytest.raises(CheckpointInvalid, match=r"slow_weights\.safetensors"):
        Checkpoint(folder, CPU)


# ---- finding -------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_found_by_path_and_by_name(folder: Path) -> None:
    assert resolve_checkpoint(str(folder)) == folder
    assert resolve_checkpoint(DEFAULT_CHECKPOINT) == SHIPPED / DEFAULT_CHECKPOINT


@pytest.mark.parametrize("reference", ["no-such-checkpoint", "", "/", "../checkpoints"])
def test_an_unknown_checkpoint_is_answered_with_the_shipped_ones(reference: str) -> None:
    with pytest.raises(CheckpointInvalid, match=DEFAULT_CHECKPOINT) as caught:
        resolve_checkpoint(reference)
    assert repr(reference) in str(caught.value)


# ---- what ships ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in SHIPPED.glob("*/manifest.json")), ids=lambda folder: folder.name
)
def test_every_shipped_checkpoint_loads_and_matches_its_manifest(folder: Path) -> None:
    loaded = Checkpoint(folder, CPU)
    assert loaded.manifest == read_manifest(folder)
    assert loaded.manifest.name == folder.name
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")
    steps = loaded.manifest.hyperparameters.steps
    assert loaded.slow_weights.keys() == loaded.model.initial_slow_weights(steps=steps).keys()
    encoder = locate_encoder(loaded.manifest.encoder.source, folder)
    assert loaded.manifest.encoder.files.keys() == set(encoder_files(encoder))
    for name, digest in loaded.manifest.encoder.files.items():
        assert hashlib.sha256((encoder / name).read_bytes()).hexdigest() == digest
    data = (folder / "slow_weights.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == loaded.manifest.slow_weights
    assert all(bool(weight.isfinite().all()) for weight in safetensors.torch.load(data).values())


def test_the_checkpoint_without_meta_training_has_the_constants_that_were_chosen_for_it() -> None:
    loaded = Checkpoint(resolve_checkpoint("minilm-l6-protomaml"), CPU)
    assert loaded.manifest.spec == ModelSpec()
    constants = {name: float(weight.exp()) for name, weight in loaded.slow_weights.items() if "log_" in name}
    assert (
        constants
        | {
            "learner.log_scale": pytest.approx(4.0),
            "learner.log_head_rate": pytest.approx(2.0),
            "prior.log_weight": pytest.approx(2.0),
        }
        == constants
    )
    assert float(loaded.slow_weights["prior.fade"]) == 0
    assert {name for name in loaded.slow_weights if name.startswith("learner.")} == {
        "learner.log_scale",
        "learner.log_head_rate",
    }


def test_the_default_checkpoint_is_meta_trained_and_names_what_on() -> None:
    manifest = read_manifest(resolve_checkpoint(DEFAULT_CHECKPOINT))
    assert manifest.spec.tuned_layers > 0
    assert len(manifest.trained_on) > 100
    assert all(source.licence for source in manifest.trained_on)


def test_the_documents_have_the_sources_of_the_default_checkpoints_training_sets() -> None:
    lines = (SHIPPED.parents[1] / "docs" / "data.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    sources = {row[0]: row[-1].strip("`") for row in rows}
    trained_on = [Path(task.name).stem for task in read_manifest(resolve_checkpoint(DEFAULT_CHECKPOINT)).trained_on]
    assert [
        name for name in trained_on if not re.fullmatch(r"\S+/[^:]+:.+@[0-9a-f]{7,}.*", sources.get(name, ""))
    ] == []


def test_the_default_checkpoint_reads_256_tokens_and_separates_topics() -> None:
    loaded = Checkpoint(resolve_checkpoint(DEFAULT_CHECKPOINT), CPU)
    assert loaded.manifest.encoder.max_tokens == 256
    texts = ["Where is my bank card?", "My debit card has not arrived", "Play some jazz music"]
    card, late, music = loaded.encoder.encode_batch(loaded.encoder.tokenize([TextInput(text) for text in texts]))
    assert float(card @ card) == pytest.approx(1, abs=1e-5)
    assert float(card @ late) > float(card @ music) + 0.2
