"""Rules for answers from a head's outputs, learned from the outputs for each example by a head without it."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metalearn.decision import Decision, TaskKind
from metalearn.evidence.kind_figures import f1_of_labels, mean_of_texts, spearman_of_scores

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
        answers: The classes of each left-out answer, or the place in the order; None where there are none, and for
            scores.
    """

    decision: Decision | None = None
    figures: dict[str, float] | None = None
    answers: tuple[tuple[int, ...], ...] | None = None


def quality(figures: Mapping[str, float] | None) -> tuple[str, float] | None:
    """The figure by which two versions of a task are compared, more being better, and its name; None without figures.

    It is micro F1, or the share of the mean's absolute error that the predictions avoid.
    """
    if figures is None:
        return None
    if "micro_f1" in figures:
        return "micro F1", figures["micro_f1"]
    of_mean = figures.get("mae_of_mean")
    return ("share of the mean's error that is avoided", 1 - figures["mae"] / of_mean) if of_mean else None


def judged(
    kind: TaskKind,
    n_labels: int,
    targets: Float[Tensor, "texts outputs"],
    left_out: Float[Tensor, "texts outputs"] | None,
    weights: Float[Tensor, " texts"] | None = None,
) -> Judged:
    """The decision for a kind of tasks, and figures of its answers to left-out examples.

    Args:
        kind: The kind. One whose answers are probabilities of classes that exclude each other needs no decision.
        n_labels: The number of classes.
        targets: Memberships or scores of the examples.
        left_out: Outputs for the examples without themselves; None where the learner leaves none out.
        weights: How much each example counts; None where all count alike.
    """
    counted = (torch.ones_like(targets[:, 0]) if weights is None else weights).double()
    if kind == "multi_label":
        return _of_labels(n_labels, targets, left_out, counted)
    if kind in {"regression", "ordinal"}:
        of_scores = None if left_out is None else left_out.flatten().double()
        return _of_scores(n_labels if kind == "ordinal" else None, targets.flatten().double(), of_scores, counted)
    return Judged()


def enough_for_thresholds(actual: Bool[Tensor, "texts labels"]) -> bool:
    """Whether there are examples enough to learn thresholds from."""
    return len(actual) >= _ENOUGH_EXAMPLES and int(actual.sum()) >= _ENOUGH_POSITIVES


def _of_labels(
    n_labels: int,
    targets: Float[Tensor, "texts labels"],
    left_out: Float[Tensor, "texts labels"] | None,
    weights: Float[Tensor, " texts"],
) -> Judged:
    actual = targets > 0.5
    if left_out is None or not enough_for_thresholds(actual):
        return Judged(Decision(thresholds=(_UNDECIDED,) * n_labels))
    probabilities = left_out.double().sigmoid()
    thresholds = learned_thresholds(probabilities, actual, weights)
    predicted = probabilities >= torch.tensor(thresholds, dtype=torch.float64, device=probabilities.device)
    micro, macro = (float(each) for each in f1_of_labels(predicted, actual, weights.unsqueeze(0)))
    answers = tuple(tuple(i for i, found in enumerate(row) if found) for row in predicted.tolist())
    return Judged(Decision(thresholds=thresholds, learned=True), {"micro_f1": micro, "macro_f1": macro}, answers)


def learned_thresholds(
    probabilities: Float[Tensor, "texts labels"],
    actual: Bool[Tensor, "texts labels"],
    weights: Float[Tensor, " texts"],
) -> tuple[float, ...]:
    """The threshold of each class: between the one that is best for it and the one that is best for all together.

    Best is the greatest F1. A class's own threshold counts as its positive examples do, beside those of all classes,
    which counts as eight: a mean of their logits.
    """
    n_labels = actual.shape[1]
    common = _logit(_best_threshold(probabilities.flatten(), actual.flatten(), weights.repeat_interleave(n_labels)))
    result = []
    for label in range(n_labels):
        positives = float(weights[actual[:, label]].sum())
        own = _logit(_best_threshold(probabilities[:, label], actual[:, label], weights)) if positives else common
        mean = (positives * own + _POSITIVES_OF_COMMON * common) / (positives + _POSITIVES_OF_COMMON)
        result.append(1 / (1 + math.exp(-mean)))
    return tuple(result)


def _best_threshold(
    probabilities: Float[Tensor, " answers"], actual: Bool[Tensor, " answers"], weights: Float[Tensor, " answers"]
) -> float:
    """The threshold with the greatest F1, half way between two probabilities."""
    ordered, rows = probabilities.sort(descending=True)
    hits = (actual * weights)[rows].cumsum(dim=0)
    f1 = 2 * hits / (weights[rows].cumsum(dim=0) + hits[-1])
    # Only where the next probability is lower: equal ones are answered together
    ends = torch.cat([ordered[1:] < ordered[:-1], ordered.new_ones(1, dtype=torch.bool)])
    best = int(torch.where(ends, f1, -1.0).argmax())
    below = float(ordered[best + 1]) if best + 1 < len(ordered) else 0.0
    return (float(ordered[best]) + below) / 2


def _of_scores(
    n_places: int | None,
    actual: Float[Tensor, " texts"],
    left_out: Float[Tensor, " texts"] | None,
    weights: Float[Tensor, " texts"],
) -> Judged:
    ordered = n_places is not None
    if left_out is None or len(actual) < 3:
        return Judged(Decision(ordered=True, spread=1.0) if ordered else None)
    errors, as_row = (left_out - actual).abs(), weights.unsqueeze(0)
    of_mean = (actual - left_out_means(actual, weights)).abs()
    found = {"mae": float(mean_of_texts(errors, as_row)), "mae_of_mean": float(mean_of_texts(of_mean, as_row))}
    if bool((left_out != left_out[0]).any()) and bool((actual != actual[0]).any()):
        found["spearman"] = float(spearman_of_scores(left_out, actual, as_row))
    if n_places is not None:
        spread = max(float(mean_of_texts(errors.square(), as_row).sqrt()), 1e-6)
        decision = Decision(ordered=True, spread=spread)
        rows_of_places = (decision.of_places(place, n_places) for place in left_out.tolist())
        return Judged(decision, found, tuple((max(range(n_places), key=row.__getitem__),) for row in rows_of_places))
    ordered_errors, rows = errors.sort()
    below = weights[rows].cumsum(dim=0)
    rank = math.ceil((float(below[-1]) + 1) * COVERAGE)
    half_width = float(ordered_errors[int((below < rank).sum())]) if rank <= float(below[-1]) else None
    return Judged(Decision(half_width=half_width), found)


def left_out_means(scores: Float[Tensor, " texts"], weights: Float[Tensor, " texts"]) -> Float[Tensor, " texts"]:
    """The mean score of all texts but each."""
    return (weights @ scores - weights * scores) / (weights.sum() - weights)


def _logit(probability: float) -> float:
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))
