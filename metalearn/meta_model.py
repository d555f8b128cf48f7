"""Body, placement and learner as one: what a checkpoint is in memory, and how it adapts."""

from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from metalearn import calibration
from metalearn.body import Body, MlpBody
from metalearn.encoded_set import EncodedSet
from metalearn.errors import UnsupportedObjective
from metalearn.inner_loop import InnerState, inner_steps
from metalearn.learners.interface import Learner, LeavesOut, StartsInSlices
from metalearn.objectives import OBJECTIVES
from metalearn.options import Order
from metalearn.placement import Placement
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.slices import result_of
from metalearn.task_view.centring import plain_head
from metalearn.task_view.fit import Steps, fit, label_text_weights
from metalearn.task_view.label_text_prior import LabelTextPrior
from metalearn.types import OUT_OF_SCOPE, FastWeights, SlowWeights
from metalearn.update_rules import minibatch_rows

_BODY, _FAST, _LEARNER, _PRIOR, _CALIBRATION = "body.", "fast.", "learner.", "prior.", "calibration."


class Start(NamedTuple):
    """The start of an adaptation.

    Attributes:
        fast_weights: Before the first inner step.
        support: Examples and then label texts, whose loss the steps lower.
        n_examples: How many of the texts are examples.
        centre: The mean of the examples, which was taken off the features; None where they are not centred.
    """

    fast_weights: FastWeights
    support: EncodedSet
    n_examples: int
    centre: Float[Tensor, " dim"] | None


class EpisodeResult(NamedTuple):
    """The result of an episode.

    Attributes:
        meta_loss: The loss that the outer step lowers.
        query_outputs: Logits of the query set, or predictions in regression.
        query_features: Features of the queries under the adapted weights.
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
    head that are not the body's own, ``learner.`` for the learner's, ``prior.`` for what the texts of labels count,
    ``calibration.`` for how sure answers are, which is fitted after meta-training.

    Attributes:
        body: Inputs -> features.
        placement: Which weights of the body are fast.
        learner: The head's family.
        prior: The weight of a label's text; without it, that of an example.
        calibrated: Whether there is a temperature.
        centred: Whether the inner steps see centred features; see ``metalearn.task_view.centring``. Not below the head,
            where features move from step to step.
        balanced: Whether all classes count alike in the steps' loss; see ``metalearn.task_view.class_balance``.
    """

    body: Body
    placement: Placement
    learner: Learner
    prior: LabelTextPrior | None = None
    calibrated: bool = False
    centred: bool = False
    balanced: bool = False

    def initial_slow_weights(self, *, steps: int, seed: int = 0) -> dict[str, Tensor]:
        """Slow weights before any meta-training, on the CPU except where the body's own lie elsewhere."""
        draw = torch.Generator().manual_seed(seed)
        body = self.body.initial_weights(draw)
        own = self.placement.initial_slow_weights(body, draw)
        deep = self.placement.start(body, own)
        learner = self.learner.initial_slow_weights(self.body.dim, deep, steps=steps, draw=draw)
        prior = self.prior.initial_slow_weights() if self.prior else {}
        temperature = calibration.initial_slow_weights() if self.calibrated else {}
        parts = {_BODY: body, _FAST: own, _LEARNER: learner, _PRIOR: prior, _CALIBRATION: temperature}
        return {prefix + name: weight for prefix, part in parts.items() for name, weight in part.items()}

    def features(self, slow: SlowWeights, fast: FastWeights, inputs: Any) -> Float[Tensor, "rows dim"]:
        """Features as the task with these fast weights sees them."""
        return self.body.features(self.placement.body_weights(_part(slow, _BODY), fast), inputs)

    def outputs(self, slow: SlowWeights, fast: FastWeights, inputs: Any) -> Float[Tensor, "rows outputs"]:
        """Logits of each class, or predictions in regression."""
        return self.learner.logits(fast, self.features(slow, fast, inputs))

    def start(self, slow: SlowWeights, support: PreparedSet) -> Start:
        """The fast weights before the first inner step, and the support set as the steps see it.

        Raises:
            UnsupportedObjective: The learner does not do what the task asks for.
        """
        return result_of(self.start_slices(slow, support))

    def start_slices(self, slow: SlowWeights, support: PreparedSet) -> Generator[None, None, Start]:
        """``start``, with the pauses of a learner that takes long for its own."""
        if support.objective not in self.learner.objectives:
            does = ", ".join(sorted(self.learner.objectives))
            raise UnsupportedObjective(f"the learner {self.learner.name} does {does}; not {support.objective}")
        if not (OBJECTIVES[support.objective].one_class_each or isinstance(self.learner, LeavesOut)):
            support = replace(support, label_texts=None)  # it could not tell what they are worth
        deep = self.placement.start(_part(slow, _BODY), _part(slow, _FAST))
        features = self.features(slow, deep, self.inputs_of_all(support))
        view = fit(support, features, self._view_steps(slow))
        of_learner = _part(slow, _LEARNER)
        if isinstance(self.learner, StartsInSlices):
            head = yield from self.learner.start_slices(of_learner, view.for_start)
        else:
            head = self.learner.start(of_learner, view.for_start)
        return Start({**deep, **head}, view.for_steps, support.targets.shape[0], view.centre)

    def adapt(
        self,
        slow: SlowWeights,
        support: PreparedSet,
        start: Start,
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
            support: The support set.
            start: The result of ``start`` for it.
            steps: Number of inner steps; none is taken by a learner that does not descend.
            learning_rate: Takes the place of the meta-learned rate.
            order: How far meta-gradients see.
            seed: Decides which rows a step sees where the update rule works on mini-batches.
            last_loss: Whether the loss after the last step is wanted.
        """
        learner, rule = self.learner, self.learner.rule
        first, encoded, _, centre = start
        inputs = self.inputs_of_all(support)
        n_rows = encoded.targets.shape[0]
        deep = bool(self.placement.start(_part(slow, _BODY), _part(slow, _FAST)))
        whole = _rows_of_step(n_rows, rule.batch_size, 0, seed) is None

        def support_loss(fast: FastWeights, step: int) -> Float[Tensor, ""]:
            rows = _rows_of_step(n_rows, rule.batch_size, step, seed)
            seen = encoded if rows is None else encoded.rows(rows)
            if deep:  # below the head, every step reads the texts anew
                with _differentiable_attention(order):
                    features = self.features(slow, fast, inputs if rows is None else self.body.some(inputs, rows))
                seen = replace(seen, features=features)
            return learner.support_loss(fast, seen)

        states = inner_steps(
            first,
            support_loss,
            rule=rule,
            learning_rates=lambda step: learner.learning_rates(
                _part(slow, _LEARNER), first, step=step, n_classes=support.n_classes, base_rate=learning_rate
            ),
            steps=steps if learner.descends else 0,
            order=order,
            last_loss=last_loss,
            gradients=learner.head_gradients(encoded) if whole and not deep else None,
        )
        if centre is None:
            return states
        return (state._replace(fast_weights=plain_head(state.fast_weights, centre)) for state in states)

    def left_out_outputs(self, slow: SlowWeights, start: Start) -> Float[Tensor, "examples outputs"] | None:
        """Outputs for each example by the head of all others; None where the learner cannot leave examples out."""
        if not isinstance(self.learner, LeavesOut) or start.n_examples < 3:
            return None
        return self.learner.with_left_out(_part(slow, _LEARNER), start.support)[1][: start.n_examples]

    def answering(self, slow: SlowWeights, adapted: FastWeights, support: PreparedSet) -> FastWeights:
        """Fast weights after the last inner step as they answer: under the temperature that was fitted."""
        if not (self.calibrated and OBJECTIVES[support.objective].one_class_each):
            return adapted
        fitted = _part(slow, _CALIBRATION)
        divisor = calibration.temperature(fitted, shots=support.shots, ways=support.n_classes)
        return calibration.tempered(adapted, divisor)

    def run_episode(
        self, slow: SlowWeights, episode: PreparedEpisode, *, steps: int, seed: int = 0, splits: int = 1
    ) -> EpisodeResult:
        """Adapts on the support set and judges by the query set, attached to the slow weights as the learner asks.

        Args:
            slow: The meta-learned weights.
            episode: Texts to adapt on and to be judged by.
            steps: Inner steps.
            seed: Decides whatever is drawn.
            splits: How often the episode's examples are divided into support and query set: once as they come, then
                anew with as many of each class, by the same encoding. Only where the head alone is fast and in
                classification; otherwise once.
        """
        can_split = OBJECTIVES[episode.support.objective].one_class_each and not self.learner.joins_query
        if splits > 1 and can_split and self.placement.layers == 0:
            return self._run_splits(slow, episode, steps=steps, seed=seed, splits=splits)
        support, query, learner = episode.support, episode.query, self.learner
        if learner.joins_query:
            support = self._joined(slow, support, query)
        begun = self.start(slow, support)
        for state in self.adapt(slow, support, begun, steps=steps, order=learner.order, seed=seed, last_loss=False):
            adapted = state.fast_weights
        features = self.features(slow, adapted, query.inputs)
        loss = learner.meta_loss(begun.fast_weights, adapted, query.encoded(features))
        own = begun.support.features[: episode.support.targets_of_all.shape[0]]  # without a query set that was joined
        return EpisodeResult(loss, learner.logits(adapted, features), features, own)

    def _run_splits(
        self, slow: SlowWeights, episode: PreparedEpisode, *, steps: int, seed: int, splits: int
    ) -> EpisodeResult:
        """Encodes once, and adapts and judges once per split; all but the mean loss are those of the first."""
        support, query = episode.support, episode.query
        inputs = self.body.concatenated(support.inputs, query.inputs)
        targets = torch.cat([support.targets, query.targets])
        if support.label_texts is None:
            features = self.features(slow, {}, inputs)
        else:
            both = self.features(slow, {}, self.body.concatenated(inputs, support.label_texts.inputs))
            features, of_label_texts = both.tensor_split([targets.shape[0]])
            support = replace(support, label_texts=replace(support.label_texts, inputs=of_label_texts))
        on_features = replace(self, body=MlpBody((self.body.dim,)))  # without layers, its features are its inputs
        results = []
        for split in range(splits):
            rows = _split_rows(support, query, seed=seed, split=split).to(features.device)
            own, asked = rows[: support.targets.shape[0]], rows[support.targets.shape[0] :]
            divided = replace(
                episode,
                support=replace(support, inputs=features[own], targets=targets[own]),
                query=replace(query, inputs=features[asked], targets=targets[asked]),
            )
            results.append(on_features.run_episode(slow, divided, steps=steps, seed=seed + (split << 32)))
        return results[0]._replace(meta_loss=torch.stack([result.meta_loss for result in results]).mean())

    def inputs_of_all(self, support: PreparedSet) -> Any:
        """Inputs of the examples and then of the label texts."""
        if support.label_texts is None:
            return support.inputs
        return self.body.concatenated(support.inputs, support.label_texts.inputs)

    def _view_steps(self, slow: SlowWeights) -> Steps:
        prior = self.prior
        text_weights = None if prior is None else partial(prior.weights, _part(slow, _PRIOR))
        return Steps(
            text_weights,
            shifts_label_texts=self.placement.layers == 0,  # below the head, every step reads the texts anew
            centred=self.centred,
            balanced=self.balanced,
        )

    def _joined(self, slow: SlowWeights, support: PreparedSet, query: PreparedSet) -> PreparedSet:
        """The support set with the query set among its examples, and its label texts, weighed by the prior, too."""
        weights = label_text_weights(support, self._view_steps(slow))
        return replace(
            support,
            inputs=self.body.concatenated(self.inputs_of_all(support), query.inputs),
            targets=torch.cat([support.targets_of_all, query.targets]),
            weights=torch.cat([support.weights, weights, query.weights]),
            label_texts=None,
        )


def _split_rows(support: PreparedSet, query: PreparedSet, *, seed: int, split: int) -> Int[Tensor, " texts"]:
    """Which text stands where, of the support set's and then the query set's, if examples change places in a class.

    The first split leaves all as it is; out-of-scope queries keep their places in every one.
    """
    targets = torch.cat([support.targets, query.targets]).cpu()
    rows = torch.arange(targets.shape[0])
    if split == 0:
        return rows
    draw = torch.Generator().manual_seed(seed * 1_009 + split)
    shuffled = torch.randperm(rows.shape[0], generator=draw)
    movable = targets != OUT_OF_SCOPE
    # Both list the movable rows class by class: by place, and in the order drawn
    places = torch.argsort(targets, stable=True)
    drawn = shuffled[torch.argsort(targets[shuffled], stable=True)]
    kept = movable[places]
    rows[places[kept]] = drawn[movable[drawn]]
    return rows


def _part(slow: SlowWeights, prefix: str) -> Mapping[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in slow.items() if name.startswith(prefix)}


def _differentiable_attention(order: Order) -> AbstractContextManager[None]:
    """A context without fused attention, which has no second derivative."""
    return sdpa_kernel(SDPBackend.MATH) if order == "second" else nullcontext()


def _rows_of_step(n_rows: int, batch_size: int | None, step: int, seed: int) -> Int[Tensor, " rows"] | None:
    """The rows that a step sees, on the CPU; None for all."""
    if batch_size is None or batch_size >= n_rows:
        return None
    return minibatch_rows(n_rows, batch_size, step, seed)
