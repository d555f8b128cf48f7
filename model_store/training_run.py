"""A meta-training run on disk: ``training/`` beside the checkpoint that it is to become. Survives ``kill -9``.

training/config.json         what was asked for; a resumed run has to ask for the same
training/state.safetensors   the newest saved state, replaced atomically
training/curves.jsonl        one line per outer step, validation and measurement of transfer
training/curves.png          the same as a picture
training/finished            once the run has come to its end
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from metalearn.meta_train import TrainingState
from model_store.errors import TrainingRunInvalid
from model_store.manifest import CARD, MANIFEST, SLOW_WEIGHTS

_NUMBERS = "numbers"
_CURVES = "curves.png"


class TrainingRun:
    """The folder of one run. One process writes to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "training"

    @property
    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.folder / "config.json").is_file()

    @property
    def is_finished(self) -> bool:
        """Whether the run has come to its end, and its checkpoint was written."""
        return (self.folder / "finished").is_file()

    def finish(self) -> None:
        """Notes that the run has come to its end."""
        _replace(self.folder / "finished", b"")

    def begin(self, config: Mapping[str, Any]) -> None:
        """Starts a run.

        Raises:
            TrainingRunInvalid: One was begun here before, or its checkpoint would have no room.
        """
        out = self.folder.parent
        if self.exists or (out / MANIFEST).exists():
            raise TrainingRunInvalid(f"{out} holds a run or a checkpoint: resume it, or choose another folder")
        for name in (SLOW_WEIGHTS, CARD, _CURVES):  # fails now, and not after hours of training
            if (out / name).exists():
                raise TrainingRunInvalid(f"{out / name} is in the checkpoint's way: choose another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self.folder / "config.json", json.dumps(config, indent=2, sort_keys=True).encode() + b"\n")

    def config(self) -> dict[str, Any]:
        """The options that the run was begun with.

        Raises:
            TrainingRunInvalid: There is none.
        """
        if not self.exists:
            raise TrainingRunInvalid(f"there is no run to resume in {self.folder.parent}")
        try:
            config: dict[str, Any] = json.loads((self.folder / "config.json").read_bytes())
        except ValueError as error:
            raise TrainingRunInvalid(f"cannot read {self.folder / 'config.json'}: {error}") from error
        return config

    def save(self, state: TrainingState) -> None:
        """Replaces the saved state."""
        data = safetensors.torch.save(
            {name: tensor.contiguous().cpu() for name, tensor in state.tensors.items()},
            {_NUMBERS: json.dumps(state.numbers)},
        )
        _replace(self.folder / "state.safetensors", data)

    def load(self) -> TrainingState | None:
        """The newest saved state; None where the run was stopped before its first.

        Raises:
            TrainingRunInvalid: The file is damaged.
        """
        path = self.folder / "state.safetensors"
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, "pt") as file:
                numbers = json.loads(file.metadata()[_NUMBERS])
                return TrainingState({name: file.get_tensor(name) for name in file.keys()}, numbers)
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise TrainingRunInvalid(f"cannot read {path}: {error}") from error

    def log(self, event: Mapping[str, Any]) -> None:
        """Adds a line to the curves."""
        with (self.folder / "curves.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, allow_nan=False) + "\n")

    def curves(self) -> list[dict[str, Any]]:
        """All lines of the curves; one that a crash cut short is left out."""
        path = self.folder / "curves.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else []
        return [event for line in lines if (event := _parsed(line)) is not None]

    def forget_after(self, step: int) -> None:
        """Drops lines of steps that a resumed run takes again."""
        kept = [json.dumps(event) + "\n" for event in self.curves() if event["step"] <= step]
        _replace(self.folder / "curves.jsonl", "".join(kept).encode())

    def write_plot(self, picture: bytes) -> None:
        """Replaces the picture of the curves."""
        _replace(self.folder / _CURVES, picture)

    def release(self) -> None:
        """Takes back the checkpoint that an earlier end of this run made, so that this end can make its own.

        The manifest goes first: without it what is left is no checkpoint.
        """
        for name in (MANIFEST, SLOW_WEIGHTS, CARD, _CURVES):
            (self.folder.parent / name).unlink(missing_ok=True)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        event: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return event


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # the rename itself has to survive
    finally:
        os.close(descriptor)
