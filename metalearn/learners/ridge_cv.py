"""Ridge regression whose regulariser, and the scale of whose logits, leave-one-out chooses for each task."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.learners.interface import ReadingLearner
from metalearn.objectives import OBJECTIVES
from metalearn.types import FastWeights, Objective, SlowWeights

_GRID = tuple(2.0**power for power in range(-6, 7))
"""Regularisers that are tried, as multiples of the learned one."""
_TEXT_WEIGHTS = (0.5, 1.0, 2.0, 4.0)
"""Weights of label texts beside an example's that are tried; and none."""
_NEWTON_STEPS = 20
_SLOPE_SD = 10.0
"""Standard deviation of the prior of the logits' slope, so that few examples that are apart make no answer certain."""


class LeftOutFit(NamedTuple):
    """A ridge regression, and its predictions for its own rows without them.

    Attributes:
        weight: A row for each output.
        bias: The intercepts.
        left_out: The prediction for each row by the same regression on the others.
        error: The sum of the squared errors of these, as parts of the variance of each output.
    """

    weight: Float[Tensor, "outputs dim"]
    bias: Float[Tensor, " outputs"]
    left_out: Float[Tensor, "rows outputs"]
    error: Float[Tensor, ""]


class RidgeCV(ReadingLearner):
    """Ridge regression with the regulariser of the least squared error in leave-one-out.

    In multi-label tasks the predictions of memberships become logits by a slope and an intercept that are fitted to the
    left-out predictions of all texts and classes together. A label's text is an example of that class alone, and the
    left-out errors of the examples decide on its weight, too.

    Sources: Hoerl and Kennard 1970, "Ridge regression"; Allen 1974, "The relationship between variable selection and
    data augmentation" (PRESS: leave-one-out by one fit); Platt 1999 (the logits).
    """

    name = "ridge_cv"
    objectives: frozenset[Objective] = frozenset(OBJECTIVES)
    linear_head = True

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """The middle of the regularisers that are tried, and the slope of classifications, as logarithms."""
        return {"log_regulariser": torch.zeros(()), "log_alpha": torch.tensor(10.0).log()}

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """The solution, as a head."""
        return self.with_left_out(slow, support)[0]

    def with_left_out(
        self, slow: SlowWeights, support: EncodedSet
    ) -> tuple[FastWeights, Float[Tensor, "texts outputs"]]:
        """The head, and its outputs for each text of the support set without that text."""
        middle, n = slow["log_regulariser"].exp(), support.features.shape[0] - support.n_label_texts
        features, targets, weights = support.features, support.membership, support.weights
        tried = [weights[:n]]
        if support.n_label_texts:
            tried += [torch.cat([weights[:n], each * weights[n:]]) for each in _TEXT_WEIGHTS]
        fits = (chosen_by_leave_one_out(features[: len(w)], targets[: len(w)], w, middle, asked=n) for w in tried)
        fitted = min(fits, key=lambda fit: float(fit.error)) if support.n_label_texts else next(fits)
        left_out, targets = fitted.left_out[:n], targets[:n]
        rules = OBJECTIVES[support.objective]
        if not rules.has_classes:
            return {HEAD_WEIGHT: fitted.weight, HEAD_BIAS: fitted.bias}, left_out
        if rules.one_class_each:
            slope = slow["log_alpha"].exp()
            intercept = -slope / 2
        else:
            slope, intercept = logits_of_predictions(left_out, targets, weights[:n])
        fast = {HEAD_WEIGHT: slope * fitted.weight, HEAD_BIAS: slope * fitted.bias + intercept}
        return fast, slope * left_out + intercept

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Linear in the features."""
        return head_logits(fast_weights, features)


def left_out_of_ridge(
    features: Float[Tensor, "rows dim"],
    targets: Float[Tensor, "rows outputs"],
    weights: Float[Tensor, " rows"],
    regulariser: Float[Tensor, ""],
) -> Float[Tensor, "rows outputs"]:
    """The prediction for each row by ridge regression on the others."""
    return chosen_by_leave_one_out(features, targets, weights, regulariser, grid=(1.0,)).left_out


def chosen_by_leave_one_out(
    features: Float[Tensor, "rows dim"],
    targets: Float[Tensor, "rows outputs"],
    weights: Float[Tensor, " rows"],
    middle: Float[Tensor, ""],
    *,
    grid: Sequence[float] = _GRID,
    asked: int | None = None,
) -> LeftOutFit:
    """Ridge regression with the regulariser out of the grid around ``middle`` that has the least left-out error.

    The errors are those of the first ``asked`` rows, or of all.

    With X and Y the centred rows times the roots r of their weights, X = U diag(s) V^T, and H the hat matrix
    r r^T / sum(r^2) + U diag(s^2 / (s^2 + l)) U^T, the residual of row i without itself is its residual over 1 - H_ii.
    The intercept is not regularised. The errors of an output count as parts of its variance.
    """
    dtype = features.dtype
    # The squares of single precision leave too few digits of the small singular values
    features, targets, weights, middle = (each.double() for each in (features, targets, weights, middle))
    total = weights.sum()
    share, root = weights / total, weights.sqrt().unsqueeze(1)
    feature_mean, target_mean = share @ features, share @ targets
    x, y = root * (features - feature_mean), root * (targets - target_mean)
    rows, dim = x.shape
    gram = x @ x.T if rows < dim else x.T @ x
    squares, basis = torch.linalg.eigh(gram)
    precision = torch.finfo(gram.dtype)
    # Above 0 also where all rows are alike, as where there is one alone
    floor = 10 * precision.eps * gram.diagonal().sum() + precision.tiny
    squares = squares.clamp_min(0.0) + floor
    # The left singular vectors of x, each times its singular value
    scores = basis * squares.sqrt() if rows < dim else x @ basis
    along = scores.T @ y
    leverage_of_mean = (root.square() / total).squeeze(1)
    own_mean = weights[:asked] @ targets[:asked] / weights[:asked].sum()
    variance = (weights[:asked].unsqueeze(1) * (targets[:asked] - own_mean).square()).sum(dim=0)
    varies = variance > 0

    def fitted(regulariser: Float[Tensor, ""]) -> tuple[Tensor, Tensor]:
        """Coefficients along the singular vectors, and the residual of each row without itself."""
        coefficients = along / (squares + regulariser).unsqueeze(1)
        leverage = leverage_of_mean + (scores.square() / (squares + regulariser)).sum(dim=1)
        return coefficients, (y - scores @ coefficients) / (1 - leverage).clamp_min(1e-6).unsqueeze(1)

    regularisers = middle * middle.new_tensor(grid)
    with torch.no_grad():
        # No branch depends on a value, so that many subsets of a support set can be adapted on at once
        errors = torch.stack([fitted(each)[1][:asked].square().sum(dim=0) for each in regularisers.unbind()])
        errors = torch.where(varies, errors / torch.where(varies, variance, 1.0), 0.0).sum(dim=1)
        best = errors.argmin(dim=0, keepdim=True)
    coefficients, residual = fitted(regularisers.gather(0, best).squeeze(0))
    right_basis = x.T @ (basis / squares.sqrt()) if rows < dim else basis
    solution = right_basis @ coefficients
    counted_rows = torch.where(root > 0, root, 1.0)
    bias, left_out = target_mean - feature_mean @ solution, targets - residual / counted_rows
    return LeftOutFit(solution.T.to(dtype), bias.to(dtype), left_out.to(dtype), errors.amin(dim=0))


def logits_of_predictions(
    predictions: Float[Tensor, "rows outputs"], targets: Float[Tensor, "rows outputs"], weights: Float[Tensor, " rows"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Slope and intercept of the logits of predicted memberships, by logistic regression on all of them together.

    The slope has a wide prior around 10, and an undecided prediction of one half stays undecided under the prior.
    """
    inputs = torch.stack([predictions.flatten() - 0.5, torch.ones_like(predictions).flatten()], dim=1)
    outputs = targets.flatten()
    weight = weights.to(inputs.dtype).unsqueeze(1).expand_as(targets).flatten()
    prior = inputs.new_tensor([_SLOPE_SD, 0.0])
    precision = inputs.new_tensor([1 / _SLOPE_SD**2, 1.0]).diag()
    fitted = prior
    for _ in range(_NEWTON_STEPS):
        probabilities = (inputs @ fitted).sigmoid()
        gradient = inputs.T @ (weight * (probabilities - outputs)) + precision @ (fitted - prior)
        curvature = (inputs * (weight * probabilities * (1 - probabilities)).unsqueeze(1)).T @ inputs + precision
        step = torch.linalg.solve_ex(curvature, gradient.unsqueeze(1)).result.squeeze(1)
        fitted = fitted - step.clamp(-_SLOPE_SD, _SLOPE_SD)
    return fitted[0], fitted[1] - fitted[0] / 2
