"""The guard against negative transfer finds the group that was made to work against the others."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from metalearn.tasks.transfer import Transfer, held_back, measure_transfer, sketch


def gradients(seed: int, direction: Tensor, noise: float) -> dict[str, Tensor]:
    """A gradient of two weights along a direction, with noise."""
    draw = torch.Generator().manual_seed(seed)
    flat = direction + noise * torch.randn(direction.shape, generator=draw)
    return {"first": flat[:3000].reshape(30, 100), "second": flat[3000:]}


def test_a_sketch_keeps_inner_products() -> None:
    draw = torch.Generator().manual_seed(0)
    shared = torch.randn(5000, generator=draw)
    first, second = (gradients(seed, shared, 1.0) for seed in (1, 2))
    exact = sum(float((first[name] * second[name]).sum()) for name in first)
    norms = [sum(float(g.square().sum()) for g in each.values()) ** 0.5 for each in (first, second)]
    sketched = float(sketch(first) @ sketch(second))
    assert sketched / (norms[0] * norms[1]) == pytest.approx(exact / (norms[0] * norms[1]), abs=0.06)
    assert torch.equal(sketch(first), sketch(first))
    with pytest.raises(ValueError, match="no gradient"):
        sketch({})


def test_the_group_that_works_against_the_others_is_found_and_only_that_one() -> None:
    draw = torch.Generator().manual_seed(3)
    along = torch.randn(5000, generator=draw)
    beside = torch.randn(5000, generator=draw)
    directions = {"helps": along, "against": -along, "helps too": along, "also": along, "apart": beside}
    groups = {group: range(10 * place, 10 * place + 6) for place, group in enumerate(directions)}

    def of(index: int) -> Mapping[str, Tensor]:
        return gradients(100 + index, list(directions.values())[index // 10], 1.0)

    measured = measure_transfer({group: [sketch(of(index)) for index in indices] for group, indices in groups.items()})
    assert measured[0].group == "against"
    assert {transfer.group for transfer in measured if transfer.is_negative} == {"against"}
    against = measured[0]
    assert set(against.conflicts) >= {"helps", "helps too"}
    assert against.low < against.cosine < against.high < 0
    by_name = {transfer.group: transfer for transfer in measured}
    assert by_name["helps"].low > 0
    assert abs(by_name["apart"].cosine) < 0.2


def test_one_group_has_nothing_to_be_compared_with() -> None:
    alone = [sketch(gradients(index, torch.ones(5000), 1.0)) for index in (0, 1)]
    assert measure_transfer({"alone": alone}) == []


def test_a_gradient_that_is_not_finite_is_left_out() -> None:
    found = {
        group: [sketch(gradients(10 * place + i, torch.ones(5000), 1.0)) for i in range(3)]
        for place, group in enumerate("abc")
    }
    spoiled = {**found, "a": [*found["a"], torch.full((4096,), torch.nan)], "d": [torch.full((4096,), torch.inf)] * 3}
    assert measure_transfer(spoiled) == measure_transfer(found)


def test_a_group_is_held_back_while_it_does_harm_and_no_longer() -> None:
    def transfer(group: str, low: float, high: float) -> Transfer:
        return Transfer(group, (low + high) / 2, low, high, ())

    harmful = [transfer("a", -0.5, -0.1), transfer("b", -0.2, 0.1), transfer("c", -0.02, -0.01)]
    factors: dict[str, float] = {}
    for expected in (0.5, 0.25, 0.125, 0.125):
        factors = held_back(factors, harmful)
        assert factors == {"a": expected, "b": 1.0, "c": 1.0}
    for expected in (0.25, 0.5, 1.0, 1.0):
        factors = held_back(factors, [transfer("a", 0.0, 0.4)])
        assert factors == {"a": expected, "b": 1.0, "c": 1.0}
