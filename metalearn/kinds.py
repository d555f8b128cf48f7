"""The kinds of tasks, each with the objective and the learner that serve it: the one place that lists them."""

from collections.abc import Mapping
from dataclasses import dataclass

from metalearn.types import Objective, TaskKind


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
        reported: Whether there is a report.
    """

    name: TaskKind
    objective: Objective
    answer: str
    learner: str | None = None
    described: bool = False
    abstains: bool = False
    reported: bool = False


KINDS: Mapping[TaskKind, KindRules] = {
    rules.name: rules
    for rules in (
        KindRules("single_label", "classification", "label", described=True, abstains=True, reported=True),
        KindRules("multi_label", "multi_label", "labels", "ridge_cv"),
        KindRules("regression", "regression", "score", "ridge_cv"),
        KindRules("tokens", "classification", "spans", "softmax_regression"),
        KindRules("ordinal", "regression", "label", "ridge_cv"),
    )
}
"""Rules by the kind's name."""
