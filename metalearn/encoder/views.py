"""The views: features of the encoder as it came beside those of meta-trained layers. A stage by itself."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metalearn.encoder.pooling import HiddenBatch, Pool, asked_tokens, tokens_of_first, wide
from metalearn.encoder.stages import Views

COLUMNS = 2
"""How well the second text's tokens are found in the first, and the first's in the second."""

MIDDLE = 0.6
"""About the mean over pairs of English texts; taken off, so that single texts, which have zeros, are in the middle."""


class TunedView(NamedTuple):
    """Meta-trained top layers that run beside the encoder's own.

    Attributes:
        layers: How many top layers it has.
        weights: By the names of ``Encoder.upper_weights``.
    """

    layers: int
    weights: Mapping[str, Tensor]


def columns_of(views: Views, dim: int) -> int:
    """Width of both views, and the similarity of tokens, for states of a width."""
    return 2 * dim + (COLUMNS if views.token_similarity else 0)


def frozen_features(
    views: Views, pool: Pool, batch: HiddenBatch, states: Sequence[Float[Tensor, "texts tokens dim"]]
) -> Float[Tensor, "texts dim"]:
    """The frozen view.

    It is a weighted sum of the pooled states of the last layers: an encoder that was trained to compare sentences has
    lost some information in its last layer that earlier layers have. For a pair, it is the distance of the two texts
    in each dimension.

    Args:
        views: The weights.
        pool: Pools states.
        batch: The texts.
        states: States of the encoder's own layers, those of the last one at the end.
    """
    features = _weighted(states, views.layer_weights, pool, asked_tokens(batch))
    if batch.second is None:
        return features
    first = _weighted(states, views.layer_weights, pool, tokens_of_first(batch))
    return torch.where(batch.second.any(dim=1, keepdim=True), (first - features).abs(), features)


def both_views(
    views: Views,
    pool: Pool,
    batch: HiddenBatch,
    frozen: Float[Tensor, "texts dim"],
    states: Sequence[Float[Tensor, "texts tokens dim"]],
) -> Float[Tensor, "texts columns"]:
    """Both views side by side, then the similarity of tokens.

    Args:
        views: The weights.
        pool: Pools states.
        batch: The texts.
        frozen: The frozen view, by ``frozen_features``.
        states: States of the tuned layers, after the layers that both views share.
    """
    tuned = _weighted(states, views.tuned_layer_weights, pool, asked_tokens(batch))
    both = side_by_side(frozen, tuned, views.view_weight)
    if not views.token_similarity:
        return both
    similarity = both.new_zeros(both.shape[0], COLUMNS)
    if batch.second is not None and batch.words is not None:
        similarity = views.token_similarity * token_similarity(wide(batch.hidden), batch.words, batch.second)
    return torch.cat([both, similarity], dim=1)


def side_by_side(
    frozen: Float[Tensor, "texts dim"], tuned: Float[Tensor, "texts dim"], view_weight: float
) -> Float[Tensor, "texts twice_dim"]:
    """Both views as one vector, whose inner products are a weighted mean of theirs.

    Args:
        frozen: Features of the encoder as it came; for a pair, the distance of its texts.
        tuned: Features of its meta-trained layers.
        view_weight: Weight of the first; the others have the rest of 1.
    """
    return torch.cat([frozen * view_weight**0.5, tuned * (1 - view_weight) ** 0.5], dim=1)


def token_similarity(
    hidden: Float[Tensor, "texts tokens dim"],
    words: Bool[Tensor, "texts tokens"],
    second: Bool[Tensor, "texts tokens"],
) -> Float[Tensor, "texts 2"]:
    """The cosine of each token to the most similar one of the other text, as a mean over a text's tokens.

    Source: the soft alignment of Zhang et al. 2020, "BERTScore", section 3, in both directions.

    Args:
        hidden: States of the tokens.
        words: False at special tokens and padding.
        second: True at the tokens of a pair's second text.

    Returns:
        Both directions less ``MIDDLE``; zeros where there is no pair, or one of its texts has no words.
    """
    unit = torch.nn.functional.normalize(hidden, dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    of_second, of_first = words & second, words & ~second

    def found(asked: Bool[Tensor, "texts tokens"], there: Bool[Tensor, "texts tokens"]) -> Float[Tensor, " texts"]:
        # An absent token gets a value that no cosine reaches, and that is still finite
        best = (cosines - 4 * (~there).unsqueeze(1).to(cosines.dtype)).amax(dim=2)
        counts = asked.to(cosines.dtype)
        return (best * counts).sum(dim=1) / counts.sum(dim=1).clamp_min(1) - MIDDLE

    both = torch.stack([found(of_second, of_first), found(of_first, of_second)], dim=1)
    has_words = of_second.any(dim=1) & of_first.any(dim=1)
    return torch.where(has_words.unsqueeze(1), both, torch.zeros_like(both))


def _weighted(
    states: Sequence[Float[Tensor, "texts tokens dim"]],
    weights: Sequence[float],
    pool: Pool,
    kept: Bool[Tensor, "texts tokens"] | None,
) -> Float[Tensor, "texts dim"]:
    """Pooled states in their weights, those of the last one first."""
    parts = [weight * pool(hidden, kept) for weight, hidden in zip(weights, reversed(states), strict=False)]
    return pool.scaled(sum(parts[1:], start=parts[0]))
