"""How answers are made of a head's outputs, learned from the outputs for each example by a head without it."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metalearn.evaluation import figures
from metalearn.types import Decision, TaskKind

COVERAGE = 0.9
"""Share of new texts whose score an interval is to hold."""

_UNDECIDED = 0.5
_ENOUGH_EXAMPLES, _ENOUGH_POSITIVES = 10, 5
"""Fewest examples, and fewest classes of examples in all, from which thresholds are learned."""
_POSITIVES_OF_COMMON = 8.0
"""Positive examples that the threshold of all classes counts beside a class's own."""


class Judged(NamedTuple):
    """The evidence of leave-one-out about a head.

    Attributes:
        decision: How answers are made of its outputs; None where the objective alone says it.
        figures: Figures of the left-out answers, by name; None where there are none.
    """

    decision: Decision | None = None
    figures: dict[str, float] | None = None


def judged(
    kind: TaskKind,
    n_labels: int,
    targets: Float[Tensor, "texts outputs"],
    left_out: Float[Tensor, "texts outputs"] | None,
) -> Judged:
    """The decision for a kind of tasks, and figures of its answers to left-out examples.

    Args:
        kind: The kind. One whose answers are probabilities of classes that exclude each other needs no decision.
        n_labels: The number of classes.
        targets: Memberships or scores of the examples.
        left_out: Outputs for the examples without themselves; None where the learner leaves none out.
    """
    if kind == "multi_label":
        return _of_labels(n_labels, targets, left_out)
    if kind in {"regression", "ordinal"}:
        return _of_scores(kind, targets.flatten().double(), None if left_out is None else left_out.flatten().double())
    return Judged()


def _of_labels(
    n_labels: int, targets: Float[Tensor, "texts labels"], left_out: Float[Tensor, "texts labels"] | None
) -> Judged:
    actual = targets > 0.5
    if left_out is None or len(actual) < _ENOUGH_EXAMPLES or int(actual.sum()) < _ENOUGH_POSITIVES:
        return Judged(Decision(thresholds=(_UNDECIDED,) * n_labels))
    probabilities = left_out.double().sigmoid()
    thresholds = learned_thresholds(probabilities, actual)
    predicted = probabilities >= torch.tensor(thresholds, dtype=torch.float64, device=probabilities.device)
    found = {"micro_f1": _f1(predicted, actual), "macro_f1": figures.macro_f1(predicted, actual)}
    return Judged(Decision(thresholds=thresholds, learned=True), found)


def learned_thresholds(
    probabilities: Float[Tensor, "texts labels"], actual: Bool[Tensor, "texts labels"]
) -> tuple[float, ...]:
    """The threshold of each class: between the one that is best for it and the one that is best for all together.

    Best is the greatest F1. A class's own threshold counts as its positive examples do, beside those of all classes,
    which counts as eight: a mean of their logits.
    """
    common = _logit(_best_threshold(probabilities.flatten(), actual.flatten()))
    result = []
    for label in range(actual.shape[1]):
        positives = float(actual[:, label].sum())
        own = _logit(_best_threshold(probabilities[:, label], actual[:, label])) if positives else common
        mean = (positives * own + _POSITIVES_OF_COMMON * common) / (positives + _POSITIVES_OF_COMMON)
        result.append(1 / (1 + math.exp(-mean)))
    return tuple(result)


def _best_threshold(probabilities: Float[Tensor, " answers"], actual: Bool[Tensor, " answers"]) -> float:
    """The threshold with the greatest F1, half way between two probabilities."""
    ordered, rows = probabilities.sort(descending=True)
    hits = actual[rows].double().cumsum(dim=0)
    taken = torch.arange(1, len(ordered) + 1, dtype=torch.float64, device=hits.device)
    f1 = 2 * hits / (taken + actual.sum())
    # Only where the next probability is lower: equal ones are answered together
    ends = torch.cat([ordered[1:] < ordered[:-1], ordered.new_ones(1, dtype=torch.bool)])
    best = int(torch.where(ends, f1, -1.0).argmax())
    below = float(ordered[best + 1]) if best + 1 < len(ordered) else 0.0
    return (float(ordered[best]) + below) / 2


def _of_scores(kind: TaskKind, actual: Float[Tensor, " texts"], left_out: Float[Tensor, " texts"] | None) -> Judged:
    ordered = kind == "ordinal"
    if left_out is None or len(actual) < 3:
        return Judged(Decision(ordered=True, spread=1.0) if ordered else None)
    errors = (left_out - actual).abs()
    count = len(errors)
    of_mean = (actual - (actual.sum() - actual) / (count - 1)).abs()
    found = {"mae": float(errors.mean()), "mae_of_mean": float(of_mean.mean())}
    spearman = figures.spearman(left_out, actual)
    found |= {} if spearman is None else {"spearman": spearman}
    rank = math.ceil((count + 1) * COVERAGE)
    half_width = float(errors.sort().values[rank - 1]) if rank <= count else None
    spread = max(float(errors.square().mean().sqrt()), 1e-6)
    if ordered:
        return Judged(Decision(ordered=True, spread=spread), found)
    return Judged(Decision(half_width=half_width), found)


def _f1(predicted: Bool[Tensor, "texts labels"], actual: Bool[Tensor, "texts labels"]) -> float:
    """F1 of all decisions together."""
    either = int(predicted.sum()) + int(actual.sum())
    return 2 * int((predicted & actual).sum()) / either if either else 0.0


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))
