"""How many labelled texts are told by the others: an estimate of how new texts fare, at next to no cost."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.types import EncodedSet


class Rows(NamedTuple):
    """Of which class each row is, and what it counts there: of all other classes 0."""

    classes: Int[Tensor, " texts"]
    members: Float[Tensor, "texts classes"]


def right_without_itself(features: Float[Tensor, "texts dim"], rows: Rows) -> Bool[Tensor, " texts"]:
    """Which texts are nearest to the mean of their own class's others; False where there are no others."""
    classes, members = rows
    weights, counted = members.sum(dim=1, keepdim=True), (members > 0).sum(dim=0)
    sums, totals = members.T @ features, members.sum(dim=0)
    means = sums / torch.where(counted > 0, totals, 1.0).unsqueeze(1)
    # Half the squared distance to a mean, less what is the same for all classes
    nearness = features @ means.T - means.square().sum(dim=1) / 2
    nearness = torch.where(counted > 0, nearness, -torch.inf)
    has_others = counted[classes] > 1
    others = torch.where(has_others, totals[classes] - weights.squeeze(1), 1.0).unsqueeze(1)
    own = (sums[classes] - weights * features) / others
    nearness_to_own = (features * own).sum(dim=1) - own.square().sum(dim=1) / 2
    rivals = torch.where(one_hot(classes, members.shape[1]).bool(), -torch.inf, nearness).amax(dim=1)
    return (nearness_to_own > rivals) & has_others & (weights.squeeze(1) > 0)


def leave_one_out_accuracy(support: EncodedSet) -> float | None:
    """Share of the examples that are nearest to their own class's mean when they are left out of it.

    The means are those of the support set as the task sees it, texts of labels included. That is no head's accuracy to
    the digit, but near that of all learners, at the cost of one product.

    Args:
        support: A support set of a classification as its learner starts from it.

    Returns:
        None where no class has two examples: an example that is the only one of its class is not asked.
    """
    n_examples = support.features.shape[0] - support.label_texts
    classes = support.targets[:n_examples]
    asked = torch.bincount(classes, minlength=support.n_classes)[classes] > 1
    if not asked.any():
        return None
    right = right_without_itself(
        support.features, Rows(support.targets, support.membership * support.weights.unsqueeze(1))
    )
    return float(right[:n_examples][asked].float().mean())
