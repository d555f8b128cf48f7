"""The one adaptation loop: serving and meta-training both call it."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.errors import AdaptationDiverged
from metalearn.fast_weights import is_finite
from metalearn.types import FastWeights
from metalearn.update_rules import UpdateRule


class InnerState(NamedTuple):
    """Where the inner loop stands.

    Attributes:
        fast_weights: After the steps done so far.
        loss: Support loss of these very weights; a tensor, so that nothing waits for the device.
    """

    fast_weights: FastWeights
    loss: Float[Tensor, ""]


def inner_steps(
    start: FastWeights,
    support_loss: Callable[[FastWeights], Float[Tensor, ""]],
    *,
    rule: UpdateRule,
    learning_rates: Mapping[str, Tensor],
    steps: int,
    create_graph: bool = False,
) -> Iterator[InnerState]:
    """Yields the start and then the state after each step, so that a caller may do other work between steps.

    Args:
        start: Where the fast weights begin.
        support_loss: Loss of given fast weights on the support set.
        rule: How gradients move the weights.
        learning_rates: One rate per fast weight: a scalar, or of the weight's own shape.
        steps: Number of gradient steps; 0 yields the start alone.
        create_graph: Keep the graph through the steps, for meta-gradients. Without it the states are detached.

    Yields:
        ``steps + 1`` states.
    """
    weights: dict[str, Tensor] = dict(start)
    state = rule.init(weights)
    for step in range(steps + 1):
        if not create_graph:
            weights = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
        with torch.enable_grad():  # closed before the yield: a suspended generator would leak the mode to its caller
            loss = support_loss(weights)
        yield InnerState(weights, loss) if create_graph else InnerState(_detached(weights), loss.detach())
        if step == steps:
            return
        gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph)
        weights, state = rule.update(dict(zip(weights, gradients, strict=True)), state, weights, learning_rates)


class InnerLoopResult(NamedTuple):
    """What the inner loop arrived at.

    Attributes:
        fast_weights: After the last step.
        losses: Support loss before the first step and after each step.
    """

    fast_weights: FastWeights
    losses: Float[Tensor, " steps_and_start"]


def collect(states: Iterator[InnerState]) -> InnerLoopResult:
    """Runs ``inner_steps`` to its end.

    Raises:
        AdaptationDiverged: A loss or a weight is not finite.
    """
    losses = []
    for state in states:
        losses.append(state.loss)
        last = state
    return finished(last.fast_weights, losses)


def finished(fast_weights: FastWeights, losses: list[Float[Tensor, ""]]) -> InnerLoopResult:
    """Checks what an inner loop arrived at; the only place where the loop waits for the device.

    Raises:
        AdaptationDiverged: A loss or a weight is not finite.
    """
    stacked = torch.stack(losses)
    finite = torch.isfinite(stacked).all() & is_finite(fast_weights)
    if not bool(finite):
        raise AdaptationDiverged(
            f"the support loss went from {float(stacked[0]):.4g} to {float(stacked[-1]):.4g} "
            "or a weight overflowed: lower the learning rate"
        )
    return InnerLoopResult(fast_weights, stacked)


def _detached(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in weights.items()}
