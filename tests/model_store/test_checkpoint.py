"""Checkpoint folders: whole or refused, never overwritten, the same input under the same fingerprint."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from metalearn.encoder import EncoderSettings, locate_encoder
from metalearn.errors import EncoderUnavailable
from metalearn.learners.optimization import ProtoMaml
from metalearn.types import TextInput
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


def _write(folder: Path, encoder: Path | str, **changes: Any) -> Manifest:
    return write_checkpoint(
        folder,
        **{
            "name": "test",
            "learner": "protomaml",
            "hyperparameters": UNTRAINED,
            "encoder_source": str(encoder),
            "encoder_licence": "none",
            "slow_weights": ProtoMaml().initial_slow_weights(),
            "card": "# test\n\nÜberschrift\n",
            "settings": EncoderSettings(max_tokens=64),
            **changes,
        },
    )


@pytest.fixture
def encoder_copy(tiny_encoder: Path, tmp_path: Path) -> Path:
    """The tiny encoder in a folder that a test may alter."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


@pytest.fixture
def folder(encoder_copy: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may alter."""
    _write(tmp_path / "checkpoint", encoder_copy)
    return tmp_path / "checkpoint"


# ---- there and back ------------------------------------------------------------------------------------------------


def test_what_was_written_is_loaded(tiny_encoder: Path, tmp_path: Path) -> None:
    slow = {"log_scale": torch.nn.Parameter(torch.tensor(0.5)), "log_learning_rate": torch.tensor(-1.0)}
    chosen = Hyperparameters(steps=3, label_text_weight=0.5, abstain_threshold=0.25)
    trained_on = [TrainingTask(name="banking77", licence="CC-BY-4.0")]
    written = _write(
        tmp_path / "deep" / "er",
        tiny_encoder,
        slow_weights=slow,
        hyperparameters=chosen,
        trained_on=trained_on,
        settings=EncoderSettings(max_tokens=32, normalize=False),
    )
    loaded = Checkpoint(tmp_path / "deep" / "er", CPU)
    assert loaded.manifest == written
    assert loaded.fingerprint == written.fingerprint == written.computed_fingerprint()
    assert loaded.manifest.hyperparameters == chosen
    assert loaded.manifest.trained_on == trained_on
    assert loaded.manifest.encoder.licence == "none"
    assert loaded.encoder.settings == EncoderSettings(32, False)
    assert loaded.encoder.dim == loaded.manifest.encoder.dim == 32
    assert loaded.learner.name == "protomaml"
    assert {name: float(weight) for name, weight in loaded.slow_weights.items()} == {
        "log_scale": 0.5,
        "log_learning_rate": -1.0,
    }
    assert not any(weight.requires_grad for weight in loaded.slow_weights.values())
    features = loaded.encoder.encode_batch(loaded.encoder.tokenize([TextInput("hello")]))
    assert float(features.norm()) != pytest.approx(1)


def test_a_checkpoint_is_three_readable_files(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "manifest.json", "slow_weights.safetensors"]
    assert (folder / "README.md").read_text(encoding="utf-8") == "# test\n\nÜberschrift\n"
    assert folder.stat().st_mode & 0o777 == 0o755
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_the_same_input_gives_the_same_fingerprint_and_any_other_another(tiny_encoder: Path, tmp_path: Path) -> None:
    slow = ProtoMaml().initial_slow_weights()
    variants: list[dict[str, Any]] = [
        {},
        {"name": "other"},
        {"hyperparameters": UNTRAINED.model_copy(update={"steps": 21})},
        {"slow_weights": {**slow, "log_scale": slow["log_scale"] + 1e-6}},
        {"settings": EncoderSettings(max_tokens=63)},
        {"settings": EncoderSettings(max_tokens=64, normalize=False)},
        {"trained_on": [TrainingTask(name="x", licence="y")]},
    ]
    prints = [_write(tmp_path / str(n), tiny_encoder, **variant).fingerprint for n, variant in enumerate(variants)]
    assert len(set(prints)) == len(variants)
    again = {"slow_weights": dict(reversed(slow.items())), "card": "# another card\n"}
    assert _write(tmp_path / "again", tiny_encoder, **again).fingerprint == prints[0]
    files = ("manifest.json", "slow_weights.safetensors")
    assert all((tmp_path / "again" / name).read_bytes() == (tmp_path / "0" / name).read_bytes() for name in files)


def test_an_encoder_may_be_named_from_the_checkpoints_folder(encoder_copy: Path, tmp_path: Path) -> None:
    _write(tmp_path / "checkpoint", f"../{encoder_copy.name}")
    assert Checkpoint(tmp_path / "checkpoint", CPU).manifest.encoder.source == "../encoder"
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "checkpoint").rename(moved / "checkpoint")
    encoder_copy.rename(moved / "encoder")
    assert Checkpoint(moved / "checkpoint", CPU).encoder.dim == 32


# ---- altered -------------------------------------------------------------------------------------------------------


def _edit(change: Callable[[dict[str, Any]], object], *, seal: bool = False) -> Callable[[Path], None]:
    """Changes the manifest; with ``seal``, the fingerprint fits again."""

    def spoil(folder: Path) -> None:
        path = folder / "manifest.json"
        fields = json.loads(path.read_bytes())
        change(fields)
        if seal:
            fields["fingerprint"] = Manifest.model_validate(fields).computed_fingerprint()
        path.write_text(json.dumps(fields))

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        _edit(lambda fields: fields.update(name="renamed")),
        _edit(lambda fields: fields["hyperparameters"].update(steps=21)),
        _edit(lambda fields: fields["encoder"].update(max_tokens=65)),
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
    ("spoil", "says"),
    [
        (_edit(lambda fields: fields.update(format=2)), "format"),
        (_edit(lambda fields: fields.update(surprise=1)), "surprise"),
        (_edit(lambda fields: fields["encoder"].update(surprise=1)), "surprise"),
        (_edit(lambda fields: fields["hyperparameters"].update(steps="20")), "steps"),
        (_edit(lambda fields: fields["hyperparameters"].update(steps=-1)), "steps"),
        (_edit(lambda fields: fields["hyperparameters"].update(abstain_threshold=1.5)), "abstain_threshold"),
        (_edit(lambda fields: fields.pop("learner")), "learner"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "malformed"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff"), "malformed"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json"),
        (_edit(lambda fields: fields.update(learner="no-such-learner"), seal=True), "no-such-learner.*protomaml"),
        (_edit(lambda fields: fields["encoder"].update(dim=33), seal=True), "33.*32"),
        (_edit(lambda fields: fields["encoder"].update(source="gone"), seal=True), "gone"),
        (_edit(lambda fields: fields["encoder"].update(max_tokens=129), seal=True), "129"),
        (_edit(lambda fields: fields["encoder"]["files"].update({"more.json": "0"}), seal=True), r"more\.json"),
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_a_reason(
    folder: Path, spoil: Callable[[Path], object], says: str
) -> None:
    spoil(folder)
    with pytest.raises(CheckpointInvalid, match=f"(?s){says}") as caught:
        Checkpoint(folder, CPU)
    if says != "33.*32":
        assert str(folder.parent) in str(caught.value), "it says which file or folder"


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
    folder: Path, encoder_copy: Path, name: str, spoil: Callable[[Path], object]
) -> None:
    spoil(encoder_copy / name)
    with pytest.raises(CheckpointInvalid) as caught:
        Checkpoint(folder, CPU)
    assert str(encoder_copy / name) in str(caught.value)


# ---- writing -------------------------------------------------------------------------------------------------------


def test_what_is_there_is_never_overwritten(folder: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("mine")
    for taken in (folder, tmp_path / "empty", tmp_path / "file"):
        with pytest.raises(CheckpointInvalid, match=taken.name):
            _write(taken, tiny_encoder, name="other")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list((tmp_path / "empty").iterdir()) == []
    assert (tmp_path / "file").read_text() == "mine"


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
def test_every_shipped_checkpoint_loads_and_is_what_it_says(folder: Path) -> None:
    loaded = Checkpoint(folder, CPU)
    assert loaded.manifest == read_manifest(folder)
    assert loaded.manifest.name == folder.name
    assert (folder / "README.md").read_text().startswith(f"# {folder.name}\n")
    assert loaded.slow_weights.keys() == loaded.learner.initial_slow_weights().keys()
    encoder = locate_encoder(loaded.manifest.encoder.source, folder)
    assert loaded.manifest.encoder.files.keys() == {"config.json", "model.safetensors", "tokenizer.json"}
    for name, digest in loaded.manifest.encoder.files.items():
        assert hashlib.sha256((encoder / name).read_bytes()).hexdigest() == digest
    data = (folder / "slow_weights.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == loaded.manifest.slow_weights
    assert all(bool(weight.isfinite().all()) for weight in safetensors.torch.load(data).values())


def test_the_default_checkpoint_ships_the_stock_encoders_256_tokens_and_tells_topics_apart() -> None:
    loaded = Checkpoint(resolve_checkpoint(DEFAULT_CHECKPOINT), CPU)
    assert loaded.manifest.encoder.max_tokens == 256
    texts = ["Where is my bank card?", "My debit card has not arrived", "Play some jazz music"]
    card, late, music = loaded.encoder.encode_batch(loaded.encoder.tokenize([TextInput(text) for text in texts]))
    assert float(card @ card) == pytest.approx(1, abs=1e-5)
    assert float(card @ late) > float(card @ music) + 0.2
