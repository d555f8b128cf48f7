"""Update rules against torch.optim, against finite differences and, the random ones, against their distribution."""

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.errors import UnknownUpdateRule
from metalearn.update_rules import (
    UPDATE_RULES,
    UpdateRule,
    adam,
    gradient_descent,
    make_update_rule,
    minibatch_gradient_descent,
    minibatch_rows,
    momentum,
    nesterov,
    noisy_gradient_descent,
)

Weights = dict[str, Tensor]
MakeOptimizer = Callable[[list[dict[str, object]]], torch.optim.Optimizer]

SHAPES: Mapping[str, tuple[int, ...]] = {"head.weight": (3, 4), "head.bias": (3,), "scale": ()}
STEPS = 25

rates = st.floats(1e-4, 1.0)
decays = st.floats(0.0, 0.99)
seeds = st.integers(0, 1000)


def _draw(seed: int, dtype: torch.dtype = torch.float64) -> Weights:
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=draw, dtype=dtype) for name, shape in SHAPES.items()}


def _gradient_sequence(seed: int) -> list[Weights]:
    """Gradients of very different sizes, some exactly zero: one element always, others now and then."""
    draw = torch.Generator().manual_seed(seed)
    sequence = []
    for step in range(STEPS):
        gradients = {}
        for name, values in _draw(seed * STEPS + step + 1).items():
            sizes = 10.0 ** torch.randint(-4, 3, values.shape, generator=draw)
            present = torch.rand(values.shape, generator=draw) > 0.2
            gradients[name] = values * sizes * present
        gradients["head.bias"][0] = 0.0
        sequence.append(gradients)
    return sequence


def _assert_equal_to_torch(rule: UpdateRule, make: MakeOptimizer, learning_rates: list[float], seed: int) -> None:
    weights, sequence = _draw(seed), _gradient_sequence(seed)
    parameters = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    optimizer = make([{"params": [p], "lr": r} for p, r in zip(parameters.values(), learning_rates, strict=True)])
    by_name = {name: torch.tensor(r, dtype=torch.float64) for name, r in zip(SHAPES, learning_rates, strict=True)}
    state = rule.init(weights)
    for gradients in sequence:
        weights, state = rule.update(gradients, state, weights, by_name)
        for name, parameter in parameters.items():
            parameter.grad = gradients[name].clone()
        optimizer.step()
        for name, parameter in parameters.items():
            torch.testing.assert_close(weights[name], parameter.detach(), atol=1e-12, rtol=1e-12)


three_rates = st.lists(rates, min_size=3, max_size=3)


@settings(deadline=None, max_examples=25)
@given(learning_rates=three_rates, seed=seeds)
def test_gradient_descent_is_that_of_torch(learning_rates: list[float], seed: int) -> None:
    _assert_equal_to_torch(gradient_descent(), torch.optim.SGD, learning_rates, seed)


@settings(deadline=None, max_examples=25)
@given(learning_rates=three_rates, decay=decays, seed=seeds)
def test_momentum_is_that_of_torch(learning_rates: list[float], decay: float, seed: int) -> None:
    _assert_equal_to_torch(
        momentum(decay), lambda groups: torch.optim.SGD(groups, momentum=decay), learning_rates, seed
    )


@settings(deadline=None, max_examples=25)
@given(learning_rates=three_rates, decay=st.floats(0.01, 0.99), seed=seeds)
def test_nesterov_is_that_of_torch(learning_rates: list[float], decay: float, seed: int) -> None:
    _assert_equal_to_torch(
        nesterov(decay), lambda groups: torch.optim.SGD(groups, momentum=decay, nesterov=True), learning_rates, seed
    )


@settings(deadline=None, max_examples=25)
@given(
    learning_rates=three_rates,
    decay=decays,
    second_decay=st.floats(0.5, 0.9999),
    epsilon=st.sampled_from([1e-10, 1e-8, 1e-3, 1.0]),
    seed=seeds,
)
def test_adam_is_that_of_torch(
    learning_rates: list[float], decay: float, second_decay: float, epsilon: float, seed: int
) -> None:
    _assert_equal_to_torch(
        adam(decay, second_decay, epsilon),
        lambda groups: torch.optim.Adam(groups, betas=(decay, second_decay), eps=epsilon),
        learning_rates,
        seed,
    )


def _curved(weights: Mapping[str, Tensor]) -> Tensor:
    """A loss whose second and third derivatives matter, and that has a minimum."""
    inputs = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(2, 4)
    outputs = torch.tanh(inputs @ weights["head.weight"].T + weights["head.bias"]) * weights["scale"].cos()
    return (outputs - 0.3).square().mean() + sum(0.05 * weight.square().sum() for weight in weights.values())


def _gradients(weights: Weights, *, create_graph: bool = False) -> Weights:
    given = [weight if weight.requires_grad else weight.requires_grad_() for weight in weights.values()]
    return dict(zip(weights, torch.autograd.grad(_curved(weights), given, create_graph=create_graph), strict=True))


@pytest.mark.parametrize(
    ("rule", "make"),
    [
        (gradient_descent(), torch.optim.SGD),
        (minibatch_gradient_descent(), torch.optim.SGD),
        (noisy_gradient_descent(scale=0.0), torch.optim.SGD),
        (momentum(), lambda groups: torch.optim.SGD(groups, momentum=0.9)),
        (nesterov(), lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True)),
        (adam(), torch.optim.Adam),
    ],
    ids=["gradient_descent", "minibatch", "no noise", "momentum", "nesterov", "adam"],
)
def test_the_usual_settings_descend_like_torch(rule: UpdateRule, make: MakeOptimizer) -> None:
    # unlike above, each gradient is taken where the last step led
    weights = _draw(3)
    parameters = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
    optimizer = make([{"params": list(parameters.values()), "lr": 0.05}])
    rate = dict.fromkeys(SHAPES, torch.tensor(0.05, dtype=torch.float64))
    state = rule.init(weights)
    before = float(_curved(weights))
    for _ in range(40):
        found = _gradients({name: weight.detach() for name, weight in weights.items()})
        weights, state = rule.update(found, state, weights, rate)
        optimizer.zero_grad()
        _curved(parameters).backward()
        optimizer.step()
        for name, parameter in parameters.items():
            torch.testing.assert_close(weights[name].detach(), parameter.detach(), atol=1e-12, rtol=0)
    assert float(_curved(weights)) < 0.7 * before


ALL = {**UPDATE_RULES, "noisier": lambda: noisy_gradient_descent(scale=1.0, seed=7)}
"""Every registered rule and one that is not."""


@pytest.mark.parametrize("name", ALL)
def test_a_rate_may_be_any_shape_that_can_be_broadcast(name: str) -> None:
    rule, weights = ALL[name](), _draw(5)
    per_row = torch.tensor([[0.1], [0.0], [0.3]], dtype=torch.float64)
    mixed = {"head.weight": per_row, "head.bias": per_row.squeeze(1), "scale": torch.tensor(0.2, dtype=torch.float64)}
    found, state = weights, rule.init(weights)
    by_rate = {rate: (weights, rule.init(weights)) for rate in (0.1, 0.0, 0.3, 0.2)}
    for gradients in _gradient_sequence(5):
        found, state = rule.update(gradients, state, found, mixed)
        for rate, (old, old_state) in by_rate.items():
            alike = dict.fromkeys(SHAPES, torch.tensor(rate, dtype=torch.float64))
            by_rate[rate] = rule.update(gradients, old_state, old, alike)
    for row, rate in enumerate((0.1, 0.0, 0.3)):
        torch.testing.assert_close(found["head.weight"][row], by_rate[rate][0]["head.weight"][row], atol=1e-13, rtol=0)
        torch.testing.assert_close(found["head.bias"][row], by_rate[rate][0]["head.bias"][row], atol=1e-13, rtol=0)
    torch.testing.assert_close(found["scale"], by_rate[0.2][0]["scale"], atol=1e-13, rtol=0)
    assert torch.equal(found["head.weight"][1], weights["head.weight"][1])


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in _tensors(each)]
    return [tensor for each in value for tensor in _tensors(each)] if isinstance(value, tuple) else []


@pytest.mark.parametrize("name", ALL)
def test_an_update_leaves_what_it_is_given_as_it_was(name: str) -> None:
    rule, weights = ALL[name](), _draw(1)
    learning_rates = {name: torch.full_like(weight, 0.1) for name, weight in weights.items()}
    state = rule.init(weights)
    assert all(not tensor.requires_grad for tensor in _tensors(state))
    for gradients in _gradient_sequence(1)[:4]:
        given = (gradients, state, weights, learning_rates)
        tensors = _tensors(given)
        before, versions = [tensor.clone() for tensor in tensors], [tensor._version for tensor in tensors]
        names, kept = [list(each) for each in (gradients, weights, learning_rates)], _tensors(given)
        new_weights, new_state = rule.update(*given)
        again, _ = rule.update(*given)
        assert [list(each) for each in (gradients, weights, learning_rates)] == names
        assert all(a is b for a, b in zip(_tensors(given), kept, strict=True))
        assert [tensor._version for tensor in tensors] == versions
        for tensor, old in zip(tensors, before, strict=True):
            assert torch.equal(tensor, old)
        held = {tensor.data_ptr() for tensor in tensors}
        assert not held & {tensor.data_ptr() for tensor in _tensors((new_weights, new_state))}, "views of the input"
        assert list(new_weights) == list(weights)
        assert all(torch.equal(new_weights[each], again[each]) for each in weights), "the state was all there is"
        weights, state = new_weights, new_state


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ALL)
def test_weights_keep_their_type_and_shape(name: str, dtype: torch.dtype) -> None:
    rule, weights = ALL[name](), _draw(2, dtype)
    rate = dict.fromkeys(SHAPES, torch.tensor(0.1))
    new, state = rule.update(_draw(3, dtype), rule.init(weights), weights, rate)
    for tensor in (*new.values(), *_tensors(state)):
        assert tensor.dtype == dtype
    assert {each: tuple(tensor.shape) for each, tensor in new.items()} == SHAPES


def _twice(rule: UpdateRule) -> Callable[..., tuple[Tensor, ...]]:
    """Two updates as a function of weights, gradients and rates, all flat."""

    def run(w: Tensor, b: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        weights, state = {"w": w, "b": b}, rule.init({"w": w, "b": b})
        rate = {"w": rest[4], "b": rest[5]}
        for i in (0, 2):
            weights, state = rule.update({"w": rest[i], "b": rest[i + 1]}, state, weights, rate)
        return tuple(weights.values())

    return run


@pytest.mark.parametrize("name", ALL)
def test_an_update_can_be_differentiated_twice(name: str) -> None:
    # Adam has a kink at zero gradient; none of these is near it
    def away(*shape: int, seed: int) -> Tensor:
        draw = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return (draw.sign() * (draw.abs() + 0.5)).requires_grad_()

    inputs = [away(*shape, seed=seed) for seed, shape in enumerate([(2, 2), (2,)] * 3)]
    inputs += [away(seed=8), away(2, seed=9)]
    assert torch.autograd.gradcheck(_twice(ALL[name]()), inputs)
    assert torch.autograd.gradgradcheck(_twice(ALL[name]()), inputs)


@pytest.mark.parametrize("name", ALL)
def test_meta_gradients_through_several_steps_agree_with_finite_differences(name: str) -> None:
    rule = ALL[name]()

    def after_adaptation(*values: Tensor) -> Tensor:
        weights = dict(zip(SHAPES, values[:3], strict=True))
        learning_rates = dict(zip(SHAPES, values[3:], strict=True))
        state = rule.init(weights)
        with torch.enable_grad():
            for _ in range(4):
                found = _gradients(weights, create_graph=True)
                weights, state = rule.update(found, state, weights, learning_rates)
        return sum((weight.sin().sum() for weight in weights.values()), torch.zeros((), dtype=torch.float64))

    start = [weight.requires_grad_() for weight in _draw(11).values()]
    learned = [torch.full(shape, 0.1, dtype=torch.float64, requires_grad=True) for shape in ((3, 1), (), ())]
    assert torch.autograd.gradcheck(after_adaptation, start + learned)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_meta_gradients_through_adam_are_numbers_where_gradients_are_zero(dtype: torch.dtype) -> None:
    start = torch.tensor([1.0, -2.0, 3.0, 0.0], dtype=dtype, requires_grad=True)
    rate = torch.tensor(0.1, dtype=dtype, requires_grad=True)
    # the second element's gradient is zero at every step, the third's at the first, the fourth's by its value
    factors = torch.tensor([[1.0, 0, 0, 1], [1, 0, 2, 1], [1, 0, 1, 1]], dtype=dtype, requires_grad=True)
    rule, weights = adam(), {"w": start}
    state = rule.init(weights)
    for factor in factors:
        loss = (factor * weights["w"].square()).sum()
        gradients = torch.autograd.grad(loss, [weights["w"]], create_graph=True)
        weights, state = rule.update({"w": gradients[0]}, state, weights, {"w": rate})
    assert torch.equal(weights["w"][[1, 3]], start[[1, 3]]), "a zero gradient moves nothing"
    meta = torch.autograd.grad(weights["w"].sum(), [start, rate, factors], create_graph=True)
    assert all(bool(gradient.isfinite().all()) for gradient in meta)
    assert float(meta[0][1].detach()) == 1, "the start goes through unchanged"
    assert bool((meta[0][0] != 1) & (meta[0][2] != 1)), "the others feel the curvature"


def test_the_derivative_of_an_adam_step_at_zero_gradient_is_exact() -> None:
    # near 0 the first step is -rate * g / (|g| + epsilon): its derivative at 0 is -rate / epsilon
    rule, weights = adam(epsilon=0.5), {"w": torch.zeros(3, dtype=torch.float64)}
    gradient = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    rate = torch.tensor(0.1, dtype=torch.float64)
    new, state = rule.update({"w": gradient}, rule.init(weights), weights, {"w": rate})
    (slope,) = torch.autograd.grad(new["w"].sum(), [gradient])
    torch.testing.assert_close(slope, torch.full((3,), -0.1 / 0.5, dtype=torch.float64), atol=1e-13, rtol=0)
    ends = []
    for h in (1e-6, -1e-6):
        moved, _ = rule.update({"w": torch.full_like(gradient, h).detach()}, rule.init(weights), weights, {"w": rate})
        ends.append(moved["w"])
    torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, slope, atol=1e-5, rtol=0)
    assert torch.equal(state.second["w"].detach(), torch.zeros(3, dtype=torch.float64))


def _noise(rule: UpdateRule, step: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The noise alone: what moves weights of zero by gradients of zero at rate 1."""
    zero = torch.zeros(shape, dtype=dtype)
    new, after = rule.update({"w": zero}, step, {"w": zero}, {"w": torch.ones((), dtype=dtype)})
    assert after == step + 1
    return -new["w"]


@pytest.mark.parametrize("scale", [0.01, 1.0])
@pytest.mark.parametrize("step", [0, 1, 9, 99, 4999])
def test_gradient_noise_is_gaussian_and_fades(scale: float, step: int) -> None:
    n = 200_000
    noise = _noise(noisy_gradient_descent(scale, seed=3), step, n)
    variance = scale / (1 + step) ** 0.55
    standard = noise / math.sqrt(variance)
    # five standard errors each: of the mean, of the variance (2), of the fourth moment (96)
    assert abs(float(standard.mean())) < 5 / math.sqrt(n)
    assert abs(float(standard.square().mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float(standard.pow(4).mean()) - 3) < 5 * math.sqrt(96 / n)


def test_gradient_noise_is_the_same_again_and_no_other() -> None:
    n = 10_000
    rules = {seed: noisy_gradient_descent(1.0, seed) for seed in (0, 1, 2, 2**32)}
    assert rules[0].init({"w": torch.zeros(2)}) == 0
    noises = {}
    for seed, rule in rules.items():
        for step in (0, 1, 2, 3):
            noises[seed, step] = _noise(rule, step, n) * (1 + step) ** 0.275
            assert torch.equal(
                _noise(noisy_gradient_descent(1.0, seed), step, n) * (1 + step) ** 0.275, noises[seed, step]
            )
    correlations = torch.corrcoef(torch.stack(list(noises.values()))) - torch.eye(len(noises), dtype=torch.float64)
    assert float(correlations.abs().max()) < 6 / math.sqrt(n)


def test_gradient_noise_does_not_depend_on_precision_or_on_the_order_of_weights() -> None:
    rule = noisy_gradient_descent(1.0, seed=1)
    assert torch.equal(_noise(rule, 4, 3, 5).float(), _noise(rule, 4, 3, 5, dtype=torch.float32))
    weights, gradients = _draw(1), _draw(2)
    rate = dict.fromkeys(SHAPES, torch.tensor(0.1, dtype=torch.float64))
    forward, _ = rule.update(gradients, 4, weights, rate)
    turned = dict(reversed(weights.items()))
    backward, _ = rule.update(gradients, 4, turned, rate)
    assert all(torch.equal(forward[name], backward[name]) for name in weights)
    assert list(backward) == list(turned)


def test_drawing_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    torch.manual_seed(5)
    first = (_noise(noisy_gradient_descent(), 0, 3), minibatch_rows(10, 3, 0, 0))
    torch.manual_seed(6)
    seeded = torch.get_rng_state()
    second = (_noise(noisy_gradient_descent(), 0, 3), minibatch_rows(10, 3, 0, 0))
    assert torch.equal(torch.get_rng_state(), seeded)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    torch.set_rng_state(before)


@settings(deadline=None, max_examples=60)
@given(n_rows=st.integers(1, 60), batch_size=st.integers(1, 70), epoch=st.integers(0, 50), seed=seeds)
def test_an_epoch_of_mini_batches_holds_each_row_once(n_rows: int, batch_size: int, epoch: int, seed: int) -> None:
    n_batches = -(-n_rows // batch_size)
    steps = range(epoch * n_batches, (epoch + 1) * n_batches)
    batches = [minibatch_rows(n_rows, batch_size, step, seed) for step in steps]
    assert sorted(torch.cat(batches).tolist()) == list(range(n_rows))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert batches[0].dtype == torch.int64
    for step, batch in zip(steps, batches, strict=True):
        assert torch.equal(minibatch_rows(n_rows, batch_size, step, seed), batch)


def test_mini_batches_that_divide_the_rows_are_full() -> None:
    assert [len(minibatch_rows(24, 8, step, 0)) for step in range(9)] == [8] * 9


def test_epochs_and_seeds_shuffle_differently() -> None:
    orders = {
        (seed, epoch): tuple(minibatch_rows(30, 30, epoch, seed).tolist())
        for seed in (0, 1, 2, 2**32)
        for epoch in range(10)
    }
    assert len(set(orders.values())) == len(orders)


def test_a_row_comes_at_each_place_equally_often() -> None:
    n_rows, batch_size, n_seeds = 6, 2, 3000
    counts = torch.zeros(3, n_rows)
    for seed in range(n_seeds):
        for step in range(3):
            counts[step, minibatch_rows(n_rows, batch_size, step, seed)] += 1
    expected = n_seeds * batch_size / n_rows
    deviation = math.sqrt(n_seeds * (1 / 3) * (2 / 3))
    assert float((counts - expected).abs().max()) < 5 * deviation


@pytest.mark.parametrize(("n_rows", "batch_size", "step"), [(0, 1, 0), (3, 0, 0), (3, -1, 0), (3, 1, -1)])
def test_mini_batches_of_nothing_are_refused(n_rows: int, batch_size: int, step: int) -> None:
    with pytest.raises(ValueError, match="mini-batches"):
        minibatch_rows(n_rows, batch_size, step, 0)


def test_only_mini_batch_rules_ask_for_part_of_the_rows() -> None:
    assert {name: make_update_rule(name).batch_size for name in UPDATE_RULES} == {
        "gradient_descent": None,
        "minibatch_sgd": 8,
        "momentum": None,
        "nesterov": None,
        "noisy_sgd": None,
        "adam": None,
    }
    assert minibatch_gradient_descent(3).batch_size == 3
    with pytest.raises(ValueError, match="one row or more, not 0"):
        minibatch_gradient_descent(0)


def test_an_unknown_rule_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(
        UnknownUpdateRule, match=r"no update rule 'adamw'; there are: adam, gradient_descent, .*noisy_sgd"
    ):
        make_update_rule("adamw")
    with pytest.raises(UnknownUpdateRule) as raised:
        make_update_rule("x" * 10_000)
    assert len(str(raised.value)) < 300
