"""The memory against a computation by hand, and against the matching network that it generalises."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.learners.memory import Memory, rounds, written
from metalearn.learners.metric import Matching
from tests.metalearn.conftest import clusters


def _slow(
    dim: int, *, sharpness: float = 10.0, gate: float = 0.0, smoothing: float = 1e-3, key: Tensor | None = None
) -> dict[str, Tensor]:
    return {
        "key": torch.eye(dim, dtype=torch.float64) if key is None else key,
        "log_sharpness": torch.tensor(sharpness, dtype=torch.float64).log(),
        "gate": torch.tensor(gate, dtype=torch.float64).logit(),
        "log_smoothing": torch.tensor(smoothing, dtype=torch.float64).log(),
    }


def _f64(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _query(n_rows: int, dim: int = 8) -> Tensor:
    return torch.randn(n_rows, dim, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def test_two_slots_by_hand() -> None:
    # Keys (1, 0), (0, 1) and (3/5, 4/5) of classes 0, 1 and 0; sharpness 2, gate 1/4; slots a and b.
    # 1. Nothing to read; a is written to with 3/4: key (3/4, 0), value (3/4, 0), usage 3/4.
    # 2. Reads a alone, with attention 1. b is least used: a gets 1/4 of the second key and class, b gets 3/4.
    #    a: key (3/4, 1/4), value (3/4, 1/4), usage .99 * 3/4 + 1 + 1/4 = 1.9925
    #    b: key (0, 3/4), value (0, 3/4), usage 0 + 0 + 3/4
    # 3. Cosines with a: (3/4 * 3/5 + 1/4 * 4/5) / |(3/4, 1/4)|, with b: 4/5. b is least used and erased.
    cosine_a = (0.75 * 0.6 + 0.25 * 0.8) / math.hypot(0.75, 0.25)
    weight_a = math.exp(2 * cosine_a)
    weight_b = math.exp(2 * 0.8)
    read_a, read_b = weight_a / (weight_a + weight_b), weight_b / (weight_a + weight_b)
    write_a, write_b = read_a / 4, read_b / 4 + 0.75
    slot_keys = _f64([0.75 + write_a * 0.6, 0.25 + write_a * 0.8], [write_b * 0.6, write_b * 0.8])
    slot_values = _f64([0.75 + write_a, 0.25], [write_b, 0.0])
    found = written(
        _f64([1, 0], [0, 1], [0.6, 0.8]),
        _f64([1, 0], [0, 1], [1, 0]),
        2,
        torch.tensor(2.0, dtype=torch.float64),
        torch.tensor(0.25, dtype=torch.float64),
    )
    torch.testing.assert_close(found[0], slot_keys, atol=1e-14, rtol=0)
    torch.testing.assert_close(found[1], slot_values, atol=1e-14, rtol=0)

    # the whole learner; of this support set the rounds are the rows 0, 1 and 2 as they are
    support = EncodedSet(_f64([2, 0], [0, 1], [3, 4]), torch.tensor([0, 1, 0]), torch.ones(3).double(), 2)
    assert rounds(support.membership).tolist() == [0, 1, 2]
    learner = Memory(slots=2)
    fast = learner.start(_slow(2, sharpness=2.0, gate=0.25, smoothing=0.01), support)
    query = _f64([0, 5])
    scores = [2 * float(slot_keys[i, 1]) / math.hypot(*slot_keys[i].tolist()) for i in range(2)]
    attention = _f64([math.exp(score) for score in scores])
    read = attention / attention.sum() @ slot_values
    torch.testing.assert_close(learner.logits(fast, query), (read + 0.01).log(), atol=1e-13, rtol=0)


def _plainly_written(
    keys: list[list[float]], values: list[list[float]], n_slots: int, sharpness: float, gate: float
) -> tuple[list[list[float]], list[list[float]]]:
    """The memory after all rows, in lists and loops."""
    slot_keys: list[list[float]] = [[0.0] * len(keys[0]) for _ in range(n_slots)]
    slot_values: list[list[float]] = [[0.0] * len(values[0]) for _ in range(n_slots)]
    usage = [0.0] * n_slots
    for key, value in zip(keys, values, strict=True):
        exponentials = [
            math.exp(sharpness * sum(a * b for a, b in zip(slot, key, strict=True)) / math.hypot(*slot))
            if used
            else 0.0
            for slot, used in zip(slot_keys, usage, strict=True)
        ]
        total = sum(exponentials) or 1.0
        least = usage.index(min(usage))
        slot_keys[least] = [0.0] * len(key)
        slot_values[least] = [0.0] * len(value)
        for i in range(n_slots):
            read = exponentials[i] / total
            write = gate * read + (1 - gate) * (i == least)
            slot_keys[i] = [a + write * b for a, b in zip(slot_keys[i], key, strict=True)]
            slot_values[i] = [a + write * b for a, b in zip(slot_values[i], value, strict=True)]
            usage[i] = 0.99 * usage[i] + read + write
    return slot_keys, slot_values


@pytest.mark.parametrize("n_slots", [1, 2, 5, 200])
@pytest.mark.parametrize("gate", [0.01, 0.4, 0.95])
def test_many_examples_are_written_as_a_plain_loop_writes_them(n_slots: int, gate: float) -> None:
    support = clusters(4, 50, dim=5, dtype=torch.float64)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(6))
    keys, values = support.features[order], support.membership[order]
    numbers = (torch.tensor(number, dtype=torch.float64) for number in (6.0, gate))
    found = written(keys, values, n_slots, *numbers)
    expected = _plainly_written(keys.tolist(), values.tolist(), n_slots, 6.0, gate)
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, _f64(*plain), atol=1e-9, rtol=0)


def test_without_the_gate_and_with_a_slot_for_each_example_it_is_a_matching_network() -> None:
    support = replace(clusters(5, 4, dtype=torch.float64), weights=torch.arange(1, 21).double() / 20)
    learner, matching, query = Memory(), Matching(), _query(30)
    logits = learner.logits(learner.start(_slow(8, smoothing=1e-9), support), query)
    fast = matching.start({"log_sharpness": torch.tensor(10.0, dtype=torch.float64).log()}, support)
    torch.testing.assert_close(logits.softmax(dim=1), matching.logits(fast, query).exp(), atol=1e-6, rtol=0)


def test_before_meta_training_it_is_close_to_a_matching_network() -> None:
    support, query = clusters(5, 4), clusters(5, 10)
    learner, matching = Memory(), Matching()
    slow = learner.initial_slow_weights(8, {}, steps=5, draw=torch.Generator())
    found = learner.logits(learner.start(slow, support), query.features)
    expected = matching.logits(matching.start({"log_sharpness": slow["log_sharpness"]}, support), query.features)
    torch.testing.assert_close(found.softmax(dim=1), expected.exp(), atol=0.03, rtol=0)
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))


def test_examples_are_written_in_rounds_and_the_last_round_has_every_class() -> None:
    targets = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    membership = torch.nn.functional.one_hot(targets, 3).double()
    order = rounds(membership).tolist()
    assert order == [0, 1, 2, 5, 3, 4, 6]
    assert sorted(targets[order[-3:]].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("gate", [0.0, 0.2, 0.9])
def test_a_support_set_sorted_by_class_and_larger_than_the_memory_keeps_every_class(gate: float) -> None:
    support = clusters(10, 20, dim=32, dtype=torch.float64)
    learner = Memory(slots=30)
    fast = learner.start(_slow(32, gate=gate), support)
    assert fast["memory.keys"].shape == (30, 32)
    hits = learner.logits(fast, support.features).argmax(dim=1) == support.targets
    assert float(hits.double().mean()) > 0.95


@pytest.mark.parametrize(("n_classes", "per_class", "slots"), [(2, 1, 2), (3, 4, 12), (3, 50, 128), (150, 2, 150)])
def test_there_are_as_many_slots_as_examples_up_to_a_bound(n_classes: int, per_class: int, slots: int) -> None:
    fast = Memory().start(_slow(8, gate=0.1), clusters(n_classes, per_class, dtype=torch.float64))
    assert fast["memory.keys"].shape == (slots, 8)
    assert fast["memory.values"].shape == (slots, n_classes)


def test_a_class_that_is_not_read_has_a_finite_logit() -> None:
    support = clusters(3, 1, dtype=torch.float64)
    forgotten = replace(support, weights=torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))
    logits = Memory().logits(Memory().start(_slow(8, smoothing=1e-3), forgotten), _query(5))
    torch.testing.assert_close(logits[:, 2], torch.full((5,), math.log(1e-3), dtype=torch.float64))


def test_a_rotation_of_the_keys_changes_nothing() -> None:
    support, query, learner = clusters(4, 3, dtype=torch.float64), _query(10), Memory(slots=6)
    rotation = torch.linalg.qr(_query(8)).Q
    straight = learner.logits(learner.start(_slow(8, gate=0.2), support), query)
    rotated = learner.logits(learner.start(_slow(8, gate=0.2, key=rotation), support), query)
    torch.testing.assert_close(rotated, straight, atol=1e-10, rtol=0)


def test_a_projection_that_is_no_rotation_is_folded_into_the_slots() -> None:
    support, query, learner = clusters(4, 3, dtype=torch.float64), _query(10), Memory()
    projection = torch.randn(8, 8, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    normalize = torch.nn.functional.normalize
    keys = normalize(support.features @ projection.T, dim=1)
    scores = 2 * (normalize(query, dim=1) @ projection.T) @ keys.T
    expected = (scores.softmax(dim=1) @ support.membership + 1e-3).log()
    fast = learner.start(_slow(8, sharpness=2.0, key=projection), support)
    torch.testing.assert_close(learner.logits(fast, query), expected, atol=1e-12, rtol=0)


def test_the_order_of_the_examples_matters_and_decides() -> None:
    support, query, learner = clusters(4, 3, dtype=torch.float64), _query(6), Memory(slots=6)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled = replace(support, features=support.features[order], targets=support.targets[order])
    slow = _slow(8, gate=0.3)
    first = learner.logits(learner.start(slow, support), query)
    assert torch.equal(learner.logits(learner.start(slow, support), query), first)
    assert not torch.allclose(learner.logits(learner.start(slow, shuffled), query), first, atol=1e-3)


@pytest.mark.parametrize("slots", [3, 128])
def test_gradients_of_everything_that_is_learned(slots: int) -> None:
    support, query, learner = clusters(2, 3, dim=4, dtype=torch.float64), _query(2, 4), Memory(slots=slots)
    slow = _slow(4, sharpness=3.0, gate=0.3)

    def logits(features: Tensor, *weights: Tensor) -> Tensor:
        named = dict(zip(slow, weights, strict=True))
        return learner.logits(learner.start(named, replace(support, features=features)), query)

    leaves = [each.detach().clone().requires_grad_() for each in (support.features, *slow.values())]
    assert torch.autograd.gradcheck(logits, leaves)
