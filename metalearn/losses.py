"""Losses that the inner loop descends on."""

import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from jaxtyping import Float, Int
from torch import Tensor


def weighted_cross_entropy(
    logits: Float[Tensor, "support classes"], targets: Int[Tensor, " support"], weights: Float[Tensor, " support"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, in which row i counts ``weights[i]`` times."""
    per_row = F.cross_entropy(logits, targets, reduction="none")
    return (per_row * weights).sum() / weights.sum()
