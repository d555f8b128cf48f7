"""The accuracy on examples that are held back, before and after a change of the support set."""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from metalearn.evidence.folds import draw_folds
from metalearn.evidence.subsets import logits_of_subsets, narrowed, operations
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from metalearn.types import SlowWeights

_FOLDS = (4, 16)
"""Fewest folds of a large support set, and most folds of any."""
_ADAPTATIONS = 32
"""Adaptations of a small support set, before the change and again after it: more draws of the folds, less chance."""
_OPERATIONS = 1e10
"""Floating-point operations that all folds may take: about a second of a core."""


@dataclass(frozen=True)
class HeldBack:
    """Answers to examples by classifiers that were adapted without them.

    Attributes:
        asked: The number of examples that were left out.
        right_before: How many are classified correctly before the change, as a mean over the draws of the folds.
        right_after: How many are after it, in the same folds.
        measure: The figure that is compared, times the number of examples, where it is not the accuracy.
    """

    asked: int
    right_before: float
    right_after: float
    measure: str = "accuracy"


def compare_held_back(
    model: MetaModel,
    slow: SlowWeights,
    support: PreparedSet,
    texts: Sequence[int],
    before: Bool[Tensor, " examples"],
    after: Bool[Tensor, " examples"],
    options: AdaptOptions,
    *,
    default_steps: int = 0,
) -> Generator[None, None, HeldBack]:
    """Asks for the examples that a change leaves as they are, each by classifiers without it.

    Both sides see the same folds, so that the difference is due to the change alone.

    Args:
        model: The model that adapts.
        slow: Its slow weights.
        support: The examples of both sides; its inputs, and those of its label texts, are features.
        texts: A number of each example's text, the same for copies.
        before: Whether each example is in the support set before the change.
        after: Whether it is after the change. Both sides have the same classes.
        options: How to adapt. The seed also decides on the folds.
        default_steps: Inner steps where the options name no number.

    Yields:
        None, after each slice of work.
    """
    before, after = before.to(support.targets.device), after.to(support.targets.device)
    asked = before & after
    classes = support.targets[asked].tolist()
    if not classes:
        return HeldBack(0, 0.0, 0.0)
    draw = random.Random(options.seed)  # noqa: S311 - nothing secret
    of_asked = [texts[i] for i in asked.nonzero().squeeze(1).tolist()]
    affordable = int(_OPERATIONS // (2 * operations(narrowed(support), steps=options.steps or default_steps)))
    most = min(max(affordable, _FOLDS[0]), _FOLDS[1])
    first = draw_folds(classes, of_asked, most=most, draw=draw)
    draws = max(min(affordable, _ADAPTATIONS) // len(first), 1)
    folds = torch.cat([first, *(draw_folds(classes, of_asked, most=most, draw=draw) for _ in range(draws - 1))])
    kept = torch.ones(len(folds), len(texts), dtype=torch.bool, device=asked.device)
    kept[:, asked] = folds.to(asked.device)
    subsets = torch.cat([kept & before, kept & after])
    logits = yield from logits_of_subsets(model, slow, support, subsets, options, default_steps=default_steps)
    # A head that diverged on a part of the examples has no logits: it answers whatever comes
    right = logits.nan_to_num().argmax(dim=2) == support.targets
    left = ~kept
    counted = left.sum(dim=0)
    mean_before, mean_after = (
        float(((side & left).sum(dim=0) / counted.clamp_min(1)).sum()) for side in torch.split(right, len(folds))
    )
    return HeldBack(int((counted > 0).sum()), mean_before, mean_after)
