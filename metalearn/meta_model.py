"""Body, placement and learner as one: what a checkpoint is in memory, and how it adapts."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from metalearn import calibration
from metalearn.body import Body, MlpBody
from metalearn.errors import UnsupportedObjective
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.inner_loop import InnerState, inner_steps
from metalearn.label_text import LabelTextPrior, among_examples, names_mislead
from metalearn.learners.interface import Learner
from metalearn.options import Order
from metalearn.placement import Placement
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.stock_share import StockShare
from metalearn.types import OUT_OF_SCOPE, EncodedSet, FastWeights, SlowWeights
from metalearn.update_rules import minibatch_rows
from metalearn.within_class import TaskView, WithinClass

_BODY, _FAST, _LEARNER, _PRIOR, _CALIBRATION = "body.", "fast.", "learner.", "prior.", "calibration."


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
    head that are not the body's own, ``learner.`` for the learner's, ``prior.`` for what the texts of labels count,
    ``calibration.`` for how sure answers are, which is fitted after meta-training.

    Attributes:
        body: Inputs -> features.
        placement: Which weights of the body are fast.
        learner: The head's family.
        prior: What the text of a label counts; without it, what an example counts.
        calibrated: Whether there is a temperature.
        stock_share: How a task weighs stock features against meta-trained ones; without it, as they come.
        within_class: How a task counts less what texts of a class differ in; without it, all counts alike.
        centred: Whether a head's steps see features less the mean of its examples. What all texts share tells no
            class from another, and is most of the features of texts in a language that the encoder hardly reads: steps
            would swing to and fro along it, see docs/log.md. Not below the head, where features move from step to step.
        balanced: Whether all classes count alike in what steps lower. A handful of examples seldom says how frequent a
            class is; and where it does, classes with few examples would be forgotten, see docs/log.md.
    """

    body: Body
    placement: Placement
    learner: Learner
    prior: LabelTextPrior | None = None
    calibrated: bool = False
    stock_share: StockShare | None = None
    within_class: WithinClass | None = None
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

    def start(self, slow: SlowWeights, support: PreparedSet) -> tuple[FastWeights, EncodedSet]:
        """Fast weights before the first inner step, and the support set as encoded under them, for steps to lower.

        Raises:
            UnsupportedObjective: The learner does not do what the task asks for.
        """
        if support.objective not in self.learner.objectives:
            does = ", ".join(sorted(self.learner.objectives))
            raise UnsupportedObjective(f"the learner {self.learner.name} does {does}; not {support.objective}")
        deep = self.placement.start(_part(slow, _BODY), _part(slow, _FAST))
        features = self.features(slow, deep, support.inputs)
        view = self._view(support, features)
        weighted = self._believed(self._weighted(slow, support), features if view is None else view.of(features))
        if not deep:  # below the head, every step reads the texts anew
            features = self._among_examples(support, features)
        if view is not None:
            view = self._view_by_all(view, weighted, features)
            features = view.of(features)
        encoded = weighted.encoded(features, view)
        fast = {**deep, **self.learner.start(_part(slow, _LEARNER), encoded)}
        return fast, encoded.balanced if self.balanced and support.objective == "classification" else encoded

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
        support = replace(support, weights=encoded_at_start.weights)
        deep = bool(self.placement.start(_part(slow, _BODY), _part(slow, _FAST)))

        whole = _rows_of_step(support, rule.batch_size, 0, seed) is None

        def support_loss(fast: FastWeights, step: int) -> Float[Tensor, ""]:
            rows = _rows_of_step(support, rule.batch_size, step, seed)
            if not deep:
                return learner.support_loss(
                    fast, encoded_at_start if rows is None else _some_encoded(encoded_at_start, rows)
                )
            seen = support if rows is None else self._some(support, rows)
            with _differentiable_attention(order):
                features = self.features(slow, fast, seen.inputs)
            return learner.support_loss(fast, seen.encoded(features))

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
            gradients=learner.head_gradients(encoded_at_start) if whole and not deep else None,
        )
        view = encoded_at_start.view
        return states if view is None else (_seen_as_they_come(state, view) for state in states)

    def answering(self, slow: SlowWeights, adapted: FastWeights, support: PreparedSet) -> FastWeights:
        """Fast weights after the last inner step as they answer: under the temperature that was fitted."""
        if not self.calibrated or support.objective != "classification":
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
        can_split = episode.support.objective == "classification" and not self.learner.joins_query
        if splits > 1 and can_split and self.placement.layers == 0:
            return self._run_splits(slow, episode, steps=steps, seed=seed, splits=splits)
        support, query, learner = episode.support, episode.query, self.learner
        if learner.joins_query:
            support = self._joined(self._weighted(slow, support), query)
        begun = self.start(slow, support)
        start, encoded = begun
        for state in self.adapt(slow, support, begun, steps=steps, order=learner.order, seed=seed, last_loss=False):
            adapted = state.fast_weights
        features = self.features(slow, adapted, query.inputs)
        loss = learner.meta_loss(start, adapted, query.encoded(features))
        own = encoded.features[: episode.support.targets.shape[0]]  # without the query set, where that was joined
        return EpisodeResult(loss, learner.logits(adapted, features), features, own)

    def _run_splits(
        self, slow: SlowWeights, episode: PreparedEpisode, *, steps: int, seed: int, splits: int
    ) -> EpisodeResult:
        """Encodes once, and adapts and judges once per split; all but the mean loss are those of the first."""
        support, query = episode.support, episode.query
        features = self.features(slow, {}, self.body.concatenated(support.inputs, query.inputs))
        targets = torch.cat([support.targets, query.targets])
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

    def _some(self, support: PreparedSet, rows: Int[Tensor, " rows"]) -> PreparedSet:
        at = rows.to(support.targets.device)
        return replace(
            support,
            inputs=self.body.some(support.inputs, rows),
            targets=support.targets[at],
            weights=support.weights[at],
            label_texts=0,  # they may be anywhere now, and their weights are settled
        )

    def _weighted(self, slow: SlowWeights, support: PreparedSet) -> PreparedSet:
        """With the weights that label texts have by the prior."""
        n_examples = support.targets.shape[0] - support.label_texts
        if self.prior is None or support.label_texts == 0:
            return support
        counted = torch.bincount(support.targets[:n_examples], minlength=support.n_classes)
        of_class = self.prior.weights(_part(slow, _PRIOR), counted.to(support.weights.dtype))
        of_label = of_class[support.targets[n_examples:]]
        return replace(support, weights=torch.cat([support.weights[:n_examples], of_label]))

    def _believed(self, support: PreparedSet, features: Float[Tensor, "texts dim"]) -> PreparedSet:
        """With no weight on label texts that mislead; a class without an example has nothing else to go by."""
        n_examples = support.targets.shape[0] - support.label_texts
        classes, labelled = support.targets[:n_examples], support.targets[n_examples:]
        if support.label_texts < 2:
            return support
        known = features.detach()
        mislead = names_mislead(known[:n_examples], classes, known[n_examples:], labelled)
        mislead &= torch.isin(labelled, classes).all()
        # Chosen, not multiplied by 0: a learner's derivative may be infinite there
        of_labels = torch.where(mislead, 0.0, support.weights[n_examples:])
        return replace(support, weights=torch.cat([support.weights[:n_examples], of_labels]))

    def _among_examples(self, support: PreparedSet, features: Float[Tensor, "texts dim"]) -> Float[Tensor, "texts dim"]:
        if not support.label_texts:
            return features
        n_examples = support.targets.shape[0] - support.label_texts
        (classes, labelled), (examples, labels) = (
            support.targets.tensor_split([n_examples]),
            features.tensor_split([n_examples]),
        )
        moved = among_examples(examples, classes, labels, labelled, support.n_classes)
        return torch.cat([examples, moved])

    def _view(self, support: PreparedSet, features: Float[Tensor, "texts dim"]) -> TaskView | None:
        """As the examples alone see features: which half tells them decides whether names are believed."""
        if support.objective != "classification" or not (self.centred or self.stock_share or self.within_class):
            return None
        n_examples, n_classes = support.targets.shape[0] - support.label_texts, support.n_classes
        known, classes = features.detach()[:n_examples], support.targets[:n_examples]
        view = TaskView(centre=_mean_of_examples(support, features) if self.centred else None)
        if self.within_class:
            view = replace(view, narrowings=self.within_class.narrowings(view.of(known).detach(), classes, n_classes))
        if self.stock_share is None:
            return view
        weights = support.weights[:n_examples].detach()
        return replace(
            view, scales=self.stock_share.column_scales(view.of(known).detach(), classes, weights, n_classes)
        )

    def _view_by_all(self, view: TaskView, support: PreparedSet, features: Float[Tensor, "texts dim"]) -> TaskView:
        """The same where texts of labels have a say in the halves' shares."""
        if self.stock_share is None or not support.label_texts:
            return view
        narrowed, weights = replace(view, scales=None).of(features).detach(), support.weights.detach()
        scales = self.stock_share.column_scales(narrowed, support.targets, weights, support.n_classes)
        return replace(view, scales=scales)

    def _joined(self, support: PreparedSet, query: PreparedSet) -> PreparedSet:
        return replace(
            support,
            inputs=self.body.concatenated(support.inputs, query.inputs),
            targets=torch.cat([support.targets, query.targets]),
            weights=torch.cat([support.weights, query.weights]),
            label_texts=0,  # they are not the last rows any more, and their weights are settled
        )


def _split_rows(support: PreparedSet, query: PreparedSet, *, seed: int, split: int) -> Int[Tensor, " texts"]:
    """Which text stands where, of the support set's and then the query set's, if examples change places in a class.

    The first split leaves all as it is; texts of labels and out-of-scope queries keep their places in every one.
    """
    targets = torch.cat([support.targets, query.targets]).cpu()
    n_support = support.targets.shape[0]
    targets[n_support - support.label_texts : n_support] = OUT_OF_SCOPE
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


def _mean_of_examples(support: PreparedSet, features: Float[Tensor, "texts dim"]) -> Float[Tensor, " dim"]:
    """Their weighted mean; where there are none, that of the texts of labels."""
    n_examples = support.targets.shape[0] - support.label_texts
    weights = support.weights[: n_examples or None]
    return (weights / weights.sum()) @ features[: weights.shape[0]]


def _seen_as_they_come(state: InnerState, view: TaskView) -> InnerState:
    """A state of the inner loop, which sees features under the task's view, for features as they come."""
    weight, bias = view.head(state.fast_weights[HEAD_WEIGHT], state.fast_weights[HEAD_BIAS])
    return state._replace(fast_weights={**state.fast_weights, HEAD_WEIGHT: weight, HEAD_BIAS: bias})


def _part(slow: SlowWeights, prefix: str) -> Mapping[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in slow.items() if name.startswith(prefix)}


def _differentiable_attention(order: Order) -> AbstractContextManager[None]:
    """Fused attention has no second derivative."""
    return sdpa_kernel(SDPBackend.MATH) if order == "second" else nullcontext()


def _rows_of_step(support: PreparedSet, batch_size: int | None, step: int, seed: int) -> Int[Tensor, " rows"] | None:
    """Which rows a step sees, on the CPU; None for all."""
    n_rows = support.targets.shape[0]
    if batch_size is None or batch_size >= n_rows:
        return None
    return minibatch_rows(n_rows, batch_size, step, seed)


def _some_encoded(encoded: EncodedSet, rows: Int[Tensor, " rows"]) -> EncodedSet:
    at = rows.to(encoded.features.device)
    return replace(
        encoded,
        features=encoded.features[at],
        targets=encoded.targets[at],
        weights=encoded.weights[at],
        label_texts=0,  # they may be anywhere now
    )
