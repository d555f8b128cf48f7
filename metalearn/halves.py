"""Features of the encoder as it came beside those of meta-trained layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Halves:
    """How features of the encoder as it came, the stock half, stand beside those of meta-trained layers.

    The defaults are what meta-training begins with, where it starts from no checkpoint that has others; see docs/log.md
    for how these and others did on validation tasks.

    Attributes:
        stock_mix: What the stock half's states count: after the last layer, the one before it, and so on.
        share: Its share in inner products; the rest is the trained half's.
        token_similarity: What the similarity of a pair's tokens, after the layers that are shared, counts as further
            columns; 0 for without. See ``metalearn.token_similarity``.
        trained_mix: As ``stock_mix``, of the trained half.
        words_only: Whether the tokens that frame a text are left out of the means over its tokens.
    """

    stock_mix: tuple[float, ...] = (1.0, 0.5, 0.5)
    share: float = 0.5
    token_similarity: float = 0.0
    trained_mix: tuple[float, ...] = (1.0,)
    words_only: bool = False


class TrainedView(NamedTuple):
    """Meta-trained top layers that run beside the stock ones.

    Attributes:
        layers: How many.
        weights: By the names of ``Encoder.upper_weights``.
    """

    layers: int
    weights: Mapping[str, Tensor]


def side_by_side(
    stock: Float[Tensor, "texts dim"], trained: Float[Tensor, "texts dim"], stock_share: float
) -> Float[Tensor, "texts twice_dim"]:
    """Both features as one vector, whose inner products are a weighted mean of theirs.

    Args:
        stock: Features of the encoder as it came, which keep what it knows; of a pair, how far apart its texts are.
        trained: Features of its meta-trained layers.
        stock_share: What the first count; the others count the rest of 1.
    """
    return torch.cat([stock * stock_share**0.5, trained * (1 - stock_share) ** 0.5], dim=1)
