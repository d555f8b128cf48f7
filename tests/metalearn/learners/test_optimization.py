"""Learners that descend: where they start, at which rates they move, and what their meta-gradient is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.encoded_set import EncodedSet
from metalearn.errors import UnsupportedObjective
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.inner_loop import InnerLoopResult, collect
from metalearn.learners import LEARNERS, make_learner
from metalearn.learners.interface import LearnerOptions
from metalearn.learners.optimization import GradientLearner, class_means, proto_maml
from metalearn.meta_model import MetaModel
from metalearn.options import RateKind
from metalearn.placement import Full, HeadOnly
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.types import FastWeights
from tests.metalearn.conftest import clusters

NAMES = ["maml", "fomaml", "reptile", "anil", "metasgd", "protomaml"]
RATES = get_args(RateKind)
LEARNER_AND_RATES = [(name, rates) for name in NAMES for rates in RATES if name != "reptile" or rates == "fixed"]
"""Reptile learns no rates."""
UNTRAINED = LearnerOptions()

DEEP = {"layers.0.weight": torch.zeros(4, 8), "layers.0.bias": torch.zeros(4)}
"""Stands for fast weights below the head."""


def _slow(scale: float = 7.0, rate: float = 1.0) -> dict[str, Tensor]:
    return {
        "log_scale": torch.tensor(scale, dtype=torch.float64).log(),
        "log_head_rate": torch.tensor(rate, dtype=torch.float64).log(),
    }


def _prepared(encoded: EncodedSet) -> PreparedSet:
    return PreparedSet(encoded.features, encoded.targets, encoded.weights, encoded.n_classes, encoded.objective)


def _model(learner: GradientLearner, body: MlpBody | None = None) -> MetaModel:
    """On inputs that are the features, unless there is a body."""
    return MetaModel(body or MlpBody((8,)), Full(2) if body else HeadOnly(), learner)


def _adapt(
    learner: GradientLearner,
    slow: Mapping[str, Tensor],
    support: EncodedSet,
    *,
    steps: int,
    learning_rate: float | None = None,
) -> InnerLoopResult:
    """Adapts the head alone; ``slow`` without prefix."""
    model = _model(learner)
    named, prepared = {f"learner.{name}": weight for name, weight in slow.items()}, _prepared(support)
    start = model.start(named, prepared)
    return collect(model.adapt(named, prepared, start, steps=steps, learning_rate=learning_rate))


def _initial(learner: GradientLearner, dim: int = 8, *, deep: FastWeights | None = None, steps: int = 3) -> dict:
    return learner.initial_slow_weights(dim, deep or {}, steps=steps, draw=torch.Generator())


def _made(name: str, rates: str | None = None, **options: object) -> GradientLearner:
    learner = make_learner(name, LearnerOptions(rates=rates, **options))
    assert isinstance(learner, GradientLearner)
    return learner


# ---- ProtoMAML's start ---------------------------------------------------------------------------------------------


def test_before_meta_training_the_slow_weights_are_positive_numbers_kept_as_logarithms() -> None:
    learner, support = proto_maml(UNTRAINED), clusters(3, 2)
    slow = _initial(learner)
    assert slow.keys() == {"log_scale", "log_head_rate"}
    assert all(weight.shape == () and bool(weight.isfinite()) for weight in slow.values())
    doubled = {**slow, "log_scale": slow["log_scale"] + torch.tensor(2.0).log()}
    before, after = learner.start(slow, support), learner.start(doubled, support)
    torch.testing.assert_close(after[HEAD_WEIGHT], 2 * before[HEAD_WEIGHT])
    torch.testing.assert_close(after[HEAD_BIAS], 2 * before[HEAD_BIAS])


@pytest.mark.parametrize("scale", [0.5, 7.0, 30.0])
def test_without_steps_it_is_a_nearest_class_mean_classifier_where_no_mean_is_one_of_chance(scale: float) -> None:
    # by hand: two classes in the plane, means (1, 0) and (0, 2); for those of examples see test_unequal_classes.py
    support = EncodedSet(
        torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]], dtype=torch.float64),
        torch.tensor([0, 0, 1]),
        torch.ones(3, dtype=torch.float64),
        2,
        has_examples=False,
    )
    query = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-1.0, 3.0]], dtype=torch.float64)
    squared_distances = torch.tensor([[1.0, 4.0], [0.25, 3.25], [13.0, 2.0]], dtype=torch.float64)
    learner = proto_maml(UNTRAINED)
    found = learner.logits(learner.start(_slow(scale), support), query).log_softmax(dim=1)
    torch.testing.assert_close(found, (-scale * squared_distances).log_softmax(dim=1), atol=1e-10, rtol=0)


def test_without_steps_random_data_go_to_the_nearest_mean() -> None:
    support = replace(clusters(5, 3, dtype=torch.float64), has_examples=False)
    query = torch.randn(40, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    means = torch.stack([support.features[support.targets == k].mean(dim=0) for k in range(5)])
    learner = proto_maml(UNTRAINED)
    logits = learner.logits(learner.start(_slow(), support), query)
    expected = -7 * torch.cdist(query, means).square()
    torch.testing.assert_close(logits.log_softmax(dim=1), expected.log_softmax(dim=1), atol=1e-10, rtol=0)
    assert torch.equal(logits.argmax(dim=1), torch.cdist(query, means).argmin(dim=1))


def test_means_are_weighted() -> None:
    support = EncodedSet(
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0], [9.0, 9.0]]),
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([3.0, 1.0, 0.5, 0.0]),
        2,
    )
    torch.testing.assert_close(class_means(support), torch.tensor([[0.75, 0.25], [4.0, 4.0]]))


def test_a_text_of_two_classes_counts_in_the_mean_of_either() -> None:
    support = EncodedSet(
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]]),
        torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]),
        torch.tensor([3.0, 1.0, 1.0]),
        2,
        "multi_label",
    )
    torch.testing.assert_close(class_means(support), torch.tensor([[0.75, 0.25], [0.0, 1.0]]))


def test_scores_have_no_class_means() -> None:
    support = EncodedSet(torch.eye(2), torch.tensor([[1.0], [2.0]]), torch.ones(2), 1, "regression")
    with pytest.raises(UnsupportedObjective):
        class_means(support)
    for name in NAMES:
        assert ("regression" in _made(name).objectives) == (name != "protomaml")


def test_weighted_means_are_those_of_repeated_rows() -> None:
    support = clusters(4, 3, dtype=torch.float64)
    counts = torch.tensor([1, 2, 3] * 4)
    repeated = EncodedSet(
        support.features.repeat_interleave(counts, dim=0),
        support.targets.repeat_interleave(counts),
        torch.ones(int(counts.sum()), dtype=torch.float64),
        4,
    )
    weighted = EncodedSet(support.features, support.targets, counts.double(), 4)
    torch.testing.assert_close(class_means(weighted), class_means(repeated), atol=1e-12, rtol=0)


# ---- MAML's start --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMES if name != "protomaml"])
@pytest.mark.parametrize("n_classes", [2, 77])
def test_every_class_starts_from_one_learned_row(name: str, n_classes: int) -> None:
    learner = _made(name)
    row, bias = torch.arange(8.0), torch.tensor(0.5)
    start = learner.start({"head.row": row, "head.bias": bias}, clusters(n_classes, 1))
    assert torch.equal(start[HEAD_WEIGHT], row.repeat(n_classes, 1))
    assert torch.equal(start[HEAD_BIAS], bias.repeat(n_classes))


def test_a_common_row_means_nothing_to_a_softmax_and_much_to_a_sigmoid() -> None:
    # why maml, fomaml, anil and reptile teach the body alone where one class is asked for
    support, learner = clusters(3, 2, dtype=torch.float64), _made("maml")
    at_zero = {"head.row": torch.zeros(8).double(), "head.bias": torch.zeros(()).double()}
    elsewhere = {"head.row": torch.linspace(-2, 2, 8).double(), "head.bias": torch.tensor(3.0).double()}
    query = clusters(3, 4, seed=1, dtype=torch.float64).features
    for objective, same in (("classification", True), ("multi_label", False)):
        asked = support if same else replace(support, targets=support.membership, objective=objective)
        found = [
            learner.logits(_adapt(learner, slow, asked, steps=3).fast_weights, query).softmax(dim=1)
            for slow in (at_zero, elsewhere)
        ]
        assert torch.allclose(*found, atol=1e-10) == same


# ---- rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 5, 77])
def test_the_rate_grows_with_the_number_of_classes(n_classes: int) -> None:
    learner = proto_maml(UNTRAINED)
    fast = learner.start(_slow(rate=0.3), clusters(n_classes, 1))
    rates = learner.learning_rates(_slow(rate=0.3), fast, step=0, n_classes=n_classes)
    assert set(rates) == {HEAD_WEIGHT, HEAD_BIAS}
    for rate in rates.values():
        assert float(rate) == pytest.approx(0.3 * n_classes, rel=1e-6)


def test_a_requested_rate_takes_the_place_of_the_learned_one() -> None:
    learner = proto_maml(UNTRAINED)
    fast = learner.start(_slow(), clusters(5, 1))
    rates = learner.learning_rates(_slow(rate=0.3), fast, step=0, n_classes=5, base_rate=0.02)
    for rate in rates.values():
        assert float(rate) == pytest.approx(0.1, rel=1e-6)
    asked = _adapt(learner, _slow(rate=0.3), clusters(5, 2, dtype=torch.float64), steps=3, learning_rate=0.02)
    learned = _adapt(learner, _slow(rate=0.02), clusters(5, 2, dtype=torch.float64), steps=3)
    torch.testing.assert_close(asked.losses, learned.losses, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("name", "rates"), LEARNER_AND_RATES)
def test_a_rate_of_zero_stays_at_the_start(name: str, rates: str) -> None:
    learner, support = _made(name, rates), clusters(3, 2)
    slow = _initial(learner)
    result = _adapt(learner, slow, support, steps=3, learning_rate=0.0)
    start = learner.start(slow, support)
    assert all(torch.equal(result.fast_weights[weight], start[weight]) for weight in start)


@pytest.mark.parametrize(("name", "rates"), LEARNER_AND_RATES)
@pytest.mark.parametrize("deep", [{}, DEEP], ids=["head", "deep"])
def test_there_is_a_slow_weight_for_each_rate_that_is_learned(name: str, rates: str, deep: FastWeights) -> None:
    slow = _initial(_made(name, rates), deep=deep, steps=5)
    row = {"log_scale": ()} if name == "protomaml" else {"head.row": (8,), "head.bias": ()}
    shapes = {HEAD_WEIGHT: (8,), HEAD_BIAS: ()} | {each: tuple(weight.shape) for each, weight in deep.items()}
    expected = {
        "fixed": {},
        "learned": {"log_head_rate": ()} | ({"log_body_rate": ()} if deep else {}),
        "per_parameter": {f"rate.{each}": shape for each, shape in shapes.items()},
        "per_layer_per_step": {f"log_rate.{each}": (5,) for each in shapes},
    }[rates]
    assert {each: tuple(weight.shape) for each, weight in slow.items()} == row | expected
    assert all(bool(weight.isfinite().all()) for weight in slow.values())


@pytest.mark.parametrize(("name", "rates"), LEARNER_AND_RATES)
@pytest.mark.parametrize("base_rate", [None, 0.75])
def test_before_meta_training_the_rates_are_the_options(name: str, rates: str, base_rate: float | None) -> None:
    learner = _made(name, rates, head_rate=1.5, body_rate=0.2)
    slow = _initial(learner, deep=DEEP, steps=2)
    fast = {**DEEP, **learner.start(slow, clusters(3, 2))}
    for step in (0, 1, 7):  # a schedule's last rate holds for the steps beyond it
        found = learner.learning_rates(slow, fast, step=step, n_classes=3, base_rate=base_rate)
        assert set(found) == set(fast)
        for weight, rate in found.items():
            at_head = weight in (HEAD_WEIGHT, HEAD_BIAS)
            expected = 1.5 * 3 if at_head else 0.2
            expected *= 1 if base_rate is None else 0.5  # the rates below the head keep their proportion
            assert torch.broadcast_shapes(rate.shape, fast[weight].shape) == fast[weight].shape
            torch.testing.assert_close(rate, torch.full_like(rate, expected))


def test_each_kind_of_rate_is_read_from_its_own_slow_weights() -> None:
    fast = {**DEEP, HEAD_WEIGHT: torch.zeros(2, 8), HEAD_BIAS: torch.zeros(2)}

    def rates(kind: str, slow: Mapping[str, Tensor], step: int = 0) -> Mapping[str, Tensor]:
        return _made("maml", kind).learning_rates(slow, fast, step=step, n_classes=2)

    learned = rates("learned", {"log_head_rate": torch.tensor(3.0).log(), "log_body_rate": torch.tensor(0.5).log()})
    assert [float(rate) for rate in learned.values()] == pytest.approx([0.5, 0.5, 6.0, 6.0])
    own = {
        f"rate.{weight}": torch.full((8,) if weight == HEAD_WEIGHT else (), float(i)) for i, weight in enumerate(fast)
    }
    per_parameter = rates("per_parameter", own)
    assert [float(rate.mean()) for rate in per_parameter.values()] == [0.0, 1.0, 4.0, 6.0]
    schedules = {f"log_rate.{weight}": torch.tensor([1.0 + i, 10.0 + i]).log() for i, weight in enumerate(fast)}
    for step, first in ((0, 1.0), (1, 10.0), (2, 10.0)):
        found = [float(rate) for rate in rates("per_layer_per_step", schedules, step).values()]
        assert found == pytest.approx([first, first + 1, 2 * (first + 2), 2 * (first + 3)])


# ---- descent -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_classes", "per_class"), [(2, 1), (2, 8), (5, 5), (40, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_the_support_loss_falls_on_separable_data(name: str, n_classes: int, per_class: int) -> None:
    support = clusters(n_classes, per_class, dim=64, dtype=torch.float64)
    learner = _made(name, "fixed", head_rate=1.0)
    slow = {each: weight.double() for each, weight in _initial(learner, 64).items()}
    if name == "protomaml":  # a small scale, so that the start is unsure and has something to learn
        slow["log_scale"] = torch.zeros((), dtype=torch.float64)
    result = _adapt(learner, slow, support, steps=20)
    assert result.losses.shape == (21,)
    assert bool((result.losses[1:] < result.losses[:-1]).all())
    assert float(result.losses[-1]) < 0.9 * float(result.losses[0])
    assert torch.equal(learner.logits(result.fast_weights, support.features).argmax(dim=1), support.targets)


@pytest.mark.parametrize(("name", "rates"), LEARNER_AND_RATES)
def test_all_rates_start_at_the_same_descent(name: str, rates: str) -> None:
    support = clusters(5, 3, dtype=torch.float64)
    learner, fixed = _made(name, rates), _made(name, "fixed")
    slow, plain = ({each: w.double() for each, w in _initial(which).items()} for which in (learner, fixed))
    found, expected = _adapt(learner, slow, support, steps=5), _adapt(fixed, plain, support, steps=5)
    torch.testing.assert_close(found.losses, expected.losses, atol=1e-6, rtol=0)
    assert float(found.losses[-1]) < float(found.losses[0])


@pytest.mark.parametrize("name", NAMES)
def test_classes_of_unequal_size_are_all_learned(name: str) -> None:
    draw = torch.Generator().manual_seed(2)
    centres = torch.nn.functional.normalize(torch.randn(3, 32, generator=draw), dim=1)
    targets = torch.tensor([0] * 30 + [1] * 4 + [2])
    features = torch.nn.functional.normalize(centres[targets] + 0.1 * torch.randn(35, 32, generator=draw), dim=1)
    support = EncodedSet(features, targets, torch.ones(35), 3)
    learner = _made(name)
    result = _adapt(learner, _initial(learner, 32), support, steps=20)
    assert torch.equal(learner.logits(result.fast_weights, features).argmax(dim=1), targets)
    assert result.losses[-1] < result.losses[0]


# ---- meta-gradients ------------------------------------------------------------------------------------------------


def test_the_meta_gradient_of_scale_and_rate_equals_finite_differences() -> None:
    support, query = clusters(3, 2, seed=1, dtype=torch.float64), clusters(3, 4, seed=1, dtype=torch.float64)
    model, episode = _model(proto_maml(UNTRAINED)), PreparedEpisode(_prepared(support), _prepared(query))

    def query_loss(log_scale: Tensor, log_rate: Tensor) -> Tensor:
        slow = {"learner.log_scale": log_scale, "learner.log_head_rate": log_rate}
        return model.run_episode(slow, episode, steps=3).meta_loss

    at = [torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)]
    leaves = [each.clone().requires_grad_() for each in at]
    found = torch.autograd.grad(query_loss(*leaves), leaves)
    h = 1e-5
    for which, gradient in enumerate(found):
        ends = []
        for sign in (1, -1):
            moved = list(at)
            moved[which] = at[which] + sign * h
            ends.append(query_loss(*moved).detach())
        expected = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)
        assert abs(float(expected)) > 1e-3


def _episode(objective: str = "classification") -> PreparedEpisode:
    support, query = clusters(3, 2, seed=1, dtype=torch.float64), clusters(3, 4, seed=1, dtype=torch.float64)
    if objective == "multi_label":
        support, query = (replace(each, targets=each.membership, objective=objective) for each in (support, query))
    return PreparedEpisode(_prepared(support), _prepared(query))


def _double(model: MetaModel) -> dict[str, Tensor]:
    return {name: weight.double() for name, weight in model.initial_slow_weights(steps=3).items()}


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"fomaml", "reptile"}])
@pytest.mark.parametrize("rates", RATES)
def test_the_meta_gradient_with_a_fast_body_equals_finite_differences(name: str, rates: str) -> None:
    model, episode = _model(_made(name, rates, head_rate=0.5), MlpBody((8, 6, 4))), _episode("multi_label")
    slow = _double(model)
    leaves = {each: weight.clone().requires_grad_() for each, weight in slow.items()}
    loss = model.run_episode(leaves, episode, steps=3).meta_loss
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    draw, h = torch.Generator().manual_seed(7), 1e-6
    for (each, weight), gradient in zip(slow.items(), gradients, strict=True):
        direction = torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
        ends = [
            model.run_episode({**slow, each: weight + sign * h * direction}, episode, steps=3).meta_loss.detach()
            for sign in (1, -1)
        ]
        expected = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-8)
        assert float(gradient.norm()) > 1e-7


def test_the_first_order_meta_gradient_takes_the_inner_gradients_as_constants() -> None:
    # w_k = w_0 - rate * sum of g: with the g constant, the row gets the gradient at w_k, summed over the classes, and
    # the logarithm of the rate gets (gradient at w_k) . (w_k - w_0)
    model, episode = _model(_made("fomaml", "learned", head_rate=0.5)), _episode("multi_label")
    slow = {each: weight.requires_grad_() for each, weight in _double(model).items()}
    names = ["learner.head.row", "learner.head.bias", "learner.log_head_rate"]
    loss = model.run_episode(slow, episode, steps=3).meta_loss
    row, bias, log_rate = torch.autograd.grad(loss, [slow[each] for each in names])

    begun = model.start(slow, episode.support)
    adapted = collect(model.adapt(slow, episode.support, begun, steps=3)).fast_weights
    at = {each: weight.detach().requires_grad_() for each, weight in adapted.items()}
    query = episode.query.encoded(episode.query.inputs)
    by_weight = dict(
        zip(at, torch.autograd.grad(model.learner.support_loss(at, query), list(at.values())), strict=True)
    )
    torch.testing.assert_close(row, by_weight[HEAD_WEIGHT].sum(dim=0), atol=1e-10, rtol=0)
    torch.testing.assert_close(bias, by_weight[HEAD_BIAS].sum(), atol=1e-10, rtol=0)
    moved = sum((by_weight[each] * (at[each] - begun[0][each])).sum() for each in at)
    torch.testing.assert_close(log_rate, torch.as_tensor(moved).detach(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("body", [None, MlpBody((8, 6, 4))], ids=["head", "body"])
def test_reptile_moves_the_start_to_where_the_steps_on_both_sets_lead(body: MlpBody | None) -> None:
    model, episode = _model(_made("reptile"), body), _episode("multi_label")
    slow = {each: weight.requires_grad_() for each, weight in _double(model).items()}
    result = model.run_episode(slow, episode, steps=3)
    gradients = torch.autograd.grad(result.meta_loss, list(slow.values()))
    found = dict(zip(slow, gradients, strict=True))

    support, query = episode.support, episode.query
    joined = PreparedSet(
        torch.cat([support.inputs, query.inputs]),
        torch.cat([support.targets, query.targets]),
        torch.cat([support.weights, query.weights]),
        3,
        "multi_label",
    )
    begun = model.start(slow, joined)
    adapted = collect(model.adapt(slow, joined, begun, steps=3)).fast_weights
    moved = {each: (begun[0][each] - weight).detach() for each, weight in adapted.items()}
    torch.testing.assert_close(found["learner.head.row"], moved[HEAD_WEIGHT].sum(dim=0), atol=1e-10, rtol=0)
    torch.testing.assert_close(found["learner.head.bias"], moved[HEAD_BIAS].sum(), atol=1e-10, rtol=0)
    for each, gradient in found.items():
        if each.startswith("body."):
            torch.testing.assert_close(gradient, moved[each.removeprefix("body.")], atol=1e-10, rtol=0)
            assert float(gradient.norm()) > 1e-6


def test_learners_are_listed_here_that_are_registered() -> None:
    assert {name for name in LEARNERS if make_learner(name).descends} == set(NAMES)
