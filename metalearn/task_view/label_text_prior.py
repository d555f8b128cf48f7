"""Label-text prior: the weight of a label's text beside the examples of its class."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.types import SlowWeights


@dataclass(frozen=True, slots=True)
class LabelTextPrior:
    """The weight w / (1 + n)^f of a label's text beside n examples of its class, each of weight 1.

    Weight w and fade f are meta-learned. Even without fade the text's share in its class, w / (w + n), shrinks as
    examples are added.

    Attributes:
        weight: Where w starts. Chosen on validation tasks for an untrained encoder, with f = 0; see docs/log.md.
    """

    weight: float = 2.0

    def initial_slow_weights(self) -> dict[str, Tensor]:
        """The logarithm of the weight, and the fade."""
        return {"log_weight": torch.tensor(self.weight).log(), "fade": torch.zeros(())}

    def weights(self, slow: SlowWeights, n_examples: Float[Tensor, " classes"]) -> Float[Tensor, " classes"]:
        """The weight of each class's label text."""
        return slow["log_weight"].exp() * (1 + n_examples) ** -slow["fade"]
