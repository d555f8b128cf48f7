"""Regression: each text has a score."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metalearn.evaluation import figures
from metalearn.losses import weighted_mean_squared_error
from metalearn.objectives.objective import Figures, ObjectiveRules, Value
from metalearn.types import Episode, Target


def _target(value: Value, place: Mapping[str, int]) -> Target:
    assert not isinstance(value, tuple)  # noqa: S101 - what a file of this objective holds
    return value


def _target_among(target: Target, place: Mapping[int, int]) -> Target:
    return target


def _targets(targets: Sequence[Target], n_classes: int) -> Tensor:
    return torch.tensor(targets, dtype=torch.float32).reshape(-1, 1)


def _activation(outputs: Tensor) -> Tensor:
    return outputs


def _accuracy(outputs: Tensor, targets: Tensor) -> float | None:
    return None


def _loss_of_guessing(episode: Episode) -> float:
    """The variance of the queries' scores."""
    scores = [float(score) for score in episode.query.targets if not isinstance(score, tuple)]
    mean = math.fsum(scores) / len(scores)
    return math.fsum((score - mean) ** 2 for score in scores) / len(scores)


def _figures(outputs: Tensor, targets: Tensor) -> Figures:
    predicted, actual = outputs.flatten(), targets.flatten()
    return Figures(
        len(actual),
        mse=figures.mean_squared_error(predicted, actual),
        spearman=figures.spearman(predicted, actual),
    )


REGRESSION = ObjectiveRules(
    name="regression",
    has_classes=False,
    one_class_each=False,
    target=_target,
    target_among=_target_among,
    targets=_targets,
    loss=weighted_mean_squared_error,
    activation=_activation,
    accuracy=_accuracy,
    loss_of_guessing=_loss_of_guessing,
    figures=_figures,
)
