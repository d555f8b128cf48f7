"""Texts on their way through an encoder, and what of them is pooled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metalearn.encoder.stages import PoolingMode


class PaddedBatch(NamedTuple):
    """Texts as a device reads them, padded to the longest.

    Attributes:
        ids: Token ids, 0 at padding.
        types: The tokenizer's type of each token, 0 at padding.
        second: True at the tokens of a pair's second text.
        attended: False at padding.
        has_pairs: Whether any of the texts is a pair.
    """

    ids: Int[Tensor, "texts tokens"]
    types: Int[Tensor, "texts tokens"]
    second: Bool[Tensor, "texts tokens"]
    attended: Bool[Tensor, "texts tokens"]
    has_pairs: bool


class HiddenBatch(NamedTuple):
    """Texts on their way through the encoder, padded to the longest.

    Attributes:
        hidden: States after the lower layers.
        attended: False at padding; None where there is none.
        second: True at the tokens of a pair's second text; None where no text is a pair.
        words: False at special tokens and padding; None where no text is a pair.
    """

    hidden: Float[Tensor, "texts tokens dim"]
    attended: Bool[Tensor, "texts tokens"] | None
    second: Bool[Tensor, "texts tokens"] | None = None
    words: Bool[Tensor, "texts tokens"] | None = None

    def rows(self, rows: Sequence[int]) -> "HiddenBatch":
        """Some of its texts."""
        masks = (None if mask is None else mask[rows] for mask in (self.attended, self.second, self.words))
        return HiddenBatch(self.hidden[rows], *masks)


def asked_tokens(batch: HiddenBatch) -> Bool[Tensor, "texts tokens"] | None:
    """The tokens that are pooled: of a pair, its second text's; None for all."""
    if batch.second is None:
        return batch.attended
    return batch.second | _attended(batch) & ~batch.second.any(dim=1, keepdim=True)


def tokens_of_first(batch: HiddenBatch) -> Bool[Tensor, "texts tokens"]:
    """The tokens of a pair's first text, and all of a text that is no pair."""
    return _attended(batch) if batch.second is None else ~batch.second & _attended(batch)


def _attended(batch: HiddenBatch) -> Bool[Tensor, "texts tokens"]:
    if batch.attended is not None:
        return batch.attended
    return torch.ones(batch.hidden.shape[:2], dtype=torch.bool, device=batch.hidden.device)


@dataclass(frozen=True, slots=True)
class Pool:
    """Pools the states of a text's tokens; see ``metalearn.encoder.stages.PoolingStage``."""

    mode: PoolingMode = "mean"
    normalize: bool = True

    def __call__(
        self, hidden: Float[Tensor, "texts tokens dim"], kept: Bool[Tensor, "texts tokens"] | None
    ) -> Float[Tensor, "texts dim"]:
        """Pools one vector a text, of the tokens that are kept; None for all."""
        if self.mode == "mean":
            return self.scaled(pooled(hidden, kept))
        texts, tokens, _ = hidden.shape
        rows, last = torch.arange(texts, device=hidden.device), tokens - 1
        if kept is None:
            return self.scaled(wide(hidden[:, 0 if self.mode == "first" else last]))
        places = kept.int().argmax(dim=1) if self.mode == "first" else last - kept.int().flip(1).argmax(dim=1)
        return self.scaled(wide(hidden[rows, places]))

    def scaled(self, features: Float[Tensor, "texts dim"]) -> Float[Tensor, "texts dim"]:
        """At unit length, where features are to have it."""
        return torch.nn.functional.normalize(features, dim=-1) if self.normalize else features


def pooled(
    hidden: Float[Tensor, "texts tokens dim"], kept: Bool[Tensor, "texts tokens"] | None
) -> Float[Tensor, "texts dim"]:
    """Mean over the tokens that are kept."""
    hidden = wide(hidden)
    if kept is None:
        return hidden.mean(dim=1)
    share = kept.unsqueeze(-1).to(hidden.dtype)
    return (hidden * share).sum(dim=1) / share.sum(dim=1)


def wide(hidden: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """In float32 where it was computed in bfloat16, whose eight digits are too few for sums and differences."""
    return hidden.float() if hidden.dtype == torch.bfloat16 else hidden
