"""Losses by hand and by repetition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.losses import weighted_cross_entropy


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 4), min_size=1, max_size=10).filter(any),
    n_classes=st.integers(1, 6),
    scale=st.sampled_from([1.0, 0.25, 3.0]),
    seed=st.integers(0, 1000),
)
def test_a_weight_counts_like_repetition(counts: list[int], n_classes: int, scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(counts), n_classes, generator=draw, dtype=torch.float64)
    targets = torch.randint(n_classes, (len(counts),), generator=draw)
    times = torch.tensor(counts)
    repeated, again = logits.repeat_interleave(times, dim=0), targets.repeat_interleave(times)
    expected = torch.nn.functional.cross_entropy(repeated, again)
    found = weighted_cross_entropy(logits, targets, times.double() * scale)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


def test_the_loss_is_in_nats() -> None:
    even = weighted_cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 3]), torch.tensor([1.0, 2.0, 5.0]))
    assert float(even) == pytest.approx(math.log(4), rel=1e-6)
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    mixed = weighted_cross_entropy(logits, torch.tensor([0, 1]), torch.tensor([3.0, 1.0]))
    assert float(mixed) == pytest.approx((3 * math.log(4 / 3) + math.log(2)) / 4, rel=1e-6)
