"""The weight of a label's text beside examples."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.task_view.label_text_prior import LabelTextPrior


def _weights(weight: float, fade: float, counts: list[float]) -> list[float]:
    slow = {
        "log_weight": torch.tensor(weight, dtype=torch.float64).log(),
        "fade": torch.tensor(fade, dtype=torch.float64),
    }
    found: list[float] = LabelTextPrior().weights(slow, torch.tensor(counts, dtype=torch.float64)).tolist()
    return found


def test_the_weight_of_a_labels_text_by_hand() -> None:
    # w / (1 + n)^f beside 0, 1 and 5 examples
    assert _weights(3.0, 0.5, [0, 1, 5]) == pytest.approx([3, 3 / math.sqrt(2), 3 / math.sqrt(6)])
    assert _weights(0.5, 2.0, [0, 1, 5]) == pytest.approx([1 / 2, 1 / 8, 1 / 72])
    assert _weights(2.0, -1.0, [0, 1, 5]) == pytest.approx([2, 4, 12])
    assert _weights(2.0, 0.0, [0, 1, 5]) == pytest.approx([2, 2, 2])


@pytest.mark.parametrize("weight", [2.0, 0.25])
def test_before_meta_training_a_labels_text_counts_the_same_beside_any_number_of_examples(weight: float) -> None:
    prior = LabelTextPrior(weight)
    slow = prior.initial_slow_weights()
    assert {name: tuple(value.shape) for name, value in slow.items()} == {"log_weight": (), "fade": ()}
    found = prior.weights(slow, torch.arange(100).float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((100,), weight), atol=1e-6, rtol=0)
    assert LabelTextPrior() == LabelTextPrior(2.0)


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-3, 1e3), st.floats(0, 3), st.integers(0, 1000))
def test_the_share_of_a_labels_text_shrinks_as_examples_are_added(weight: float, fade: float, n: int) -> None:
    here, next_ = _weights(weight, fade, [n, n + 1])
    assert here == pytest.approx(weight / (1 + n) ** fade)
    assert here > 0
    assert next_ / (next_ + n + 1) < here / (here + n)


def test_gradients_of_a_labels_weight_by_hand() -> None:
    slow = {"log_weight": torch.tensor(3.0).log().requires_grad_(), "fade": torch.tensor(0.5, requires_grad=True)}
    found = LabelTextPrior().weights(slow, torch.tensor([0.0, 1.0, 5.0]))
    for n, weight in zip((0, 1, 5), found, strict=True):
        gradients = torch.autograd.grad(weight, list(slow.values()), retain_graph=True)
        value = 3 / math.sqrt(1 + n)
        assert [float(gradient) for gradient in gradients] == pytest.approx([value, -value * math.log(1 + n)])
