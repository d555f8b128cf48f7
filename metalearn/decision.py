"""The kinds of tasks, and how answers are made of a head's outputs; light to import."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

TaskKind = Literal["single_label", "multi_label", "regression", "ordinal", "tokens"]
"""The form of a task's answers as its owner sees it; ``metalearn.kinds`` has the rules of each."""


def n_outputs(objective: str, labels: Sequence[str]) -> int:
    """The number of outputs of a head; one in regression, also where its scores are places of ordered classes."""
    return 1 if objective == "regression" else len(labels)


@dataclass(frozen=True, slots=True)
class Decision:
    """The rule that makes a task's answers of its head's outputs.

    Attributes:
        thresholds: The probability from which on each class is answered, in multi-label tasks.
        learned: Whether the thresholds were learned by leave-one-out.
        half_width: Half the width of the interval around a predicted score; None where it is not known.
        ordered: Whether the output is a place in the order of the classes, as ordinal tasks have it.
        spread: Root mean square of the error of that place on left-out examples.
        transitions: How tags follow one another, in token classifications; see ``metalearn.tokens.decode``.
    """

    thresholds: tuple[float, ...] = ()
    learned: bool = False
    half_width: float | None = None
    ordered: bool = False
    spread: float = 1.0
    transitions: tuple[float, ...] = ()
