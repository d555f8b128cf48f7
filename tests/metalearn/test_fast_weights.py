"""Heads of many tasks in one batch answer as each does alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.fast_weights import (
    HEAD_BIAS,
    HEAD_WEIGHT,
    head_logits,
    is_finite,
    mixed_logits,
    rounded_head,
    stack_heads,
)
from metalearn.types import FastWeights


def _head(n_classes: int, dim: int, draw: torch.Generator) -> FastWeights:
    return {
        HEAD_WEIGHT: torch.randn(n_classes, dim, generator=draw),
        HEAD_BIAS: torch.randn(n_classes, generator=draw),
    }


@settings(deadline=None, max_examples=60)
@given(data=st.data(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6), dim=st.integers(1, 16))
def test_a_mixed_batch_equals_each_task_alone(data: st.DataObject, sizes: list[int], dim: int) -> None:
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 2**20)))
    task_of_row = data.draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=20))
    heads = [_head(size, dim, draw) for size in sizes]
    features = torch.randn(len(task_of_row), dim, generator=draw)
    logits = mixed_logits(stack_heads(heads), torch.tensor(task_of_row), features)
    assert logits.shape == (len(task_of_row), max(sizes))
    for row, task in enumerate(task_of_row):
        alone = head_logits(heads[task], features[row : row + 1])[0]
        torch.testing.assert_close(logits[row, : sizes[task]], alone, atol=1e-5, rtol=1e-5)
        assert bool((logits[row, sizes[task] :] == -torch.inf).all())
    probabilities = logits.softmax(dim=1)
    for row, task in enumerate(task_of_row):
        assert bool((probabilities[row, sizes[task] :] == 0).all())
        assert float(probabilities[row, : sizes[task]].sum()) == pytest.approx(1, abs=1e-5)


def test_stacking_does_not_touch_the_heads() -> None:
    draw = torch.Generator().manual_seed(0)
    heads = [_head(2, 3, draw), _head(4, 3, draw)]
    before = [{name: weight.clone() for name, weight in head.items()} for head in heads]
    stacked = stack_heads(heads)
    stacked.weight.zero_()
    stacked.bias.zero_()
    for head, kept in zip(heads, before, strict=True):
        assert all(torch.equal(head[name], kept[name]) for name in kept)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [HEAD_WEIGHT, HEAD_BIAS])
def test_one_number_that_is_not_finite_is_found(name: str, value: float) -> None:
    head = dict(_head(3, 4, torch.Generator().manual_seed(0)))
    assert bool(is_finite(head))
    head[name].view(-1)[-1] = value
    assert not bool(is_finite(head))


@settings(deadline=None, max_examples=60)
@given(
    numbers=st.lists(st.floats(-65_000, 65_000, width=32), min_size=1, max_size=20),
    below=st.lists(st.floats(width=32), min_size=1, max_size=20),
)
def test_what_lies_above_the_body_is_rounded_to_half_precision(numbers: list[float], below: list[float]) -> None:
    weights = {HEAD_BIAS: torch.tensor(numbers), "keys": torch.tensor([numbers]), "layers.1.scale": torch.tensor(below)}
    before = {name: weight.clone() for name, weight in weights.items()}
    found = rounded_head(weights)
    assert all(torch.equal(weights[name], weight) for name, weight in before.items() if name != "layers.1.scale")
    assert found["layers.1.scale"] is weights["layers.1.scale"]
    for name in (HEAD_BIAS, "keys"):
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name].half().float(), found[name]), "numbers of half precision"
        # To the nearest one: half a unit in the last of 11 places, or of the smallest number there is
        torch.testing.assert_close(found[name], before[name], rtol=2**-11, atol=2**-25)
    again = rounded_head(found)
    assert all(torch.equal(again[name], found[name]) for name in (HEAD_BIAS, "keys"))


@pytest.mark.parametrize("large", [65_520.0, -1e5, 3e38])
def test_a_tensor_with_a_number_beyond_half_precision_stays_as_it_is(large: float) -> None:
    weights = {HEAD_WEIGHT: torch.tensor([[1 / 3, large]]), HEAD_BIAS: torch.tensor([1 / 3])}
    found = rounded_head(weights)
    assert torch.equal(found[HEAD_WEIGHT], weights[HEAD_WEIGHT])
    assert not torch.equal(found[HEAD_BIAS], weights[HEAD_BIAS]), "the others are rounded all the same"
    largest = {HEAD_BIAS: torch.tensor([65_504.0, 1 / 3])}
    assert rounded_head(largest)[HEAD_BIAS].tolist() == pytest.approx([65_504, 1 / 3], rel=2**-11)
    assert not torch.equal(rounded_head(largest)[HEAD_BIAS], largest[HEAD_BIAS])


def test_rounding_moves_a_logit_by_a_thousandth_of_the_heads_scale_at_most() -> None:
    draw = torch.Generator().manual_seed(0)
    head = _head(10, 384, draw)
    features = torch.nn.functional.normalize(torch.randn(50, 384, generator=draw), dim=1)
    moved = (head_logits(rounded_head(head), features) - head_logits(head, features)).abs().max()
    assert 0 < float(moved) < 1e-3 * float(head[HEAD_WEIGHT].norm(dim=1).max())
