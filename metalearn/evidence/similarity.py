"""Similar texts: near-duplicates, the nearest examples, and a choice of texts to label."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

_NEARLY_THE_SAME = 0.95
_BESIDE_CENTRE = 10
"""Texts at zero that are added to the examples whose mean is the centre, so that two examples are not opposites."""


def similarities(
    examples: Float[Tensor, "examples dim"],
    texts: Float[Tensor, "texts dim"],
    others: Float[Tensor, "others dim"] | None = None,
) -> Float[Tensor, "texts others"]:
    """The cosine of each text with each example, beside what all examples have in common.

    Args:
        examples: Features of the support set's examples.
        texts: Features of the texts; they may be the examples themselves.
        others: Features of texts to be compared with in place of the examples.
    """
    return directions(examples, texts) @ directions(examples, examples if others is None else others).T


def directions(
    examples: Float[Tensor, "examples dim"], texts: Float[Tensor, "texts dim"]
) -> Float[Tensor, "texts dim"]:
    """The direction of each text from what all examples have in common, with unit length.

    Args:
        examples: Features of the support set's examples.
        texts: Features of the texts; they may be the examples themselves.
    """
    centre = examples.sum(dim=0) / (examples.shape[0] + _BESIDE_CENTRE)
    return normalize(texts - centre, dim=1)


def near_duplicates(found: Float[Tensor, "examples examples"]) -> list[tuple[int, int, float]]:
    """Pairs of examples that are nearly the same, with their similarity, the most similar first.

    Args:
        found: The similarities of the examples with each other.
    """
    first, second = (found.triu(1) >= _NEARLY_THE_SAME).nonzero(as_tuple=True)
    pairs = zip(first.tolist(), second.tolist(), found[first, second].tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def next_to_label(
    margins: Sequence[float],
    between: Float[Tensor, "texts texts"],
    to_examples: Float[Tensor, "texts examples"],
    n: int,
) -> list[int]:
    """The unlabelled texts whose labels would teach most, in the order to label them.

    A text counts by its margin, as if it were the more certain the more similar it is to a text that was chosen
    before or to an example. So texts are chosen that the classifier cannot decide on, and no two that ask the same.

    Args:
        margins: The probability of each text's first class less that of its second.
        between: The similarities of the texts with each other.
        to_examples: Their similarities with the examples.
        n: How many to choose.
    """
    unsure = 1 - torch.tensor(margins, dtype=between.dtype, device=between.device)
    # Zeros beside them, since a text may be unlike all examples, and there may be none
    nearest = torch.cat([to_examples, to_examples.new_zeros(len(to_examples), 1)], dim=1).amax(dim=1)
    chosen: list[int] = []
    for _ in range(min(n, len(margins))):
        worth = unsure * (1 - nearest)
        worth[chosen] = -1.0
        best = int(worth.argmax())
        chosen.append(best)
        nearest = torch.maximum(nearest, between[:, best])
    return chosen
