"""The steps from a support set's features to what a learner adapts on, in their order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.prepared import PreparedSet
from metalearn.task_view.centring import mean_of_examples
from metalearn.task_view.class_balance import balanced_weights
from metalearn.task_view.label_text_gate import gated_weights
from metalearn.types import EncodedSet


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps that a model takes.

    Attributes:
        text_weights: Number of examples of each class -> weight of its label text; None for the weight of an example.
        centred: Whether features are centred.
        balanced: Whether classes count alike.
    """

    text_weights: Callable[[Float[Tensor, " classes"]], Float[Tensor, " classes"]] | None
    centred: bool
    balanced: bool


class FittedView(NamedTuple):
    """A support set as a task sees it.

    Attributes:
        for_start: Examples and then label texts, as the learner's start reads them.
        for_steps: The same rows, as inner steps lower their loss.
        centre: The mean that was taken off the features; None where none was.
    """

    for_start: EncodedSet
    for_steps: EncodedSet
    centre: Float[Tensor, " dim"] | None


def fit(support: PreparedSet, features: Float[Tensor, "texts dim"], steps: Steps) -> FittedView:
    """The support set after these steps:

    1. Label-text prior: the weight of each label text beside the examples of its class.
    2. Label-text gate: label texts that mislead weigh nothing.
    3. Centring: the mean of the examples is taken off all features.
    4. Class balance: all classes count alike in inner steps.

    One more step is the learner's, since it is about class means: shrinkage towards the grand mean; see
    ``GradientLearner.start``. Tasks without exclusive classes take none of the steps.

    Args:
        support: Examples and label texts.
        features: Of the examples and then of the label texts.
        steps: Those to take.
    """
    n_examples, weights = support.targets.shape[0], support.weights
    if support.label_texts is not None:
        of_texts, (examples, texts) = label_text_weights(support, steps), features.tensor_split([n_examples])
        of_texts = gated_weights(of_texts, examples, support.targets, texts, support.label_texts.classes)
        weights = torch.cat([weights, of_texts])
    classifies, centre = support.objective == "classification", None
    if steps.centred and classifies:
        centre = mean_of_examples(features, weights, n_examples)
        features = features - centre
    encoded = EncodedSet(
        features,
        support.targets_of_all,
        weights,
        support.n_classes,
        support.objective,
        has_examples=n_examples > 0,
    )
    if not (steps.balanced and classifies):
        return FittedView(encoded, encoded, centre)
    balanced = balanced_weights(weights, encoded.targets, support.n_classes)
    return FittedView(encoded, replace(encoded, weights=balanced), centre)


def label_text_weights(support: PreparedSet, steps: Steps) -> Float[Tensor, " labels"]:
    """The weights of the label texts by the prior, before the gate; of one for each where there is no prior."""
    if support.label_texts is None:
        return support.weights.new_ones(0)
    labelled = support.label_texts.classes
    if steps.text_weights is None:
        return support.weights.new_ones(labelled.shape[0])
    counted = torch.bincount(support.targets, minlength=support.n_classes).to(support.weights.dtype)
    return steps.text_weights(counted)[labelled]
