"""Episodes whose texts are as a body reads them."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from metalearn.types import EncodedSet, Objective
from metalearn.within_class import TaskView


@dataclass(frozen=True)
class PreparedSet:
    """Labelled inputs as the body reads them; the fields that are not explained here are those of ``EncodedSet``.

    Attributes:
        inputs: As the body reads them.
        label_texts: How many of the rows, the last ones, are the texts of labels and not examples.
    """

    inputs: Any
    targets: Int[Tensor, " texts"] | Float[Tensor, "texts outputs"]
    weights: Float[Tensor, " texts"]
    n_classes: int
    objective: Objective = "classification"
    label_texts: int = 0

    @property
    def shots(self) -> float:
        """Examples per class, as a mean over the classes."""
        return (self.targets.shape[0] - self.label_texts) / self.n_classes

    def encoded(self, features: Float[Tensor, "texts dim"], view: TaskView | None = None) -> EncodedSet:
        """With their features, and the view that these are under."""
        return EncodedSet(features, self.targets, self.weights, self.n_classes, self.objective, view, self.label_texts)


@dataclass(frozen=True)
class PreparedEpisode:
    """An episode as the body reads it.

    Attributes:
        support: What is adapted on.
        query: What the result is judged by.
        task: Name of its task.
        group: Kind of task.
    """

    support: PreparedSet
    query: PreparedSet
    task: str = ""
    group: str = ""
