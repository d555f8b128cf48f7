"""Checkpoints that are made of others without training: derived with other options, and averaged."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import Stages
from metalearn.errors import InvalidModel
from model_store.checkpoint import Checkpoint, read_slow_weights, write_checkpoint
from model_store.manifest import CARD, Hyperparameters, Manifest, TrainingTask

_LABEL_TEXT = "prior.log_weight"


def derive(
    base: Checkpoint,
    out: Path,
    *,
    name: str,
    label_text_count: float | None = None,
    steps: int | None = None,
    max_tokens: int | None = None,
) -> Manifest:
    """Writes a checkpoint of the same weights. It differs from its base in what is given, and in nothing else.

    Args:
        base: The checkpoint that it is derived from.
        out: Folder of the new checkpoint.
        name: Its name.
        label_text_count: Weight of a label's text where an example has 1.
        steps: Inner steps of a task.
        max_tokens: Length above which the middle of a text is left out.

    Raises:
        CheckpointInvalid: The folder is taken, or a value is out of bounds.
        InvalidModel: The checkpoint's learner reads no label texts.
    """
    stages, slow_weights = base.encoder.stages, dict(read_slow_weights(base.folder))
    changes: list[str] = []
    if label_text_count is not None:
        if _LABEL_TEXT not in slow_weights:
            raise InvalidModel(f"the learner {base.learner.name} reads no label texts")
        slow_weights[_LABEL_TEXT] = torch.tensor(math.log(label_text_count))
        changes.append(f"label text count {label_text_count:g}")
    hyperparameters = base.manifest.hyperparameters
    if steps is not None:
        hyperparameters = hyperparameters.model_copy(update={"steps": steps})
        changes.append(f"steps {steps}")
    if max_tokens is not None:
        stages = stages._replace(transformer=replace(stages.transformer, max_tokens=max_tokens))
        changes.append(f"texts of up to {max_tokens} tokens")
    return write_copy(
        base,
        out,
        name=name,
        note=f"Derived from `{base.manifest.name}` ({base.fingerprint[:12]}), without training, with "
        f"{', '.join(changes) or 'all that it had'}.",
        slow_weights=slow_weights,
        hyperparameters=hyperparameters,
        stages=stages,
    )


def average(first: Checkpoint, second: Checkpoint, out: Path, *, name: str, share: float) -> Manifest:
    """Writes the first checkpoint with its meta-trained layers averaged with the second's.

    Args:
        first: The checkpoint that everything but the layers comes from.
        second: A checkpoint of the same make.
        out: Folder of the new checkpoint.
        name: Its name.
        share: Weight of the second one's layers, from 0 to 1.

    Raises:
        CheckpointInvalid: The folder is taken.
        InvalidModel: The checkpoints are not of one make, or have no meta-trained layers.
    """
    makes = [(each.manifest.spec, each.manifest.encoder.files) for each in (first, second)]
    if makes[0] != makes[1] or not makes[0][0].tuned_layers:
        raise InvalidModel("two checkpoints of one encoder, with the same layers meta-trained, can be averaged")
    slow_weights, others = read_slow_weights(first.folder), read_slow_weights(second.folder)
    layers = {n: torch.lerp(w, others[n], share) for n, w in slow_weights.items() if n.startswith("body.")}
    tasks = {task.name: task for each in (second, first) for task in each.manifest.trained_on}
    parts = [
        f"{of:g} of those of `{each.manifest.name}` ({each.fingerprint[:12]})"
        for of, each in ((1 - share, first), (share, second))
    ]
    return write_copy(
        first,
        out,
        name=name,
        note=f"Its meta-trained layers are {' and '.join(parts)}.",
        slow_weights={**slow_weights, **layers},
        trained_on=[*tasks.values()],
    )


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
        checkpoint: The checkpoint to copy; it is not changed.
        out: Folder of the new checkpoint.
        name: Its name.
        note: A paragraph about the change at the end of its card.
        slow_weights: The slow weights as ``write_checkpoint`` takes them.
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
