"""Prototypical and matching networks against their formulas."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.learners.metric import Matching, Prototypical, PrototypicalCosine, directions
from tests.metalearn.conftest import clusters


def _f64(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def _log(number: float) -> Tensor:
    return torch.tensor(number, dtype=torch.float64).log()


SUPPORT = EncodedSet(
    _f64([2, 0], [0, 0], [0, 2]), torch.tensor([0, 0, 1]), torch.ones(3, dtype=torch.float64), n_classes=2
)
"""Means (1, 0) and (0, 2)."""


def _query(n_rows: int, dim: int = 8) -> Tensor:
    return torch.randn(n_rows, dim, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("learner", [Prototypical(), PrototypicalCosine(), Matching()])
def test_before_meta_training_there_is_one_positive_factor_kept_as_a_logarithm(
    learner: Prototypical | PrototypicalCosine | Matching,
) -> None:
    slow = learner.initial_slow_weights(8, {}, steps=5, draw=torch.Generator())
    assert [weight.shape for weight in slow.values()] == [torch.Size([])]
    assert float(next(iter(slow.values())).exp()) == pytest.approx(10)


@pytest.mark.parametrize("scale", [0.5, 10.0])
def test_prototypical_logits_are_negative_squared_distances(scale: float) -> None:
    learner = Prototypical()
    query = _f64([0, 0], [1, 0.5], [-1, 3])
    logits = learner.logits(learner.start({"log_scale": _log(scale)}, SUPPORT), query)
    by_hand = -scale * _f64([1, 4], [0.25, 3.25], [13, 2])
    torch.testing.assert_close(logits.softmax(dim=1), by_hand.softmax(dim=1), atol=1e-12, rtol=0)
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], by_hand[:, 0] - by_hand[:, 1], atol=1e-12, rtol=0)


def test_prototypical_goes_by_weighted_means() -> None:
    support = replace(clusters(5, 3, dtype=torch.float64), weights=torch.arange(1, 16).double())
    query, learner = _query(40), Prototypical()
    means = torch.stack(
        [
            (support.features * support.weights[:, None])[support.targets == k].sum(dim=0)
            / support.weights[support.targets == k].sum()
            for k in range(5)
        ]
    )
    expected = -7 * torch.cdist(query, means).square()
    logits = learner.logits(learner.start({"log_scale": _log(7)}, support), query)
    torch.testing.assert_close(logits.log_softmax(dim=1), expected.log_softmax(dim=1), atol=1e-10, rtol=0)


def test_cosine_logits_by_hand() -> None:
    # by hand: the directions of the means are (1, 0) and (0, 1)
    learner = PrototypicalCosine()
    logits = learner.logits(learner.start({"log_scale": _log(4)}, SUPPORT), _f64([3, 4], [0, -2], [1, 1]))
    torch.testing.assert_close(logits, _f64([2.4, 3.2], [0, -4], [8**0.5, 8**0.5]), atol=1e-12, rtol=0)


def test_cosine_means_are_those_of_the_features_as_they_are() -> None:
    support = replace(clusters(5, 3, dtype=torch.float64), weights=torch.arange(1, 16).double())
    support = replace(support, features=support.features * torch.linspace(0.1, 9, 15, dtype=torch.float64)[:, None])
    query, learner = _query(40), PrototypicalCosine()
    weighted = support.features * support.weights[:, None]
    sums = torch.stack([weighted[support.targets == k].sum(dim=0) for k in range(5)])
    expected = 10 * torch.nn.functional.cosine_similarity(query[:, None], sums[None], dim=2)
    logits = learner.logits(learner.start({"log_scale": _log(10)}, support), query)
    torch.testing.assert_close(logits, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(learner.logits(learner.start({"log_scale": _log(10)}, support), query * 7), logits)


def test_a_zero_vector_is_as_similar_to_one_class_as_to_another() -> None:
    learner = PrototypicalCosine()
    opposite = EncodedSet(_f64([1, 0], [-1, 0], [0, 1]), torch.tensor([0, 0, 1]), torch.ones(3).double(), 2)
    fast = learner.start({"log_scale": _log(10)}, opposite)  # the first class's mean is the zero vector
    assert torch.equal(learner.logits(fast, _f64([0, 0], [3, 0])), torch.zeros(2, 2, dtype=torch.float64))


@given(exponent=st.integers(-18, 18), sign=st.sampled_from([-1.0, 1.0]))
@settings(max_examples=40, deadline=None)
def test_directions_have_length_one_whatever_the_length_was(exponent: int, sign: float) -> None:
    vectors = sign * _query(3).float() * 10.0**exponent
    torch.testing.assert_close(directions(vectors).norm(dim=1), torch.ones(3))
    torch.testing.assert_close(directions(vectors), sign * directions(_query(3).float()))


def test_matching_by_hand() -> None:
    # three examples at cosines 1, 0 and -1 of the query, which weigh 1, 2 and 0.5; the first and the last share a class
    support = EncodedSet(_f64([2, 0], [0, 3], [-1, 0]), torch.tensor([1, 0, 1]), _f64([1, 2, 0.5])[0], 2)
    learner, sharpness = Matching(), 1.5
    fast = learner.start({"log_sharpness": _log(sharpness)}, support)
    assert set(fast) == {"support.keys", "support.membership"}
    attention = [math.exp(sharpness), 2.0, 0.5 * math.exp(-sharpness)]
    total = sum(attention)
    probabilities = _f64([attention[1] / total, (attention[0] + attention[2]) / total])
    found = learner.logits(fast, _f64([5, 0]))
    torch.testing.assert_close(found, probabilities.log(), atol=1e-14, rtol=0)
    torch.testing.assert_close(found.softmax(dim=1), probabilities, atol=1e-14, rtol=0)


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 10.0, 100.0])
def test_matching_probabilities_are_the_papers(sharpness: float) -> None:
    draw = torch.Generator().manual_seed(3)
    support = replace(
        clusters(6, 4, dtype=torch.float64), weights=torch.rand(24, generator=draw, dtype=torch.float64) + 0.1
    )
    query, learner = _query(30), Matching()
    cosines = torch.nn.functional.cosine_similarity(query[:, None], support.features[None], dim=2)
    attention = support.weights * (sharpness * cosines).exp()
    attention = attention / attention.sum(dim=1, keepdim=True)
    expected = attention @ support.membership
    logits = learner.logits(learner.start({"log_sharpness": _log(sharpness)}, support), query)
    torch.testing.assert_close(logits.exp(), expected, atol=1e-13, rtol=1e-10)
    torch.testing.assert_close(logits.logsumexp(dim=1), torch.zeros(30, dtype=torch.float64), atol=1e-12, rtol=0)


def test_matching_does_not_underflow() -> None:
    # in single precision exp(-200) is 0, and its logarithm minus infinity
    support = EncodedSet(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([0, 1]), torch.ones(2), 2)
    learner, sharpness = Matching(), torch.tensor(100.0).log().requires_grad_()
    logits = learner.logits(learner.start({"log_sharpness": sharpness}, support), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(logits, torch.tensor([[0.0, -200.0]]), atol=1e-3, rtol=0)
    (gradient,) = torch.autograd.grad(logits[0, 1], sharpness)
    assert float(gradient) == pytest.approx(-200, rel=1e-4)


def test_an_example_that_weighs_nothing_does_not_vote() -> None:
    support, query, learner = clusters(3, 4, dtype=torch.float64), _query(10), Matching()
    counted = torch.tensor([1, 1, 0, 1] * 3)
    silenced = replace(support, weights=counted.double())
    kept = counted == 1
    without = EncodedSet(support.features[kept], support.targets[kept], torch.ones(9).double(), 3)
    slow = {"log_sharpness": _log(10)}
    found = learner.logits(learner.start(slow, silenced), query)
    torch.testing.assert_close(found, learner.logits(learner.start(slow, without), query), atol=1e-12, rtol=0)
    nobody = replace(support, weights=(support.targets != 1).double())
    logits = learner.logits(learner.start(slow, nobody), query)
    assert bool(logits.isfinite().all())
    assert float(logits.softmax(dim=1)[:, 1].max()) < 1e-100
