"""The rules of an objective, as one value that is chosen once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from metalearn.types import Episode, Objective, Target


@dataclass(frozen=True, slots=True)
class ObjectiveRules:
    """The rules of an objective.

    Attributes:
        name: The objective's name.
        targets: (Targets of an episode, number of classes) -> as ``EncodedSet`` holds them.
        loss: (Outputs, targets, weights of the rows) -> what steps lower.
        activation: Outputs -> what is answered: probabilities of the classes, or predictions.
        accuracy: (Outputs, targets) -> share of right decisions; None where there is none.
        loss_of_guessing: Query loss of an answer that knows nothing of the texts; 0 where that is no unit.
    """

    name: Objective
    targets: Callable[[Sequence[Target], int], Tensor]
    loss: Callable[[Tensor, Tensor, Tensor], Float[Tensor, ""]]
    activation: Callable[[Float[Tensor, "rows outputs"]], Float[Tensor, "rows outputs"]]
    accuracy: Callable[[Tensor, Tensor], float | None]
    loss_of_guessing: Callable[[Episode], float]
