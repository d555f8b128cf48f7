"""Classes with few examples beside classes with many: they start from means of their own, and count alike in steps."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.encoded_set import EncodedSet
from metalearn.encoder.encoder import Encoder
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.inner_loop import collect
from metalearn.learners import LEARNERS, make_learner
from metalearn.meta_model import MetaModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedSet
from metalearn.task_view.class_balance import balanced_weights

WIDTH = 6
SCALE = {"log_scale": torch.tensor(3.0, dtype=torch.float64).log()}
DESCENDING = [name for name in sorted(LEARNERS) if make_learner(name).descends]


def encoded(*counts: int, seed: int = 0, has_examples: bool = True) -> EncodedSet:
    """So many examples of each class, at random."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    features = torch.randn(len(targets), WIDTH, generator=draw, dtype=torch.float64)
    weights = torch.ones(len(targets), dtype=torch.float64)
    return EncodedSet(features, targets, weights, len(counts), has_examples=has_examples)


def as_balanced(support: EncodedSet) -> EncodedSet:
    return replace(support, weights=balanced_weights(support.weights, support.targets, support.n_classes))


def model(learner: str = "protomaml") -> MetaModel:
    """A head alone, on features that are the inputs."""
    return MetaModel(MlpBody((WIDTH,)), HeadOnly(), make_learner(learner), balanced=True)


def head(of: MetaModel, support: EncodedSet, steps: int = 5) -> tuple[Tensor, Tensor]:
    slow = {name: weight.double() for name, weight in of.initial_slow_weights(steps=steps).items()}
    prepared = PreparedSet(support.features, support.targets, support.weights, support.n_classes)
    fast = collect(of.adapt(slow, prepared, of.start(slow, prepared), steps=steps)).fast_weights
    return fast[HEAD_WEIGHT], fast[HEAD_BIAS]


# ---- where ProtoMAML's head starts ---------------------------------------------------------------------------------


def test_means_are_drawn_to_the_middle_as_if_it_were_two_examples_of_each_class() -> None:
    # by hand: means (2, 0) of two examples and (0, 4) of one; the middle is (1, 2)
    support = EncodedSet(
        torch.tensor([[3.0, 0.0], [1.0, 0.0], [0.0, 4.0]], dtype=torch.float64),
        torch.tensor([0, 0, 1]),
        torch.ones(3, dtype=torch.float64),
        2,
    )
    start = make_learner("protomaml").start(SCALE, support)
    drawn = torch.tensor([[1.5, 1.0], [2 / 3, 8 / 3]], dtype=torch.float64)
    scale = 3 / ((1 / 2 + 1 / 3) / 2)
    torch.testing.assert_close(start[HEAD_WEIGHT], 2 * scale * drawn)
    torch.testing.assert_close(start[HEAD_BIAS], -scale * drawn.square().sum(dim=1))


def test_what_rows_weigh_is_how_many_they_are() -> None:
    support = encoded(3, 1)
    heavy = EncodedSet(support.features[[0, 3]], torch.tensor([0, 1]), torch.tensor([3.0, 1.0]).double(), 2)
    alike = replace(support, features=support.features[[0, 0, 0, 3]])
    for found, wanted in zip(
        *(make_learner("protomaml").start(SCALE, each).values() for each in (heavy, alike)), strict=True
    ):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("shots", [1, 5])
def test_with_equal_classes_shrinkage_towards_the_grand_mean_changes_the_biases_alone(
    shots: int,
) -> None:
    support, queries = encoded(shots, shots, shots), encoded(4, 4, 4, seed=1).features
    means = torch.stack([support.features[support.targets == k].mean(dim=0) for k in range(3)])
    middle = means.mean(dim=0)
    start = make_learner("protomaml").start(SCALE, support)
    found = torch.nn.functional.linear(queries, start[HEAD_WEIGHT], start[HEAD_BIAS])
    corrected = -torch.cdist(queries, means).square() + 2 / (shots + 2) * (means - middle).square().sum(dim=1)
    torch.testing.assert_close(found.log_softmax(dim=1), (3 * corrected).log_softmax(dim=1))


@settings(deadline=None, max_examples=30)
@given(counts=st.lists(st.integers(1, 9), min_size=2, max_size=5), seed=st.integers(0, 99), size=st.floats(0, 10))
def test_the_start_is_the_same_wherever_the_origin_is(counts: list[int], seed: int, size: float) -> None:
    support, queries = encoded(*counts, seed=seed), encoded(3, 3, seed=seed + 1).features
    at: list[Tensor] = []
    for moved in (0.0, size):
        start = make_learner("protomaml").start(SCALE, replace(support, features=support.features + moved))
        at.append(torch.nn.functional.linear(queries + moved, start[HEAD_WEIGHT], start[HEAD_BIAS]).softmax(dim=1))
    torch.testing.assert_close(at[0], at[1], atol=1e-7, rtol=1e-7)


def test_where_texts_of_labels_are_all_there_is_their_means_stay() -> None:
    support = encoded(1, 1, 1, has_examples=False)
    start = make_learner("protomaml").start(SCALE, support)
    torch.testing.assert_close(start[HEAD_WEIGHT], 6 * support.features)
    torch.testing.assert_close(start[HEAD_BIAS], -3 * support.features.square().sum(dim=1))
    beside_examples = make_learner("protomaml").start(SCALE, replace(support, has_examples=True))
    assert not torch.allclose(beside_examples[HEAD_BIAS], start[HEAD_BIAS])


# ---- what steps lower ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    weights=st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0]), min_size=45, max_size=45),
)
def test_balanced_classes_count_alike_and_rows_within_a_class_as_before(
    counts: list[int], weights: list[float]
) -> None:
    support = encoded(*counts)
    support = replace(support, weights=torch.tensor(weights[: len(support.targets)], dtype=torch.float64))
    balanced, of_class = as_balanced(support), support.weight_of_class
    there = of_class > 0
    assert bool(balanced.weights.isfinite().all())
    expected = of_class.sum() / len(counts)
    torch.testing.assert_close(balanced.weight_of_class, torch.where(there, expected, 0.0))
    torch.testing.assert_close(
        balanced.weights * of_class[support.targets], support.weights * balanced.weight_of_class[support.targets]
    )


def test_equal_classes_are_balanced_already() -> None:
    support = encoded(3, 3)
    torch.testing.assert_close(as_balanced(support).weights, support.weights)


@pytest.mark.parametrize("learner", sorted({*DESCENDING} - {"protomaml", "reptile"}))  # see the start of the first
def test_a_class_whose_examples_all_come_five_times_changes_no_step(learner: str) -> None:
    support = encoded(2, 3)
    rows = torch.cat([torch.arange(2).repeat(5), torch.arange(2, 5)])
    often = EncodedSet(support.features[rows], support.targets[rows], torch.ones(13, dtype=torch.float64), 2)
    for found, wanted in zip(head(model(learner), often), head(model(learner), support), strict=True):
        torch.testing.assert_close(found, wanted)
    plain = replace(model(learner), balanced=False)
    assert not torch.allclose(head(plain, often)[1], head(plain, support)[1])


def test_what_is_not_a_classification_keeps_its_weights() -> None:
    slow = model("maml").initial_slow_weights(steps=1)
    scores = PreparedSet(torch.randn(3, WIDTH), torch.randn(3, 1), torch.tensor([1.0, 2.0, 3.0]), 1, "regression")
    labels = PreparedSet(torch.randn(3, WIDTH), torch.ones(3, 2), torch.tensor([1.0, 2.0, 3.0]), 2, "multi_label")
    for support in (scores, labels):
        assert torch.equal(model("maml").start(slow, support)[1].weights, support.weights)


@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_every_learner_that_descends_balances_texts(learner: str, encoder: Encoder) -> None:
    assert make_text_model(ModelSpec(learner), encoder).balanced == make_learner(learner).descends


# ---- what comes of both --------------------------------------------------------------------------------------------


def test_a_class_with_one_example_beside_ten_of_the_others_is_found() -> None:
    # Four classes that overlap in as many directions as texts have
    dim, noise, targets = 300, 1.5, torch.tensor([0] + [1] * 10 + [2] * 10 + [3] * 10)
    recalls: list[Tensor] = []
    for seed in range(20):
        draw = torch.Generator().manual_seed(seed)
        centres = torch.randn(4, dim, generator=draw, dtype=torch.float64) / 30
        support = centres[targets] + noise * torch.randn(31, dim, generator=draw, dtype=torch.float64) / 30
        queries = centres[0] + noise * torch.randn(50, dim, generator=draw, dtype=torch.float64) / 30
        of = replace(model(), body=MlpBody((dim,)), centred=True)
        weight, bias = head(of, EncodedSet(support, targets, torch.ones(31, dtype=torch.float64), 4), steps=20)
        means = torch.stack([support[targets == k].mean(dim=0) for k in range(4)])
        answers = torch.nn.functional.linear(queries, weight, bias), -torch.cdist(queries, means)
        recalls.append(torch.stack([(each.argmax(dim=1) == 0).double().mean() for each in answers]))
    ours, by_nearest_mean = torch.stack(recalls).mean(dim=0).tolist()
    assert ours > 0.8
    assert by_nearest_mean < 0.4, "else there was nothing to mend"
