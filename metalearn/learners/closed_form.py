"""A head that solves a least-squares problem in closed form."""

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.learners.interface import ReadingLearner
from metalearn.objectives import OBJECTIVES
from metalearn.types import FastWeights, Objective, SlowWeights


class Ridge(ReadingLearner):
    """Ridge regression on the class memberships, or on the scores in regression; its regulariser is learned.

    Predictions of memberships become logits by a learned scale and bias, alpha * prediction + beta, folded into the
    head. In regression predictions stay as they are. The intercept is not regularised: features and targets are centred
    on their weighted means.

    Source: Bertinetto et al. 2019, "Meta-learning with differentiable closed-form solvers" (R2-D2), section 3.2: the
    solution, its form by Woodbury's identity, alpha and beta. The intercept is our addition.
    """

    name = "ridge"
    objectives: frozenset[Objective] = frozenset(OBJECTIVES)
    linear_head = True

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """The regulariser and alpha, as logarithms, and beta, with which a prediction of one half is undecided."""
        alpha = torch.tensor(10.0)
        return {"log_regulariser": torch.zeros(()), "log_alpha": alpha.log(), "beta": -alpha / 2}

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """The solution, as a head."""
        weight, intercept = ridge_regression(
            support.features, support.membership, support.weights, slow["log_regulariser"].exp()
        )
        if not OBJECTIVES[support.objective].has_classes:
            return {HEAD_WEIGHT: weight, HEAD_BIAS: intercept}
        alpha = slow["log_alpha"].exp()
        return {HEAD_WEIGHT: alpha * weight, HEAD_BIAS: alpha * intercept + slow["beta"]}

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Linear in the features."""
        return head_logits(fast_weights, features)


def ridge_regression(
    features: Float[Tensor, "rows dim"],
    targets: Float[Tensor, "rows outputs"],
    weights: Float[Tensor, " rows"],
    regulariser: Float[Tensor, ""],
) -> tuple[Float[Tensor, "outputs dim"], Float[Tensor, " outputs"]]:
    """Weights and intercepts of min sum_i weights_i |W f_i + b - y_i|^2 + regulariser |W|^2.

    With X and Y the centred rows times the roots of their weights, W^T is (X^T X + l I)^-1 X^T Y, or, where there are
    fewer rows than dimensions, X^T (X X^T + l I)^-1 Y: the smaller of the two systems is solved.
    """
    rows, dim = features.shape
    weights = weights.to(features.dtype)
    share = weights / weights.sum()
    feature_mean, target_mean = share @ features, share @ targets
    root = weights.sqrt().unsqueeze(1)
    x, y = root * (features - feature_mean), root * (targets - target_mean)
    gram = x @ x.T if rows < dim else x.T @ x
    # The rounding error of the smallest eigenvalue is added back, so that a regulariser learned down to nothing
    # leaves the system regular; far below anything visible otherwise
    floor = 10 * torch.finfo(gram.dtype).eps * gram.diagonal().sum()
    system = gram + (regulariser + floor) * torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
    # Unlike solve, solve_ex does not wait for the device to learn whether it went well
    if rows < dim:
        solution = x.T @ torch.linalg.solve_ex(system, y).result
    else:
        solution = torch.linalg.solve_ex(system, x.T @ y).result
    return solution.T, target_mean - feature_mean @ solution
