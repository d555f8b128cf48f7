"""A head that is a regularised softmax regression, by a fixed number of accelerated steps."""

from collections.abc import Generator

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.learners.interface import ReadingLearner
from metalearn.slices import result_of
from metalearn.types import FastWeights, SlowWeights

_STEPS = 30
"""A little of the regularisation is in their number."""


class SoftmaxRegression(ReadingLearner):
    """The minimum of C sum_i weights_i cross-entropy(W f_i + b, y_i) + |W|^2 / 2, nearly; C is learned.

    Features are centred on their weighted mean. The intercept is not regularised.

    Source: Nesterov 1983, in the form of Beck and Teboulle 2009 (FISTA), section 4, with a constant step; a bound of
    the curvature by Böhning 1992, "Multinomial logistic regression algorithm".
    """

    name = "softmax_regression"
    linear_head = True

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """C as a logarithm."""
        return {"log_c": torch.tensor(10.0).log()}

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """The solution, as a head."""
        return result_of(self.start_slices(slow, support))

    def start_slices(self, slow: SlowWeights, support: EncodedSet) -> Generator[None, None, FastWeights]:
        """The solution, paused before each step, since thousands of words take long."""
        dtype, c = support.features.dtype, slow["log_c"].exp()
        counted, members = support.weights.to(dtype).unsqueeze(1), support.membership
        mean = (counted * support.features).sum(dim=0) / counted.sum()
        x = support.features - mean
        # Of one half, Böhning's bound, times the largest eigenvalue, which the Frobenius norm is a bound of
        gram = (counted * x).T @ x
        of_weight = 0.5 * c * (gram.square().sum() + torch.finfo(dtype).tiny).sqrt() + 1
        of_bias = 0.5 * c * counted.sum()
        weight = former_weight = x.new_zeros(support.n_classes, x.shape[1])
        bias = former_bias = x.new_zeros(support.n_classes)
        momentum = 1.0
        for _ in range(_STEPS):
            yield
            error = c * counted * ((x @ weight.T + bias).softmax(dim=1) - members)
            new_weight = weight - (error.T @ x + weight) / of_weight
            new_bias = bias - error.sum(dim=0) / of_bias
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            kept, momentum = (momentum - 1) / following, following
            weight, bias = new_weight + kept * (new_weight - former_weight), new_bias + kept * (new_bias - former_bias)
            former_weight, former_bias = new_weight, new_bias
        return {HEAD_WEIGHT: former_weight, HEAD_BIAS: former_bias - former_weight @ mean}

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Linear in the features."""
        return head_logits(fast_weights, features)
