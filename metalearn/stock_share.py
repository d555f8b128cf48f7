"""How much a task goes by the encoder as it came, by what was meta-trained, by similarity: its support set says."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.leave_one_out import Rows, right_without_itself

_LEAST, _MOST = 0.3, 0.9
"""Shares that stock features have at least and at most where a support set moves them; see docs/log.md."""


_FAITH, _MOST_FAITH = 1 / 3, 2.0
"""How far similarity's factor moves from 1 for each standard deviation, and where it ends; see docs/log.md."""


@dataclass(frozen=True, slots=True)
class StockShare:
    """What stock features, the first half of all, count in inner products for a task.

    Attributes:
        usual: Their share in the features as these come.
        lean: How far the share moves for each standard deviation by which one half is better than the other.
        similarities: How many columns after both halves tell how similar a pair's tokens are.
    """

    usual: float
    lean: float
    similarities: int = 0

    def column_scales(
        self,
        features: Float[Tensor, "texts dim"],
        classes: Int[Tensor, " texts"],
        weights: Float[Tensor, " texts"],
        n_classes: int,
    ) -> Float[Tensor, " dim"]:
        """What to multiply columns of features with, so that stock ones have the task's share.

        Those of similarity count nothing where they are far worse than the others, as for mentions in a sentence.

        Args:
            features: Of examples and texts of labels: the stock half, the trained half, then similarities.
            classes: Theirs.
            weights: What each counts in its class's mean; one that counts nothing is not asked either.
            n_classes: How many classes there are.
        """
        halves, similarity = features.tensor_split([features.shape[1] - self.similarities], dim=1)
        stock, trained = halves.chunk(2, dim=1)
        rows = Rows(classes, one_hot(classes, n_classes) * weights.to(features.dtype).unsqueeze(1))
        share = self.usual + self.lean * _deviations(stock, trained, rows)
        share = share.clamp(_LEAST, _MOST)
        scales = torch.stack([share / self.usual, (1 - share) / (1 - self.usual)]).sqrt().to(features.dtype)
        scales = scales.repeat_interleave(stock.shape[1])
        if not self.similarities:
            return scales
        faith = (1 + _FAITH * _deviations(similarity, halves, rows)).clamp(0, _MOST_FAITH)
        return torch.cat([scales, faith.to(features.dtype).expand(self.similarities)])


def _deviations(one: Float[Tensor, "texts _"], other: Float[Tensor, "texts _"], rows: Rows) -> Float[Tensor, ""]:
    """By how many standard deviations one set of columns tells more texts right than the other, each left out."""
    right, other_right = (right_without_itself(columns, rows) for columns in (one, other))
    alone, other_alone = (right & ~other_right).sum(), (other_right & ~right).sum()
    # Were both as good, each of these would be a fair coin's toss (McNemar 1947)
    return (alone - other_alone) / (alone + other_alone).clamp_min(1).sqrt()
