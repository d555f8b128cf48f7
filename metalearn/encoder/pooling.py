"""Texts on their way through an encoder, and what of them is pooled."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metalearn.encoder.stages import PoolingStage


class PaddedBatch(NamedTuple):
    """Texts as a device reads them, padded to the longest.

    Attributes:
        ids: Token ids, 0 at padding.
        types: The tokenizer's type of each token, 0 at padding.
        attended: False at padding.
        asked: True at the tokens that are pooled: of a pair, its second text's.
    """

    ids: Int[Tensor, "texts tokens"]
    types: Int[Tensor, "texts tokens"]
    attended: Bool[Tensor, "texts tokens"]
    asked: Bool[Tensor, "texts tokens"]


class HiddenBatch(NamedTuple):
    """Texts on their way through the encoder, padded to the longest.

    Attributes:
        hidden: States after the lower layers.
        attended: False at padding.
        asked: True at the tokens that are pooled.
    """

    hidden: Float[Tensor, "texts tokens dim"]
    attended: Bool[Tensor, "texts tokens"]
    asked: Bool[Tensor, "texts tokens"]

    @classmethod
    def of_features(cls, features: Float[Tensor, "texts dim"]) -> "HiddenBatch":
        """Features as if they were the state of a text's only token."""
        only = torch.ones(features.shape[0], 1, dtype=torch.bool, device=features.device)
        return cls(features.unsqueeze(1), only, only)

    def rows(self, rows: Sequence[int]) -> "HiddenBatch":
        """Some of its texts."""
        return HiddenBatch(*(part[rows] for part in self))


def pooled(
    hidden: Float[Tensor, "texts tokens dim"], asked: Bool[Tensor, "texts tokens"], stage: PoolingStage
) -> Float[Tensor, "texts dim"]:
    """One vector a text.

    Args:
        hidden: States of the texts' tokens.
        asked: True at the tokens that are pooled.
        stage: How.
    """
    if stage.mode == "mean":
        hidden = _wide(hidden)
        share = asked.unsqueeze(-1).to(hidden.dtype)
        features = (hidden * share).sum(dim=1) / share.sum(dim=1)
    else:
        places = asked.int().argmax(dim=1)
        if stage.mode == "last":
            places = hidden.shape[1] - 1 - asked.int().flip(1).argmax(dim=1)
        features = _wide(hidden[torch.arange(hidden.shape[0], device=hidden.device), places])
    return torch.nn.functional.normalize(features, dim=-1) if stage.normalize else features


def _wide(hidden: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32 where it was computed in bfloat16, whose eight digits are too few for sums."""
    return hidden.float() if hidden.dtype == torch.bfloat16 else hidden
