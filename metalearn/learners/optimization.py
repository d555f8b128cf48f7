"""Learners that adapt by gradient steps."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.losses import weighted_cross_entropy
from metalearn.types import FastWeights, SlowWeights, SupportFeatures
from metalearn.update_rules import gradient_descent


class ProtoMaml:
    """A linear head that starts as a nearest-class-mean classifier and then takes gradient steps.

    With class means c_k and a learned scale s, the squared Euclidean distance s |f - c_k|^2 is, up to a term common to
    all classes, the linear function -2 s c_k . f + s |c_k|^2; its negative is the head's start.

    Source: Triantafillou et al. 2020, Meta-Dataset, section 3 (Proto-MAML), eq. 3 and below.
    """

    name = "protomaml"
    rule = gradient_descent()

    def initial_slow_weights(self) -> dict[str, Tensor]:
        """Logarithms, so that meta-training keeps both positive."""
        return {"log_scale": torch.tensor(4.0).log(), "log_learning_rate": torch.tensor(2.0).log()}

    def start(self, slow: SlowWeights, support: SupportFeatures) -> FastWeights:
        """The head that answers like nearest class mean."""
        means = class_means(support)
        scale = slow["log_scale"].exp()
        return {HEAD_WEIGHT: 2 * scale * means, HEAD_BIAS: -scale * means.square().sum(dim=1)}

    def learning_rates(
        self, slow: SlowWeights, support: SupportFeatures, *, base_rate: float | None = None
    ) -> Mapping[str, Tensor]:
        """One learned rate, times the number of classes.

        The loss is a mean over examples, so a class's share of the gradient shrinks as classes are added; the factor
        makes a step move each class's row as far in a 77-way task as in a 5-way one.
        """
        learned = slow["log_learning_rate"].exp()
        rate = (learned if base_rate is None else torch.full_like(learned, base_rate)) * support.n_classes
        return {HEAD_WEIGHT: rate, HEAD_BIAS: rate}

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Linear in the features."""
        return head_logits(fast_weights, features)

    def support_loss(self, fast_weights: FastWeights, support: SupportFeatures) -> Float[Tensor, ""]:
        """Weighted cross-entropy."""
        return weighted_cross_entropy(self.logits(fast_weights, support.features), support.targets, support.weights)


def class_means(support: SupportFeatures) -> Float[Tensor, "classes dim"]:
    """Weighted mean feature of each class."""
    weighted = torch.nn.functional.one_hot(support.targets, support.n_classes).to(support.features.dtype)
    weighted = weighted * support.weights.unsqueeze(1)
    return (weighted.T @ support.features) / weighted.sum(dim=0).unsqueeze(1)
