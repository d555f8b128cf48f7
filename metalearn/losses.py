"""Losses that the inner loop and the outer loop descend on.

None of them looks at the values of a tensor in Python: nothing waits for the device.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.types import OUT_OF_SCOPE


def weighted_cross_entropy(
    logits: Float[Tensor, "rows classes"], targets: Int[Tensor, " rows"], weights: Float[Tensor, " rows"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy, in nats, in which row i counts ``weights[i]`` times; 0 where no row counts.

    A row whose target is ``OUT_OF_SCOPE`` belongs to no class: its cross-entropy is that to the uniform distribution,
    the mean of -log p over the classes.

    Source: Hendrycks et al. 2019, Deep Anomaly Detection with Outlier Exposure, section 4.3.
    """
    log_probabilities = F.log_softmax(logits, dim=1)
    to_target = F.nll_loss(log_probabilities, targets, reduction="none", ignore_index=OUT_OF_SCOPE)
    per_row = torch.where(targets == OUT_OF_SCOPE, -log_probabilities.mean(dim=1), to_target)
    return _weighted_mean(per_row, weights)


class HeadGradients(NamedTuple):
    """Loss of a linear head, and its gradients.

    Attributes:
        loss: The loss.
        weight: Gradient with respect to the head's weight.
        bias: Gradient with respect to its bias.
    """

    loss: Float[Tensor, ""]
    weight: Float[Tensor, "classes dim"]
    bias: Float[Tensor, " classes"]


def linear_head_gradients(
    features: Float[Tensor, "rows dim"], targets: Int[Tensor, " rows"], weights: Float[Tensor, " rows"], n_classes: int
) -> Callable[[Float[Tensor, "classes dim"], Float[Tensor, " classes"]], HeadGradients]:
    """``weighted_cross_entropy`` of a linear head on these rows, as a function of the head, with its gradients.

    They have a closed form, which takes a fraction of the time that a graph takes to be recorded and walked back: with
    p the softmax of a row's logits, y its target and w its share of the weights, w (p - y) is the gradient of its
    logits.
    """
    total = weights.sum()
    share = (weights / torch.where(total == 0, 1.0, total)).unsqueeze(1)
    classes = torch.arange(n_classes, device=targets.device)
    wanted = (targets.unsqueeze(1) == classes).to(features.dtype)
    wanted = share * torch.where(targets.unsqueeze(1) == OUT_OF_SCOPE, 1 / n_classes, wanted)

    def at(weight: Float[Tensor, "classes dim"], bias: Float[Tensor, " classes"]) -> HeadGradients:
        log_probabilities = F.log_softmax(F.linear(features, weight, bias), dim=1)
        of_logits = torch.addcmul(-wanted, share, log_probabilities.exp())
        return HeadGradients(-(wanted * log_probabilities).sum(), of_logits.T @ features, of_logits.sum(dim=0))

    return at


def weighted_mean_squared_error(
    outputs: Float[Tensor, "rows outputs"], targets: Float[Tensor, "rows outputs"], weights: Float[Tensor, " rows"]
) -> Float[Tensor, ""]:
    """Squared error, as a mean over the outputs and a mean over rows in which row i counts ``weights[i]`` times."""
    return _weighted_mean((outputs - targets).square().mean(dim=1), weights)


def weighted_binary_cross_entropy(
    logits: Float[Tensor, "rows classes"], targets: Float[Tensor, "rows classes"], weights: Float[Tensor, " rows"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy of each class's sigmoid, in nats: mean over the classes, weighted mean over the rows.

    A row of zeros belongs to no class.
    """
    per_element = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return _weighted_mean(per_element.mean(dim=1), weights)


def supervised_contrastive(
    features: Float[Tensor, "rows dim"], classes: Int[Tensor, " rows"], temperature: float
) -> Float[Tensor, ""]:
    """Pulls rows of one class together and pushes all others apart, in nats; a mean over the anchors.

    Every row that shares its class with another is an anchor. A row without a class (``OUT_OF_SCOPE``) is a negative
    for all others and never an anchor. Without any anchor the loss is 0, and so are its gradients.

    Args:
        features: Vectors of any length; directions alone matter.
        classes: Class index of each row.
        temperature: Divides the cosine similarities; above 0.

    Source: Khosla et al. 2020, Supervised Contrastive Learning, eq. 2 (L_out), divided by the number of anchors.
    """
    directions = F.normalize(features, dim=1)
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    similarities = directions @ directions.T / temperature
    # The least number, not -inf: a row that is alone would be NaN on the way, though masked at the end
    others = similarities.masked_fill(itself, torch.finfo(similarities.dtype).min)
    log_probabilities = F.log_softmax(others, dim=1)
    positive = (classes.unsqueeze(1) == classes) & ~itself & (classes != OUT_OF_SCOPE).unsqueeze(1)
    n_positives = positive.sum(dim=1)
    per_anchor = -torch.where(positive, log_probabilities, 0.0).sum(dim=1) / n_positives.clamp_min(1)
    return per_anchor.sum() / (n_positives > 0).sum().clamp_min(1)


def _weighted_mean(per_row: Float[Tensor, " rows"], weights: Float[Tensor, " rows"]) -> Float[Tensor, ""]:
    """0 where the weights are: a mini-batch may hold nothing but rows that do not count."""
    total = weights.sum()
    return (per_row * weights).sum() / torch.where(total == 0, 1.0, total)
