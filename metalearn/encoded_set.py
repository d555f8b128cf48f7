"""Encoded labelled texts, as learners see them."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.types import Objective


@dataclass(frozen=True)
class EncodedSet:
    """Encoded labelled texts, as a learner sees them.

    Attributes:
        features: One row per text.
        targets: Class index of each row (``OUT_OF_SCOPE`` only in query sets); in multi-label tasks a row of zeros and
            ones; in regression a row of scores.
        weights: How much each row counts in the loss and in its class's mean; an example counts 1.
        n_classes: Number of classes, or of outputs in regression. In a support set each class has at least one row.
        objective: The meaning of the targets.
        has_examples: Whether some of a support set's rows are examples, and not all of them label texts.
        n_label_texts: The number of the last rows that are label texts of a task in which a text has several classes;
            the learner weighs them.
    """

    features: Float[Tensor, "texts dim"]
    targets: Int[Tensor, " texts"] | Float[Tensor, "texts outputs"]
    weights: Float[Tensor, " texts"]
    n_classes: int
    objective: Objective = "classification"
    has_examples: bool = True
    n_label_texts: int = 0

    @property
    def membership(self) -> Float[Tensor, "texts classes"]:
        """How much of each row belongs to each class: one-hot rows, or the targets themselves where they are rows."""
        if self.targets.dim() == 1:
            return one_hot(self.targets, self.n_classes).to(self.features.dtype)
        return self.targets.to(self.features.dtype)

    @property
    def weight_of_class(self) -> Float[Tensor, " classes"]:
        """The sum of the weights of each class's rows."""
        return self.membership.T @ self.weights

    def rows(self, rows: Int[Tensor, " rows"]) -> "EncodedSet":
        """Some of the texts."""
        at = rows.to(self.features.device)
        return replace(self, features=self.features[at], targets=self.targets[at], weights=self.weights[at])
