"""How much a task goes by the encoder as it came, by what was meta-trained, by similarity: its support set says."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

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
        self, features: Float[Tensor, "examples dim"], classes: Int[Tensor, " examples"], n_classes: int
    ) -> Float[Tensor, " dim"]:
        """What to multiply columns of features with, so that stock ones have the task's share.

        Those of similarity count nothing where they are far worse than the others, as for mentions in a sentence.

        Args:
            features: Of the examples: the stock half, the trained half, then similarities.
            classes: Of the examples.
            n_classes: How many there are.
        """
        halves, similarity = features.tensor_split([features.shape[1] - self.similarities], dim=1)
        stock, trained = halves.chunk(2, dim=1)
        share = self.usual + self.lean * _deviations(stock, trained, classes, n_classes)
        share = share.clamp(_LEAST, _MOST)
        scales = torch.stack([share / self.usual, (1 - share) / (1 - self.usual)]).sqrt().to(features.dtype)
        scales = scales.repeat_interleave(stock.shape[1])
        if not self.similarities:
            return scales
        faith = (1 + _FAITH * _deviations(similarity, halves, classes, n_classes)).clamp(0, _MOST_FAITH)
        return torch.cat([scales, faith.to(features.dtype).expand(self.similarities)])


def _deviations(
    one: Float[Tensor, "examples _"],
    other: Float[Tensor, "examples _"],
    classes: Int[Tensor, " examples"],
    n_classes: int,
) -> Float[Tensor, ""]:
    """By how many standard deviations one set of columns tells more examples right than the other, each left out."""
    right, other_right = (_right_without_itself(columns, classes, n_classes) for columns in (one, other))
    alone, other_alone = (right & ~other_right).sum(), (other_right & ~right).sum()
    # Were both as good, each of these would be a fair coin's toss (McNemar 1947)
    return (alone - other_alone) / (alone + other_alone).clamp_min(1).sqrt()


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
