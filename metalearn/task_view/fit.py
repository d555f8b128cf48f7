"""The steps from a support set's features to what a learner adapts on, in their order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.objectives import OBJECTIVES
from metalearn.prepared import PreparedSet
from metalearn.task_view.centring import mean_of_examples
from metalearn.task_view.class_balance import balanced_weights
from metalearn.task_view.label_text_gate import gated_weights
from metalearn.task_view.label_text_shift import shifted_label_texts


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps that a model takes.

    Attributes:
        text_weights: Number of examples of each class -> weight of its label text; None for the weight of an example.
        shifts_label_texts: Whether label texts are shifted to where the examples are.
        centred: Whether features are centred.
        balanced: Whether classes count alike.
    """

    text_weights: Callable[[Float[Tensor, " classes"]], Float[Tensor, " classes"]] | None
    shifts_label_texts: bool
    centred: bool
    balanced: bool


class FittedView(NamedTuple):
    """A support set as a task sees it.

    Attributes:
        for_start: Examples and then label texts, as the learner's start reads them.
        for_steps: The same rows with the weights of the inner steps' loss.
        centre: The mean of the examples, which is taken off all features; None where they are not centred.
    """

    for_start: EncodedSet
    for_steps: EncodedSet
    centre: Float[Tensor, " dim"] | None


def fit(support: PreparedSet, features: Float[Tensor, "texts dim"], steps: Steps) -> FittedView:
    """The support set after these steps:

    1. Label-text prior: the weight of each label text beside the examples of its class.
    2. Label-text gate: label texts that classify worse than chance weigh nothing.
    3. Shift of label texts to where the examples are.
    4. Centring: the mean of the examples is taken off all features.
    5. Class balance: all classes count alike in inner steps.

    One more step is the learner's, since it is about class means: shrinkage towards the grand mean; see
    ``GradientLearner.start``. Tasks without exclusive classes take none of the steps.

    Args:
        support: Examples and label texts.
        features: Features of the examples and then of the label texts.
        steps: The steps to take.
    """
    n_examples, weights = support.targets.shape[0], support.weights
    if not OBJECTIVES[support.objective].one_class_each:
        n_texts = support.targets_of_all.shape[0] - n_examples
        weights = torch.cat([weights, weights.new_ones(n_texts)])
        encoded = EncodedSet(
            features, support.targets_of_all, weights, support.n_classes, support.objective, n_label_texts=n_texts
        )
        return FittedView(encoded, encoded, None)
    if support.label_texts is not None:
        of_texts, (examples, texts) = label_text_weights(support, steps), features.tensor_split([n_examples])
        of_labels, members = support.label_texts.classes, support.weighted_membership
        weights = torch.cat([weights, gated_weights(of_texts, examples, members, texts, of_labels)])
        if steps.shifts_label_texts:
            texts = shifted_label_texts(texts, of_labels, examples, members)
            features = torch.cat([examples, texts])
    encoded = EncodedSet(
        features, support.targets_of_all, weights, support.n_classes, support.objective, has_examples=n_examples > 0
    )
    centre = None
    if steps.centred:
        centre = mean_of_examples(features, weights, n_examples)
        encoded = replace(encoded, features=features - centre)
    if not steps.balanced:
        return FittedView(encoded, encoded, centre)
    balanced = replace(encoded, weights=balanced_weights(weights, encoded.targets, support.n_classes))
    return FittedView(encoded, balanced, centre)


def label_text_weights(support: PreparedSet, steps: Steps) -> Float[Tensor, " labels"]:
    """The weights of the label texts by the prior, before the gate; of one for each where there is no prior."""
    if support.label_texts is None:
        return support.weights.new_ones(0)
    labelled = support.label_texts.classes
    if steps.text_weights is None:
        return support.weights.new_ones(labelled.shape[0])
    return steps.text_weights(support.weighted_membership.sum(dim=0))[labelled]
