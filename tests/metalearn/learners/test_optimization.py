"""ProtoMAML starts as nearest class mean, and descends from there."""

import pytest
import torch
from torch import Tensor

from metalearn.adaptation import adaptation_steps
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.inner_loop import collect
from metalearn.learners.optimization import ProtoMaml, class_means
from metalearn.types import SupportFeatures
from tests.metalearn.conftest import clusters


def _slow(scale: float = 7.0, rate: float = 1.0) -> dict[str, Tensor]:
    return {
        "log_scale": torch.tensor(scale, dtype=torch.float64).log(),
        "log_learning_rate": torch.tensor(rate, dtype=torch.float64).log(),
    }


def test_before_meta_training_the_slow_weights_are_positive_numbers_kept_as_logarithms() -> None:
    learner, support = ProtoMaml(), clusters(3, 2)
    slow = learner.initial_slow_weights()
    assert slow.keys() == {"log_scale", "log_learning_rate"}
    assert all(weight.shape == () and bool(weight.isfinite()) for weight in slow.values())
    doubled = {**slow, "log_scale": slow["log_scale"] + torch.tensor(2.0).log()}
    before, after = learner.start(slow, support), learner.start(doubled, support)
    torch.testing.assert_close(after[HEAD_WEIGHT], 2 * before[HEAD_WEIGHT])
    torch.testing.assert_close(after[HEAD_BIAS], 2 * before[HEAD_BIAS])


@pytest.mark.parametrize("scale", [0.5, 7.0, 30.0])
def test_without_steps_it_is_a_nearest_class_mean_classifier(scale: float) -> None:
    # by hand: two classes in the plane, means (1, 0) and (0, 2)
    support = SupportFeatures(
        torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 2.0]], dtype=torch.float64),
        torch.tensor([0, 0, 1]),
        torch.ones(3, dtype=torch.float64),
        2,
    )
    query = torch.tensor([[0.0, 0.0], [1.0, 0.5], [-1.0, 3.0]], dtype=torch.float64)
    squared_distances = torch.tensor([[1.0, 4.0], [0.25, 3.25], [13.0, 2.0]], dtype=torch.float64)
    learner = ProtoMaml()
    fast = collect(adaptation_steps(learner, _slow(scale), support, steps=0)).fast_weights
    found = learner.logits(fast, query).log_softmax(dim=1)
    torch.testing.assert_close(found, (-scale * squared_distances).log_softmax(dim=1), atol=1e-10, rtol=0)


def test_without_steps_random_data_go_to_the_nearest_mean() -> None:
    support = clusters(5, 3, dtype=torch.float64)
    query = torch.randn(40, 8, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    means = torch.stack([support.features[support.targets == k].mean(dim=0) for k in range(5)])
    learner = ProtoMaml()
    logits = learner.logits(learner.start(_slow(), support), query)
    expected = -7 * torch.cdist(query, means).square()
    torch.testing.assert_close(logits.log_softmax(dim=1), expected.log_softmax(dim=1), atol=1e-10, rtol=0)
    assert torch.equal(logits.argmax(dim=1), torch.cdist(query, means).argmin(dim=1))


def test_means_are_weighted() -> None:
    support = SupportFeatures(
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0], [9.0, 9.0]]),
        torch.tensor([0, 0, 1, 1]),
        torch.tensor([3.0, 1.0, 0.5, 0.0]),
        2,
    )
    torch.testing.assert_close(class_means(support), torch.tensor([[0.75, 0.25], [4.0, 4.0]]))


def test_weighted_means_are_those_of_repeated_rows() -> None:
    support = clusters(4, 3, dtype=torch.float64)
    counts = torch.tensor([1, 2, 3] * 4)
    repeated = SupportFeatures(
        support.features.repeat_interleave(counts, dim=0),
        support.targets.repeat_interleave(counts),
        torch.ones(int(counts.sum()), dtype=torch.float64),
        4,
    )
    weighted = SupportFeatures(support.features, support.targets, counts.double(), 4)
    torch.testing.assert_close(class_means(weighted), class_means(repeated), atol=1e-12, rtol=0)


@pytest.mark.parametrize("n_classes", [2, 5, 77])
def test_the_rate_grows_with_the_number_of_classes(n_classes: int) -> None:
    rates = ProtoMaml().learning_rates(_slow(rate=0.3), clusters(n_classes, 1))
    assert set(rates) == {HEAD_WEIGHT, HEAD_BIAS}
    for rate in rates.values():
        assert float(rate) == pytest.approx(0.3 * n_classes, rel=1e-6)


def test_a_requested_rate_takes_the_place_of_the_learned_one() -> None:
    rates = ProtoMaml().learning_rates(_slow(rate=0.3), clusters(5, 1), base_rate=0.02)
    for rate in rates.values():
        assert float(rate) == pytest.approx(0.1, rel=1e-6)
    asked = collect(adaptation_steps(ProtoMaml(), _slow(rate=0.3), clusters(5, 2), steps=3, learning_rate=0.02))
    learned = collect(adaptation_steps(ProtoMaml(), _slow(rate=0.02), clusters(5, 2), steps=3))
    torch.testing.assert_close(asked.losses, learned.losses, atol=1e-6, rtol=0)


def test_a_rate_of_zero_stays_at_the_start() -> None:
    result = collect(adaptation_steps(ProtoMaml(), _slow(), clusters(3, 2), steps=3, learning_rate=0.0))
    start = ProtoMaml().start(_slow(), clusters(3, 2))
    assert all(torch.equal(result.fast_weights[name], start[name]) for name in start)


@pytest.mark.parametrize(("n_classes", "per_class"), [(2, 1), (2, 8), (5, 5), (40, 3)])
def test_the_support_loss_falls_on_separable_data(n_classes: int, per_class: int) -> None:
    support = clusters(n_classes, per_class, dim=64, dtype=torch.float64)
    learner = ProtoMaml()
    # a small scale, so that the start is unsure and has something to learn
    result = collect(adaptation_steps(learner, _slow(scale=1.0), support, steps=20))
    assert result.losses.shape == (21,)
    assert bool((result.losses[1:] < result.losses[:-1]).all())
    assert float(result.losses[-1]) < 0.9 * float(result.losses[0])
    assert torch.equal(learner.logits(result.fast_weights, support.features).argmax(dim=1), support.targets)


def test_classes_of_unequal_size_are_all_learned() -> None:
    draw = torch.Generator().manual_seed(2)
    centres = torch.nn.functional.normalize(torch.randn(3, 32, generator=draw), dim=1)
    targets = torch.tensor([0] * 30 + [1] * 4 + [2])
    features = torch.nn.functional.normalize(centres[targets] + 0.1 * torch.randn(35, 32, generator=draw), dim=1)
    support = SupportFeatures(features, targets, torch.ones(35), 3)
    learner = ProtoMaml()
    result = collect(adaptation_steps(learner, learner.initial_slow_weights(), support, steps=20))
    assert torch.equal(learner.logits(result.fast_weights, features).argmax(dim=1), targets)
    assert result.losses[-1] < result.losses[0]


def test_the_meta_gradient_of_scale_and_rate_equals_finite_differences() -> None:
    support, query = clusters(3, 2, seed=1, dtype=torch.float64), clusters(3, 4, seed=1, dtype=torch.float64)
    learner = ProtoMaml()

    def query_loss(log_scale: Tensor, log_rate: Tensor, *, create_graph: bool) -> Tensor:
        slow = {"log_scale": log_scale, "log_learning_rate": log_rate}
        states = adaptation_steps(learner, slow, support, steps=3, create_graph=create_graph)
        return learner.support_loss(collect(states).fast_weights, query)

    at = [torch.tensor(0.4, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)]
    leaves = [each.clone().requires_grad_() for each in at]
    found = torch.autograd.grad(query_loss(*leaves, create_graph=True), leaves)
    h = 1e-5
    for which, gradient in enumerate(found):
        ends = []
        for sign in (1, -1):
            moved = list(at)
            moved[which] = at[which] + sign * h
            ends.append(query_loss(*moved, create_graph=False))
        expected = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=0)
        assert abs(float(expected)) > 1e-3
