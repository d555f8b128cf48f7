"""Learners that compare a query with the support set: with each class's mean, or with every example."""

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.learners.interface import ReadingLearner
from metalearn.learners.optimization import class_means
from metalearn.types import FastWeights, SlowWeights

_START = 10.0
"""Where learned factors of distances and cosines start; for features of unit length."""


def directions(vectors: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """Each vector over its length; the zero vector stays, and its gradient is zero as well."""
    squares = vectors.square().sum(dim=-1, keepdim=True)
    positive = squares > 0
    return torch.where(positive, vectors / torch.where(positive, squares, 1.0).sqrt(), 0.0)


class Prototypical(ReadingLearner):
    """The nearest class mean, by squared Euclidean distance times a learned scale.

    That is a linear head: with class means c_k and scale s, -s |f - c_k|^2 is 2 s c_k . f - s |c_k|^2 and a term common
    to all classes.

    Source: Snell et al. 2017, "Prototypical networks for few-shot learning", eqs. 1 and 2, and section 2.4 for the
    head; the learned scale after Oreshkin et al. 2018 (TADAM).
    """

    name = "prototypical"
    linear_head = True

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """The scale, as a logarithm."""
        return {"log_scale": torch.tensor(_START).log()}

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """The distances as a head."""
        means, scale = class_means(support), slow["log_scale"].exp()
        return {HEAD_WEIGHT: 2 * scale * means, HEAD_BIAS: -scale * means.square().sum(dim=1)}

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Linear in the features."""
        return head_logits(fast_weights, features)


class PrototypicalCosine(ReadingLearner):
    """The class mean of the most similar direction: cosine times a learned scale.

    The means are those of the features as they are; what is compared are directions. A zero vector is as similar to one
    class as to another.

    Source: Chen et al. 2021, "Meta-Baseline: exploring simple meta-learning for few-shot learning", section 3; the
    learned scale of a cosine after Gidaris and Komodakis 2018.
    """

    name = "prototypical_cosine"

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """The scale, as a logarithm."""
        return {"log_scale": torch.tensor(_START).log()}

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """Directions of the class means, as long as the scale."""
        return {"prototypes": slow["log_scale"].exp() * directions(class_means(support))}

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Scaled cosines."""
        return directions(features) @ fast_weights["prototypes"].T


class Matching(ReadingLearner):
    """Every support example votes for its class, the more the more similar it is to the query.

    The attention of a query on example i is a_i = w_i exp(s cos_i) / sum_j w_j exp(s cos_j), with learned sharpness s
    and the example's weight w_i. The probability of a class is the sum over its examples, its logit that sum's
    logarithm. Features are taken as they come, without the paper's full-context embeddings.

    Source: Vinyals et al. 2016, "Matching networks for one shot learning", section 2.1, eq. 1, and 2.1.1.
    """

    name = "matching"

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """The sharpness, as a logarithm."""
        return {"log_sharpness": torch.tensor(_START).log()}

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """Directions of the examples, as long as the sharpness, and what each gives to its class: its weight."""
        return {
            "support.keys": slow["log_sharpness"].exp() * directions(support.features),
            "support.membership": support.membership * support.weights.unsqueeze(1),
        }

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Log-probabilities.

        A log-sum-exp over each class's examples, shifted by the largest score among them, so that a class far from the
        query does not underflow. The shift cancels, so that its gradient is left out.
        """
        membership = fast_weights["support.membership"]
        scores = fast_weights["support.keys"] @ directions(features).T
        class_of_key = membership.argmax(dim=1)
        least = scores.new_full((membership.shape[1], scores.shape[1]), torch.finfo(scores.dtype).min)
        largest = least.scatter_reduce(0, class_of_key.unsqueeze(1).expand_as(scores), scores.detach(), "amax")
        summed = membership.T @ (scores - largest[class_of_key]).exp()
        # A class all of whose examples weigh nothing has the logit of next to nothing, not minus infinity
        return (summed.clamp_min(torch.finfo(scores.dtype).tiny).log() + largest).T.log_softmax(dim=1)
