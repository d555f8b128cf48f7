"""Outputs for the examples of several labels or of scores, each by a head without it; in closed form."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from metalearn.decision import TaskKind
from metalearn.evidence.decisions import Judged, judged, quality
from metalearn.evidence.held_back import HeldBack
from metalearn.learners.ridge_cv import left_out_of_ridge
from metalearn.meta_model import MetaModel
from metalearn.prepared import PreparedSet
from metalearn.types import SlowWeights

_RIDGE = 1.0
"""The regulariser of the baseline, for features of unit length."""


@dataclass(frozen=True)
class LeftOutOutputs:
    """Outputs for each example by heads without it.

    Attributes:
        outputs: Of the task's learner: logits of labels, or scores; None where it leaves no example out.
        by_ridge: Predicted memberships or scores of ridge regression with a fixed regulariser.
        judged: What the outputs teach: decision, figures, answers.
    """

    outputs: Float[Tensor, "examples outputs"] | None
    by_ridge: Float[Tensor, "examples outputs"]
    judged: Judged


def outputs_left_out(
    model: MetaModel, slow: SlowWeights, support: PreparedSet, *, kind: TaskKind, n_labels: int
) -> LeftOutOutputs:
    """Asks for each example by a head of all others.

    Args:
        model: The model that adapts.
        slow: Its slow weights.
        support: The support set, all of whose examples have a weight; its inputs are features.
        kind: The kind of the task.
        n_labels: The number of its classes.
    """
    outputs = model.left_out_outputs(slow, model.start(slow, support))
    targets = support.targets
    by_ridge = left_out_of_ridge(support.inputs, targets, support.weights, targets.new_tensor(_RIDGE))
    return LeftOutOutputs(outputs, by_ridge, judged(kind, n_labels, targets, outputs, support.weights))


def compare_left_out(
    model: MetaModel,
    slow: SlowWeights,
    support: PreparedSet,
    before: Bool[Tensor, " examples"],
    after: Bool[Tensor, " examples"],
    *,
    kind: TaskKind,
    n_labels: int,
) -> HeldBack:
    """Asks for the examples that a change leaves as they are, each by a head of all others, before and after it.

    Args:
        model: The model that adapts.
        slow: Its slow weights.
        support: The examples of both sides; its inputs are features.
        before: Whether each example is in the support set before the change.
        after: Whether it is after the change.
        kind: The kind of the task.
        n_labels: The number of its classes.
    """
    counted = support.weights > 0
    asked = before & after & counted
    found: list[tuple[str, float]] = []
    for side in (before & counted, after & counted):
        part = replace(
            support, inputs=support.inputs[side], targets=support.targets[side], weights=support.weights[side]
        )
        outputs = model.left_out_outputs(slow, model.start(slow, part))
        own = None if outputs is None else outputs[asked[side]]
        measured = quality(judged(kind, n_labels, support.targets[asked], own, support.weights[asked]).figures)
        if measured is None:
            return HeldBack(0, 0.0, 0.0)
        found.append(measured)
    n_asked = int(asked.sum())
    (measure, first), (_, second) = found
    return HeldBack(n_asked, first * n_asked, second * n_asked, measure)
