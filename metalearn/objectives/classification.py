"""Classification: each text has one class, or none of its task's."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.evaluation import figures
from metalearn.losses import linear_head_gradients, weighted_cross_entropy
from metalearn.objectives.objective import Figures, ObjectiveRules, Value
from metalearn.types import OUT_OF_SCOPE, Episode, Target


def _target(value: Value, place: Mapping[str, int]) -> Target:
    assert isinstance(value, tuple)  # noqa: S101 - what a file of this objective holds
    return place[value[0]]


def _target_among(target: Target, place: Mapping[int, int]) -> Target:
    assert isinstance(target, int)  # noqa: S101 - what a task of this objective holds
    return place.get(target, OUT_OF_SCOPE)


def _targets(targets: Sequence[Target], n_classes: int) -> Tensor:
    return torch.tensor(targets, dtype=torch.long)


def _activation(outputs: Tensor) -> Tensor:
    return outputs.softmax(dim=1)


def _accuracy(outputs: Tensor, targets: Tensor) -> float | None:
    hits = (outputs.argmax(dim=1) == targets)[targets != OUT_OF_SCOPE]
    return float(hits.float().mean()) if hits.numel() else None


def _loss_of_guessing(episode: Episode) -> float:
    return math.log(episode.n_classes)


def _figures(outputs: Tensor, targets: Tensor) -> Figures:
    in_scope = targets != OUT_OF_SCOPE
    if not bool(in_scope.any()):
        return Figures(0)
    actual = targets[in_scope]
    confidence, predicted = outputs[in_scope].double().softmax(dim=1).max(dim=1)
    n_classes = max(outputs.shape[1], int(actual.max()) + 1)
    return Figures(
        len(actual),
        accuracy=figures.accuracy(predicted, actual),
        macro_f1=figures.macro_f1(one_hot(predicted, n_classes).bool(), one_hot(actual, n_classes).bool()),
        ece=figures.expected_calibration_error(confidence, predicted == actual),
        majority=figures.majority_share(actual),
        bins=figures.calibration_bins(confidence, predicted == actual),
    )


CLASSIFICATION = ObjectiveRules(
    name="classification",
    has_classes=True,
    one_class_each=True,
    target=_target,
    target_among=_target_among,
    targets=_targets,
    loss=weighted_cross_entropy,
    activation=_activation,
    accuracy=_accuracy,
    loss_of_guessing=_loss_of_guessing,
    figures=_figures,
    head_gradients=linear_head_gradients,
)
