"""Label-text gate: label texts that classify the examples worse than chance count nothing."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_FEWEST_TO_JUDGE_BY = 4
"""Below so many examples the gate stays open."""


def worse_than_chance(
    examples: Float[Tensor, "examples dim"],
    members: Float[Tensor, "examples classes"],
    labels: Float[Tensor, "labels dim"],
    classes_of_labels: Int[Tensor, " labels"],
) -> Bool[Tensor, ""]:
    """Whether label texts classify the examples worse than chance, as where two names were swapped.

    An example belongs to the label text that it is most similar to, beside how similar all examples are to that text.
    Few examples are misclassified by chance even where the texts are right: fewer than four close no gate; see
    docs/log.md.

    Args:
        examples: Features of the examples.
        members: The weight of each example in its class, 0 in all others.
        labels: Features of the label texts.
        classes_of_labels: Their classes, each once.
    """
    similarity, weights = examples @ labels.T, members.sum(dim=1).to(examples.dtype)
    beside_all = similarity - (weights / weights.sum()) @ similarity
    of_texts = members[:, classes_of_labels]  # of an example whose class has no text, zeros
    right, asked = of_texts.gather(1, beside_all.argmax(dim=1, keepdim=True)).sum(), of_texts.sum()
    return (right * classes_of_labels.shape[0] < asked) & (asked >= _FEWEST_TO_JUDGE_BY)


def gated_weights(
    weights: Float[Tensor, " labels"],
    examples: Float[Tensor, "examples dim"],
    members: Float[Tensor, "examples classes"],
    labels: Float[Tensor, "labels dim"],
    classes_of_labels: Int[Tensor, " labels"],
) -> Float[Tensor, " labels"]:
    """The weights of label texts, or zeros where the texts classify the examples worse than chance.

    A single label text has nothing to be compared with, and a class without an example has nothing else to start
    from: the gate stays open then.
    """
    if classes_of_labels.shape[0] < 2:
        return weights
    closed = worse_than_chance(examples.detach(), members, labels.detach(), classes_of_labels)
    closed = closed & (members.sum(dim=0)[classes_of_labels] > 0).all()
    # Chosen, not multiplied by 0: a learner's derivative may be infinite there
    return torch.where(closed, 0.0, weights)
