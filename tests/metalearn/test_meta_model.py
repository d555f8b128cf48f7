"""Start, inner loop and episode of body, placement and learner as one, and the texts on their way through them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.body import MlpBody, TextBody
from metalearn.encoded_set import EncodedSet
from metalearn.encoder.encoder import Encoder
from metalearn.errors import AdaptationDiverged, UnsupportedObjective
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.inner_loop import Gradients, collect
from metalearn.learners import LEARNERS as LEARNERS_BY_NAME
from metalearn.learners import LearnerOptions, make_learner
from metalearn.learners.interface import ReadingLearner
from metalearn.learners.optimization import GradientLearner, class_means
from metalearn.meta_model import MetaModel, _split_rows
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.options import Order, PlacementName
from metalearn.placement import HeadOnly, make_placement
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.task_view.label_text_prior import LabelTextPrior
from metalearn.task_view.label_text_shift import shifted_label_texts
from metalearn.types import OUT_OF_SCOPE, FastWeights, Objective, SlowWeights, TextInput
from metalearn.update_rules import minibatch_gradient_descent
from tests.metalearn.conftest import with_last_as_label_texts
from tests.metalearn.test_placement import DEEP, PLACEMENTS, NormBody, drawn, moved
from tests.pairs import pairs

LEARNERS = ("maml", "fomaml", "reptile", "anil", "metasgd", "protomaml")
BODY = NormBody((3, 5, 4, 6))


def model_of(
    learner: str = "protomaml", placement: PlacementName = "full", layers: int = 2, **options: Any
) -> MetaModel:
    """A small smooth model."""
    made = make_learner(learner, LearnerOptions(**{"head_rate": 0.2, "body_rate": 0.1} | options))
    return MetaModel(BODY, make_placement(placement, layers=layers, rank=2), made)


def slow_of(model: MetaModel, steps: int = 3, *, grad: bool = False) -> dict[str, Tensor]:
    """Slow weights a little off their start, so that none of them is zero."""
    slow = moved(model.initial_slow_weights(steps=steps), by=0.1)
    return {name: weight.requires_grad_(grad) for name, weight in slow.items()}


def points(n_classes: int, per_class: int, seed: int, objective: Objective = "classification") -> PreparedSet:
    """Random inputs of three numbers with targets of any objective."""
    draw = drawn(seed)
    rows = n_classes * per_class
    inputs, weights = torch.randn(rows, 3, generator=draw), 0.5 + torch.rand(rows, generator=draw)
    targets = torch.arange(n_classes).repeat_interleave(per_class)
    if objective == "multi_label":
        targets = (torch.nn.functional.one_hot(targets) + (torch.rand(rows, n_classes, generator=draw) > 0.7)) > 0
        targets = targets.float()
    if objective == "regression":
        targets = torch.randn(rows, n_classes, generator=draw)
    return PreparedSet(inputs, targets, weights, n_classes, objective)


def episode_of(n_classes: int = 3, objective: Objective = "classification") -> PreparedEpisode:
    """Two support and four query points of each class."""
    return PreparedEpisode(points(n_classes, 2, 1, objective), points(n_classes, 4, 2, objective), "a task", "tests")


class _Counting:
    """A body that remembers how many rows it was asked for, call by call."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.dim = BODY.dim
        self.initial_weights = BODY.initial_weights
        self.concatenated = BODY.concatenated
        self.some = BODY.some

    def features(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        self.calls.append(len(inputs))
        return BODY.features(weights, inputs)


class _Means(ReadingLearner):
    """Reads class means, and would fail if it were descended on."""

    name = "means"

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        means = class_means(support)
        return {HEAD_WEIGHT: 2 * means, HEAD_BIAS: -means.square().sum(dim=1)}

    def logits(self, fast_weights: FastWeights, features: Tensor) -> Tensor:
        return features @ fast_weights[HEAD_WEIGHT].T + fast_weights[HEAD_BIAS]


def _adapted(model: MetaModel, slow: SlowWeights, support: PreparedSet, **options: Any) -> FastWeights:
    begun = model.start(slow, support)
    return collect(model.adapt(slow, support, begun, **{"steps": 3} | options)).fast_weights


# --- slow weights -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_slow_weights_are_the_bodys_the_placements_and_the_learners(learner: str, placement: PlacementName) -> None:
    model = model_of(learner, placement)
    slow = model.initial_slow_weights(steps=3)
    again = model.initial_slow_weights(steps=3)
    other = model.initial_slow_weights(steps=3, seed=1)
    assert {name.split(".")[0] for name in slow} == {"body", "learner"} | (
        {"fast"} if placement in ("modulations", "low_rank") else set()
    )
    assert {n.removeprefix("body.") for n in slow if n.startswith("body.")} == set(BODY.initial_weights(drawn()))
    assert all(torch.equal(slow[name], again[name]) for name in slow)
    assert any(not torch.equal(slow[name], other[name]) for name in slow)
    assert all(bool(weight.isfinite().all()) for weight in slow.values())


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_learned_rates_fit_the_fast_weights(placement: PlacementName) -> None:
    support = points(3, 2, 1)
    for kind, own in (("per_parameter", "rate."), ("per_layer_per_step", "log_rate.")):
        model = model_of("metasgd", placement, rates=kind)
        slow = model.initial_slow_weights(steps=4)
        fast = model.start(slow, support).fast_weights
        named = {name.removeprefix(f"learner.{own}") for name in slow if name.startswith(f"learner.{own}")}
        assert named == set(fast)
        for name, weight in fast.items():
            shape = slow[f"learner.{own}{name}"].shape
            if kind == "per_layer_per_step":
                assert shape == (4,)
            else:
                assert shape == (weight.shape[1:] if name.startswith("head.") else weight.shape)


# --- start ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("learner", "placement", "n_classes"), pairs(LEARNERS, PLACEMENTS, [2, 5]))
def test_fast_weights_are_a_head_and_what_the_placement_names(
    learner: str, placement: PlacementName, n_classes: int
) -> None:
    model = model_of(learner, placement)
    slow, support = slow_of(model), points(n_classes, 2, 1)
    fast, encoded, *_ = model.start(slow, support)
    shapes = {name: tuple(weight.shape) for name, weight in fast.items()}
    assert shapes.pop(HEAD_WEIGHT) == (n_classes, 6)
    assert shapes.pop(HEAD_BIAS) == (n_classes,)
    body = {name.removeprefix("body."): weight for name, weight in slow.items() if name.startswith("body.")}
    own = {name.removeprefix("fast."): weight for name, weight in slow.items() if name.startswith("fast.")}
    expected = model.placement.start(body, own)
    assert shapes == {name: tuple(weight.shape) for name, weight in expected.items()}
    assert bool(shapes) is (placement != "head")
    torch.testing.assert_close(encoded.features, model.features(slow, fast, support.inputs))
    after = _adapted(model, slow, support)
    assert {name: weight.shape for name, weight in after.items()} == {n: weight.shape for n, weight in fast.items()}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_before_meta_training_the_start_sees_the_bodys_own_features(placement: PlacementName) -> None:
    model = model_of(placement=placement)
    slow, support = model.initial_slow_weights(steps=1), points(3, 2, 1)
    encoded = model.start(slow, support).support
    assert torch.equal(encoded.features, BODY.features(BODY.initial_weights(drawn()), support.inputs))


def rows_of_head(slow: SlowWeights, means: Tensor, counted: Tensor) -> Tensor:
    """ProtoMAML's: the middle of all classes counts as two more examples of each."""
    middle, kept = means.mean(dim=0), (counted / (counted + 2)).unsqueeze(1)
    return 2 * slow["learner.log_scale"].exp() / kept.mean() * (middle + kept * (means - middle))


def test_a_head_of_class_means_is_that_of_the_features_at_the_start() -> None:
    model = model_of("protomaml", "modulations")
    slow, support = slow_of(model), points(3, 2, 1)
    fast, encoded, *_ = model.start(slow, support)
    torch.testing.assert_close(fast[HEAD_WEIGHT], rows_of_head(slow, class_means(encoded), encoded.weight_of_class))
    plain = BODY.features({n.removeprefix("body."): w for n, w in slow.items()}, support.inputs)
    assert not torch.allclose(encoded.features, plain), "the slow modulations are not those of the first start"


@pytest.mark.parametrize("learner", LEARNERS)
def test_what_a_learner_does_not_do_is_refused(learner: str) -> None:
    model = model_of(learner)
    for objective in ("classification", "multi_label", "regression"):
        episode = episode_of(objective=objective)
        if objective in model.learner.objectives:
            result = model.run_episode(slow_of(model), episode, steps=1)
            assert bool(result.meta_loss.isfinite())
            assert result.query_outputs.shape == (12, 3)
            continue
        assert (learner, objective) == ("protomaml", "regression")
        with pytest.raises(UnsupportedObjective, match=r"protomaml does classification, multi_label; not regression"):
            model.start(slow_of(model), episode.support)
        with pytest.raises(UnsupportedObjective):
            model.run_episode(slow_of(model), episode, steps=1)


# --- adapt ------------------------------------------------------------------------------------------------------------


def test_a_head_alone_needs_its_support_set_encoded_once() -> None:
    body = _Counting()
    model = replace(model_of(placement="head"), body=body)
    slow, support = slow_of(model), points(3, 2, 1)
    begun = model.start(slow, support)
    collect(model.adapt(slow, support, begun, steps=7))
    assert body.calls == [6]
    body.calls.clear()
    model.run_episode(slow, episode_of(), steps=7)
    assert body.calls == [6, 12]


@pytest.mark.parametrize("placement", DEEP)
def test_a_deep_placement_encodes_anew_at_each_step(placement: PlacementName) -> None:
    body = _Counting()
    model = replace(model_of(placement=placement), body=body)
    slow, support = slow_of(model), points(3, 2, 1)
    begun = model.start(slow, support)
    collect(model.adapt(slow, support, begun, steps=2))
    assert body.calls == [6, 6, 6, 6], "the start, and the loss before the first step and after each"
    body.calls.clear()
    model.run_episode(slow, episode_of(), steps=2)
    assert body.calls == [6, 6, 6, 12], "no step needs the loss after the last one"


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_inner_steps_lower_the_support_loss_and_move_every_fast_weight(learner: str, placement: PlacementName) -> None:
    model = model_of(learner, placement)
    slow, support = slow_of(model, 5), points(3, 4, 1)
    begun = model.start(slow, support)
    result = collect(model.adapt(slow, support, begun, steps=5))
    assert result.losses.shape == (6,)
    assert float(result.losses[-1]) < float(result.losses[0])
    assert all(not torch.equal(result.fast_weights[name], weight) for name, weight in begun[0].items())
    # the losses are those of the states, seen from outside
    for fast, loss in ((begun[0], result.losses[0]), (result.fast_weights, result.losses[-1])):
        seen = support.encoded(model.features(slow, fast, support.inputs))
        torch.testing.assert_close(model.learner.support_loss(fast, seen), loss)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_one_step_is_a_step_against_the_gradient(placement: PlacementName) -> None:
    model = model_of("maml", placement)
    slow, support = slow_of(model), points(3, 2, 1)
    start = model.start(slow, support).fast_weights
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in start.items()}
    encoded = support.encoded(model.features(slow, leaves, support.inputs))
    gradients = torch.autograd.grad(model.learner.support_loss(leaves, encoded), list(leaves.values()))
    found = _adapted(model, slow, support, steps=1)
    for (name, weight), gradient in zip(start.items(), gradients, strict=True):
        rate = 0.2 * 3 if name.startswith("head.") else 0.1
        torch.testing.assert_close(found[name], weight - rate * gradient, atol=1e-6, rtol=1e-6)


def test_a_learner_that_does_not_descend_takes_no_step() -> None:
    body = _Counting()
    model = MetaModel(body, HeadOnly(), _Means())
    slow, support = model.initial_slow_weights(steps=3), points(3, 2, 1)
    begun = model.start(slow, support)
    states = list(model.adapt(slow, support, begun, steps=9))
    assert len(states) == 1
    assert all(torch.equal(states[0].fast_weights[name], weight) for name, weight in begun[0].items())
    assert body.calls == [6]
    result = model.run_episode(slow, episode_of(), steps=9)
    torch.testing.assert_close(result.query_outputs, model.outputs(slow, begun[0], episode_of().query.inputs))


def test_a_learner_that_does_not_descend_is_still_meta_trained() -> None:
    model = MetaModel(BODY, HeadOnly(), _Means())
    slow = {name: weight.requires_grad_() for name, weight in model.initial_slow_weights(steps=3).items()}
    model.run_episode(slow, episode_of(), steps=3).meta_loss.backward()
    for weight in slow.values():
        assert weight.grad is not None
        assert float(weight.grad.abs().max()) > 0


def test_no_steps_leave_the_start() -> None:
    model = model_of()
    slow, support = slow_of(model), points(3, 2, 1)
    start = model.start(slow, support).fast_weights
    found = _adapted(model, slow, support, steps=0)
    assert all(torch.equal(found[name], weight) for name, weight in start.items())


def test_a_requested_rate_takes_the_place_of_the_heads_and_keeps_the_bodys_in_proportion() -> None:
    model = model_of("maml", "full")
    asked = _adapted(model, slow_of(model), points(3, 2, 1), learning_rate=0.04)
    twin = model_of("maml", "full", head_rate=0.04, body_rate=0.02)
    expected = _adapted(twin, slow_of(twin), points(3, 2, 1))
    for name, weight in expected.items():
        torch.testing.assert_close(asked[name], weight, atol=1e-6, rtol=1e-6)


def test_steps_beyond_the_schedule_take_its_last_rate() -> None:
    model = model_of("maml", "modulations", rates="per_layer_per_step")
    slow, support = slow_of(model, steps=2), points(3, 2, 1)
    longer = {
        name: torch.cat([weight, weight[-1:].expand(3)]) if "log_rate" in name else weight
        for name, weight in slow.items()
    }
    found, expected = _adapted(model, slow, support, steps=5), _adapted(model, longer, support, steps=5)
    assert all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("placement", ["head", "full"])
def test_mini_batches_follow_the_seed_and_the_step(placement: PlacementName) -> None:
    model = model_of("maml", placement)
    model = replace(model, learner=replace(model.learner, rule=minibatch_gradient_descent(2)))
    slow, support = slow_of(model), points(3, 2, 1)
    first, again = _adapted(model, slow, support, seed=4), _adapted(model, slow, support, seed=4)
    other = _adapted(model, slow, support, seed=5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    whole = replace(model, learner=replace(model.learner, rule=minibatch_gradient_descent(6)))
    plain = _adapted(model_of("maml", placement), slow, support)
    bounded = _adapted(whole, slow, support, seed=4)
    assert all(torch.equal(bounded[name], plain[name]) for name in plain), "a batch of all rows is all rows"


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("placement", ["head", "full"])
def test_features_that_are_not_numbers_are_a_divergence(placement: PlacementName, steps: int) -> None:
    model = model_of("maml", placement)
    slow, support = slow_of(model), points(3, 2, 1)
    support.inputs[0, 0] = torch.nan
    with pytest.raises(AdaptationDiverged):
        _adapted(model, slow, support, steps=steps)


def test_a_rate_that_is_too_large_is_a_divergence() -> None:
    model = MetaModel(MlpBody((3, 4)), make_placement("full", layers=1, rank=1), make_learner("maml"))
    with pytest.raises(AdaptationDiverged, match="learning rate is too large"):
        _adapted(model, slow_of(model), points(2, 3, 1, "regression"), steps=40, learning_rate=1e6)


# --- run_episode ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_an_episode_is_start_adaptation_and_query(learner: str, placement: PlacementName) -> None:
    model, episode = model_of(learner, placement), episode_of()
    slow = slow_of(model)
    support = episode.support
    if model.learner.joins_query:
        support = model._joined(slow, support, episode.query)
        assert len(support.inputs) == len(support.targets) == len(support.weights) == 18
    start, encoded, *_ = model.start(slow, support)
    adapted = _adapted(model, slow, support)
    result = model.run_episode(slow, episode, steps=3)
    torch.testing.assert_close(result.query_outputs, model.outputs(slow, adapted, episode.query.inputs))
    torch.testing.assert_close(result.query_features, model.features(slow, adapted, episode.query.inputs))
    own = encoded.features[: len(episode.support.inputs)]
    torch.testing.assert_close(result.support_features, own, msg="the support set's alone, also where it was joined")
    query = episode.query.encoded(result.query_features)
    torch.testing.assert_close(result.meta_loss, model.learner.meta_loss(start, adapted, query))


@pytest.mark.parametrize("learner", LEARNERS)
def test_only_a_learner_that_joins_adapts_on_the_query_set(learner: str) -> None:
    model, episode = model_of(learner), episode_of()
    slow = slow_of(model)
    relabelled = replace(episode, query=replace(episode.query, targets=episode.query.targets.flip(0)))
    before, after = (model.run_episode(slow, e, steps=3).query_outputs for e in (episode, relabelled))
    assert torch.equal(before, after) is not model.learner.joins_query
    assert model.learner.joins_query is (learner == "reptile")


@pytest.mark.parametrize(
    ("learner", "placement", "order"), pairs(LEARNERS, PLACEMENTS, ["detached", "first", "second"])
)
def test_how_far_a_meta_gradient_sees_changes_no_value(learner: str, placement: PlacementName, order: Order) -> None:
    model, episode = model_of(learner, placement), episode_of()
    slow = slow_of(model, grad=True)
    other = replace(model, learner=replace(model.learner, order=order))
    found, expected = (each.run_episode(slow, episode, steps=3) for each in (other, model))
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.detach(), theirs.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_an_episode_can_be_judged_without_gradients(learner: str, placement: PlacementName) -> None:
    model, episode = model_of(learner, placement), episode_of()
    slow = slow_of(model, grad=True)
    expected = model.run_episode(slow, episode, steps=3)
    with torch.no_grad():
        found = model.run_episode(slow, episode, steps=3)
        assert not torch.is_grad_enabled()
    assert not found.meta_loss.requires_grad
    torch.testing.assert_close(found.query_outputs, expected.query_outputs.detach())
    assert all(weight.grad is None for weight in slow.values())


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_nothing_that_is_given_is_changed(learner: str, placement: PlacementName) -> None:
    model, episode = model_of(learner, placement), episode_of()
    slow = slow_of(model, grad=True)
    kept = dict(slow)
    tensors = [*slow.values(), *(t for part in (episode.support, episode.query) for t in _tensors(part))]
    before, versions = [tensor.detach().clone() for tensor in tensors], [tensor._version for tensor in tensors]
    for order in ("detached", "first", "second"):
        _adapted(model, slow, episode.support, order=order)
    result = model.run_episode(slow, episode, steps=3)
    assert slow.keys() == kept.keys()
    assert all(slow[name] is weight and weight.grad is None for name, weight in kept.items())
    # Reptile's way back from a head that all exclusive classes share is nobody's to learn
    assert result.meta_loss.requires_grad is ((learner, placement) != ("reptile", "head"))
    if result.meta_loss.requires_grad:
        result.meta_loss.backward()
    assert [tensor._version for tensor in tensors] == versions
    for tensor, old in zip(tensors, before, strict=True):
        assert torch.equal(tensor.detach(), old)


def _tensors(part: PreparedSet) -> Iterator[Tensor]:
    yield from (part.inputs, part.targets, part.weights)


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_same_seed_gives_the_same_result(learner: str) -> None:
    model, episode = model_of(learner), episode_of()
    model = replace(model, learner=replace(model.learner, rule=minibatch_gradient_descent(2)))
    gradients = []
    for seed in (3, 3, 4):
        slow = slow_of(model, grad=True)
        model.run_episode(slow, episode, steps=3, seed=seed).meta_loss.backward()
        gradients.append([weight.grad for weight in slow.values() if weight.grad is not None])
    first, again, other = gradients
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("placement", ["head", "full"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_classes_may_change_places(learner: str, placement: PlacementName) -> None:
    # every class starts alike, so a task whose classes are numbered otherwise is the same task
    model, episode = model_of(learner, placement), episode_of()
    slow, order = slow_of(model), torch.tensor([2, 0, 1])
    renamed = PreparedEpisode(
        replace(episode.support, targets=order[episode.support.targets]),
        replace(episode.query, targets=order[episode.query.targets]),
    )
    before, after = (model.run_episode(slow, e, steps=3) for e in (episode, renamed))
    torch.testing.assert_close(after.query_outputs[:, order], before.query_outputs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("learner", LEARNERS)
def test_rows_may_change_places(learner: str) -> None:
    model, episode = model_of(learner), episode_of()
    slow, order = slow_of(model), torch.randperm(6, generator=drawn(3))
    support = episode.support
    shuffled = replace(
        support, inputs=support.inputs[order], targets=support.targets[order], weights=support.weights[order]
    )
    before = model.run_episode(slow, episode, steps=3)
    after = model.run_episode(slow, replace(episode, support=shuffled), steps=3)
    torch.testing.assert_close(after.query_outputs, before.query_outputs, atol=1e-5, rtol=1e-5)


# --- label texts ------------------------------------------------------------------------------------------------------

SECOND_ORDER = [name for name in sorted(LEARNERS_BY_NAME) if make_learner(name).order == "second"]
"""Learners whose meta-gradient is that of the query loss."""

COUNTS = (5, 1, 0)
"""Examples of each class: the last one has its label's text alone."""


def with_prior(learner: str = "protomaml", placement: PlacementName = "head") -> MetaModel:
    """A small model that weighs label texts."""
    return replace(model_of(learner, placement), prior=LabelTextPrior())


def with_label_texts(counts: Sequence[int] = COUNTS, seed: int = 1) -> PreparedSet:
    """Examples of some classes, and the text of every label."""
    n_classes = len(counts)
    targets = torch.cat([torch.arange(n_classes).repeat_interleave(torch.tensor(counts)), torch.arange(n_classes)])
    inputs = torch.randn(len(targets), 3, generator=drawn(seed))
    return with_last_as_label_texts(PreparedSet(inputs, targets, torch.ones(len(targets)), n_classes), n_classes)


def settled(support: PreparedSet, weights: Sequence[float]) -> PreparedSet:
    """The support set whose label texts are examples of these weights."""
    texts = support.label_texts
    assert texts is not None
    return replace(
        support,
        inputs=torch.cat([support.inputs, texts.inputs]),
        targets=support.targets_of_all,
        weights=torch.cat([support.weights, torch.tensor(weights)]),
        label_texts=None,
    )


@pytest.mark.parametrize("learner", LEARNERS)
def test_label_texts_that_classify_worse_than_chance_count_nothing(learner: str) -> None:
    # The body has no layers: features are these. The examples of each class look like the other one's name
    model = replace(with_prior(learner), body=MlpBody((3,)))
    slow = model.initial_slow_weights(steps=3)
    looks = torch.tensor([0, 0, 1, 1, 1, 0])
    whole = PreparedSet(torch.eye(3)[looks], torch.tensor([0, 0, 1, 1, 0, 1]), torch.ones(6), 2)
    support = with_last_as_label_texts(whole, 2)
    assert model.start(slow, support).support.weights.tolist() == [1, 1, 1, 1, 0, 0]
    right = with_last_as_label_texts(replace(whole, targets=torch.tensor([0, 0, 1, 1, 1, 0])), 2)
    assert min(model.start(slow, right).support.weights.tolist()) > 0
    # Without an example a class has nothing but its text
    alone = replace(support, inputs=support.inputs[2:], targets=support.targets[2:], weights=torch.ones(2))
    assert min(model.start(slow, alone).support.weights.tolist()) > 0
    # And it is adapted and answers as without the texts
    adapted = _adapted(model, slow, support, steps=3)
    examples = PreparedSet(support.inputs[:4], support.targets[:4], torch.ones(4), 2)
    expected = model.outputs(slow, _adapted(model, slow, examples, steps=3), torch.eye(3))
    torch.testing.assert_close(model.outputs(slow, adapted, torch.eye(3)), expected, atol=1e-5, rtol=1e-4)


def test_slow_weights_of_the_prior_carry_its_name() -> None:
    slow, without = with_prior().initial_slow_weights(steps=3), model_of().initial_slow_weights(steps=3)
    assert {name for name in slow if name.startswith("prior.")} == {"prior.log_weight", "prior.fade"}
    assert not [name for name in without if name.startswith("prior.")]


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("learner", LEARNERS)
def test_label_texts_get_the_priors_weight_at_the_start_and_in_every_step(
    learner: str, placement: PlacementName
) -> None:
    model, support = with_prior(learner, placement), with_label_texts()
    slow = slow_of(model) | {"prior.log_weight": torch.tensor(3.0).log(), "prior.fade": torch.tensor(0.5)}
    weights = [3 / 6**0.5, 3 / 2**0.5, 3.0]
    encoded = model.start(slow, support).support
    torch.testing.assert_close(encoded.weights, torch.tensor([1.0] * 6 + weights))
    # The very weights given by hand lead to the same place, and others elsewhere
    plain = replace(model, prior=None)
    found, expected = _adapted(model, slow, support), _adapted(plain, slow, settled(support, weights))
    other = _adapted(plain, slow, settled(support, [2.0] * 3))
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight, atol=1e-5, rtol=1e-5)
    assert any(float((found[name] - weight).abs().max()) > 1e-3 for name, weight in other.items())
    assert support.weights.tolist() == [1.0] * 6, "what was given is left as it is"


@pytest.mark.parametrize("placement", ["head", "full"])
@pytest.mark.parametrize("learner", LEARNERS)
def test_before_meta_training_a_labels_text_counts_two_examples(learner: str, placement: PlacementName) -> None:
    model, episode = with_prior(learner, placement), episode_of()
    initial = LabelTextPrior().initial_slow_weights()
    slow = slow_of(model) | {f"prior.{name}": weight for name, weight in initial.items()}
    support = with_label_texts()
    plain, twice = replace(model, prior=None), settled(support, [2.0] * 3)
    found = model.run_episode(slow, replace(episode, support=support), steps=3)
    expected = plain.run_episode(slow, replace(episode, support=twice), steps=3)
    torch.testing.assert_close(found.query_outputs, expected.query_outputs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.meta_loss, expected.meta_loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.support_features, expected.support_features)
    fast, plainly = _adapted(model, slow, support), _adapted(plain, slow, twice)
    for name, weight in plainly.items():
        torch.testing.assert_close(fast[name], weight, atol=1e-5, rtol=1e-5)


def test_a_class_without_examples_starts_at_its_labels_text() -> None:
    model, support = with_prior(), with_label_texts()
    slow = slow_of(model) | {"prior.log_weight": torch.tensor(0.3).log(), "prior.fade": torch.tensor(1.7)}
    fast, encoded, *_ = model.start(slow, support)
    means = class_means(encoded)
    torch.testing.assert_close(means[2], encoded.features[8])
    of_text = 0.3 / 2**1.7
    torch.testing.assert_close(means[1], (of_text * encoded.features[7] + encoded.features[5]) / (of_text + 1))
    counted = torch.stack([0.3 / 6**1.7 + torch.tensor(5.0), of_text + torch.tensor(1.0), torch.tensor(0.3)])
    torch.testing.assert_close(fast[HEAD_WEIGHT], rows_of_head(slow, means, counted))


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_label_texts_stand_among_the_examples_unless_every_step_reads_them_anew(placement: PlacementName) -> None:
    model, support = with_prior(placement=placement), with_label_texts((2, 1, 3, 1))
    slow = slow_of(model)
    start, encoded, *_ = model.start(slow, support)
    assert support.label_texts is not None
    examples, labels = (model.features(slow, start, each) for each in (support.inputs, support.label_texts.inputs))
    if placement == "head":
        moved_labels = shifted_label_texts(labels, support.label_texts.classes, examples, support.weighted_membership)
        assert float((moved_labels - labels).abs().max()) > 1e-2
        labels = moved_labels
    torch.testing.assert_close(encoded.features, torch.cat([examples, labels]))


def test_without_label_texts_the_prior_has_no_effect() -> None:
    model, episode = with_prior(), episode_of()
    slow = slow_of(model, grad=True)
    far = {**slow, "prior.log_weight": torch.tensor(9.0), "prior.fade": torch.tensor(-2.0)}
    found, moved_far = (model.run_episode(weights, episode, steps=3) for weights in (slow, far))
    assert torch.equal(found.meta_loss, moved_far.meta_loss)
    assert torch.equal(found.meta_loss, replace(model, prior=None).run_episode(slow, episode, steps=3).meta_loss)
    found.meta_loss.backward()
    assert slow["prior.log_weight"].grad is None
    assert slow["prior.fade"].grad is None


def test_without_a_prior_a_labels_text_counts_as_an_example() -> None:
    model, support = model_of(placement="head"), with_label_texts()
    slow = slow_of(model)
    encoded = model.start(slow, support).support
    assert encoded.weights.tolist() == [1.0] * 9


@pytest.mark.parametrize("splits", [1, 3])
@pytest.mark.parametrize("learner", SECOND_ORDER)
def test_an_episodes_gradient_reaches_what_label_texts_count(learner: str, splits: int) -> None:
    made = MetaModel(BODY, HeadOnly(), make_learner(learner), LabelTextPrior())
    slow = {name: weight.double() for name, weight in slow_of(made).items()}
    support, query = with_label_texts((5, 1, 2)), points(3, 2, 2)
    assert support.label_texts is not None
    texts = replace(support.label_texts, inputs=support.label_texts.inputs.double())
    support = replace(support, inputs=support.inputs.double(), weights=support.weights.double(), label_texts=texts)
    query = replace(query, inputs=query.inputs.double(), weights=query.weights.double())
    episode = PreparedEpisode(support, query)

    def loss(changed: Mapping[str, Tensor]) -> Tensor:
        return made.run_episode({**slow, **changed}, episode, steps=3, seed=2, splits=splits).meta_loss

    for name in ("prior.log_weight", "prior.fade"):
        leaf = slow[name].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss({name: leaf}), [leaf])
        step = 1e-5
        by_differences = (loss({name: slow[name] + step}) - loss({name: slow[name] - step})) / (2 * step)
        assert abs(float(gradient)) > 1e-6
        assert float(gradient) == pytest.approx(float(by_differences.detach()), rel=1e-4)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_joined_set_keeps_what_its_label_texts_count(placement: PlacementName) -> None:
    model, support, query = with_prior("reptile", placement), with_label_texts(), points(3, 4, 2)
    slow = slow_of(model) | {"prior.log_weight": torch.tensor(3.0).log(), "prior.fade": torch.tensor(0.5)}
    by_hand = settled(support, [3 / 6**0.5, 3 / 2**0.5, 3.0])
    found = model.run_episode(slow, PreparedEpisode(support, query), steps=3)
    expected = replace(model, prior=None).run_episode(slow, PreparedEpisode(by_hand, query), steps=3)
    torch.testing.assert_close(found.query_outputs, expected.query_outputs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.meta_loss, expected.meta_loss, atol=1e-5, rtol=1e-5)
    assert found.support_features.shape[0] == 9
    # As a learner sees it: examples, then label texts, then queries
    joined = PreparedSet(
        torch.cat([by_hand.inputs, query.inputs]),
        torch.cat([by_hand.targets, query.targets]),
        torch.cat([by_hand.weights, query.weights]),
        3,
    )
    whole = _adapted(replace(model, prior=None), slow, joined)
    torch.testing.assert_close(found.query_outputs, model.outputs(slow, whole, query.inputs), atol=1e-5, rtol=1e-5)


# --- an episode divided anew ------------------------------------------------------------------------------------------

DIVIDED = [name for name in sorted(LEARNERS_BY_NAME) if not make_learner(name).joins_query]


def divisible(seed: int = 0) -> PreparedEpisode:
    """Examples of three classes, their labels' texts, and queries of which two are out of scope."""
    query = points(3, 4, seed + 1)
    targets = query.targets.clone()
    targets[[2, 7]] = OUT_OF_SCOPE
    return PreparedEpisode(with_label_texts((3, 1, 2), seed), replace(query, targets=targets), "a task", "tests")


def divided(episode: PreparedEpisode, *, seed: int, split: int) -> PreparedEpisode:
    """The episode with its texts in other places, by hand."""
    rows = _split_rows(episode.support, episode.query, seed=seed, split=split).tolist()
    n_support = len(episode.support.targets)
    inputs = [*episode.support.inputs, *episode.query.inputs]
    targets = [*episode.support.targets, *episode.query.targets]

    def part(which: PreparedSet, places: list[int]) -> PreparedSet:
        moved_inputs = torch.stack([inputs[place] for place in places])
        return replace(which, inputs=moved_inputs, targets=torch.stack([targets[place] for place in places]))

    return replace(
        episode,
        support=part(episode.support, rows[:n_support]),
        query=part(episode.query, rows[n_support:]),
    )


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**40), split=st.integers(0, 50))
def test_examples_change_places_within_their_class_alone(data: st.DataObject, seed: int, split: int) -> None:
    n_classes = data.draw(st.integers(1, 5))
    a_class = st.integers(0, n_classes - 1)
    examples = data.draw(st.lists(a_class, min_size=1, max_size=12))
    queries = data.draw(st.lists(st.integers(OUT_OF_SCOPE, n_classes - 1), min_size=1, max_size=12))

    def labelled(targets: list[int]) -> PreparedSet:
        rows = len(targets)
        return PreparedSet(torch.zeros(rows, 1), torch.tensor(targets), torch.ones(rows), n_classes)

    support, query = labelled(examples), labelled(queries)
    rows = _split_rows(support, query, seed=seed, split=split).tolist()
    targets = [*support.targets.tolist(), *queries]
    assert sorted(rows) == list(range(len(targets))), "every text has one place"
    assert [targets[row] for row in rows] == targets, "and every place a text of its class"
    fixed = [len(examples) + i for i, target in enumerate(queries) if target == OUT_OF_SCOPE]
    assert all(rows[place] == place for place in fixed)
    if split == 0:
        assert rows == list(range(len(targets)))
    assert rows == _split_rows(support, query, seed=seed, split=split).tolist()


def test_every_example_stands_in_the_support_set_as_often_as_any_other_of_its_class() -> None:
    episode = divisible()
    targets = torch.cat([episode.support.targets, episode.query.targets])
    often = torch.zeros(len(targets))
    orders = set()
    for split in range(1, 2001):
        rows = _split_rows(episode.support, episode.query, seed=3, split=split)
        often[rows[:6]] += 1 / 2000
        orders.add(tuple(rows.tolist()))
    # Class k has (3, 1, 2)[k] places in the support set for its examples and queries together
    for k, places in enumerate((3, 1, 2)):
        own = [i for i in range(len(targets)) if targets[i] == k]
        torch.testing.assert_close(often[own], torch.full((len(own),), places / len(own)), atol=0.05, rtol=0)
    assert len(orders) > 1500


@pytest.mark.parametrize(
    ("learner", "batch_size"), [*((learner, None) for learner in DIVIDED), ("protomaml", 3), ("maml", 3)]
)
def test_splits_give_the_mean_loss_and_gradient_of_the_episodes_divided_by_hand(
    learner: str, batch_size: int | None
) -> None:
    model, episode = MetaModel(BODY, HeadOnly(), make_learner(learner), LabelTextPrior()), divisible()
    if batch_size:  # then each split draws its own mini-batches
        model = replace(model, learner=replace(model.learner, rule=minibatch_gradient_descent(batch_size)))
    slow = slow_of(model, grad=True)
    found = model.run_episode(slow, episode, steps=3, seed=11, splits=4)
    by_hand = [
        model.run_episode(slow, divided(episode, seed=11, split=split), steps=3, seed=11 + (split << 32))
        for split in range(4)
    ]
    losses = torch.stack([result.meta_loss for result in by_hand])
    assert float(losses.detach().std()) > 1e-4, "else nothing was divided anew"
    torch.testing.assert_close(found.meta_loss, losses.mean(), atol=1e-5, rtol=1e-5)
    ours, expected = (
        torch.autograd.grad(loss, list(slow.values()), materialize_grads=True)
        for loss in (found.meta_loss, losses.mean())
    )
    for gradient, by_parts in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, by_parts, atol=2e-4, rtol=1e-3)
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in ours)
    # All but the loss is of the episode as it came
    for ours_, theirs in zip(found[1:], by_hand[0][1:], strict=True):
        torch.testing.assert_close(ours_, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("learner", DIVIDED)
def test_one_split_is_the_episode_as_it_came(learner: str) -> None:
    model, episode = MetaModel(BODY, HeadOnly(), make_learner(learner), LabelTextPrior()), divisible()
    slow = slow_of(model)
    found = model.run_episode(slow, episode, steps=3, seed=11, splits=1)
    expected = model.run_episode(slow, episode, steps=3, seed=11)
    again = model._run_splits(slow, episode, steps=3, seed=11, splits=1)
    for ours, theirs, other in zip(found, expected, again, strict=True):
        assert torch.equal(ours, theirs)
        torch.testing.assert_close(other, theirs, atol=1e-5, rtol=1e-5)


def test_splits_share_one_encoding() -> None:
    body = _Counting()
    model = replace(with_prior(), body=body)
    model.run_episode(slow_of(model), divisible(), steps=5, splits=7)
    assert body.calls == [9 + 12]


@pytest.mark.parametrize(
    ("learner", "placement", "objective"),
    [
        *(("protomaml", placement, "classification") for placement in DEEP),
        *(("reptile", placement, "classification") for placement in PLACEMENTS),
        ("protomaml", "head", "multi_label"),
        ("maml", "head", "multi_label"),
        ("maml", "head", "regression"),
    ],
)
def test_what_cannot_be_divided_anew_is_run_as_it_came(
    learner: str, placement: PlacementName, objective: Objective
) -> None:
    model, episode = model_of(learner, placement), episode_of(objective=objective)
    slow = slow_of(model)
    found, expected = (model.run_episode(slow, episode, steps=2, seed=4, splits=splits) for splits in (5, 1))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_what_a_learner_does_not_do_is_refused_whatever_the_splits() -> None:
    model = model_of("protomaml", "head")
    with pytest.raises(UnsupportedObjective, match="regression"):
        model.run_episode(slow_of(model), episode_of(objective="regression"), steps=1, splits=3)


@pytest.mark.parametrize("learner", ["protomaml", "maml", "ridge"])
def test_the_same_seed_divides_an_episode_alike(learner: str) -> None:
    model, episode = MetaModel(BODY, HeadOnly(), make_learner(learner), LabelTextPrior()), divisible()
    if model.learner.descends:
        model = replace(model, learner=replace(model.learner, rule=minibatch_gradient_descent(4)))
    slow = slow_of(model)
    first, again, other = (model.run_episode(slow, episode, steps=3, seed=s, splits=3).meta_loss for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("learner", DIVIDED)
def test_a_divided_episode_changes_nothing_that_is_given(learner: str) -> None:
    model, episode = MetaModel(BODY, HeadOnly(), make_learner(learner), LabelTextPrior()), divisible()
    slow = slow_of(model, grad=True)
    tensors = [*slow.values(), *(t for part in (episode.support, episode.query) for t in _tensors(part))]
    before, versions = [tensor.detach().clone() for tensor in tensors], [tensor._version for tensor in tensors]
    model.run_episode(slow, episode, steps=3, splits=3).meta_loss.backward()
    assert [tensor._version for tensor in tensors] == versions
    assert all(torch.equal(tensor.detach(), old) for tensor, old in zip(tensors, before, strict=True))


# --- temperature ------------------------------------------------------------------------------------------------------


def calibrated(learner: str, placement: PlacementName = "head") -> tuple[MetaModel, dict[str, Tensor]]:
    """A model with a temperature, and slow weights under which it is exp(0.3) (1 + shots)^0.5 ways^-0.25."""
    model = replace(model_of(learner, placement), calibrated=True)
    fitted = {"log_temperature": 0.3, "per_log_shot": 0.5, "per_log_way": -0.25}
    return model, slow_of(model) | {f"calibration.{name}": torch.tensor(number) for name, number in fitted.items()}


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_answers_are_under_the_temperature_of_their_shots_and_ways(placement: PlacementName) -> None:
    model, slow = calibrated("protomaml", placement)
    for n_classes, per_class in ((3, 2), (5, 4)):
        support, queries = points(n_classes, per_class, 1), points(n_classes, 3, 2).inputs
        support = replace(support, weights=torch.ones(n_classes * per_class))  # a shot counts its weight
        adapted = _adapted(model, slow, support)
        before = {name: weight.clone() for name, weight in adapted.items()}
        answering = model.answering(slow, adapted, support)
        assert all(torch.equal(adapted[name], weight) for name, weight in before.items())
        expected = model.outputs(slow, adapted, queries) / (math.exp(0.3) * (1 + per_class) ** 0.5 * n_classes**-0.25)
        found = model.outputs(slow, answering, queries)
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
        assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))


def test_a_temperature_that_was_not_fitted_changes_nothing() -> None:
    model = replace(model_of("protomaml", "full"), calibrated=True)
    slow, support = model.initial_slow_weights(steps=3), points(3, 2, 1)
    assert slow.keys() - model_of("protomaml", "full").initial_slow_weights(steps=3).keys() == {
        "calibration.log_temperature",
        "calibration.per_log_shot",
        "calibration.per_log_way",
    }
    adapted = _adapted(model, slow, support)
    answering = model.answering(slow, adapted, support)
    assert answering.keys() == adapted.keys()
    assert all(torch.equal(answering[name], weight) for name, weight in adapted.items())


@pytest.mark.parametrize("objective", ["multi_label", "regression"])
def test_only_classification_has_a_temperature(objective: Objective) -> None:
    model, slow = calibrated("maml")
    support = points(3, 2, 1, objective)
    adapted = _adapted(model, slow, support)
    assert model.answering(slow, adapted, support) is adapted


@pytest.mark.parametrize("learner", sorted(LEARNERS_BY_NAME))
def test_only_a_linear_head_has_a_temperature(learner: str, encoder: Encoder) -> None:
    model = make_text_model(ModelSpec(learner), encoder)
    assert isinstance(model.body, TextBody)
    assert model.calibrated is model.learner.linear_head
    slow = model.initial_slow_weights(steps=2)
    assert any(name.startswith("calibration.") for name in slow) is model.learner.linear_head
    slow |= {name: torch.tensor(0.5) for name in slow if name.startswith("calibration.")}
    inputs = model.body.prepare(_tokenized(encoder)[:6])
    support = PreparedSet(inputs, torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(6), 3)
    adapted = _adapted(model, slow, support, steps=2)
    answering = model.answering(slow, adapted, support)
    assert (answering is adapted) is not model.learner.linear_head
    logits, divided = (model.outputs(slow, fast, inputs) for fast in (adapted, answering))
    divisor = math.exp(0.5) * 3**0.5 * 3**0.5 if model.learner.linear_head else 1
    torch.testing.assert_close(divided, logits / divisor, atol=1e-5, rtol=1e-5)


def test_label_texts_are_no_shots() -> None:
    whole = PreparedSet(torch.zeros(9, 3), torch.tensor([0, 0, 1, 1, 2, 2, 0, 1, 2]), torch.ones(9), 3)
    by_number = {n: with_last_as_label_texts(whole, n) for n in (0, 2, 3, 9)}
    assert [support.shots for support in by_number.values()] == [3, pytest.approx(7 / 3), 2, 0]
    model, slow = calibrated("protomaml")
    adapted = _adapted(model, slow, by_number[3])
    for label_texts, shots in ((0, 3), (3, 2), (9, 0)):
        found = model.answering(slow, adapted, by_number[label_texts])
        divisor = math.exp(0.3) * (1 + shots) ** 0.5 * 3**-0.25
        torch.testing.assert_close(found[HEAD_BIAS], adapted[HEAD_BIAS] / divisor)


def test_meta_training_neither_sees_nor_moves_the_temperature() -> None:
    model, slow = calibrated("protomaml")
    slow = {name: weight.requires_grad_() for name, weight in slow.items()}
    result = model.run_episode(slow, episode_of(), steps=3)
    plain = replace(model, calibrated=False).run_episode(slow, episode_of(), steps=3)
    assert torch.equal(result.query_outputs, plain.query_outputs)
    result.meta_loss.backward()
    assert all(slow[name].grad is None for name in slow if name.startswith("calibration."))


# --- texts ------------------------------------------------------------------------------------------------------------

TEXTS = (
    "why?",
    "My card has not arrived, although I ordered it more than three weeks ago and was told to expect it within one.",
    "a fee I do not recognise",
    "virtual card",
    "Where on earth do I find the virtual card that your advertisement promises?",
    "no",
    "Is there a fee for topping up by bank transfer, and if so, how is it worked out?",
)


def _tokenized(encoder: Encoder, texts: tuple[str, ...] = TEXTS) -> list[Any]:
    return encoder.tokenize([TextInput(text) for text in texts])


@pytest.mark.parametrize("layers", [0, 1])
def test_the_order_of_texts_is_the_order_of_features(layers: int, encoder: Encoder) -> None:
    body = TextBody(encoder, layers, max_batch_tokens=60)
    tokenized, weights = _tokenized(encoder), body.initial_weights(drawn())
    order = torch.randperm(len(tokenized), generator=drawn(4)).tolist()
    found = body.features(weights, body.prepare([tokenized[i] for i in order]))
    torch.testing.assert_close(found, body.features(weights, body.prepare(tokenized))[order], atol=1e-5, rtol=0)


@pytest.mark.parametrize("split", [1, 3, 6])
@pytest.mark.parametrize("layers", [0, 1, 2])
def test_concatenated_texts_have_the_features_of_both(layers: int, split: int, encoder: Encoder) -> None:
    body = TextBody(encoder, layers, max_batch_tokens=60)
    tokenized = _tokenized(encoder)
    weights = moved(body.initial_weights(drawn()), by=0.05)
    first, second = body.prepare(tokenized[:split]), body.prepare(tokenized[split:])
    found = body.features(weights, body.concatenated(first, second))
    separate = torch.cat([body.features(weights, each) for each in (first, second)])
    assert torch.equal(found, separate)
    torch.testing.assert_close(found, body.features(weights, body.prepare(tokenized)), atol=1e-5, rtol=0)


def test_texts_concatenated_again_and_again_keep_their_order(encoder: Encoder) -> None:
    body = TextBody(encoder, 1, max_batch_tokens=60)
    tokenized, weights = _tokenized(encoder), body.initial_weights(drawn())
    joined = body.prepare(tokenized[:2])
    for start, end in ((2, 3), (3, 7)):
        joined = body.concatenated(joined, body.prepare(tokenized[start:end]))
    torch.testing.assert_close(
        body.features(weights, joined), body.features(weights, body.prepare(tokenized)), atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_text_model_adapts_without_touching_its_encoder(placement: PlacementName, encoder: Encoder) -> None:
    body = TextBody(encoder, 1, max_batch_tokens=60)
    model = MetaModel(body, make_placement(placement, layers=1, rank=2), make_learner("protomaml"))
    tokenized, before = _tokenized(encoder), encoder.encode_batch(_tokenized(encoder))
    slow = {name: weight.requires_grad_() for name, weight in model.initial_slow_weights(steps=2).items()}
    support = PreparedSet(body.prepare(tokenized[:6]), torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(6), 3)
    query = PreparedSet(body.prepare(tokenized[6:]), torch.tensor([1]), torch.ones(1), 3)
    model.run_episode(slow, PreparedEpisode(support, query), steps=2).meta_loss.backward()
    assert any(float(slow[name].grad.abs().max()) > 0 for name in slow if name.startswith("body."))
    assert torch.equal(encoder.encode_batch(tokenized), before)
    losses = collect(model.adapt(slow, support, model.start(slow, support), steps=5, learning_rate=0.2)).losses
    assert float(losses[-1]) < float(losses[0])


@dataclass(frozen=True)
class WithoutClosedForm(GradientLearner):
    """A learner whose gradients come of a graph, not of a closed form."""

    def head_gradients(self, support: EncodedSet) -> Gradients | None:
        return None


@pytest.mark.parametrize("order", ["detached", "first"])
@pytest.mark.parametrize("rule", ["gradient_descent", "adam", "minibatch_sgd"])
@pytest.mark.parametrize("objective", ["classification", "multi_label"])
def test_a_head_alone_moves_the_same_way_by_its_closed_form(rule: str, objective: Objective, order: Order) -> None:
    model = model_of("protomaml", "head", 0, update_rule=rule)
    assert isinstance(model.learner, GradientLearner)
    plain = replace(model, learner=WithoutClosedForm(**vars(model.learner)))
    support = points(3, 4, seed=1, objective=objective)
    results = []
    for each in (model, plain):
        slow = slow_of(each, grad=True)
        start = each.start(slow, support)
        states = list(each.adapt(slow, support, start, steps=4, order=order, seed=5))
        rates = torch.zeros(())
        if order == "first":  # the rate's gradient goes through every step, and not through the inner gradients
            last = states[-1].fast_weights[HEAD_WEIGHT].square().sum()
            (rates,) = torch.autograd.grad(last, slow["learner.log_head_rate"])
            assert rates != 0
        results.append((states, rates))
    (found, rate), (expected, expected_rate) = results
    torch.testing.assert_close(rate, expected_rate)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.loss, theirs.loss)
        torch.testing.assert_close(ours.fast_weights, theirs.fast_weights)
