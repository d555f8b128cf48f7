"""Shift of label texts: what all of them differ by from the examples is added to each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def shifted_label_texts(
    labels: Float[Tensor, "labels dim"],
    classes_of_labels: Int[Tensor, " labels"],
    examples: Float[Tensor, "examples dim"],
    members: Float[Tensor, "examples classes"],
) -> Float[Tensor, "labels dim"]:
    """Features of label texts, moved to where the examples are.

    A name of two words differs from the sentences of its class as all names do, which does not separate the
    classes. The mean of few differences is less certain, and more of it is of the classes themselves: that of n classes
    counts 1 - 2/n, and that of two counts nothing; see docs/log.md.

    Args:
        labels: Features of the label texts.
        classes_of_labels: Their classes, each once.
        examples: Features of the examples.
        members: The weight of each example in its class, 0 in all others.
    """
    members = members.to(examples.dtype)
    counts = members.sum(dim=0)
    means = (members.T @ examples) / torch.where(counts > 0, counts, 1.0).unsqueeze(1)
    both = (counts[classes_of_labels] > 0).to(examples.dtype)
    n_both = both.sum()
    difference = both @ (means[classes_of_labels] - labels) / n_both.clamp_min(1)
    return labels + (1 - 2 / n_both.clamp_min(2)) * difference
