"""Episodes whose texts are as a body reads them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.body import Body
from metalearn.encoded_set import EncodedSet
from metalearn.types import Objective


@dataclass(frozen=True)
class LabelTexts:
    """Texts that stand for classes beside the examples: descriptions, or the words of names.

    Attributes:
        inputs: The texts as the body reads them.
        classes: The class of each; no class has two.
    """

    inputs: Any
    classes: Int[Tensor, " labels"]


@dataclass(frozen=True)
class PreparedSet:
    """Labelled inputs as the body reads them; the fields that are not explained here are those of ``EncodedSet``.

    Attributes:
        inputs: The inputs of the body.
        label_texts: Label texts of a support set; None where labels' texts are not used.
    """

    inputs: Any
    targets: Int[Tensor, " texts"] | Float[Tensor, "texts outputs"]
    weights: Float[Tensor, " texts"]
    n_classes: int
    objective: Objective = "classification"
    label_texts: LabelTexts | None = None

    @property
    def shots(self) -> float:
        """Examples per class, as a mean over the classes; each counts its weight."""
        return float(self.weights.sum()) / self.n_classes

    @property
    def targets_of_all(self) -> Int[Tensor, " texts"] | Float[Tensor, "texts outputs"]:
        """Targets of the examples and then of the label texts."""
        if self.label_texts is None:
            return self.targets
        classes = self.label_texts.classes
        rows = classes if self.targets.dim() == 1 else one_hot(classes, self.n_classes).to(self.targets)
        return torch.cat([self.targets, rows])

    @property
    def weighted_membership(self) -> Float[Tensor, "texts classes"]:
        """The weight of each example in its class, 0 in all others; an example of weight 0 is as if it were absent."""
        return one_hot(self.targets, self.n_classes).to(self.weights.dtype) * self.weights.unsqueeze(1)

    def counted(self, body: Body) -> "PreparedSet":
        """The set without the examples of weight 0; itself where there are none. Waits for the device.

        Args:
            body: The body that the inputs are for.
        """
        kept = self.weights > 0
        if bool(kept.all()):
            return self
        rows = kept.nonzero()[:, 0]
        inputs = body.some(self.inputs, rows)
        return replace(self, inputs=inputs, targets=self.targets[rows], weights=self.weights[rows])

    def encoded(self, features: Float[Tensor, "texts dim"]) -> EncodedSet:
        """The examples with their features."""
        return EncodedSet(features, self.targets, self.weights, self.n_classes, self.objective)


@dataclass(frozen=True)
class PreparedEpisode:
    """An episode as the body reads it.

    Attributes:
        support: The support set.
        query: The query set, which the result is judged by.
        task: Name of its task.
        group: Kind of task.
    """

    support: PreparedSet
    query: PreparedSet
    task: str = ""
    group: str = ""
