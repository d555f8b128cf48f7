"""Multi-label tasks: each text has any number of classes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metalearn.losses import weighted_binary_cross_entropy
from metalearn.objectives.objective import ObjectiveRules
from metalearn.types import Episode, Target


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


MULTI_LABEL = ObjectiveRules(
    "multi_label", _targets, weighted_binary_cross_entropy, _activation, _accuracy, _loss_of_guessing
)
