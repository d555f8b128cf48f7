"""The interface of learners, and the base of learners that only read their support set."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.inner_loop import Gradients
from metalearn.objectives import OBJECTIVES
from metalearn.options import Order, RateKind
from metalearn.types import FastWeights, Objective, SlowWeights
from metalearn.update_rules import UpdateRule, gradient_descent


@dataclass(frozen=True, slots=True)
class LearnerOptions:
    """The options of a learner that descends; None leaves a choice to the learner.

    Attributes:
        rates: Which inner rates are meta-learned.
        update_rule: Name of the inner update rule.
        order: How far meta-gradients see into the inner loop.
        head_rate: Inner rate of the head, or where it starts from.
        body_rate: Inner rate of fast weights below the head, or where it starts from.
    """

    rates: RateKind | None = None
    update_rule: str | None = None
    order: Order | None = None
    head_rate: float | None = None
    body_rate: float | None = None


@runtime_checkable
class Learner(Protocol):
    """A learner: the start of fast weights, their logits, and the losses within a task and across tasks.

    A learner keeps nothing between calls: what is meta-learned comes in as ``slow``.

    Attributes:
        name: The registered name.
        objectives: The objectives that it can learn.
        descends: Whether inner steps are taken; otherwise the start is the result.
        rule: The inner update rule.
        order: How far meta-gradients see into the inner loop.
        joins_query: Whether meta-training adapts on support and query set together (Reptile).
        linear_head: Whether ``logits`` is ``head_logits``, so that heads of many tasks share one product.
    """

    @property
    def name(self) -> str: ...
    @property
    def objectives(self) -> frozenset[Objective]: ...
    @property
    def descends(self) -> bool: ...
    @property
    def rule(self) -> UpdateRule: ...
    @property
    def order(self) -> Order: ...
    @property
    def joins_query(self) -> bool: ...
    @property
    def linear_head(self) -> bool: ...

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """Slow weights before any meta-training.

        Args:
            dim: Width of the features.
            deep: Start of the fast weights below the head; empty where the head alone is fast.
            steps: Number of inner steps.
            draw: Source of whatever is random.
        """

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """Fast weights before the first inner step, those below the head left out."""

    def learning_rates(
        self, slow: SlowWeights, fast: FastWeights, *, step: int, n_classes: int, base_rate: float | None = None
    ) -> Mapping[str, Tensor]:
        """The inner rate of each fast weight at a step; ``base_rate`` takes the place of the head's own."""

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Scores of each class; their softmax is the predicted distribution. In regression, the prediction."""

    def support_loss(self, fast_weights: FastWeights, support: EncodedSet) -> Float[Tensor, ""]:
        """The loss that an inner step lowers."""

    def head_gradients(self, support: EncodedSet) -> Gradients | None:
        """``support_loss`` of fast weights that are a head alone, with gradients in closed form; None without one."""

    def meta_loss(self, start: FastWeights, adapted: FastWeights, query: EncodedSet) -> Float[Tensor, ""]:
        """The loss that an outer step lowers.

        Args:
            start: Fast weights before the first inner step, attached to the slow weights.
            adapted: Fast weights after the last one.
            query: The query set, encoded under ``adapted``.
        """


@runtime_checkable
class LeavesOut(Protocol):
    """A learner that knows its outputs for each text of a support set without that text."""

    def with_left_out(
        self, slow: SlowWeights, support: EncodedSet
    ) -> tuple[FastWeights, Float[Tensor, "texts outputs"]]:
        """The start, and the outputs for each text by the start of all others."""


@runtime_checkable
class StartsInSlices(Protocol):
    """A learner whose start takes so long that it pauses."""

    def start_slices(self, slow: SlowWeights, support: EncodedSet) -> Generator[None, None, FastWeights]:
        """``start``, paused after each slice of work."""


class Losses:
    """The usual losses: what the objective asks for, on the support set within a task and on the query set across."""

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """The logits of the learner."""
        raise NotImplementedError

    def support_loss(self, fast_weights: FastWeights, support: EncodedSet) -> Float[Tensor, ""]:
        """The objective's loss on the support set."""
        logits = self.logits(fast_weights, support.features)
        return OBJECTIVES[support.objective].loss(logits, support.targets, support.weights)

    def head_gradients(self, support: EncodedSet) -> Gradients | None:
        """No closed form: a learner that has one for its ``support_loss`` overrides this."""
        return None

    def meta_loss(self, start: FastWeights, adapted: FastWeights, query: EncodedSet) -> Float[Tensor, ""]:
        """The objective's loss on the query set."""
        return OBJECTIVES[query.objective].loss(self.logits(adapted, query.features), query.targets, query.weights)


class ReadingLearner(Losses):
    """Base of the learners that read their support set once and descend on nothing.

    A subclass has a name, and defines how fast weights come of the support set and logits of fast weights.
    """

    objectives: frozenset[Objective] = frozenset({"classification"})
    descends = False
    rule = gradient_descent()
    order: Order = "second"  # the meta-gradient goes through the reading
    joins_query = False
    linear_head = False

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """No slow weights."""
        return {}

    def learning_rates(
        self, slow: SlowWeights, fast: FastWeights, *, step: int, n_classes: int, base_rate: float | None = None
    ) -> Mapping[str, Tensor]:
        """No rates: no step is taken."""
        return {}
