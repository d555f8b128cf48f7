"""Figures of predictions, such as accuracy and macro F1. Nothing here knows of episodes."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CALIBRATION_BINS = 15
"""Bins of the expected calibration error. Source: Guo et al. 2017, section 4."""


class CalibrationBin(NamedTuple):
    """The decisions whose confidence lies within one of the equal parts of 0 to 1.

    Attributes:
        decisions: Their number.
        confidence: The sum of their confidences.
        correct: How many of them are right.
    """

    decisions: int
    confidence: float
    correct: int


def accuracy(
    predicted: Int[Tensor, " rows"] | Bool[Tensor, "rows classes"],
    actual: Int[Tensor, " rows"] | Bool[Tensor, "rows classes"],
) -> float:
    """Share of rows that are predicted exactly.

    For rows of booleans, one per class, a row counts where every class is right (subset accuracy, as scikit-learn's
    ``accuracy_score``).

    Args:
        predicted: Class indices, or rows of booleans; one row or more.
        actual: The like.
    """
    return float(_exact(predicted, actual).double().mean())


def macro_f1(predicted: Bool[Tensor, "rows classes"], actual: Bool[Tensor, "rows classes"]) -> float:
    """Mean of F1 over all classes; 0 for a class that is neither predicted nor there.

    As scikit-learn's ``f1_score(average="macro", labels=range(classes), zero_division=0)``.

    Args:
        predicted: Whether each row is predicted to be of each class.
        actual: Whether it is.
    """
    hits = (predicted & actual).sum(dim=0).double()
    marked = (predicted.sum(dim=0) + actual.sum(dim=0)).double()  # of F1 = 2 tp / (2 tp + fp + fn)
    return float((2 * hits / marked.clamp_min(1)).mean())


def majority_share(actual: Int[Tensor, " rows"] | Bool[Tensor, "rows classes"]) -> float:
    """Accuracy of always answering what is most frequent among these very rows: a class, or a set of classes."""
    counts = torch.unique(actual, dim=0, return_counts=True)[1]
    return float(counts.max()) / len(actual)


def expected_calibration_error(
    confidence: Float[Tensor, " decisions"], correct: Bool[Tensor, " decisions"], bins: int = CALIBRATION_BINS
) -> float:
    """The distance of confidence from accuracy: the mean of |accuracy - mean confidence| over bins, weighted by size.

    Bin m of M holds the decisions with a confidence in ((m - 1) / M, m / M]; 0 falls into the first.

    Source: Guo et al. 2017, "On calibration of modern neural networks", eq. 3.

    Args:
        confidence: Probability given to each decision, from 0 to 1.
        correct: Whether the decision was right.
        bins: Number of bins of equal width.
    """
    confidence = confidence.double()
    place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    gap = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    gap.index_add_(0, place, correct.double() - confidence)
    return float(gap.abs().sum()) / len(confidence)


def calibration_bins(
    confidence: Float[Tensor, " decisions"], correct: Bool[Tensor, " decisions"], bins: int = CALIBRATION_BINS
) -> tuple[CalibrationBin, ...]:
    """The decisions by confidence, in the bins of ``expected_calibration_error``; what a reliability diagram shows.

    Source: Niculescu-Mizil and Caruana 2005, "Predicting good probabilities with supervised learning", section 4.

    Args:
        confidence: Probability given to each decision, from 0 to 1.
        correct: Whether the decision was right.
        bins: Number of bins of equal width.
    """
    confidence = confidence.double().cpu()
    place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    counts = torch.bincount(place, minlength=bins)
    sums = torch.bincount(place, weights=confidence, minlength=bins)
    right = torch.bincount(place, weights=correct.double().cpu(), minlength=bins)
    rows = zip(counts.tolist(), sums.tolist(), right.tolist(), strict=True)
    return tuple(CalibrationBin(count, total, int(hits)) for count, total, hits in rows)


def mean_squared_error(predicted: Float[Tensor, " rows"], actual: Float[Tensor, " rows"]) -> float:
    """Mean of the squared differences."""
    return float((predicted.double() - actual.double()).square().mean())


def spearman(predicted: Float[Tensor, " rows"], actual: Float[Tensor, " rows"]) -> float | None:
    """Correlation of ranks, equal values sharing the mean of their ranks; None where either side is constant.

    Source: Spearman 1904; as ``scipy.stats.spearmanr``.
    """
    first, second = _ranks(predicted), _ranks(actual)
    first, second = first - first.mean(), second - second.mean()
    spread = first.norm() * second.norm()
    return float((first @ second) / spread) if spread > 0 else None


def _exact(predicted: Tensor, actual: Tensor) -> Bool[Tensor, " rows"]:
    same = predicted == actual
    return same if same.dim() == 1 else same.all(dim=1)


def _ranks(values: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum(dim=0).double()
    mean_rank: Tensor = last - (counts.double() - 1) / 2
    return mean_rank[place]
