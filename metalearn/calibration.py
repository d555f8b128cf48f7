"""Confidences that match accuracies: a temperature and an abstention threshold, learned across tasks.

A few examples cannot calibrate their own classifier: a held-out part of them is too small to fit a temperature to. How
far confidence is off depends on the numbers of examples and classes. That dependence is alike for all tasks, so it is
learned on tasks that have labels to spare.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.types import OUT_OF_SCOPE, FastWeights, SlowWeights

_NAMES = ("log_temperature", "per_log_shot", "per_log_way")


@dataclass(frozen=True, slots=True)
class JudgedEpisode:
    """Answers of an adapted head before calibration.

    Attributes:
        logits: For each query.
        targets: Its class, or ``OUT_OF_SCOPE``.
        shots: Examples per class that were adapted on, as a mean over the classes.
    """

    logits: Float[Tensor, "queries classes"]
    targets: Int[Tensor, " queries"]
    shots: float


def initial_slow_weights() -> dict[str, Tensor]:
    """A temperature of 1, whatever the numbers of shots and ways."""
    return {name: torch.zeros(()) for name in _NAMES}


def temperature(slow: SlowWeights, *, shots: float, ways: int) -> Float[Tensor, ""]:
    """The number that logits are divided by: exp(a + b log(1 + shots) + c log(ways)).

    Source: a single temperature as in Guo et al. 2017, section 4.2; its dependence on shots and ways is our addition.
    """
    exponent = slow["log_temperature"] + slow["per_log_shot"] * math.log1p(shots) + slow["per_log_way"] * math.log(ways)
    return exponent.exp()


def tempered(head: FastWeights, divisor: Float[Tensor, ""]) -> dict[str, Tensor]:
    """Fast weights whose linear head gives logits divided by ``divisor``; no answer changes, only its confidence."""
    scaled = {name: head[name] / divisor for name in (HEAD_WEIGHT, HEAD_BIAS)}
    return {**head, **scaled}


def fit_temperature(episodes: Sequence[JudgedEpisode]) -> dict[str, Tensor]:
    """The slow weights with the least mean cross-entropy, in which every episode counts alike.

    The loss is convex in the inverse temperature and smooth, so that Newton-like steps arrive. A slight ridge holds
    a coefficient near zero where the episodes do not vary in its number (all of them have the same number of shots).

    Args:
        episodes: Episodes of tasks that were not trained on; out-of-scope queries are left out.

    Raises:
        ValueError: No episode has a query with a class.
    """
    kept = [(e, e.targets != OUT_OF_SCOPE) for e in episodes if bool((e.targets != OUT_OF_SCOPE).any())]
    if not kept:
        raise ValueError("no episode has a query with a class: there is nothing to fit a temperature to")
    numbers = torch.zeros(len(_NAMES), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([numbers], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        slow = dict(zip(_NAMES, numbers, strict=True))
        per_episode = [
            torch.nn.functional.cross_entropy(
                e.logits[rows].double() / temperature(slow, shots=e.shots, ways=e.logits.shape[1]), e.targets[rows]
            )
            for e, rows in kept
        ]
        return torch.stack(per_episode).mean() + 1e-4 * numbers[1:].square().sum()

    # The least of all losses that were computed: from absurd logits the search may step out of the finite numbers
    best, least = numbers.detach().clone(), float("inf")

    def closure() -> Tensor:
        nonlocal best, least
        optimizer.zero_grad()
        value = loss()
        if value.item() < least and bool(numbers.isfinite().all()):
            best, least = numbers.detach().clone(), value.item()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return {name: number.float() for name, number in zip(_NAMES, best, strict=True)}


def fit_threshold(episodes: Sequence[JudgedEpisode], slow: SlowWeights) -> float:
    """The confidence under which to abstain: that with the best mean of two shares.

    They are the share of the queries with a class that are still answered, and the share of the out-of-scope queries
    that are not (Youden's J, up to constants).

    Args:
        episodes: Some with out-of-scope queries.
        slow: The result of ``fit_temperature``.

    Raises:
        ValueError: There is no query with a class, or no out-of-scope one.
    """
    inside, outside = [], []
    for episode in episodes:
        divisor = temperature(slow, shots=episode.shots, ways=episode.logits.shape[1])
        confidence = (episode.logits / divisor).softmax(dim=1).amax(dim=1)
        in_scope = episode.targets != OUT_OF_SCOPE
        inside.append(confidence[in_scope])
        outside.append(confidence[~in_scope])
    answered, refused = torch.cat(inside).double(), torch.cat(outside).double()
    if not len(answered) or not len(refused):
        raise ValueError("a threshold needs queries with a class and out-of-scope queries")
    grid = torch.linspace(0, 1, 201, dtype=torch.float64)
    kept = (answered >= grid[:, None]).double().mean(dim=1)
    abstained = (refused < grid[:, None]).double().mean(dim=1)
    return float(grid[(kept + abstained).argmax()])
