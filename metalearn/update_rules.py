"""Update rules of the inner loop as pure init/update pairs (after TorchOpt): no rule keeps state of its own."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

RuleState = Any
"""Whatever a rule carries from one step to the next; None where it carries nothing."""


class UpdateRule(NamedTuple):
    """An update rule.

    Attributes:
        init: Weights -> the rule's state before the first step.
        update: (gradients, state, weights, learning rates) -> (new weights, new state). Learning rates may be
            tensors, so that they can be meta-learned.
    """

    init: Callable[[Mapping[str, Tensor]], RuleState]
    update: Callable[
        [Mapping[str, Tensor], RuleState, Mapping[str, Tensor], Mapping[str, Tensor]],
        tuple[dict[str, Tensor], RuleState],
    ]


def gradient_descent() -> UpdateRule:
    """Plain gradient descent: w <- w - rate * gradient."""

    def init(_: Mapping[str, Tensor]) -> None:
        return None

    def update(
        gradients: Mapping[str, Tensor], state: None, weights: Mapping[str, Tensor], rates: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], None]:
        return {name: weight - rates[name] * gradients[name] for name, weight in weights.items()}, state

    return UpdateRule(init, update)
