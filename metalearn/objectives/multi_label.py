"""Multi-label tasks: each text has any number of classes."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metalearn.evaluation import figures
from metalearn.losses import weighted_binary_cross_entropy
from metalearn.objectives.objective import Figures, ObjectiveRules, Value
from metalearn.types import Episode, Target


def _target(value: Value, place: Mapping[str, int]) -> Target:
    assert isinstance(value, tuple)  # noqa: S101 - what a file of this objective holds
    return tuple(sorted(place[label] for label in value))


def _target_among(target: Target, place: Mapping[int, int]) -> Target:
    assert isinstance(target, tuple)  # noqa: S101 - what a task of this objective holds
    return tuple(sorted(place[label] for label in target if label in place))


def _targets(targets: Sequence[Target], n_classes: int) -> Tensor:
    rows = torch.zeros(len(targets), n_classes)
    for row, classes in enumerate(targets):
        assert isinstance(classes, tuple)  # noqa: S101 - what an episode of this objective holds
        rows[row, list(classes)] = 1.0
    return rows


def _activation(outputs: Tensor) -> Tensor:
    return outputs.sigmoid()


def _accuracy(outputs: Tensor, targets: Tensor) -> float | None:
    return float(((outputs > 0) == (targets > 0.5)).float().mean())


def _loss_of_guessing(episode: Episode) -> float:
    return math.log(2)


def _figures(outputs: Tensor, targets: Tensor) -> Figures:
    actual = targets > 0.5
    probabilities = outputs.double().sigmoid()
    decisions = probabilities > 0.5
    confidence = torch.maximum(probabilities, 1 - probabilities)
    correct = decisions == actual[:, : outputs.shape[1]]
    predicted = torch.zeros_like(actual)
    predicted[:, : outputs.shape[1]] = decisions
    return Figures(
        len(actual),
        accuracy=figures.accuracy(predicted, actual),
        macro_f1=figures.macro_f1(predicted, actual),
        ece=figures.expected_calibration_error(confidence.flatten(), correct.flatten()),
        majority=figures.majority_share(actual),
    )


MULTI_LABEL = ObjectiveRules(
    name="multi_label",
    has_classes=True,
    one_class_each=False,
    target=_target,
    target_among=_target_among,
    targets=_targets,
    loss=weighted_binary_cross_entropy,
    activation=_activation,
    accuracy=_accuracy,
    loss_of_guessing=_loss_of_guessing,
    figures=_figures,
)
