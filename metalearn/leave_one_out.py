"""Which labelled texts are classified correctly without themselves: an estimate for new texts that costs little."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.encoded_set import EncodedSet


def leave_one_out_accuracy(
    support: EncodedSet, n_examples: int | None = None, *, n_asked: int | None = None
) -> float | None:
    """Share of the examples that are classified correctly without themselves, by the nearest class mean.

    An example counts its weight, in the means and in the share.

    A class's mean of n - 1 texts lies further from a text than one of n by chance alone, v / (n - 1) - v / n of the
    squared distance where v is the variance within classes. Uncorrected, that costs up to a third of the accuracy at
    two examples a class; see docs/log.md.

    Args:
        support: The support set of a classification: the examples, then label texts.
        n_examples: Number of examples; None for all texts.
        n_asked: Number of classes, the first ones, whose examples are asked; None for all.

    Returns:
        None where no class has two examples: one that is the only example of its class is not asked.
    """
    left_out = leave_one_out_classes(support, n_examples, n_asked=n_asked)
    return share_right(left_out.tolist(), support.targets[:n_examples].tolist(), support.weights[:n_examples].tolist())


def share_right(left_out: Sequence[int], targets: Sequence[int], weights: Sequence[float]) -> float | None:
    """Share of the examples that are classified correctly without themselves; None where none was asked.

    Args:
        left_out: The class of each example without itself, as ``leave_one_out_classes`` returns them.
        targets: The examples' own classes.
        weights: How much each counts in the share.
    """
    asked = [(found == target, w) for found, target, w in zip(left_out, targets, weights, strict=True) if found >= 0]
    return sum(w for right, w in asked if right) / sum(w for _, w in asked) if asked else None


def leave_one_out_classes(
    support: EncodedSet, n_examples: int | None = None, *, n_asked: int | None = None
) -> Int[Tensor, " examples"]:
    """The class that each example gets without itself; -1 for one that is not asked or the only one of its class.

    Args:
        support: The support set of a classification: the examples, then label texts.
        n_examples: Number of examples; None for all texts.
        n_asked: Number of classes, the first ones, whose examples are asked; None for all.
    """
    classes, weights = support.targets, support.weights.to(support.features.dtype)
    asked = torch.bincount(classes[:n_examples], minlength=support.n_classes)[classes[:n_examples]] > 1
    if n_asked is not None:
        asked &= classes[:n_examples] < n_asked
    if not asked.any():
        return torch.full_like(classes[:n_examples], -1)
    members = support.membership * weights.unsqueeze(1)
    found = _class_without_itself(
        support.features, classes, members, _credit(support.features, classes, members, weights)
    )
    return torch.where(asked, found[:n_examples], -1)


def _class_without_itself(
    features: Float[Tensor, "texts dim"],
    classes: Int[Tensor, " texts"],
    members: Float[Tensor, "texts classes"],
    credit: Float[Tensor, " texts"],
) -> Int[Tensor, " texts"]:
    """The class whose mean is nearest to each text, which does not count in its own class's.

    A text is never of its own class where that has no others.

    Args:
        features: Features of the texts.
        classes: Their classes.
        members: The weight of each text in its class's mean; 0 in all other classes.
        credit: The correction that is taken off each text's squared distance to its own class.
    """
    weights, counted = members.sum(dim=1, keepdim=True), (members > 0).sum(dim=0)
    sums, totals = members.T @ features, members.sum(dim=0)
    means = sums / torch.where(counted > 0, totals, 1.0).unsqueeze(1)
    # Half the squared distance to a mean, less what is the same for all classes
    nearness = features @ means.T - means.square().sum(dim=1) / 2
    nearness = torch.where(counted > 0, nearness, -torch.inf)
    has_others = counted[classes] > 1
    others = torch.where(has_others, totals[classes] - weights.squeeze(1), 1.0).unsqueeze(1)
    own = (sums[classes] - weights * features) / others
    nearness_to_own = (features * own).sum(dim=1) - own.square().sum(dim=1) / 2 + credit / 2
    rivals, nearest_rival = torch.where(one_hot(classes, members.shape[1]).bool(), -torch.inf, nearness).max(dim=1)
    right = (nearness_to_own > rivals) & has_others & (weights.squeeze(1) > 0)
    return torch.where(right, classes, nearest_rival)


def _credit(
    features: Float[Tensor, "texts dim"],
    classes: Int[Tensor, " texts"],
    members: Float[Tensor, "texts classes"],
    weights: Float[Tensor, " texts"],
) -> Float[Tensor, " texts"]:
    """The excess squared distance of each text to its class's mean without it, over that of a new text to the mean."""
    totals, squares = members.sum(dim=0), members.square().sum(dim=0)
    noise = squares / totals.square().masked_fill(totals == 0, 1.0)  # 1 / n where all texts count alike
    means = (members.T @ features) / totals.masked_fill(totals == 0, 1.0).unsqueeze(1)
    apart = (weights * (features - means[classes]).square().sum(dim=1)).sum()
    variance = apart / (totals * (1 - noise)).sum()
    others = totals[classes] - weights
    noise_without = (squares[classes] - weights.square()) / others.square().masked_fill(others == 0, 1.0)
    return variance * (noise_without - noise[classes]).clamp_min(0)
