"""Body, placement and learner as one: what a checkpoint is in memory, and how it adapts."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from metalearn.body import Body
from metalearn.errors import UnsupportedObjective
from metalearn.inner_loop import InnerState, Order, inner_steps
from metalearn.learners.interface import Learner
from metalearn.placement import Placement
from metalearn.types import EncodedSet, FastWeights, Objective, SlowWeights
from metalearn.update_rules import minibatch_rows

_BODY, _FAST, _LEARNER = "body.", "fast.", "learner."


@dataclass(frozen=True)
class PreparedSet:
    """Labelled inputs as the body reads them; the fields below ``inputs`` are those of ``EncodedSet``."""

    inputs: Any
    targets: Int[Tensor, " texts"] | Float[Tensor, "texts outputs"]
    weights: Float[Tensor, " texts"]
    n_classes: int
    objective: Objective = "classification"

    def encoded(self, features: Float[Tensor, "texts dim"]) -> EncodedSet:
        """With their features."""
        return EncodedSet(features, self.targets, self.weights, self.n_classes, self.objective)


@dataclass(frozen=True)
class PreparedEpisode:
    """An episode as the body reads it.

    Attributes:
        support: What is adapted on.
        query: What the result is judged by.
        task: Name of its task.
        group: Kind of task.
    """

    support: PreparedSet
    query: PreparedSet
    task: str = ""
    group: str = ""


class EpisodeResult(NamedTuple):
    """What an episode came to.

    Attributes:
        meta_loss: What the outer step lowers.
        query_outputs: Logits of the query set, or predictions in regression.
        query_features: Their features under the adapted weights.
        support_features: Features of the support set at the start.
    """

    meta_loss: Float[Tensor, ""]
    query_outputs: Float[Tensor, "query outputs"]
    query_features: Float[Tensor, "query dim"]
    support_features: Float[Tensor, "support dim"]


@dataclass(frozen=True)
class MetaModel:
    """A body, where fast weights live in it, and a learner on top.

    Slow weights carry a prefix: ``body.`` for the body's weights, ``fast.`` for the start of fast weights below the
    head that are not the body's own, ``learner.`` for the learner's.

    Attributes:
        body: Inputs -> features.
        placement: Which weights of the body are fast.
        learner: The head's family.
    """

    body: Body
    placement: Placement
    learner: Learner

    def initial_slow_weights(self, *, steps: int, seed: int = 0) -> dict[str, Tensor]:
        """Slow weights before any meta-training, on the CPU except where the body's own lie elsewhere."""
        draw = torch.Generator().manual_seed(seed)
        body = self.body.initial_weights(draw)
        own = self.placement.initial_slow_weights(body, draw)
        deep = self.placement.start(body, own)
        learner = self.learner.initial_slow_weights(self.body.dim, deep, steps=steps, draw=draw)
        parts = {_BODY: body, _FAST: own, _LEARNER: learner}
        return {prefix + name: weight for prefix, part in parts.items() for name, weight in part.items()}

    def features(self, slow: SlowWeights, fast: FastWeights, inputs: Any) -> Float[Tensor, "rows dim"]:
        """Features as the task with these fast weights sees them."""
        return self.body.features(self.placement.body_weights(_part(slow, _BODY), fast), inputs)

    def outputs(self, slow: SlowWeights, fast: FastWeights, inputs: Any) -> Float[Tensor, "rows outputs"]:
        """Logits of each class, or predictions in regression."""
        return self.learner.logits(fast, self.features(slow, fast, inputs))

    def start(self, slow: SlowWeights, support: PreparedSet) -> tuple[FastWeights, EncodedSet]:
        """Fast weights before the first inner step, and the support set as encoded under them.

        Raises:
            UnsupportedObjective: The learner does not do what the task asks for.
        """
        if support.objective not in self.learner.objectives:
            does = ", ".join(sorted(self.learner.objectives))
            raise UnsupportedObjective(f"the learner {self.learner.name} does {does}; not {support.objective}")
        deep = self.placement.start(_part(slow, _BODY), _part(slow, _FAST))
        encoded = support.encoded(self.features(slow, deep, support.inputs))
        return {**deep, **self.learner.start(_part(slow, _LEARNER), encoded)}, encoded

    def adapt(
        self,
        slow: SlowWeights,
        support: PreparedSet,
        start: tuple[FastWeights, EncodedSet],
        *,
        steps: int,
        learning_rate: float | None = None,
        order: Order = "detached",
        seed: int = 0,
        last_loss: bool = True,
    ) -> Iterator[InnerState]:
        """The inner loop from ``start`` on; its states as ``inner_steps`` yields them.

        Args:
            slow: The meta-learned weights.
            support: What is adapted on.
            start: What ``start`` returned for it.
            steps: Number of inner steps; none is taken by a learner that does not descend.
            learning_rate: Takes the place of the meta-learned rate.
            order: How far meta-gradients see.
            seed: Decides which rows a step sees where the update rule works on mini-batches.
            last_loss: Whether the loss after the last step is wanted.
        """
        learner, rule = self.learner, self.learner.rule
        first, encoded_at_start = start
        deep = bool(self.placement.start(_part(slow, _BODY), _part(slow, _FAST)))

        def support_loss(fast: FastWeights, step: int) -> Float[Tensor, ""]:
            encoded = encoded_at_start
            if deep:
                with _differentiable_attention(order):
                    encoded = support.encoded(self.features(slow, fast, support.inputs))
            return learner.support_loss(fast, _rows_of_step(encoded, rule.batch_size, step, seed))

        return inner_steps(
            first,
            support_loss,
            rule=rule,
            learning_rates=lambda step: learner.learning_rates(
                _part(slow, _LEARNER), first, step=step, n_classes=support.n_classes, base_rate=learning_rate
            ),
            steps=steps if learner.descends else 0,
            order=order,
            last_loss=last_loss,
        )

    def run_episode(self, slow: SlowWeights, episode: PreparedEpisode, *, steps: int, seed: int = 0) -> EpisodeResult:
        """Adapts on the support set and judges by the query set, attached to the slow weights as the learner asks."""
        support, query, learner = episode.support, episode.query, self.learner
        if learner.joins_query:
            support = self._joined(support, query)
        begun = self.start(slow, support)
        start, encoded = begun
        for state in self.adapt(slow, support, begun, steps=steps, order=learner.order, seed=seed, last_loss=False):
            adapted = state.fast_weights
        features = self.features(slow, adapted, query.inputs)
        loss = learner.meta_loss(start, adapted, query.encoded(features))
        own = encoded.features[: episode.support.targets.shape[0]]  # without the query set, where that was joined
        return EpisodeResult(loss, learner.logits(adapted, features), features, own)

    def _joined(self, support: PreparedSet, query: PreparedSet) -> PreparedSet:
        return replace(
            support,
            inputs=self.body.concatenated(support.inputs, query.inputs),
            targets=torch.cat([support.targets, query.targets]),
            weights=torch.cat([support.weights, query.weights]),
        )


def _part(slow: SlowWeights, prefix: str) -> Mapping[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in slow.items() if name.startswith(prefix)}


def _differentiable_attention(order: Order) -> AbstractContextManager[None]:
    """Fused attention has no second derivative."""
    return sdpa_kernel(SDPBackend.MATH) if order == "second" else nullcontext()


def _rows_of_step(support: EncodedSet, batch_size: int | None, step: int, seed: int) -> EncodedSet:
    if batch_size is None or batch_size >= support.features.shape[0]:
        return support
    rows = minibatch_rows(support.features.shape[0], batch_size, step, seed).to(support.features.device)
    return replace(
        support,
        features=support.features[rows],
        targets=support.targets[rows],
        weights=support.weights[rows],
    )
