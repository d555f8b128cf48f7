"""Class balance: all classes count alike in the loss of inner steps.

A handful of examples seldom measures how frequent a class is. Where it does, classes with few examples would be
forgotten; see docs/log.md.
"""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


def balanced_weights(
    weights: Float[Tensor, " texts"], classes: Int[Tensor, " texts"], n_classes: int
) -> Float[Tensor, " texts"]:
    """Weights with the same sum in each class, and the same sum over all texts as before."""
    of_class = one_hot(classes, n_classes).to(weights.dtype).T @ weights
    factor = of_class.sum() / (n_classes * of_class.masked_fill(of_class == 0, 1.0))
    return weights * factor[classes]
