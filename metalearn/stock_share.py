"""How much a task goes by the encoder as it came, and how much by what was meta-trained: its support set says."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

_LEAST, _MOST = 0.3, 0.9
"""Shares that stock features have at least and at most where a support set moves them; see docs/log.md."""


@dataclass(frozen=True, slots=True)
class StockShare:
    """What stock features, the first half of all, count in inner products for a task.

    Attributes:
        usual: Their share in the features as these come.
        lean: How far the share moves for each standard deviation by which one half is better than the other.
    """

    usual: float
    lean: float

    def column_scales(
        self, features: Float[Tensor, "examples dim"], classes: Int[Tensor, " examples"], n_classes: int
    ) -> Float[Tensor, " dim"]:
        """What to multiply columns of features with, so that stock ones have the task's share.

        Args:
            features: Of the examples, stock ones in the first half of the columns.
            classes: Of the examples.
            n_classes: How many there are.
        """
        stock, trained = features.chunk(2, dim=1)
        right = [_right_without_itself(half, classes, n_classes) for half in (stock, trained)]
        stock_alone, trained_alone = (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()
        # Were both halves as good, each of these would be a fair coin's toss (McNemar 1947)
        deviations = (stock_alone - trained_alone) / (stock_alone + trained_alone).clamp_min(1).sqrt()
        share = (self.usual + self.lean * deviations).clamp(_LEAST, _MOST)
        scales = torch.stack([share / self.usual, (1 - share) / (1 - self.usual)]).sqrt().to(features.dtype)
        return scales.repeat_interleave(stock.shape[1])


def _right_without_itself(
    features: Float[Tensor, "examples dim"], classes: Int[Tensor, " examples"], n_classes: int
) -> Tensor:
    """Which examples are nearest to the mean of their own class's others; False where there are no others."""
    members = one_hot(classes, n_classes).to(features.dtype)
    sums, counts = members.T @ features, members.sum(dim=0)
    means = sums / counts.clamp_min(1).unsqueeze(1)
    # Half the squared distance to a mean, less what is the same for all classes
    nearness = features @ means.T - means.square().sum(dim=1) / 2
    nearness = torch.where(counts > 0, nearness, -torch.inf)
    others = (counts[classes] - 1).unsqueeze(1)
    own = (sums[classes] - features) / others.clamp_min(1)
    nearness_to_own = (features * own).sum(dim=1) - own.square().sum(dim=1) / 2
    rivals = torch.where(members.bool(), -torch.inf, nearness).amax(dim=1)
    return (nearness_to_own > rivals) & (others.squeeze(1) > 0)
