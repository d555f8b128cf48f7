"""How well the words of a pair's texts find each other: what is the same, said again, or not said at all."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

COLUMNS = 2
"""How well the second text's tokens are found in the first, and the first's in the second."""

MIDDLE = 0.6
"""About the mean over pairs of English texts; taken off, so that single texts, which have zeros, are in the middle."""


def token_similarity(
    hidden: Float[Tensor, "texts tokens dim"],
    words: Bool[Tensor, "texts tokens"],
    second: Bool[Tensor, "texts tokens"],
) -> Float[Tensor, "texts 2"]:
    """The cosine of each token to the most similar one of the other text, as a mean over a text's tokens.

    Source: the soft alignment of Zhang et al. 2020, "BERTScore", section 3, in both directions.

    Args:
        hidden: States of the tokens.
        words: False at special tokens and padding.
        second: True at the tokens of a pair's second text.

    Returns:
        Both directions less ``MIDDLE``; zeros where there is no pair, or one of its texts has no words.
    """
    unit = torch.nn.functional.normalize(hidden, dim=-1)
    cosines = unit @ unit.transpose(1, 2)
    of_second, of_first = words & second, words & ~second

    def found(asked: Bool[Tensor, "texts tokens"], there: Bool[Tensor, "texts tokens"]) -> Float[Tensor, " texts"]:
        # What is not there is out of reach of a maximum of cosines, and still finite
        best = (cosines - 4 * (~there).unsqueeze(1).to(cosines.dtype)).amax(dim=2)
        counts = asked.to(cosines.dtype)
        return (best * counts).sum(dim=1) / counts.sum(dim=1).clamp_min(1) - MIDDLE

    both = torch.stack([found(of_second, of_first), found(of_first, of_second)], dim=1)
    told = of_second.any(dim=1) & of_first.any(dim=1)
    return both * told.unsqueeze(1)
