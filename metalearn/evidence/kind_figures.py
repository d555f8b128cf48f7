"""Figures of answers to left-out examples, of several labels or of scores, with intervals by the bootstrap."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metalearn.evaluation.intervals import Interval

_DRAWS = 1000
_TAIL = 0.025


def f1_of_labels(
    predicted: Bool[Tensor, "texts labels"], actual: Bool[Tensor, "texts labels"], weights: Float[Tensor, "draws texts"]
) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
    """Micro and macro F1: of all decisions together, and the mean over labels; 0 where nothing is there to be found.

    Labels that no text has or is answered with are left out of the mean: a resampled set lacks many rare ones.

    Args:
        predicted: Whether each text is answered with each label.
        actual: Whether it has the label.
        weights: How much each text counts, a row for each pair of figures.
    """
    hits = weights @ (predicted & actual).to(weights)
    return f1_of_counts(hits, weights @ (predicted.to(weights) + actual.to(weights)))


def f1_of_counts(
    hits: Float[Tensor, "draws labels"], marked: Float[Tensor, "draws labels"]
) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
    """Micro and macro F1 by the counts of each label; see ``f1_of_labels``.

    Args:
        hits: How often it is answered correctly.
        marked: How often it is answered, and how often it is right, added.
    """
    micro, found = _share(2 * hits.sum(dim=1), marked.sum(dim=1)), (marked > 0).sum(dim=1).to(marked)
    return micro, _share(_share(2 * hits, marked).sum(dim=1), found)


def spearman_of_scores(
    predicted: Float[Tensor, " texts"], actual: Float[Tensor, " texts"], weights: Float[Tensor, "draws texts"]
) -> Float[Tensor, " draws"]:
    """Spearman's rank correlation; 0 where either side is constant. The ranks are those of all texts in each draw.

    Args:
        predicted: The predicted scores.
        actual: The scores.
        weights: How much each text counts, a row for each figure.
    """
    share = weights / weights.sum(dim=1, keepdim=True)

    def centred(values: Float[Tensor, " texts"]) -> Float[Tensor, "draws texts"]:
        _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
        ranks = (counts.cumsum(dim=0) - (counts - 1) / 2).to(weights)[place]
        found: Tensor = ranks - (share @ ranks).unsqueeze(1)
        return found

    first, second = centred(predicted), centred(actual)
    spread = ((share * first.square()).sum(dim=1) * (share * second.square()).sum(dim=1)).sqrt()
    return _share((share * first * second).sum(dim=1), spread)


def mean_of_texts(values: Float[Tensor, " texts"], weights: Float[Tensor, "draws texts"]) -> Float[Tensor, " draws"]:
    """The mean of a value of each text, such as its absolute error."""
    return weights @ values / weights.sum(dim=1)


def resampled(weights: Float[Tensor, " texts"], *, seed: int) -> Float[Tensor, "draws texts"]:
    """Weights of the texts, and then of 1,000 samples of the texts with replacement.

    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".

    Args:
        weights: How much each text counts.
        seed: Seed of the samples.
    """
    count = len(weights)
    chosen = torch.randint(count, (_DRAWS, count), generator=torch.Generator().manual_seed(seed))
    times = weights.new_zeros(_DRAWS, count)
    times.scatter_add_(1, chosen, torch.ones_like(times))
    return torch.cat([weights.unsqueeze(0), weights * times])


def with_interval(figures: Float[Tensor, " draws"]) -> tuple[float, Interval]:
    """The figure of all texts, which comes first, and the 95 % interval of the others."""
    low, high = torch.quantile(figures[1:], figures.new_tensor([_TAIL, 1 - _TAIL])).tolist()
    return float(figures[0]), (low, high)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / torch.where(whole > 0, whole, 1.0), 0.0)
