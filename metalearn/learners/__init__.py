"""The learner families, behind one interface and one registry."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from metalearn.errors import UnknownLearner
from metalearn.learners.optimization import ProtoMaml
from metalearn.types import FastWeights, SlowWeights, SupportFeatures
from metalearn.update_rules import UpdateRule


@runtime_checkable
class Learner(Protocol):
    """How fast weights start, how logits come of them, and what the inner loop descends on.

    A learner keeps nothing between calls: what is meta-learned comes in as ``slow``.
    """

    name: str
    rule: UpdateRule

    def initial_slow_weights(self) -> dict[str, Tensor]:
        """Slow weights before any meta-training."""

    def start(self, slow: SlowWeights, support: SupportFeatures) -> FastWeights:
        """Fast weights before the first inner step."""

    def learning_rates(
        self, slow: SlowWeights, support: SupportFeatures, *, base_rate: float | None = None
    ) -> Mapping[str, Tensor]:
        """The inner rate of each fast weight; ``base_rate`` takes the place of the learned one."""

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Scores of each class; their softmax is the predicted distribution."""

    def support_loss(self, fast_weights: FastWeights, support: SupportFeatures) -> Float[Tensor, ""]:
        """What an inner step lowers."""


LEARNERS: Mapping[str, Callable[[], Learner]] = {
    ProtoMaml.name: ProtoMaml,
}


def make_learner(name: str) -> Learner:
    """The learner registered as ``name``.

    Raises:
        UnknownLearner: There is none; the message lists those that there are.
    """
    if name not in LEARNERS:
        raise UnknownLearner(f"there is no learner {name[:64]!r}; there are: {', '.join(sorted(LEARNERS))}")
    return LEARNERS[name]()
