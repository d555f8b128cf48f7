"""The one adaptation loop: serving and meta-training both call it."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.errors import AdaptationDiverged
from metalearn.fast_weights import is_finite
from metalearn.options import Order
from metalearn.types import FastWeights
from metalearn.update_rules import UpdateRule

Gradients = Callable[[FastWeights], tuple[Float[Tensor, ""], Mapping[str, Tensor]]]
"""Fast weights -> their support loss and its gradients, neither with a graph."""


class InnerState(NamedTuple):
    """The state of the inner loop between two steps.

    Attributes:
        fast_weights: After the steps done so far.
        loss: Support loss of these very weights; a tensor, so that nothing waits for the device. None for the last
            state where it was not asked for.
    """

    fast_weights: FastWeights
    loss: Float[Tensor, ""] | None


def inner_steps(
    start: FastWeights,
    support_loss: Callable[[FastWeights, int], Float[Tensor, ""]],
    *,
    rule: UpdateRule,
    learning_rates: Callable[[int], Mapping[str, Tensor]],
    steps: int,
    order: Order = "detached",
    last_loss: bool = True,
    gradients: Gradients | None = None,
) -> Iterator[InnerState]:
    """Yields the start and then the state after each step, so that a caller may do other work between steps.

    Args:
        start: Where the fast weights begin.
        support_loss: (Fast weights, step) -> their loss on what that step sees of the support set.
        rule: How gradients move the weights.
        learning_rates: Step -> one rate per fast weight, a scalar or broadcastable to the weight.
        steps: Number of gradient steps; 0 yields the start alone.
        order: How far meta-gradients see.
        last_loss: Whether the loss after the last step is wanted; no step needs it.
        gradients: The same loss with its gradients, where they are known in closed form. Not for second order, which
            differentiates them in turn.

    Yields:
        ``steps + 1`` states.
    """
    weights: dict[str, Tensor] = dict(start)
    state = rule.init(weights)
    for step in range(steps + 1):
        if order == "detached":
            weights = _detached(weights)
        if step == steps and not last_loss:
            yield InnerState(weights, None)
            return
        if gradients is not None and order != "second":
            loss, slope = gradients(_detached(weights))
            yield InnerState(weights, loss)
            if step < steps:
                weights, state = rule.update(slope, state, weights, learning_rates(step))
            continue
        with torch.enable_grad():  # closed before the yield: a suspended generator would leak the mode to its caller
            # Nodes of their own: one weight's start may be a function of another's (a head of class means), and an
            # inner gradient is a partial one. Second order keeps the weights' history, the others their values alone.
            at = {name: w.view_as(w) if order == "second" else w.detach() for name, w in weights.items()}
            at = {name: w if w.requires_grad else w.requires_grad_() for name, w in at.items()}
            loss = support_loss(at, step)
        yield InnerState(weights, loss if order == "second" else loss.detach())
        if step == steps:
            return
        slopes = torch.autograd.grad(loss, list(at.values()), create_graph=order == "second")
        weights, state = rule.update(dict(zip(weights, slopes, strict=True)), state, weights, learning_rates(step))


class InnerLoopResult(NamedTuple):
    """The result of the inner loop.

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
        if state.loss is not None:
            losses.append(state.loss)
        last = state
    return finished(last.fast_weights, losses)


def finished(
    fast_weights: FastWeights,
    losses: list[Float[Tensor, ""]],
    *,
    learning_rate: float | None = None,
    are_scores: bool = False,
) -> InnerLoopResult:
    """Checks the result of an inner loop; the only place where the loop waits for the device.

    Args:
        fast_weights: After the last step.
        losses: Support loss before the first step and after each step.
        learning_rate: The rate that the caller gave, if any; the error names it.
        are_scores: Whether the targets are scores, which may be too large; the error names them.

    Raises:
        AdaptationDiverged: A loss or a weight is not finite.
    """
    stacked = torch.stack(losses)
    finite = torch.isfinite(stacked).all() & is_finite(fast_weights)
    if not bool(finite):
        raise _diverged(float(stacked[0]), float(stacked[-1]), learning_rate, are_scores=are_scores)
    return InnerLoopResult(fast_weights, stacked)


def _diverged(first: float, last: float, learning_rate: float | None, *, are_scores: bool) -> AdaptationDiverged:
    """The error by its cause: the start, the caller's learning rate or the checkpoint's."""
    if not math.isfinite(first) and are_scores:
        return AdaptationDiverged(
            f"the support loss is {first} before the first step: the scores are too large for 32-bit numbers. Divide "
            "all by one number, so that they are about as large as 1"
        )
    if not math.isfinite(first):
        return AdaptationDiverged(
            f"the support loss is {first} before the first step, so a number of the features or of the checkpoint is "
            "not finite. Name another checkpoint or learner; the operator finds the cause with: handful doctor"
        )
    went = f"the support loss went from {first:.4g} to {last:.4g}, or a weight overflowed"
    if learning_rate is not None:
        return AdaptationDiverged(
            f"{went}: lower the learning rate, which is {learning_rate:g}, or leave it out", ("learning_rate",)
        )
    scores = " Scores far from 1 do this, too: divide all by one number." if are_scores else ""
    return AdaptationDiverged(
        f"{went}: the checkpoint's own learning rate is too large for these examples. Give a lower learning rate, "
        f"fewer steps or another learner.{scores}"
    )


def _detached(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach() for name, weight in weights.items()}
