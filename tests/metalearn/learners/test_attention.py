"""The attentive learner: causal, deterministic, and a matching network to begin with."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.learners.attention import Attention, label_codes
from metalearn.learners.metric import Matching
from tests.metalearn.conftest import clusters

SMALL = Attention(code_dim=8)


def _slow(learner: Attention, dim: int = 8, *, noise: float = 0.0) -> dict[str, Tensor]:
    """In float64; with noise, as if meta-training had moved everything."""
    slow = learner.initial_slow_weights(dim, {}, steps=5, draw=torch.Generator())
    draw = torch.Generator().manual_seed(1)
    return {
        name: weight.double() + noise * torch.randn(weight.shape, generator=draw, dtype=torch.float64)
        for name, weight in slow.items()
    }


def _query(n_rows: int, dim: int = 8) -> Tensor:
    return torch.randn(n_rows, dim, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("changed", range(8))
def test_an_example_does_not_change_what_was_read_before_it(changed: int) -> None:
    support, slow = clusters(4, 2, dtype=torch.float64), _slow(SMALL, noise=0.2)
    features = support.features.clone()
    features[changed] = _query(1)[0]
    targets = support.targets.clone()
    targets[changed] = (targets[changed] + 1) % 4
    before, after = (
        SMALL.start(slow, replace(support, features=rows, targets=classes))
        for rows, classes in ((support.features, support.targets), (features, targets))
    )
    for name in ("attention.keys", "attention.values"):
        torch.testing.assert_close(after[name][:changed], before[name][:changed], atol=1e-12, rtol=0)
        assert bool((after[name][changed:] - before[name][changed:]).abs().amax(dim=1).gt(1e-10).all())


def test_the_block_by_hand() -> None:
    # two examples in the plane with codes of width 2 and maps of the start: sharpness s, share h
    slow, learner = _slow(Attention(code_dim=2), dim=2), Attention(code_dim=2)
    features = torch.tensor([[3.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    support = EncodedSet(features, torch.tensor([1, 0]), torch.tensor([1.0, 2.0], dtype=torch.float64), 2)
    codes = label_codes(2, 2)
    tokens = torch.cat([torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64), codes[[1, 0]]], dim=1)
    to_first, to_second = torch.tensor([10 * 0.6, 10 * 1.0], dtype=torch.float64).exp() * torch.tensor([1.0, 2.0])
    read = (to_first * tokens[0] + to_second * tokens[1]) / (to_first + to_second)
    contextualised = torch.stack([1.1 * tokens[0], tokens[1] + 0.1 * read])
    keys = contextualised[:, :2] / contextualised[:, :2].norm(dim=1, keepdim=True)
    fast = learner.start(slow, support)
    torch.testing.assert_close(fast["attention.keys"], 10 * keys, atol=1e-6, rtol=0)
    torch.testing.assert_close(fast["attention.values"], 5 * contextualised[:, 2:] @ codes.T, atol=1e-6, rtol=0)
    query = torch.tensor([[0.0, 2.0]], dtype=torch.float64)
    weights = (10 * keys[:, 1]).exp() * torch.tensor([1.0, 2.0])
    expected = 5 * (weights / weights.sum()) @ contextualised[:, 2:] @ codes.T
    torch.testing.assert_close(learner.logits(fast, query)[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("n_classes", [2, 30, 128])
def test_without_the_block_it_is_a_matching_network_without_the_logarithm(n_classes: int) -> None:
    support = clusters(n_classes, 3, dtype=torch.float64)
    support = replace(support, weights=1 + torch.arange(3 * n_classes).double())
    learner, matching, query = Attention(), Matching(), _query(10)
    slow = {**_slow(learner), "block.log_share": torch.tensor(-torch.inf, dtype=torch.float64)}
    expected = matching.logits(matching.start({"log_sharpness": slow["log_sharpness"]}, support), query).exp()
    logits = learner.logits(learner.start(slow, support), query)
    torch.testing.assert_close(logits, slow["log_scale"].exp() * expected, atol=1e-10, rtol=0)


def test_before_meta_training_it_answers_like_a_matching_network() -> None:
    support, query = clusters(10, 3, dim=32), clusters(10, 20, dim=32)
    learner, matching = Attention(), Matching()
    slow = learner.initial_slow_weights(32, {}, steps=5, draw=torch.Generator())
    found = learner.logits(learner.start(slow, support), query.features)
    expected = matching.logits(matching.start({"log_sharpness": slow["log_sharpness"]}, support), query.features)
    assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1))


def test_renaming_the_classes_renames_the_logits_up_to_the_codes() -> None:
    support, query = clusters(5, 2, dtype=torch.float64), _query(6)
    new_index = torch.tensor([3, 0, 4, 1, 2])
    renamed = replace(support, targets=new_index[support.targets])
    start, moved = _slow(SMALL), _slow(SMALL, noise=0.2)
    # maps that treat all codes alike: exact, since codes are orthonormal
    expected = SMALL.logits(SMALL.start(start, support), query)
    found = SMALL.logits(SMALL.start(start, renamed), query)[:, new_index]
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    # maps that treat codes differently, as training may make them
    expected = SMALL.logits(SMALL.start(moved, support), query)
    found = SMALL.logits(SMALL.start(moved, renamed), query)[:, new_index]
    assert not torch.allclose(found, expected, atol=1e-3)


def test_the_order_of_the_examples_matters_and_decides() -> None:
    support, query, slow = clusters(4, 3, dtype=torch.float64), _query(6), _slow(SMALL, noise=0.1)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled = replace(support, features=support.features[order], targets=support.targets[order])
    first = SMALL.logits(SMALL.start(slow, support), query)
    assert torch.equal(SMALL.logits(SMALL.start(slow, support), query), first)
    assert not torch.allclose(SMALL.logits(SMALL.start(slow, shuffled), query), first, atol=1e-3)


def test_an_example_that_weighs_nothing_is_not_read() -> None:
    support, query, slow = clusters(3, 4, dtype=torch.float64), _query(10), _slow(SMALL, noise=0.1)
    counted = torch.tensor([1, 1, 0, 1] * 3)
    silenced = replace(support, weights=counted.double())
    kept = counted == 1
    without = EncodedSet(support.features[kept], support.targets[kept], torch.ones(9).double(), 3)
    found = SMALL.logits(SMALL.start(slow, silenced), query)
    torch.testing.assert_close(found, SMALL.logits(SMALL.start(slow, without), query), atol=1e-12, rtol=0)


def test_codes_are_fixed_unit_vectors_orthonormal_block_by_block() -> None:
    codes = label_codes(300, 128)
    assert codes.shape == (300, 128)
    identity = torch.eye(128, dtype=torch.float64)
    torch.testing.assert_close(codes[:128] @ codes[:128].T, identity, atol=1e-12, rtol=0)
    torch.testing.assert_close(codes[128:256] @ codes[128:256].T, identity, atol=1e-12, rtol=0)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(300, dtype=torch.float64))
    # across blocks as far apart as random directions are
    assert float((codes[:128] @ codes[128:].T).abs().max()) < 0.5


@pytest.mark.parametrize("n_classes", [1, 2, 77, 128, 129])
def test_the_code_of_a_class_does_not_depend_on_how_many_there_are(n_classes: int) -> None:
    assert torch.equal(label_codes(n_classes, 128), label_codes(300, 128)[:n_classes])


def test_more_classes_than_codes_are_wide_are_still_separated() -> None:
    support = clusters(200, 1, dim=64)
    learner = Attention()
    slow = learner.initial_slow_weights(64, {}, steps=5, draw=torch.Generator())
    logits = learner.logits(learner.start(slow, support), support.features)
    assert torch.equal(logits.argmax(dim=1), support.targets)


def test_gradients_of_everything_that_is_learned() -> None:
    learner = Attention(code_dim=2)
    support, query, slow = clusters(2, 2, dim=3, dtype=torch.float64), _query(2, 3), _slow(learner, 3, noise=0.2)

    def logits(features: Tensor, *weights: Tensor) -> Tensor:
        named = dict(zip(slow, weights, strict=True))
        return learner.logits(learner.start(named, replace(support, features=features)), query)

    leaves = [each.detach().clone().requires_grad_() for each in (support.features, *slow.values())]
    assert torch.autograd.gradcheck(logits, leaves)
