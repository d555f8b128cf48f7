"""Losses by hand, by repetition, by naive loops, and against torch and scikit-learn."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.losses import (
    linear_head_gradients,
    supervised_contrastive,
    weighted_binary_cross_entropy,
    weighted_cross_entropy,
    weighted_mean_squared_error,
)
from metalearn.objectives import OBJECTIVES
from metalearn.types import OUT_OF_SCOPE

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

LOSSES: dict[str, Loss] = {
    "classification": weighted_cross_entropy,
    "multi_label": weighted_binary_cross_entropy,
    "regression": weighted_mean_squared_error,
}


def _case(objective: str, n_rows: int, n_columns: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits, and targets of the objective's kind; in classification some are out of scope."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n_rows, n_columns, generator=draw, dtype=torch.float64)
    if objective == "classification":
        return logits, torch.randint(OUT_OF_SCOPE, n_columns, (n_rows,), generator=draw)
    if objective == "multi_label":
        return logits, torch.randint(2, (n_rows, n_columns), generator=draw).double()
    return logits, torch.randn(n_rows, n_columns, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize("objective", LOSSES)
@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=10).filter(any),
    n_columns=st.integers(1, 6),
    scale=st.sampled_from([1.0, 0.25, 3.0]),
    seed=st.integers(0, 1000),
)
def test_a_weight_counts_like_repetition(
    objective: str, counts: list[int], n_columns: int, scale: float, seed: int
) -> None:
    logits, targets = _case(objective, len(counts), n_columns, seed)
    times = torch.tensor(counts)
    repeated, again = logits.repeat_interleave(times, dim=0), targets.repeat_interleave(times, dim=0)
    expected = LOSSES[objective](repeated, again, torch.ones(len(again), dtype=torch.float64))
    found = LOSSES[objective](logits, targets, times.double() * scale)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(1, 12), n_classes=st.integers(1, 6), seed=st.integers(0, 1000))
def test_rows_of_equal_weight_give_the_losses_of_torch(n_rows: int, n_classes: int, seed: int) -> None:
    weights = torch.full((n_rows,), 0.7, dtype=torch.float64)
    logits, targets = _case("classification", n_rows, n_classes, seed)
    # an outlier's target is a distribution; torch takes rows of probabilities as targets, too
    probabilities = torch.full_like(logits, 1 / n_classes)
    inside = targets != OUT_OF_SCOPE
    probabilities[inside] = torch.nn.functional.one_hot(targets[inside], n_classes).double()
    expected = torch.nn.functional.cross_entropy(logits, probabilities)
    torch.testing.assert_close(weighted_cross_entropy(logits, targets, weights), expected, atol=1e-12, rtol=0)
    logits, targets = _case("multi_label", n_rows, n_classes, seed)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(weighted_binary_cross_entropy(logits, targets, weights), expected, atol=1e-12, rtol=0)
    logits, targets = _case("regression", n_rows, n_classes, seed)
    expected = torch.nn.functional.mse_loss(logits, targets)
    torch.testing.assert_close(weighted_mean_squared_error(logits, targets, weights), expected, atol=1e-12, rtol=0)


def test_rows_in_scope_give_the_losses_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    weights = torch.rand(20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits, targets = _case("classification", 20, 4, seed=1)
    targets = targets.clamp_min(0)
    found = weighted_cross_entropy(logits, targets, weights)
    expected = metrics.log_loss(targets, logits.softmax(dim=1), sample_weight=weights, labels=range(4))
    assert float(found) == pytest.approx(expected, rel=1e-12)
    logits, targets = _case("regression", 20, 3, seed=2)
    found = weighted_mean_squared_error(logits, targets, weights)
    assert float(found) == pytest.approx(metrics.mean_squared_error(targets, logits, sample_weight=weights), rel=1e-12)
    logits, targets = _case("multi_label", 20, 3, seed=3)
    found = weighted_binary_cross_entropy(logits, targets, weights)
    per_class = [
        metrics.log_loss(targets[:, k], logits[:, k].sigmoid(), sample_weight=weights, labels=[0, 1]) for k in range(3)
    ]
    assert float(found) == pytest.approx(sum(per_class) / 3, rel=1e-12)


def test_cross_entropy_is_in_nats() -> None:
    even = weighted_cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 3]), torch.tensor([1.0, 2.0, 5.0]))
    assert float(even) == pytest.approx(math.log(4), rel=1e-6)
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    mixed = weighted_cross_entropy(logits, torch.tensor([0, 1]), torch.tensor([3.0, 1.0]))
    assert float(mixed) == pytest.approx((3 * math.log(4 / 3) + math.log(2)) / 4, rel=1e-6)


def test_a_row_out_of_scope_is_drawn_to_the_uniform_distribution() -> None:
    # p = (3/4, 1/4): to the uniform distribution -(log 3/4 + log 1/4) / 2; to class 0 -log 3/4
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), 0.0]], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor([1.0, 3.0], dtype=torch.float64)
    outside = -(math.log(3 / 4) + math.log(1 / 4)) / 2
    found = weighted_cross_entropy(logits, torch.tensor([0, OUT_OF_SCOPE]), weights)
    assert float(found.detach()) == pytest.approx((math.log(4 / 3) + 3 * outside) / 4, rel=1e-12)
    (gradient,) = torch.autograd.grad(found, [logits])
    by_hand = torch.tensor([[3 / 4 - 1, 1 / 4], [3 * (3 / 4 - 1 / 2), 3 * (1 / 4 - 1 / 2)]], dtype=torch.float64) / 4
    torch.testing.assert_close(gradient, by_hand, atol=1e-12, rtol=0)
    even = torch.zeros(2, 5, requires_grad=True)
    least = weighted_cross_entropy(even, torch.tensor([OUT_OF_SCOPE, OUT_OF_SCOPE]), torch.ones(2))
    (gradient,) = torch.autograd.grad(least, [even])
    assert float(least.detach()) == pytest.approx(math.log(5), rel=1e-6)
    assert float(gradient.abs().max()) < 1e-7, "it can get no lower"


@pytest.mark.parametrize("target", [-2, -100, 4])
def test_no_other_target_is_without_a_class(target: int) -> None:
    with pytest.raises(IndexError):
        weighted_cross_entropy(torch.zeros(2, 4), torch.tensor([0, target]), torch.ones(2))


def test_mean_squared_error_by_hand() -> None:
    outputs = torch.tensor([[1.0, 2.0], [0.0, 0.0]])
    targets = torch.tensor([[0.0, 4.0], [3.0, -1.0]])
    found = weighted_mean_squared_error(outputs, targets, torch.tensor([1.0, 3.0]))
    assert float(found) == pytest.approx((1 * (1 + 4) / 2 + 3 * (9 + 1) / 2) / 4)


def test_binary_cross_entropy_by_hand() -> None:
    # sigmoid(log 3) = 3/4
    logits = torch.tensor([[math.log(3.0), 0.0], [math.log(3.0), -math.log(3.0)]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    found = weighted_binary_cross_entropy(logits, targets, torch.tensor([3.0, 1.0]))
    rows = ((math.log(4 / 3) + math.log(2)) / 2, (math.log(4) + math.log(4 / 3)) / 2)
    assert float(found) == pytest.approx((3 * rows[0] + rows[1]) / 4, rel=1e-6)


@pytest.mark.parametrize("objective", LOSSES)
def test_an_objective_has_its_loss(objective: str) -> None:
    logits, targets = _case(objective, 7, 3, seed=4)
    weights = torch.arange(7.0, dtype=torch.float64)
    assert torch.equal(
        OBJECTIVES[objective].loss(logits, targets, weights), LOSSES[objective](logits, targets, weights)
    )


@pytest.mark.parametrize("objective", LOSSES)
def test_losses_of_large_logits_are_numbers(objective: str) -> None:
    logits, targets = _case(objective, 5, 3, seed=5)
    large = (logits.float() * 1e4).requires_grad_()
    targets = targets if objective == "classification" else targets.float()
    loss = OBJECTIVES[objective].loss(large, targets, torch.ones(5))
    (gradient,) = torch.autograd.grad(loss, [large])
    assert bool(loss.isfinite()) and bool(gradient.isfinite().all())


@pytest.mark.parametrize("objective", LOSSES)
def test_rows_that_do_not_count_move_nothing(objective: str) -> None:
    logits, targets = _case(objective, 4, 3, seed=6)
    logits.requires_grad_()
    some = torch.tensor([0.0, 1.0, 0.0, 2.0], dtype=torch.float64)
    (gradient,) = torch.autograd.grad(OBJECTIVES[objective].loss(logits, targets, some), [logits])
    assert torch.equal(gradient[[0, 2]], torch.zeros(2, 3, dtype=torch.float64))
    assert bool((gradient[[1, 3]] != 0).any())
    loss = OBJECTIVES[objective].loss(logits, targets, torch.zeros(4, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss, [logits])
    assert float(loss.detach()) == 0, "a mini-batch may hold nothing but such rows"
    assert torch.equal(gradient, torch.zeros(4, 3, dtype=torch.float64))


@pytest.mark.parametrize("objective", LOSSES)
def test_losses_can_be_differentiated_twice(objective: str) -> None:
    logits, targets = _case(objective, 4, 3, seed=7)
    if objective == "classification":
        targets[1] = OUT_OF_SCOPE
    weights = torch.tensor([1.0, 0.5, 2.0, 0.0], dtype=torch.float64)
    inputs = [logits.requires_grad_(), weights.requires_grad_()]
    assert torch.autograd.gradcheck(lambda x, w: OBJECTIVES[objective].loss(x, targets, w), inputs)
    assert torch.autograd.gradgradcheck(lambda x, w: OBJECTIVES[objective].loss(x, targets, w), inputs)


def _naive_contrastive(features: Tensor, classes: list[int], temperature: float) -> Tensor:
    unit = [row / row.square().sum().sqrt() for row in features]
    n = len(unit)
    anchors = []
    for i in range(n):
        positives = [p for p in range(n) if p != i and classes[p] == classes[i] and classes[i] != OUT_OF_SCOPE]
        if not positives:
            continue
        below = sum(((unit[i] @ unit[a] / temperature).exp() for a in range(n) if a != i), torch.zeros(()))
        terms = [((unit[i] @ unit[p] / temperature).exp() / below).log() for p in positives]
        anchors.append(-sum(terms, torch.zeros(())) / len(positives))
    return sum(anchors, torch.zeros(())) / len(anchors) if anchors else features.sum() * 0


@settings(deadline=None, max_examples=60)
@given(
    classes=st.lists(st.integers(OUT_OF_SCOPE, 3), min_size=1, max_size=10),
    temperature=st.sampled_from([0.07, 0.1, 0.5, 1.0, 3.0]),
    length=st.sampled_from([1e-3, 1.0, 100.0]),
    seed=st.integers(0, 1000),
)
def test_contrastive_loss_is_that_of_two_loops(
    classes: list[int], temperature: float, length: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    features = length * torch.randn(len(classes), 5, generator=draw, dtype=torch.float64)
    features.requires_grad_()
    expected = _naive_contrastive(features, classes, temperature)
    found = supervised_contrastive(features, torch.tensor(classes), temperature)
    torch.testing.assert_close(found, expected.double(), atol=1e-10, rtol=1e-10)
    (slope,), (by_hand,) = (torch.autograd.grad(loss, [features]) for loss in (found, expected))
    torch.testing.assert_close(slope, by_hand, atol=1e-10 / length, rtol=1e-9)


def test_contrastive_loss_by_hand() -> None:
    # cosines 1 within the class and 0 to the other row: each anchor's loss is -log(e / (e + 1))
    features = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
    expected = math.log(1 + math.exp(-1))
    for other in (1, OUT_OF_SCOPE):
        found = supervised_contrastive(features, torch.tensor([0, 0, other]), 1.0)
        assert float(found) == pytest.approx(expected, rel=1e-6)


def test_rows_out_of_scope_push_but_do_not_pull_each_other() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(5, 4, generator=draw, dtype=torch.float64)
    as_negatives = supervised_contrastive(features, torch.tensor([0, 0, 1, OUT_OF_SCOPE, OUT_OF_SCOPE]), 0.5)
    alone = supervised_contrastive(features, torch.tensor([0, 0, 1, 2, 3]), 0.5)
    one_class = supervised_contrastive(features, torch.tensor([0, 0, 1, 2, 2]), 0.5)
    assert torch.equal(as_negatives, alone)
    assert not torch.isclose(as_negatives, one_class)


@pytest.mark.parametrize("classes", [[0], [OUT_OF_SCOPE], [0, 1, 2], [OUT_OF_SCOPE, OUT_OF_SCOPE], [0, OUT_OF_SCOPE]])
def test_without_an_anchor_the_contrastive_loss_is_a_zero_that_can_be_differentiated(classes: list[int]) -> None:
    features = torch.randn(len(classes), 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with torch.autograd.set_detect_anomaly(True):  # no NaN on the way either
        loss = supervised_contrastive(features, torch.tensor(classes), 0.1)
        assert float(loss.detach()) == 0
        assert loss.grad_fn is not None
        (gradient,) = torch.autograd.grad(loss, [features])
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_the_contrastive_loss_of_equal_rows_at_a_low_temperature_is_a_number() -> None:
    features = torch.ones(4, 3).requires_grad_()
    loss = supervised_contrastive(features, torch.tensor([0, 0, 1, 1]), 1e-3)
    (gradient,) = torch.autograd.grad(loss, [features])
    assert float(loss.detach()) == pytest.approx(math.log(3), rel=1e-4)
    assert bool(gradient.isfinite().all())


def test_the_contrastive_loss_can_be_differentiated_twice() -> None:
    features = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64).requires_grad_()
    classes = torch.tensor([0, 0, 1, 1, 2, OUT_OF_SCOPE])
    assert torch.autograd.gradcheck(lambda x: supervised_contrastive(x, classes, 0.5), [features])
    assert torch.autograd.gradgradcheck(lambda x: supervised_contrastive(x, classes, 0.5), [features])


def test_no_loss_reads_a_value_on_the_device() -> None:
    # tensors without values refuse to be read: whoever branches on one in Python fails here as it would wait on a GPU
    logits, weights = torch.empty(4, 3, device="meta"), torch.empty(4, device="meta")
    indices = torch.empty(4, dtype=torch.int64, device="meta")
    with pytest.raises(RuntimeError):
        bool(weights.sum() > 0)
    for objective in LOSSES:
        targets = indices if objective == "classification" else torch.empty_like(logits)
        assert OBJECTIVES[objective].loss(logits, targets, weights).shape == ()
    assert supervised_contrastive(logits, indices, 0.1).shape == ()


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(1, 9),
    n_classes=st.integers(1, 6),
    dim=st.integers(1, 5),
    seed=st.integers(0, 2**16),
    ignored=st.booleans(),
)
def test_a_linear_heads_gradients_are_those_of_its_loss(
    n_rows: int, n_classes: int, dim: int, seed: int, ignored: bool
) -> None:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(n_rows, dim, generator=draw, dtype=torch.float64)
    targets = torch.randint(OUT_OF_SCOPE, n_classes, (n_rows,), generator=draw)
    weights = torch.zeros(n_rows).double() if ignored else torch.rand(n_rows, generator=draw, dtype=torch.float64)
    weight = torch.randn(n_classes, dim, generator=draw, dtype=torch.float64).requires_grad_()
    bias = torch.randn(n_classes, generator=draw, dtype=torch.float64).requires_grad_()
    expected = weighted_cross_entropy(torch.nn.functional.linear(features, weight, bias), targets, weights)
    slopes = torch.autograd.grad(expected, [weight, bias])
    found = linear_head_gradients(features, targets, weights, n_classes)(weight.detach(), bias.detach())
    for got, wanted in zip(found, (expected.detach(), *slopes), strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-12)
