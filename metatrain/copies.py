"""Copies of a checkpoint that differ from it in what is not trained."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import Stages
from model_store.checkpoint import Checkpoint, read_slow_weights, write_checkpoint
from model_store.manifest import CARD, Hyperparameters, Manifest, TrainingTask


def write_copy(
    checkpoint: Checkpoint,
    out: Path,
    *,
    name: str,
    note: str,
    slow_weights: Mapping[str, Tensor] | None = None,
    hyperparameters: Hyperparameters | None = None,
    stages: Stages | None = None,
    trained_on: Sequence[TrainingTask] | None = None,
) -> Manifest:
    """Writes the same checkpoint again, but for what is given.

    Args:
        checkpoint: What is copied; it stays as it is.
        out: Folder of the new checkpoint.
        name: Its name.
        note: What is new about it: a paragraph at the end of its card.
        slow_weights: As ``write_checkpoint`` takes them.
        hyperparameters: The checkpoint's choices.
        stages: How the encoder reads texts and makes features.
        trained_on: Tasks that its weights have seen.

    Raises:
        CheckpointInvalid: The folder is taken, or what is given does not go together.
    """
    manifest, folder = checkpoint.manifest, checkpoint.folder
    card = (folder / CARD).read_text(encoding="utf-8").rstrip().replace(f"# {manifest.name}\n", f"# {name}\n", 1)
    return write_checkpoint(
        out,
        name=name,
        spec=manifest.spec,
        hyperparameters=hyperparameters or manifest.hyperparameters,
        encoder_source=_source_from(out, manifest.encoder.source, folder),
        encoder_licence=manifest.encoder.licence,
        slow_weights=read_slow_weights(folder) if slow_weights is None else slow_weights,
        card=f"{card}\n\n{note}\n",
        stages=stages or checkpoint.encoder.stages,
        trained_on=manifest.trained_on if trained_on is None else trained_on,
        extra_files={path.name: path.read_bytes() for path in folder.glob("*.png")},
    )


def _source_from(out: Path, source: str, folder: Path) -> str:
    """The encoder of a checkpoint in ``folder`` as one in ``out`` names it: a relative path is relative to its own."""
    if source.startswith(("package:", "hub:")) or Path(source).is_absolute():
        return source
    return os.path.relpath(locate_encoder(source, folder), out)
