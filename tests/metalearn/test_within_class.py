"""What texts of a class differ in counts less: against the dense formula, and what heads make of it."""

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
from metalearn.within_class import TaskView, WithinClass

WIDTH = 4
SECTIONS = (WIDTH, WIDTH)
LINEAR = [name for name in sorted(LEARNERS) if make_learner(name).linear_head]


def examples(classes: list[int], seed: int, *, columns: int = 2 * WIDTH) -> Tensor:
    """Features somewhat near their class, of no equal spread."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(classes) + 1, columns, generator=draw, dtype=torch.float64)
    spread = torch.rand(columns, generator=draw, dtype=torch.float64) * 3
    return centres[classes] + spread * torch.randn(len(classes), columns, generator=draw, dtype=torch.float64)


def by_hand(features: Tensor, classes: list[int], prior: float) -> Tensor:
    """The whole matrix: the covariance within classes, shrunk, and its inverse root."""
    of_class = {c: features[[i for i, each in enumerate(classes) if each == c]] for c in {*classes}}
    differences = torch.stack([x - of_class[c].mean(dim=0) for x, c in zip(features, classes, strict=True)])
    free, width = len(classes) - len(of_class), features.shape[1]
    if free == 0 or len(of_class) < 3:
        return torch.eye(width, dtype=features.dtype)
    variance = differences.square().sum() / (free * width)
    sphere = prior * width * variance * torch.eye(width, dtype=features.dtype)
    shrunk = differences.T @ differences * (1 - 2 / len(of_class)) + sphere
    values, vectors = torch.linalg.eigh(shrunk)
    root = vectors @ torch.diag(values.rsqrt()) @ vectors.T
    return root * features.norm(dim=1).mean() / (features @ root).norm(dim=1).mean()


@settings(deadline=None, max_examples=100)
@given(
    classes=st.lists(st.integers(0, 3), min_size=2, max_size=16),
    seed=st.integers(0, 10_000),
    prior=st.floats(0.01, 100),
    further=st.integers(0, 2),
)
def test_the_map_is_that_of_the_dense_formula(classes: list[int], seed: int, prior: float, further: int) -> None:
    # Fewer examples than columns, and more
    features = examples(classes, seed, columns=2 * WIDTH + further)
    # A class that no example has is nobody's
    view = TaskView(WithinClass(prior, SECTIONS).narrowings(features, torch.tensor(classes), 5))
    halves = features[:, :WIDTH], features[:, WIDTH : 2 * WIDTH]
    expected = torch.cat([half @ by_hand(half, classes, prior) for half in halves] + [features[:, 2 * WIDTH :]], dim=1)
    torch.testing.assert_close(view.of(features), expected)


def test_one_example_of_each_class_tells_nothing() -> None:
    features = examples([0, 1, 2], 0)
    view = TaskView(WithinClass(5.0, SECTIONS).narrowings(features, torch.tensor([0, 1, 2]), 3))
    torch.testing.assert_close(view.of(features), features)


def test_two_classes_are_left_as_they_are() -> None:
    features = examples([0, 0, 0, 1, 1], 0)
    view = TaskView(WithinClass(5.0, SECTIONS).narrowings(features, torch.tensor([0, 0, 0, 1, 1]), 2))
    torch.testing.assert_close(view.of(features), features)


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_the_same_text_again_tells_nothing(scale: float) -> None:
    classes = [0, 1, 2, 0, 1, 2]
    features = (examples(classes, 0) * scale).float()
    features[3:] = features[:3] * (1 + 1e-7)
    view = TaskView(WithinClass(5.0, SECTIONS).narrowings(features, torch.tensor(classes), 3))
    torch.testing.assert_close(view.of(features), features, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("label_texts", [0, 2])
@pytest.mark.parametrize("learner", LINEAR)
def test_the_head_is_that_of_features_under_the_view(learner: str, label_texts: int) -> None:
    classes = [0, 1, 2] * 8
    features = examples(classes, 3).float() / 3
    usual = MetaModel(MlpBody((2 * WIDTH,)), HeadOnly(), make_learner(learner), LabelTextPrior())
    seeing = replace(usual, stock_share=StockShare(0.5, 0.2), within_class=WithinClass(0.5, SECTIONS))
    slow = usual.initial_slow_weights(steps=3)
    known, own = features[: len(classes) - label_texts], torch.tensor(classes[: len(classes) - label_texts])
    narrowings = WithinClass(0.5, SECTIONS).narrowings(known, own, 3)
    # How the halves do is asked of features that were narrowed, of all texts
    weights = torch.ones(len(classes))
    weights[len(known) :] = LabelTextPrior().weight
    scales = StockShare(0.5, 0.2).column_scales(TaskView(narrowings).of(features), torch.tensor(classes), weights, 3)
    view = TaskView(narrowings, scales)
    assert float((view.of(features) - features).abs().max()) > 0.1, "else nothing is seen otherwise"
    support = PreparedSet(features, torch.tensor(classes), torch.ones(len(classes)), 3, label_texts=label_texts)
    viewed = replace(support, inputs=view.of(features))

    def adapted(model: MetaModel, to: PreparedSet) -> tuple[dict[str, Tensor], Tensor]:
        result = collect(model.adapt(slow, to, model.start(slow, to), steps=3))
        return dict(result.fast_weights), result.losses

    (found, losses), (expected, expected_losses) = adapted(seeing, support), adapted(usual, viewed)
    queries = torch.randn(5, 2 * WIDTH, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(losses, expected_losses)
    torch.testing.assert_close(seeing.outputs(slow, found, queries), usual.outputs(slow, expected, view.of(queries)))


def test_what_all_classes_vary_in_misleads_less() -> None:
    draw = torch.Generator().manual_seed(0)
    classes = torch.arange(4).repeat_interleave(60)
    features = torch.randn(240, 2 * WIDTH, generator=draw)
    features[:, 1:5] += 2 * torch.nn.functional.one_hot(classes, 4)
    features[:, 0] += 8 * torch.randn(240, generator=draw)
    rows = torch.arange(240) % 60 < 6
    usual = MetaModel(MlpBody((2 * WIDTH,)), HeadOnly(), make_learner("protomaml"))
    right = []
    for model in (usual, replace(usual, within_class=WithinClass(1.0, (2 * WIDTH,)))):
        slow = model.initial_slow_weights(steps=0)
        support = PreparedSet(features[rows], classes[rows], torch.ones(24), 4)
        adapted = collect(model.adapt(slow, support, model.start(slow, support), steps=0)).fast_weights
        found = model.outputs(slow, adapted, features[~rows]).argmax(dim=1)
        right.append(float((found == classes[~rows]).float().mean()))
    assert right[1] > right[0] + 0.1


def test_regression_is_left_alone() -> None:
    model = MetaModel(MlpBody((2 * WIDTH,)), HeadOnly(), make_learner("maml"), within_class=WithinClass(1.0, SECTIONS))
    slow = model.initial_slow_weights(steps=1)
    scores = PreparedSet(examples([0] * 6, 1).float(), torch.randn(6, 1), torch.ones(6), 1, "regression")
    assert model.start(slow, scores)[1].view is None


def test_without_an_example_all_stays_as_it_is() -> None:
    none = torch.zeros(0, 2 * WIDTH)
    view = TaskView(WithinClass(5.0, SECTIONS).narrowings(none, torch.zeros(0, dtype=torch.long), 3))
    queries = examples([0, 1, 2], 0).float()
    assert torch.equal(view.of(queries), queries)
