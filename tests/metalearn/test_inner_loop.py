"""The one adaptation loop against closed forms and finite differences, all in float64."""

from collections.abc import Callable, Iterator, Mapping

import pytest
import torch
from torch import Tensor

from metalearn.errors import AdaptationDiverged
from metalearn.inner_loop import InnerState, collect, finished, inner_steps
from metalearn.options import Order
from metalearn.types import FastWeights
from metalearn.update_rules import gradient_descent

Loss = Callable[[FastWeights], Tensor]


ORDERS: tuple[Order, ...] = ("detached", "first", "second")


def _steps(
    start: FastWeights, loss: Loss, rates: Mapping[str, Tensor], steps: int, order: Order = "detached"
) -> Iterator[InnerState]:
    return inner_steps(
        start,
        lambda weights, _: loss(weights),
        rule=gradient_descent(),
        learning_rates=lambda _: rates,
        steps=steps,
        order=order,
    )


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _quadratic(seed: int, dim: int = 4) -> tuple[Tensor, Tensor]:
    """A positive definite matrix and a minimum."""
    root = _draw(dim, dim, seed=seed)
    return root @ root.T / dim + torch.eye(dim, dtype=torch.float64), _draw(dim, seed=seed + 1)


@pytest.mark.parametrize("steps", [0, 1, 2, 7, 25])
def test_descent_on_a_quadratic_equals_the_closed_form(steps: int) -> None:
    # two weights with a rate each: w_k = w* + (I - rate A)^k (w_0 - w*)
    parts = {"head.weight": (*_quadratic(0), 0.2), "head.bias": (*_quadratic(10, dim=3), 0.05)}
    start = {name: _draw(len(best), seed=20) for name, (_, best, _) in parts.items()}

    def loss(weights: FastWeights) -> Tensor:
        return sum(
            ((weights[name] - best) @ matrix @ (weights[name] - best) / 2 for name, (matrix, best, _) in parts.items()),
            torch.zeros((), dtype=torch.float64),
        )

    rates = {name: torch.tensor(rate, dtype=torch.float64) for name, (_, _, rate) in parts.items()}
    states = list(_steps(start, loss, rates, steps))
    assert len(states) == steps + 1
    for k, state in enumerate(states):
        expected = {}
        for name, (matrix, best, rate) in parts.items():
            once = torch.eye(len(best), dtype=torch.float64) - rate * matrix
            expected[name] = best + torch.linalg.matrix_power(once, k) @ (start[name] - best)
            torch.testing.assert_close(state.fast_weights[name], expected[name], atol=1e-10, rtol=0)
        torch.testing.assert_close(state.loss, loss(expected), atol=1e-10, rtol=0)


def test_a_rate_may_have_the_shape_of_its_weight() -> None:
    start = {"w": torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)}
    rates = {"w": torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)}
    *_, last = _steps(start, lambda weights: weights["w"].square().sum() / 2, rates, 1)
    torch.testing.assert_close(last.fast_weights["w"], torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))


def _curved(weights: FastWeights) -> Tensor:
    """A loss whose second and third derivatives matter."""
    features, signs = _draw(6, 4, seed=3), torch.tensor([1.0, -1, 1, 1, -1, -1], dtype=torch.float64)
    scores = torch.tanh(features @ weights["w"]) + weights["b"].sin().sum()
    return torch.nn.functional.softplus(-signs * scores).mean()


def _query_loss(weights: FastWeights) -> Tensor:
    return (weights["w"] - 1).square().sum() + (weights["b"] * weights["w"].sum()).cos().sum()


def _after_adaptation(w: Tensor, b: Tensor, rate_w: Tensor, rate_b: Tensor, *, order: Order) -> Tensor:
    states = _steps({"w": w, "b": b}, _curved, {"w": rate_w, "b": rate_b}, 4, order)
    return _query_loss(collect(states).fast_weights)


def _finite_differences(function: Callable[..., Tensor], inputs: list[Tensor], h: float = 1e-5) -> list[Tensor]:
    gradients = []
    for which, at in enumerate(inputs):
        gradient = torch.zeros_like(at).flatten()
        for i in range(at.numel()):
            ends = []
            for sign in (1, -1):
                moved = [each.detach().clone() for each in inputs]
                moved[which].view(-1)[i] += sign * h
                ends.append(function(*moved))
            gradient[i] = (ends[0] - ends[1]) / (2 * h)
        gradients.append(gradient.view_as(at))
    return gradients


@pytest.mark.parametrize("per_weight", [False, True], ids=["scalar rate", "rate per number"])
def test_the_meta_gradient_equals_finite_differences(per_weight: bool) -> None:
    rate = torch.full((4,), 0.7, dtype=torch.float64) if per_weight else torch.tensor(0.7, dtype=torch.float64)
    inputs = [_draw(4, seed=5), _draw(2, seed=6), rate, torch.tensor(0.3, dtype=torch.float64)]
    leaves = [each.clone().requires_grad_() for each in inputs]
    found = torch.autograd.grad(_after_adaptation(*leaves, order="second"), leaves)
    expected = _finite_differences(lambda *at: _after_adaptation(*at, order="detached"), inputs)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
        assert float(theirs.abs().max()) > 1e-3, "a gradient of zero would prove nothing"


def test_detached_states_do_not_hang_on_the_start() -> None:
    start = {"w": _draw(4, seed=5).requires_grad_(), "b": _draw(2, seed=6).requires_grad_()}
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    for state in _steps(start, _curved, {"w": rate, "b": rate}, 3):
        assert not state.loss.requires_grad
        for weight in state.fast_weights.values():
            assert not weight.requires_grad
            assert weight.grad_fn is None


@pytest.mark.parametrize("order", ["first", "second"])
def test_attached_states_hang_on_the_start(order: Order) -> None:
    start = {"w": _draw(4, seed=5).requires_grad_(), "b": _draw(2, seed=6).requires_grad_()}
    rate = torch.tensor(0.5, dtype=torch.float64)
    for state in _steps(start, _curved, {"w": rate, "b": rate}, 3, order):
        (gradient,) = torch.autograd.grad(state.fast_weights["w"].sum(), [start["w"]], retain_graph=True)
        assert float(gradient.abs().max()) > 0


def test_to_first_order_inner_gradients_are_constants() -> None:
    # w_k = w_0 - sum_j rate_j g_j with g_j constant: the start's gradient is the query's, a rate's -sum_j g_j . query's
    inputs = [_draw(4, seed=5), _draw(2, seed=6), torch.tensor(0.7, dtype=torch.float64)]
    w, b, rate = (each.clone().requires_grad_() for each in inputs)
    *_, last = _steps({"w": w, "b": b}, _curved, {"w": rate, "b": torch.tensor(0.3)}, 4, "first")
    found = torch.autograd.grad(_query_loss(last.fast_weights), [w, b, rate])
    at = {name: weight.detach().requires_grad_() for name, weight in last.fast_weights.items()}
    query = dict(zip(at, torch.autograd.grad(_query_loss(at), list(at.values())), strict=True))
    torch.testing.assert_close(found[0], query["w"], atol=1e-12, rtol=0)
    torch.testing.assert_close(found[1], query["b"], atol=1e-12, rtol=0)
    moved = (at["w"].detach() - inputs[0]) / inputs[2]  # minus the sum of the inner gradients
    torch.testing.assert_close(found[2], moved @ query["w"], atol=1e-10, rtol=0)
    assert float(found[2].abs()) > 1e-3


@pytest.mark.parametrize("order", ORDERS)
def test_all_orders_walk_through_the_same_numbers(order: Order) -> None:
    start = {"w": _draw(4, seed=5).requires_grad_(), "b": _draw(2, seed=6).requires_grad_()}
    rate = torch.tensor(0.5, dtype=torch.float64)
    plain = list(_steps(start, _curved, {"w": rate, "b": rate}, 3))
    other = list(_steps(start, _curved, {"w": rate, "b": rate}, 3, order))
    for ours, theirs in zip(plain, other, strict=True):
        assert torch.equal(ours.loss, theirs.loss.detach())
        assert all(torch.equal(ours.fast_weights[name], theirs.fast_weights[name].detach()) for name in start)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_callers_gradient_mode_is_its_own_between_steps(enabled: bool) -> None:
    start = {"w": _draw(4, seed=5), "b": _draw(2, seed=6)}
    rate = torch.tensor(0.5, dtype=torch.float64)
    expected = collect(_steps(start, _curved, {"w": rate, "b": rate}, 3)).fast_weights
    with torch.set_grad_enabled(enabled):
        states = _steps(start, _curved, {"w": rate, "b": rate}, 3)
        seen = []
        for state in states:
            seen.append(state)
            assert torch.is_grad_enabled() is enabled
        assert len(seen) == 4
        assert torch.is_grad_enabled() is enabled
    assert all(torch.equal(seen[-1].fast_weights[name], expected[name]) for name in start)


def test_the_mode_may_change_between_steps_and_an_abandoned_loop_leaves_it_alone() -> None:
    start = {"w": _draw(4, seed=5), "b": _draw(2, seed=6)}
    rate = torch.tensor(0.5, dtype=torch.float64)
    expected = [state.loss for state in _steps(start, _curved, {"w": rate, "b": rate}, 5)]
    states = _steps(start, _curved, {"w": rate, "b": rate}, 5)
    for step, enabled in enumerate([True, False, False, True]):
        with torch.set_grad_enabled(enabled):
            assert torch.equal(next(states).loss, expected[step])
            assert torch.is_grad_enabled() is enabled
    with torch.no_grad():
        del states
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_two_loops_that_take_turns_do_not_meet() -> None:
    rate = {"w": torch.tensor(0.5, dtype=torch.float64), "b": torch.tensor(0.5, dtype=torch.float64)}
    starts = [{"w": _draw(4, seed=seed), "b": _draw(2, seed=seed)} for seed in (1, 2)]
    alone = [collect(_steps(start, _curved, rate, 5)) for start in starts]
    losses: list[list[Tensor]] = [[], []]
    for pair in zip(*(_steps(start, _curved, rate, 5) for start in starts), strict=True):
        for kept, state in zip(losses, pair, strict=True):
            kept.append(state.loss)
    for kept, expected in zip(losses, alone, strict=True):
        assert torch.equal(torch.stack(kept), expected.losses)


def test_no_steps_give_the_start_and_its_loss() -> None:
    start = {"w": _draw(4, seed=5), "b": _draw(2, seed=6)}
    rate = torch.tensor(0.5, dtype=torch.float64)
    result = collect(_steps(start, _curved, {"w": rate, "b": rate}, 0))
    assert all(torch.equal(result.fast_weights[name], start[name]) for name in start)
    torch.testing.assert_close(result.losses, _curved(start).reshape(1), atol=0, rtol=0)


def test_losses_hang_on_nothing_below_second_order() -> None:
    start = {"w": _draw(4, seed=5).requires_grad_(), "b": _draw(2, seed=6).requires_grad_()}
    rate = {"w": torch.tensor(0.5), "b": torch.tensor(0.5)}
    for order in ORDERS:
        for state in _steps(start, _curved, rate, 2, order):
            assert state.loss.requires_grad is (order == "second")


def test_the_loss_and_the_rates_get_the_step() -> None:
    # a quadratic whose minimum moves: w_1 = 0.5, w_2 = 0.5 - 0.25 (0.5 - 1)
    seen: list[tuple[str, int]] = []

    def loss(weights: FastWeights, step: int) -> Tensor:
        seen.append(("loss", step))
        return (weights["w"] - step).square().sum() / 2

    def rates(step: int) -> Mapping[str, Tensor]:
        seen.append(("rate", step))
        return {"w": torch.tensor(0.5 / (step + 1))}

    states = list(inner_steps({"w": torch.ones(1)}, loss, rule=gradient_descent(), learning_rates=rates, steps=2))
    assert [float(state.fast_weights["w"]) for state in states] == [1.0, 0.5, 0.625]
    assert [float(state.loss) for state in states] == pytest.approx([0.5, 0.125, 0.9453125])
    assert seen == [("loss", 0), ("rate", 0), ("loss", 1), ("rate", 1), ("loss", 2)]


def test_a_weight_whose_start_is_a_function_of_anothers_moves_by_its_own_gradient_alone() -> None:
    # b starts as 2 w: the inner gradient of w must not see that, the meta-gradient must
    for order in ORDERS:
        w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
        rate = {"w": torch.tensor(0.5), "b": torch.tensor(0.5)}
        *_, last = _steps({"w": w, "b": 2 * w}, lambda at: (at["w"] * at["b"]).sum(), rate, 1, order)
        assert last.fast_weights["w"].tolist() == [1 - 0.5 * 2]
        assert last.fast_weights["b"].tolist() == [2 - 0.5 * 1]
        if order != "detached":
            (gradient,) = torch.autograd.grad(last.fast_weights["b"].sum(), [w])
            # b_1 = 2 w - 0.5 w; to first order the inner gradient w is a constant
            assert float(gradient) == (2 if order == "first" else 1.5)


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_the_start_is_left_as_it_was(order: Order, attached: bool) -> None:
    start = {"w": _draw(4, seed=5).requires_grad_(attached), "b": _draw(2, seed=6).requires_grad_(attached)}
    before = {name: weight.detach().clone() for name, weight in start.items()}
    kept = dict(start)
    rate = torch.tensor(0.5, dtype=torch.float64)
    collect(_steps(start, _curved, {"w": rate, "b": rate}, 5, order))
    assert start.keys() == kept.keys()
    for name, weight in start.items():
        assert weight is kept[name]
        assert torch.equal(weight.detach(), before[name])
        assert weight.requires_grad is attached
        assert weight.grad is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_loss_that_is_not_finite_is_a_divergence(value: float, at: int) -> None:
    calls = iter(range(10))

    def loss(weights: FastWeights) -> Tensor:
        # added, not multiplied: the gradient stays finite, so that one loss alone is not
        return weights["w"].square().sum() + (value if next(calls) == at else 0.0)

    cause = "before the first step" if at == 0 else "own learning rate is too large"
    with pytest.raises(AdaptationDiverged, match=cause):
        collect(_steps({"w": torch.ones(2)}, loss, {"w": torch.tensor(0.0)}, 2))


def test_a_weight_that_overflowed_is_a_divergence_also_where_the_loss_is_finite() -> None:
    def loss(weights: FastWeights) -> Tensor:
        return torch.where(weights["w"].isfinite(), weights["w"] * 1e30, 0.0).sum()

    states = _steps({"w": torch.ones(2)}, loss, {"w": torch.tensor(1e30)}, 1)
    *_, last = states
    assert bool(last.loss.isfinite()), "the test has to be about the weights"
    assert not bool(last.fast_weights["w"].isfinite().any())
    with pytest.raises(AdaptationDiverged):
        finished(last.fast_weights, [last.loss])


def test_a_rate_that_is_too_large_ends_in_a_divergence() -> None:
    with pytest.raises(AdaptationDiverged):
        collect(_steps({"w": torch.ones(2)}, lambda weights: weights["w"].pow(4).sum(), {"w": torch.tensor(1e3)}, 20))
