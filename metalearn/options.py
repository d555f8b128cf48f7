"""The options of a model and of an adaptation. Free of torch, so that stored records and commands can hold them."""

from dataclasses import dataclass
from typing import Literal

PlacementName = Literal["head", "modulations", "low_rank", "full"]
"""Where a task's fast weights live."""

RateKind = Literal["fixed", "learned", "per_parameter", "per_layer_per_step"]
"""Inner rates: constants; one learned for the head and one for the body (Li et al. 2017 call that Meta-SGD's simplest
case); one per parameter (Meta-SGD); one per weight tensor and step (Antoniou et al. 2019, MAML++)."""

Order = Literal["detached", "first", "second"]
"""How far meta-gradients see into the inner loop.

``detached``: not at all; the states are cut off from their start. ``first``: the start and the rates, with the inner
gradients taken as constants (first-order MAML). ``second``: the inner gradients as well.
"""

Strategy = Literal["uniform", "sqrt_size", "difficulty"]
"""The probability of a task: equal; by the root of its number of texts; half by that, half by its difficulty."""

Optimizer = Literal["adamw", "sgd"]
"""The outer optimizer; ``sgd`` is Reptile's own outer step."""

Schedule = Literal["constant", "linear", "cosine"]
"""The course of the outer rates after the warm-up."""


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """The options of an adaptation, as asked for; None leaves a choice to the checkpoint.

    ``handful.wire.AdaptOptionFields`` has the same fields with their bounds and descriptions.

    Attributes:
        steps: Inner steps; a learner that takes none ignores them.
        learning_rate: Inner learning rate of the head; ignored in the same way.
        learner: A learner's registered name.
        use_label_text: Whether label texts are a prior.
        seed: Seed of update rules that draw random numbers.
    """

    steps: int | None = None
    learning_rate: float | None = None
    learner: str | None = None
    use_label_text: bool = True
    seed: int = 0
