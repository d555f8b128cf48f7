"""The kinds of tasks, each with the objective and the learner that serve it: the one place that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass

from metalearn.decision import TaskKind
from metalearn.types import Objective


@dataclass(frozen=True, slots=True)
class KindRules:
    """The rules of a kind.

    Attributes:
        name: The kind's name.
        objective: What the head is adapted for.
        answer: The key of an example that holds its answer in a request and in a file.
        learner: The learner where a request names none; None for the checkpoint's own.
        described: Whether labels may have descriptions, and the words of their names count.
        abstains: Whether a prediction may abstain.
    """

    name: TaskKind
    objective: Objective
    answer: str
    learner: str | None = None
    described: bool = False
    abstains: bool = False


KINDS: Mapping[TaskKind, KindRules] = {
    rules.name: rules
    for rules in (
        KindRules(
            "single_label",
            "classification",
            "label",
            described=True,
            abstains=True,
        ),
        KindRules("multi_label", "multi_label", "labels", "ridge_cv", described=True),
        KindRules("regression", "regression", "score", "ridge_cv"),
        KindRules("ordinal", "regression", "label", "ridge_cv"),
        KindRules("tokens", "classification", "spans", "softmax_regression"),
    )
}
"""Rules by the kind's name."""
