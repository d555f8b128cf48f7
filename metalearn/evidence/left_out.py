"""Answers to the examples of a support set by classifiers that were adapted without them."""

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import one_hot

from metalearn.evidence.folds import draw_folds, draw_part
from metalearn.evidence.subsets import logits_of_subsets, narrowed, operations
from metalearn.learners.closed_form import ridge_regression
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from metalearn.types import SlowWeights

_FOLDS = (5, 32)
"""Fewest folds of a large support set, and most folds of any."""
_ADAPTATIONS, _DRAWS = 48, 8
"""Most adaptations of a small support set for its folds, and most draws of the folds."""
_OPERATIONS = 4e10
"""Floating-point operations that the folds may take: some seconds of a core."""
_SHARES = (0.25, 0.5)
_DRAWS_OF_SHARE = 4
_RIDGE = 1.0
"""The regulariser of ridge regression, for features of unit length."""


@dataclass(frozen=True)
class CurvePoint:
    """The accuracy of classifiers that a part of the examples made, on the other examples.

    Attributes:
        examples_per_class: Examples of a class that they were adapted on, as a mean over classes.
        accuracy: The share of the other examples that are classified correctly.
    """

    examples_per_class: int | float
    accuracy: float


@dataclass(frozen=True)
class LeftOut:
    """Answers to the examples, each by classifiers without it.

    Attributes:
        asked: Whether an example was left out; the only example of its class never is.
        probabilities: The mean probability of each class over the draws of the folds; zeros where it was not asked.
        by_ridge: Whether ridge regression on the same features classifies the example correctly, without it.
        folds: The number of folds.
        draws: How often the folds were drawn.
        curve: Accuracies from fewer examples, the fewest first.
    """

    asked: Bool[Tensor, " examples"]
    probabilities: Float[Tensor, "examples classes"]
    by_ridge: Bool[Tensor, " examples"]
    folds: int
    draws: int
    curve: tuple[CurvePoint, ...]


def answer_left_out(
    model: MetaModel,
    slow: SlowWeights,
    support: PreparedSet,
    texts: Sequence[int],
    options: AdaptOptions,
    *,
    default_steps: int = 0,
) -> Generator[None, None, LeftOut]:
    """Adapts on the examples outside each fold, and asks for those inside.

    Args:
        model: The model that adapts.
        slow: Its slow weights.
        support: A classification; its inputs, and those of its label texts, are features.
        texts: A number of each example's text, the same for copies.
        options: How to adapt. The seed also decides on the folds.
        default_steps: Inner steps where the options name no number.

    Yields:
        None, after each slice of work.
    """
    classes, draw = support.targets.tolist(), random.Random(options.seed)  # noqa: S311 - nothing secret
    if not classes:
        none = torch.zeros(0, dtype=torch.bool, device=support.targets.device)
        return LeftOut(none, support.inputs.new_zeros(0, support.n_classes), none, folds=0, draws=0, curve=())
    seen = narrowed(support)
    affordable = int(_OPERATIONS // operations(seen, steps=options.steps or default_steps))
    most = min(max(affordable, _FOLDS[0]), _FOLDS[1])
    folds = draw_folds(classes, texts, most=most, draw=draw)
    draws = min(max(min(affordable, _ADAPTATIONS) // len(folds), 1), _DRAWS)
    more = [draw_folds(classes, texts, most=most, draw=draw) for _ in range(draws - 1)]
    of_folds = torch.cat([folds, *more])
    parts = [torch.stack([draw_part(classes, share, draw) for _ in range(_DRAWS_OF_SHARE)]) for share in _SHARES]
    kept = torch.cat([of_folds, *parts]).to(support.targets.device)
    logits = yield from logits_of_subsets(model, slow, support, kept, options, default_steps=default_steps)
    # A head that diverged on a part of the examples has no logits: it answers whatever comes
    logits = logits.nan_to_num()
    left = ~kept
    in_folds, probabilities = left[: len(of_folds)].unsqueeze(2), logits[: len(of_folds)].softmax(dim=2)
    counted = in_folds.sum(dim=0)
    right = logits.argmax(dim=2) == support.targets
    curve: list[CurvePoint] = []
    for i in range(len(_SHARES)):
        rows = slice(len(of_folds) + i * _DRAWS_OF_SHARE, len(of_folds) + (i + 1) * _DRAWS_OF_SHARE)
        per_class = float(kept[rows].sum()) / _DRAWS_OF_SHARE / len(set(classes))
        if bool(left[rows].any()) and per_class not in {point.examples_per_class for point in curve}:
            curve.append(CurvePoint(per_class, float((right & left)[rows].sum() / left[rows].sum())))
    by_ridge = yield from _right_by_ridge(seen, kept[: len(folds)])
    return LeftOut(
        asked=counted.squeeze(1) > 0,
        probabilities=(probabilities * in_folds).sum(dim=0) / counted.clamp_min(1),
        by_ridge=by_ridge,
        folds=len(folds),
        draws=draws,
        curve=tuple(curve),
    )


def _right_by_ridge(
    support: PreparedSet, kept: Bool[Tensor, "folds examples"]
) -> Generator[None, None, Bool[Tensor, " examples"]]:
    """Whether ridge regression on the examples outside its fold classifies each example correctly."""
    targets = one_hot(support.targets, support.n_classes).to(support.inputs.dtype)
    right = torch.zeros_like(support.targets, dtype=torch.bool)
    for rows in kept:
        yield
        weight, bias = ridge_regression(support.inputs, targets, support.weights * rows, targets.new_tensor(_RIDGE))
        best = (support.inputs @ weight.T + bias).argmax(dim=1)
        right |= ~rows & (best == support.targets)
    return right
