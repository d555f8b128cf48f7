"""The weight of token similarity for a task: leave-one-out by hand."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.inner_loop import collect
from metalearn.learners import make_learner
from metalearn.meta_model import MetaModel
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedSet
from metalearn.task_view.pair_weight import column_scales
from metalearn.types import EncodedSet

WIDTH = 6


def right_by_hand(features: Tensor, classes: list[int], weights: list[float]) -> list[bool]:
    """Each row in turn among the weighted means of the classes without it; rows that count nothing are not there."""
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


def encoded(classes: list[int], seed: int, weights: list[float] | None = None) -> EncodedSet:
    """Features somewhat near their class, whose last two columns are token similarities."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(5, WIDTH + 2, generator=draw, dtype=torch.float64)
    features = centres[classes] + torch.randn(len(classes), WIDTH + 2, generator=draw, dtype=torch.float64)
    return EncodedSet(features, torch.tensor(classes), torch.tensor(weights or [1.0] * len(classes)), 5)


@settings(deadline=None, max_examples=50)
@given(
    classes=st.lists(st.integers(0, 3), min_size=1, max_size=16),
    weights=st.lists(st.sampled_from([0.0, 0.7, 2.4]), min_size=4, max_size=4),
    seed=st.integers(0, 10_000),
)
def test_similarity_counts_as_leave_one_out_measures(classes: list[int], weights: list[float], seed: int) -> None:
    rows, counts = [*classes, 0, 1, 2, 3], [*[1.0] * len(classes), *weights]
    support = encoded(rows, seed, counts)
    similarity = right_by_hand(support.features[:, -2:], rows, counts)
    others = right_by_hand(support.features[:, :-2], rows, counts)
    alone = sum(a and not b for a, b in zip(similarity, others, strict=True))
    others_alone = sum(b and not a for a, b in zip(similarity, others, strict=True))
    expected = min(2.0, max(0.0, 1 + (alone - others_alone) / max(1, alone + others_alone) ** 0.5 / 3))
    scales = column_scales(support, 2)
    assert scales[-2:].tolist() == pytest.approx([expected] * 2, abs=1e-6)
    assert scales[:-2].tolist() == [1.0] * WIDTH


def test_one_example_of_each_class_moves_nothing() -> None:
    assert column_scales(encoded([0, 1, 2], 0), 2).tolist() == [1.0] * (WIDTH + 2)


def test_the_head_answers_plain_features_as_a_head_of_scaled_ones() -> None:
    support = encoded([0, 1] * 10, 3)
    weighted = MetaModel(MlpBody((WIDTH + 2,)), HeadOnly(), make_learner("protomaml"), centred=True, pair_columns=2)
    usual = replace(weighted, pair_columns=0)
    slow = {name: weight.double() for name, weight in usual.initial_slow_weights(steps=3).items()}
    scales = column_scales(support, 2)
    assert float((scales - 1).abs().max()) > 0.01, "else nothing is scaled"
    prepared = PreparedSet(support.features, support.targets, torch.ones(20).double(), 2)

    def adapted(model: MetaModel, to: PreparedSet) -> dict[str, Tensor]:
        return dict(collect(model.adapt(slow, to, model.start(slow, to), steps=3)).fast_weights)

    found, expected = adapted(weighted, prepared), adapted(usual, replace(prepared, inputs=prepared.inputs * scales))
    queries = torch.randn(5, WIDTH + 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    torch.testing.assert_close(weighted.outputs(slow, found, queries), usual.outputs(slow, expected, queries * scales))


@pytest.mark.parametrize("objective", ["regression", "multi_label"])
def test_other_objectives_have_no_pair_weight(objective: str) -> None:
    model = MetaModel(MlpBody((WIDTH,)), HeadOnly(), make_learner("maml"), centred=True, pair_columns=2)
    slow = model.initial_slow_weights(steps=1)
    support = PreparedSet(torch.randn(6, WIDTH), torch.ones(6, 1), torch.ones(6), 1, objective)  # type: ignore[arg-type]
    assert model.start(slow, support).map is None
