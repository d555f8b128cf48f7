"""What a task's own share of stock features is: leave-one-out by hand, and the head that comes of it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.inner_loop import collect
from metalearn.label_text import LabelTextPrior
from metalearn.learners import LEARNERS, make_learner
from metalearn.meta_model import MetaModel
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedSet
from metalearn.stock_share import StockShare

WIDTH = 3
LINEAR = [name for name in sorted(LEARNERS) if make_learner(name).linear_head]


def right_by_hand(features: Tensor, classes: list[int], weights: list[float] | None = None) -> list[bool]:
    """Each row in turn among the weighted means of the classes without it; rows that count nothing are not there."""
    weights = weights or [1.0] * len(classes)
    right = []
    for i, own in enumerate(classes):
        distances = {}
        for c in {*classes}:
            others = [j for j, each in enumerate(classes) if each == c and j != i and weights[j] > 0]
            if others:
                counts = torch.tensor([weights[j] for j in others], dtype=features.dtype)
                mean = counts @ features[others] / counts.sum()
                distances[c] = float((features[i] - mean).square().sum())
        nearest = own in distances and all(distances[own] < distances[c] for c in distances if c != own)
        right.append(nearest and weights[i] > 0)
    return right


def scales_of(share: StockShare, features: Tensor, classes: list[int], n_classes: int) -> Tensor:
    """Scales by examples alone."""
    return share.column_scales(features, torch.tensor(classes), torch.ones(len(classes)), n_classes)


def examples(classes: list[int], seed: int) -> Tensor:
    """Features whose halves are each somewhat near their class."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(classes) + 1, 2 * WIDTH, generator=draw, dtype=torch.float64)
    return centres[classes] + torch.randn(len(classes), 2 * WIDTH, generator=draw, dtype=torch.float64)


def stock_share_of(scales: Tensor, usual: float) -> float:
    """The share that the columns' scales come to."""
    stock, trained = scales[0] ** 2 * usual, scales[-1] ** 2 * (1 - usual)
    assert float(stock + trained) == pytest.approx(1, abs=1e-6)
    assert torch.equal(scales[:WIDTH], scales[:1].expand(WIDTH))
    assert torch.equal(scales[WIDTH:], scales[-1:].expand(WIDTH))
    return float(stock)


@settings(deadline=None, max_examples=100)
@given(
    classes=st.lists(st.integers(0, 3), min_size=2, max_size=24),
    seed=st.integers(0, 10_000),
    usual=st.floats(0.3, 0.7),
    lean=st.floats(0, 0.3),
)
def test_the_share_is_what_leave_one_out_says(classes: list[int], seed: int, usual: float, lean: float) -> None:
    features = examples(classes, seed)
    stock, trained = (right_by_hand(half, classes) for half in (features[:, :WIDTH], features[:, WIDTH:]))
    stock_alone = sum(s and not t for s, t in zip(stock, trained, strict=True))
    trained_alone = sum(t and not s for s, t in zip(stock, trained, strict=True))
    deviations = (stock_alone - trained_alone) / max(1, stock_alone + trained_alone) ** 0.5
    expected = min(0.9, max(0.3, usual + lean * deviations))
    # A class that no example has is nobody's
    scales = scales_of(StockShare(usual, lean), features, classes, 5)
    assert stock_share_of(scales, usual) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(
    classes=st.lists(st.integers(0, 3), min_size=1, max_size=12),
    weights=st.lists(st.sampled_from([0.0, 0.7, 2.4]), min_size=4, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_texts_of_labels_are_told_and_tell(classes: list[int], weights: list[float], seed: int) -> None:
    rows, counts = [*classes, 0, 1, 2, 3], [*[1.0] * len(classes), *weights]
    features = examples(rows, seed)
    stock, trained = (right_by_hand(half, rows, counts) for half in (features[:, :WIDTH], features[:, WIDTH:]))
    stock_alone = sum(s and not t for s, t in zip(stock, trained, strict=True))
    trained_alone = sum(t and not s for s, t in zip(stock, trained, strict=True))
    expected = min(
        0.9, max(0.3, 0.5 + 0.1 * (stock_alone - trained_alone) / max(1, stock_alone + trained_alone) ** 0.5)
    )
    scales = StockShare(0.5, 0.1).column_scales(features, torch.tensor(rows), torch.tensor(counts), 5)
    assert stock_share_of(scales, 0.5) == pytest.approx(expected, abs=1e-6)


@settings(deadline=None, max_examples=100)
@given(classes=st.lists(st.integers(0, 3), min_size=2, max_size=24), seed=st.integers(0, 10_000))
def test_similarity_counts_as_leave_one_out_says(classes: list[int], seed: int) -> None:
    halves = examples(classes, seed)
    similarity = examples(classes, seed + 1)[:, :2]
    told, others = right_by_hand(similarity, classes), right_by_hand(halves, classes)
    alone = sum(a and not b for a, b in zip(told, others, strict=True))
    others_alone = sum(b and not a for a, b in zip(told, others, strict=True))
    expected = min(2.0, max(0.0, 1 + (alone - others_alone) / max(1, alone + others_alone) ** 0.5 / 3))
    scales = scales_of(StockShare(0.5, 0.1, 2), torch.cat([halves, similarity], dim=1), classes, 5)
    assert scales[-2:].tolist() == pytest.approx([expected] * 2, abs=1e-6)
    assert torch.equal(scales[:-2], scales_of(StockShare(0.5, 0.1), halves, classes, 5))


def test_one_example_of_each_class_moves_nothing() -> None:
    scales = scales_of(StockShare(0.5, 0.1), examples([0, 1, 2], 0), [0, 1, 2], 3)
    assert scales.tolist() == [1.0] * 2 * WIDTH


@pytest.mark.parametrize(("half", "share"), [(0, 0.9), (1, 0.3)])
def test_the_half_that_tells_the_classes_apart_counts_more(half: int, share: float) -> None:
    draw = torch.Generator().manual_seed(0)
    classes = torch.arange(2).repeat_interleave(50)
    features = torch.randn(100, 2, WIDTH, generator=draw)
    features[:, half, 0] += 20 * classes
    scales = scales_of(StockShare(0.5, 0.1), features.flatten(1), classes.tolist(), 2)
    assert stock_share_of(scales, 0.5) == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("label_texts", [0, 2])
@pytest.mark.parametrize("learner", LINEAR)
def test_the_head_is_that_of_scaled_features(learner: str, label_texts: int) -> None:
    classes = [0, 1] * 10
    features = examples(classes, 3).float()
    features[:, 0] += 2 * torch.tensor(classes)
    usual = MetaModel(MlpBody((2 * WIDTH,)), HeadOnly(), make_learner(learner), LabelTextPrior())
    leaning = replace(usual, stock_share=StockShare(0.5, 0.2))
    slow = usual.initial_slow_weights(steps=3)
    weights = torch.ones(len(classes))
    weights[len(classes) - label_texts :] = LabelTextPrior().weight
    scales = StockShare(0.5, 0.2).column_scales(features, torch.tensor(classes), weights, 2)
    assert float((scales - 1).abs().max()) > 0.01, "else nothing is scaled"
    support = PreparedSet(features, torch.tensor(classes), torch.ones(len(classes)), 2, label_texts=label_texts)
    scaled = replace(support, inputs=features * scales)

    def adapted(model: MetaModel, to: PreparedSet) -> tuple[dict[str, Tensor], Tensor]:
        result = collect(model.adapt(slow, to, model.start(slow, to), steps=3))
        return dict(result.fast_weights), result.losses

    (found, losses), (expected, expected_losses) = adapted(leaning, support), adapted(usual, scaled)
    queries = torch.randn(5, 2 * WIDTH, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(losses, expected_losses)
    torch.testing.assert_close(leaning.outputs(slow, found, queries), usual.outputs(slow, expected, queries * scales))


def test_names_are_judged_by_the_half_that_tells_the_examples() -> None:
    classes = torch.tensor([0, 1] * 10)
    side = torch.tensor([1.0, 1.0, -1.0, -1.0] * 5)  # of stock features, which tell nothing of the class
    features = torch.zeros(22, 2 * WIDTH)
    features[:20, 0], features[:20, WIDTH] = side, 1 - 2 * classes
    # Stock features alone would have half of the names right, trained ones have them swapped
    features[20:, 0], features[20:, WIDTH] = torch.tensor([1.5, -1.5]), torch.tensor([-1.0, 1.0])
    usual = MetaModel(MlpBody((2 * WIDTH,)), HeadOnly(), make_learner("protomaml"), LabelTextPrior())
    targets = torch.cat([classes, torch.tensor([0, 1])])
    support = PreparedSet(features, targets, torch.ones(22), 2, label_texts=2)
    slow = usual.initial_slow_weights(steps=1)
    leaning = replace(usual, stock_share=StockShare(0.5, 0.2))
    assert usual.start(slow, support)[1].weights[20:].tolist() == [2.0, 2.0]
    assert leaning.start(slow, support)[1].weights[20:].tolist() == [0.0, 0.0]


def test_regression_is_left_alone() -> None:
    model = MetaModel(MlpBody((2 * WIDTH,)), HeadOnly(), make_learner("maml"), stock_share=StockShare(0.5, 0.2))
    slow = model.initial_slow_weights(steps=1)
    scores = PreparedSet(examples([0] * 6, 1).float(), torch.randn(6, 1), torch.ones(6), 1, "regression")
    assert model.start(slow, scores)[1].view is None
