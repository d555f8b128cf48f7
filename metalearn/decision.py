"""The kinds of tasks, and how answers are made of a head's outputs; light to import."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
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

    def of_places(self, place: float, count: int) -> list[float]:
        """Probabilities of ordered classes: of a normal distribution around a place, cut half way between the classes.

        Source: McCullagh 1980, "Regression models for ordinal data", with the probit link.

        Args:
            place: The predicted place.
            count: The number of classes.
        """
        below = [0.5 * math.erfc((place - (i + 0.5)) / (self.spread * math.sqrt(2))) for i in range(count - 1)]
        return [high - low for low, high in pairwise([0.0, *below, 1.0])]
