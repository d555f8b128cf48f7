"""Centring: the mean of the examples is taken off all features, and put into the head's bias afterwards.

The common part of all texts of a task does not separate its classes, and it is most of the features of texts in a
language that the encoder hardly reads. Inner steps would swing to and fro along it; see docs/log.md.
"""

from jaxtyping import Float
from torch import Tensor

from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.types import FastWeights


def mean_of_examples(
    features: Float[Tensor, "texts dim"], weights: Float[Tensor, " texts"], n_examples: int
) -> Float[Tensor, " dim"]:
    """The weighted mean of the examples, which are the first texts; without examples, that of the label texts."""
    counted = n_examples or weights.shape[0]
    return (weights[:counted] / weights[:counted].sum()) @ features[:counted]


def plain_head(fast_weights: FastWeights, centre: Float[Tensor, " dim"]) -> dict[str, Tensor]:
    """The fast weights whose head has the logits for plain features that the given head has for centred ones."""
    return {**fast_weights, HEAD_BIAS: fast_weights[HEAD_BIAS] - fast_weights[HEAD_WEIGHT] @ centre}
