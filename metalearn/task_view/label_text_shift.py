"""Shift of label texts: what all of them differ by from the examples is added to each."""

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


def shifted_label_texts(
    labels: Float[Tensor, "labels dim"],
    classes_of_labels: Int[Tensor, " labels"],
    examples: Float[Tensor, "examples dim"],
    classes: Int[Tensor, " examples"],
    n_classes: int,
) -> Float[Tensor, "labels dim"]:
    """Features of label texts, moved to where the examples are.

    A name of two words differs from the sentences of its class as all names do, which does not separate the
    classes. The mean of few differences is less certain, and more of it is of the classes themselves: that of n classes
    counts 1 - 2/n, and that of two counts nothing; see docs/log.md.

    Args:
        labels: Features of the label texts.
        classes_of_labels: Their classes, each once.
        examples: Features of the examples.
        classes: Their classes.
        n_classes: Number of classes.
    """
    members = one_hot(classes, n_classes).to(examples.dtype)
    counts = members.sum(dim=0)
    means = (members.T @ examples) / counts.clamp_min(1).unsqueeze(1)
    both = (counts[classes_of_labels] > 0).to(examples.dtype)
    n_both = both.sum()
    difference = both @ (means[classes_of_labels] - labels) / n_both.clamp_min(1)
    return labels + (1 - 2 / n_both.clamp_min(2)) * difference
