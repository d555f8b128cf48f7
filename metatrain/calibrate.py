"""Calibration of a checkpoint: confidences fitted on tasks it was not trained on, for ``checkpoint calibrate``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from metalearn.adapting import adapt
from metalearn.calibration import JudgedEpisode, fit_temperature, fit_threshold, initial_slow_weights
from metalearn.errors import AdaptationDiverged, InvalidEpisode, InvalidModel, InvalidTasks
from metalearn.options import AdaptOptions
from metalearn.support_plan import prepare_episode
from metalearn.tasks.sampler import EpisodeSampler, SamplerSettings
from metalearn.tasks.task import Task
from metatrain.derive import write_copy
from model_store.checkpoint import Checkpoint, read_slow_weights
from model_store.learner_models import Models
from model_store.manifest import Hyperparameters, Manifest

_PREFIX = "calibration."
_SETTINGS = SamplerSettings(
    ways=(2, 32), shots=(1, 16), queries=5, max_support=160, max_query=60, strategy="uniform", out_of_scope_share=0.5
)
"""Episodes as varied as the tasks of tenants."""


def judged_episodes(models: Models, tasks: Sequence[Task], episodes: int, seed: int) -> Iterator[JudgedEpisode]:
    """Answers of the checkpoint without its calibration, in every other episode with the words of the labels.

    Raises:
        InvalidModel: The checkpoint's learner has no linear head, whose temperature could be set.
        InvalidTasks: No task can give an episode.
    """
    checkpoint, loaded = models.checkpoint, models.of()
    model, body = loaded.model, loaded.body
    if not model.calibrated:
        raise InvalidModel(f"the learner {model.learner.name} has no linear head: its confidences stay as they are")
    slow = {**checkpoint.slow_weights, **{_PREFIX + name: weight for name, weight in initial_slow_weights().items()}}
    steps = checkpoint.manifest.hyperparameters.steps
    sampler = EpisodeSampler([task for task in tasks if task.rules.one_class_each], _SETTINGS, seed)
    for index in range(episodes):
        try:
            prepared = prepare_episode(body, sampler.episode(index), use_label_text=bool(index % 2))
            fast = adapt(model, slow, prepared.support, AdaptOptions(steps)).fast_weights
        except (AdaptationDiverged, InvalidEpisode):
            continue
        with torch.no_grad():
            logits = model.outputs(slow, fast, prepared.query.inputs)
        yield JudgedEpisode(logits.cpu(), prepared.query.targets.cpu(), prepared.support.shots)


def write_calibrated(
    checkpoint: Checkpoint, judged: Sequence[JudgedEpisode], tasks: Sequence[str], out: Path, *, name: str, half: bool
) -> Manifest:
    """Writes the same checkpoint with a fitted temperature and abstention threshold.

    Args:
        checkpoint: The checkpoint; it is not changed.
        judged: Its answers without calibration.
        tasks: Names of the tasks whose episodes they are.
        out: Folder of the new checkpoint.
        name: Its name.
        half: Whether the encoder's weights are stored in half precision.

    Raises:
        CheckpointInvalid: The folder is taken.
        InvalidTasks: The episodes do not hold what is to be fitted.
    """
    try:
        fitted = fit_temperature(judged)
        threshold = fit_threshold(judged, fitted)
    except ValueError as error:
        raise InvalidTasks(
            f"confidences cannot be fitted on these tasks: {error}; give tasks of three classes or more, or of several "
            "groups, and more episodes"
        ) from error
    stored = {**read_slow_weights(checkpoint.folder), **{_PREFIX + part: number for part, number in fitted.items()}}
    if half:
        stored = {n: w.half() if n.startswith("body.layers.") else w for n, w in stored.items()}
    numbers = ", ".join(f"{part} {float(number):.3f}" for part, number in fitted.items())
    return write_copy(
        checkpoint,
        out,
        name=name,
        note=f"Confidences were fitted on {len(judged)} episodes of {len(tasks)} tasks: {numbers}; "
        f"abstention under {threshold:.3f}.",
        slow_weights=stored,
        hyperparameters=Hyperparameters(steps=checkpoint.manifest.hyperparameters.steps, abstain_threshold=threshold),
    )
