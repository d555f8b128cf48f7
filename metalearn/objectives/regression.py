"""Regression: each text has a score."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metalearn.losses import weighted_mean_squared_error
from metalearn.objectives.objective import ObjectiveRules
from metalearn.types import Episode, Target


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


REGRESSION = ObjectiveRules(
    "regression", _targets, weighted_mean_squared_error, _activation, _accuracy, _loss_of_guessing
)
