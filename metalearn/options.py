"""The options of an adaptation. Free of torch, so that stored records and commands can hold them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AdaptOptions:
    """How to adapt, as it was asked for; None leaves a choice to the checkpoint.

    ``handful.wire.AdaptOptionFields`` has the same fields with their bounds and descriptions.

    Attributes:
        steps: Inner steps; a learner that takes none ignores them.
        learning_rate: Inner learning rate of the head; ignored in the same way.
        learner: A learner's registered name.
        use_label_text: Whether label texts are a prior.
        seed: Of update rules that draw random numbers.
    """

    steps: int | None = None
    learning_rate: float | None = None
    learner: str | None = None
    use_label_text: bool = True
    seed: int = 0
