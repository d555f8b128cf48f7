"""Pair weight: how much the columns that measure a pair's token similarity count for a task."""

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.leave_one_out import right_without_itself
from metalearn.types import EncodedSet

_PER_DEVIATION, _MOST = 1 / 3, 2.0
"""How far the weight moves from 1 for each standard deviation, and its largest value; see docs/log.md."""


def column_scales(support: EncodedSet, columns: int) -> Float[Tensor, " dim"]:
    """The factor of each column: 1, and the pair weight for the last ``columns``.

    The weight follows from how many texts, each left out of its class's mean, are classified correctly by the columns
    of token similarity alone and how many by all others. It is 0 where token similarity is far worse, as for mentions
    in a sentence.

    Args:
        support: A classification.
        columns: Number of columns that measure token similarity, the last ones.
    """
    features, weights = support.features.detach(), support.weights.detach().to(support.features.dtype)
    others, similarity = features.tensor_split([features.shape[1] - columns], dim=1)
    members = support.membership * weights.unsqueeze(1)
    by_similarity, by_others = (right_without_itself(each, support.targets, members) for each in (similarity, others))
    alone, others_alone = (by_similarity & ~by_others).sum(), (by_others & ~by_similarity).sum()
    # Were both as good, each of these texts would be a fair coin's toss (McNemar 1947)
    deviations = (alone - others_alone) / (alone + others_alone).clamp_min(1).sqrt()
    weight = (1 + _PER_DEVIATION * deviations).clamp(0, _MOST).to(features.dtype)
    return torch.cat([features.new_ones(others.shape[1]), weight.expand(columns)])
