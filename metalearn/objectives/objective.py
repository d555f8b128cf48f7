"""The rules of an objective, as one value that is chosen once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from metalearn.evaluation.figures import CalibrationBin
from metalearn.losses import HeadGradients
from metalearn.types import Episode, Objective, Target

Value = tuple[str, ...] | float
"""The labels of a text in a file, or its score."""

ClosedForm = Callable[
    [Float[Tensor, "rows dim"], Int[Tensor, " rows"], Float[Tensor, " rows"], int],
    Callable[[Float[Tensor, "classes dim"], Float[Tensor, " classes"]], HeadGradients],
]
"""(Features, targets, weights, number of classes) -> (weight and bias of a head -> its loss and gradients)."""


class Figures(NamedTuple):
    """Figures of the outputs for some texts; None where one makes no sense for the objective.

    Attributes:
        n_queries: Texts that were scored.
        accuracy: Share of exact answers.
        macro_f1: Mean of F1 over the classes.
        ece: Expected calibration error.
        majority: Accuracy of the most frequent answer.
        mse: Mean squared error.
        spearman: Rank correlation.
        bins: Decisions by confidence.
    """

    n_queries: int
    accuracy: float | None = None
    macro_f1: float | None = None
    ece: float | None = None
    majority: float | None = None
    mse: float | None = None
    spearman: float | None = None
    bins: tuple[CalibrationBin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveRules:
    """The rules of an objective.

    Attributes:
        name: The objective's name.
        has_classes: Whether its tasks have classes. Outputs are then logits, otherwise predictions.
        one_class_each: Whether each text has one of the classes, so that the classes exclude each other. The steps of
            the task view, shrinkage, label texts, leave-one-out and the temperature are for such tasks alone.
        target: (Labels or score of a text, class index of each label) -> target of the text.
        target_among: (Target in a task, index in an episode of each class that it has) -> target in the episode.
        targets: (Targets of an episode, number of classes) -> as ``EncodedSet`` holds them.
        loss: (Outputs, targets, weights of the rows) -> what steps lower.
        activation: Outputs -> what is answered: probabilities of the classes, or predictions.
        accuracy: (Outputs, targets) -> share of right decisions; None where there is none.
        loss_of_guessing: Query loss of an answer that knows nothing of the texts; 0 where that is no unit.
        figures: (Outputs, targets) -> figures of evaluation. Texts without a class of the episode are left out. The
            targets may have classes, after those of the outputs, that could not be predicted.
        head_gradients: The loss of a linear head with gradients in closed form; None where there is none.
    """

    name: Objective
    has_classes: bool
    one_class_each: bool
    target: Callable[[Value, Mapping[str, int]], Target]
    target_among: Callable[[Target, Mapping[int, int]], Target]
    targets: Callable[[Sequence[Target], int], Tensor]
    loss: Callable[[Tensor, Tensor, Tensor], Float[Tensor, ""]]
    activation: Callable[[Float[Tensor, "rows outputs"]], Float[Tensor, "rows outputs"]]
    accuracy: Callable[[Tensor, Tensor], float | None]
    loss_of_guessing: Callable[[Episode], float]
    figures: Callable[[Tensor, Tensor], Figures]
    head_gradients: ClosedForm | None = None

    @property
    def allows_no_class(self) -> bool:
        """Whether a text may have none of the classes, as an answer like any other."""
        return self.has_classes and not self.one_class_each
