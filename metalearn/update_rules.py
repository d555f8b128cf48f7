"""Update rules of the inner loop as pure init/update pairs (after TorchOpt): no rule keeps state of its own.

All of them can be differentiated through, and none changes a tensor in place.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.errors import UnknownUpdateRule

RuleState = Any
"""The state of a rule between two steps; None where it has none."""

NOISE_ANNEALING = 0.55
"""How fast gradient noise fades: its variance falls with this power of the step."""


class UpdateRule(NamedTuple):
    """An update rule.

    Attributes:
        init: Weights -> the rule's state before the first step.
        update: (gradients, state, weights, learning rates) -> (new weights, new state). A learning rate is a tensor,
            so that it can be meta-learned: a scalar, or one that can be broadcast to its weight.
        batch_size: Most support rows that a step is to see (the loop draws them with ``minibatch_rows``); None for
            all of them.
    """

    init: Callable[[Mapping[str, Tensor]], RuleState]
    update: Callable[
        [Mapping[str, Tensor], RuleState, Mapping[str, Tensor], Mapping[str, Tensor]],
        tuple[dict[str, Tensor], RuleState],
    ]
    batch_size: int | None = None


def gradient_descent() -> UpdateRule:
    """Plain gradient descent: w <- w - rate * gradient."""

    def init(_: Mapping[str, Tensor]) -> None:
        return None

    def update(
        gradients: Mapping[str, Tensor], state: None, weights: Mapping[str, Tensor], rates: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], None]:
        return _moved(weights, gradients, rates), state

    return UpdateRule(init, update)


def minibatch_gradient_descent(batch_size: int = 8) -> UpdateRule:
    """Gradient descent whose steps see part of the support set each.

    Args:
        batch_size: Most rows that a step sees; at least 1.
    """
    if batch_size < 1:
        raise ValueError(f"a mini-batch needs one row or more, not {batch_size}")
    return gradient_descent()._replace(batch_size=batch_size)


def momentum(decay: float = 0.9) -> UpdateRule:
    """Gradient descent along a decaying sum of gradients: v <- decay * v + gradient; w <- w - rate * v.

    The rate stands outside the sum, as in torch and unlike in Sutskever et al.; that matters where rates change.

    Source: Polyak 1964; in this form Sutskever et al. 2013, as amended in the documentation of torch.optim.SGD.
    """

    def update(
        gradients: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        rates: Mapping[str, Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        velocity = {name: decay * state[name] + gradients[name] for name in weights}
        return _moved(weights, velocity, rates), velocity

    return UpdateRule(_zeros, update)


def nesterov(decay: float = 0.9) -> UpdateRule:
    """Momentum that looks ahead: v <- decay * v + gradient; w <- w - rate * (gradient + decay * v).

    Source: Nesterov 1983; in this form the documentation of torch.optim.SGD.
    """

    def update(
        gradients: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        rates: Mapping[str, Tensor],
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        velocity = {name: decay * state[name] + gradients[name] for name in weights}
        ahead = {name: gradients[name] + decay * velocity[name] for name in weights}
        return _moved(weights, ahead, rates), velocity

    return UpdateRule(_zeros, update)


def noisy_gradient_descent(scale: float = 0.01, seed: int = 0) -> UpdateRule:
    """Gradient descent on gradients with annealed Gaussian noise; its state is the number of steps done.

    Step t, counted from 0, adds noise of variance scale / (1 + t)^0.55 to each element of the gradient. The noise is
    a function of the seed, the step and the weights' names and shapes alone: a step that is done again gives the same
    weights, on any device and in any precision.

    Args:
        scale: Variance of the first step's noise: the paper's eta, of which it tries 0.01, 0.3 and 1.
        seed: Other seeds give other noise.

    Source: Neelakantan et al. 2015, Adding Gradient Noise Improves Learning for Very Deep Networks, section 3.
    """

    def init(_: Mapping[str, Tensor]) -> int:
        return 0

    def update(
        gradients: Mapping[str, Tensor], state: int, weights: Mapping[str, Tensor], rates: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], int]:
        generator = _generator("gradient noise", seed, state)
        deviation = math.sqrt(scale / (1 + state) ** NOISE_ANNEALING)
        noisy = {}
        for name in sorted(weights):  # by name: in which order the weights were put together is not to matter
            gradient = gradients[name]
            noise = deviation * torch.randn(gradient.shape, generator=generator, dtype=torch.float32)
            noisy[name] = gradient + noise.to(gradient)
        return _moved(weights, noisy, rates), state + 1

    return UpdateRule(init, update)


class AdamState(NamedTuple):
    """The state of Adam between two steps.

    Attributes:
        step: Number of steps done.
        first: Decaying mean of each weight's gradients.
        second: Decaying mean of their squares.
    """

    step: int
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]


def adam(first_decay: float = 0.9, second_decay: float = 0.999, epsilon: float = 1e-8) -> UpdateRule:
    """Steps of about the rate's size in every coordinate, whatever the size of the gradients.

    Where an element's gradients have all been exactly zero, a step's derivative by the gradient is finite, but as
    large as rate / epsilon: a larger epsilon tames meta-gradients.

    Args:
        first_decay: Decay of the mean of gradients.
        second_decay: Decay of the mean of squared gradients.
        epsilon: Added to the root, outside of it.

    Source: Kingma and Ba 2015, algorithm 1.
    """

    def init(weights: Mapping[str, Tensor]) -> AdamState:
        return AdamState(0, _zeros(weights), _zeros(weights))

    def update(
        gradients: Mapping[str, Tensor], state: AdamState, weights: Mapping[str, Tensor], rates: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], AdamState]:
        step = state.step + 1
        first_scale, second_scale = 1 - first_decay**step, math.sqrt(1 - second_decay**step)
        first, second, direction = {}, {}, {}
        for name in weights:
            gradient = gradients[name]
            first[name] = first_decay * state.first[name] + (1 - first_decay) * gradient
            second[name] = second_decay * state.second[name] + (1 - second_decay) * gradient * gradient
            root = _root(second[name]) / second_scale
            direction[name] = (first[name] / first_scale) / (root + epsilon)
        return _moved(weights, direction, rates), AdamState(step, first, second)

    return UpdateRule(init, update)


UPDATE_RULES: Mapping[str, Callable[[], UpdateRule]] = {
    "gradient_descent": gradient_descent,
    "minibatch_sgd": minibatch_gradient_descent,
    "momentum": momentum,
    "nesterov": nesterov,
    "noisy_sgd": noisy_gradient_descent,
    "adam": adam,
}


def make_update_rule(name: str) -> UpdateRule:
    """The update rule registered as ``name``, with its usual settings.

    Raises:
        UnknownUpdateRule: There is none; the message lists those that there are.
    """
    if name not in UPDATE_RULES:
        raise UnknownUpdateRule(f"there is no update rule {name[:64]!r}; there are: {', '.join(sorted(UPDATE_RULES))}")
    return UPDATE_RULES[name]()


def minibatch_rows(n_rows: int, batch_size: int, step: int, seed: int) -> Int[Tensor, " rows"]:
    """The support rows that a step sees: every epoch, a new shuffle of all rows is dealt out, each row once.

    An epoch has as few batches as ``batch_size`` allows, and their sizes differ by one row at most: a left-over row
    is never a batch of its own beside full ones, with a gradient of one example and a step of full length.

    Args:
        n_rows: Number of rows to draw from; at least 1.
        batch_size: Most rows per step; at least 1. All rows, where there are no more.
        step: Counted from 0; epochs follow from it.
        seed: Other seeds give other shuffles.

    Returns:
        Distinct row indices, on the CPU.
    """
    if n_rows < 1 or batch_size < 1 or step < 0:
        raise ValueError(f"there is no step {step} over {n_rows} rows in mini-batches of {batch_size}")
    n_batches = math.ceil(n_rows / batch_size)
    epoch, batch = divmod(step, n_batches)
    shuffled = torch.randperm(n_rows, generator=_generator("mini-batches", seed, epoch))
    return shuffled.tensor_split(n_batches)[batch]


def _moved(
    weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], rates: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights after one step; rates of higher precision do not widen the weights, also where both are scalars."""
    return {name: (weight - rates[name] * directions[name]).to(weight.dtype) for name, weight in weights.items()}


def _zeros(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(weight) for name, weight in weights.items()}


def _root(squares: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Square root, with slope 0 at 0: there the infinite one, times the slope 0 of a square, would be NaN."""
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)


def _generator(purpose: str, seed: int, step: int) -> torch.Generator:
    """A generator of its own for each purpose, seed and step.

    Hashed, since torch's generator on the CPU reads no more than 32 bits of a seed, and since in a sum of seed and
    step one seed's second step would be the next seed's first.
    """
    digest = hashlib.blake2b(f"{purpose}/{seed}/{step}".encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
