"""Features of words: the mean of the states of their tokens."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.encoder.tokenizing import TokenizedText
from metalearn.tokens.words import Words

_POWER_OF_BALANCE = 0.5


def word_features(states: Float[Tensor, "tokens dim"], words: Words) -> Float[Tensor, "words dim"]:
    """A unit vector for each word, by the states of this text alone; zeros where no token of a word is read.

    Args:
        states: States of the text's tokens; those of padding may follow.
        words: The tokens of each word.
    """
    share = torch.zeros(len(words), states.shape[0])
    for word, (first, last) in enumerate(words):
        share[word, first:last] = 1.0
    # A copy, since the last bits of a product depend on the memory layout as well
    means = share.to(states.device) @ states.clone(memory_format=torch.contiguous_format)
    return torch.nn.functional.normalize(means, dim=1)


def words_of(text: TokenizedText) -> Words:
    """The tokens of each word of a text whose words are tagged."""
    assert text.words is not None  # noqa: S101 - the caller asks for none but such texts
    return text.words


def is_read(text: TokenizedText) -> list[bool]:
    """Whether any token of each word is read: none is where the text was cut."""
    return [first < last for first, last in words_of(text)]


def balanced_weights(
    targets: Int[Tensor, " words"], weights: Float[Tensor, " words"], n_classes: int
) -> Float[Tensor, " words"]:
    """Weights of words by which frequent tags count for less: one over the root of their number.

    Most words have no label. Were all tags to count alike, too many words would get one. See docs/log.md.

    Args:
        targets: The class of each word.
        weights: How much its example counts. The sum of these weights stays as it is.
        n_classes: Number of classes.
    """
    counts = torch.zeros(n_classes).index_add_(0, targets, weights)
    balanced = weights * counts.pow(-_POWER_OF_BALANCE)[targets]
    return balanced * (weights.sum() / balanced.sum())
