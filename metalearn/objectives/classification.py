"""Classification: each text has one class, or none of its task's."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metalearn.losses import weighted_cross_entropy
from metalearn.objectives.objective import ObjectiveRules
from metalearn.types import OUT_OF_SCOPE, Episode, Target


def _targets(targets: Sequence[Target], n_classes: int) -> Tensor:
    return torch.tensor(targets, dtype=torch.long)


def _activation(outputs: Tensor) -> Tensor:
    return outputs.softmax(dim=1)


def _accuracy(outputs: Tensor, targets: Tensor) -> float | None:
    hits = (outputs.argmax(dim=1) == targets)[targets != OUT_OF_SCOPE]
    return float(hits.float().mean()) if hits.numel() else None


def _loss_of_guessing(episode: Episode) -> float:
    return math.log(episode.n_classes)


CLASSIFICATION = ObjectiveRules(
    "classification", _targets, weighted_cross_entropy, _activation, _accuracy, _loss_of_guessing
)
