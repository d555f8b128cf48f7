"""Folds: which examples are left out together.

A fold leaves out one example of each class, as far as it can. Leaving out one example alone would weaken its own class
and no other, which makes the accuracy eleven points too low; see docs/log.md.
"""

import random
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import one_hot


def draw_folds(
    classes: Sequence[int], texts: Sequence[int], *, most: int, draw: random.Random
) -> Bool[Tensor, "folds examples"]:
    """Whether each example is kept in each fold; each example is left out once.

    Copies of a text are left out together, since a copy would answer for the text. The last examples of a class are
    kept, so that no class is ever without one: the only example of its class is never left out.

    Args:
        classes: The class of each example.
        texts: A number of each example's text, the same for copies.
        most: The largest number of folds.
        draw: Source of the order.
    """
    of_class = Counter(kind for kind, _ in set(zip(classes, texts, strict=True)))
    n_folds = min(most, max(of_class.values()))
    order, places, fold_of_text = list(range(len(classes))), Counter[int](), dict[int, int]()
    draw.shuffle(order)
    for i in order:
        if texts[i] not in fold_of_text:
            fold_of_text[texts[i]] = places[classes[i]] % n_folds
            places[classes[i]] += 1
    folds = torch.tensor([fold_of_text[text] for text in texts])
    return with_each_class(folds != torch.arange(n_folds).unsqueeze(1), classes)


def draw_part(classes: Sequence[int], share: float, draw: random.Random) -> Bool[Tensor, " examples"]:
    """Whether each example is in a random part of the support set that has a share of each class, one example at least.

    Args:
        classes: The class of each example.
        share: The share.
        draw: Source of the part.
    """
    kept = torch.zeros(len(classes), dtype=torch.bool)
    for kind in sorted(set(classes)):
        rows = [i for i, other in enumerate(classes) if other == kind]
        kept[draw.sample(rows, max(1, round(share * len(rows))))] = True
    return kept


def with_each_class(kept: Bool[Tensor, "subsets examples"], classes: Sequence[int]) -> Bool[Tensor, "subsets examples"]:
    """The subsets, with all examples of a class of which a subset would have none."""
    members = one_hot(torch.tensor(classes)).float()
    absent = (kept.float() @ members) == 0
    return kept | ((absent.float() @ members.T) > 0)
