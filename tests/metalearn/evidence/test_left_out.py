"""Answers to examples that were left out."""

import random

import torch
from torch import Tensor

from metalearn.evidence.folds import draw_folds
from metalearn.evidence.left_out import LeftOut, answer_left_out
from metalearn.evidence.similarity import near_duplicates, next_to_label, similarities
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from tests.metalearn.evidence.test_subsets import STEPS, model_of, one_by_one, support_of


def left_out(support: PreparedSet, texts: list[int] | None = None, *, seed: int = 0) -> LeftOut:
    """The answers by the default learner."""
    model, slow = model_of("protomaml")
    texts = list(range(len(support.targets))) if texts is None else texts
    slices = answer_left_out(model, slow, support, texts, AdaptOptions(STEPS, seed=seed))
    while True:
        try:
            with torch.no_grad():
                next(slices)
        except StopIteration as done:
            found: LeftOut = done.value
            return found


def test_each_answer_is_the_mean_over_classifiers_without_the_example() -> None:
    support = support_of()
    found = left_out(support, seed=7)
    draw, classes = random.Random(7), support.targets.tolist()
    folds = [draw_folds(classes, range(10), most=32, draw=draw) for _ in range(found.draws)]
    assert (found.folds, found.draws) == (5, 8)
    kept = torch.cat(folds)
    model, slow = model_of("protomaml")
    probabilities = one_by_one(model, slow, support, kept).softmax(dim=2)
    for i in range(10):
        without = probabilities[~kept[:, i], i]
        assert len(without) == 8
        torch.testing.assert_close(found.probabilities[i], without.mean(dim=0), atol=2e-3, rtol=0)
    assert bool(found.asked.all())


def test_the_curve_is_of_growing_parts() -> None:
    found = left_out(support_of())
    sizes = [point.examples_per_class for point in found.curve]
    assert sizes == sorted(set(sizes))
    assert all(0 <= point.accuracy <= 1 for point in found.curve)


def test_the_only_example_of_a_class_is_not_asked() -> None:
    support = support_of()
    alone = PreparedSet(support.inputs[:6], support.targets[:6], torch.ones(6), 3)
    found = left_out(alone)
    assert found.asked.tolist() == [True] * 5 + [False]
    assert float(found.probabilities[5].sum()) == 0
    nobody = left_out(PreparedSet(support.inputs[[0, 2]], torch.tensor([0, 1]), torch.ones(2), 2))
    assert (nobody.asked.tolist(), nobody.curve) == ([False, False], ())


def test_separate_classes_are_classified_correctly_by_both() -> None:
    targets = torch.arange(3).repeat_interleave(6)
    features = torch.eye(40)[targets] + 0.01 * torch.randn(18, 40, generator=torch.Generator().manual_seed(0))
    found = left_out(PreparedSet(features, targets, torch.ones(18), 3))
    assert torch.equal(found.probabilities.argmax(dim=1), targets)
    assert bool(found.by_ridge.all())
    assert found.curve[-1].accuracy == 1


def test_random_labels_are_classified_as_by_chance() -> None:
    shares = []
    for seed in range(6):
        draw = torch.Generator().manual_seed(seed)
        targets = torch.arange(2).repeat_interleave(8)
        features = torch.nn.functional.normalize(torch.randn(16, 40, generator=draw), dim=1)
        found = left_out(PreparedSet(features, targets, torch.ones(16), 2))
        shares.append(float((found.probabilities.argmax(dim=1) == targets).float().mean()))
    assert 0.3 < sum(shares) / len(shares) < 0.65


def test_similar_texts_are_found_beside_what_all_have_in_common() -> None:
    common = torch.tensor([0.0, 0.0, 0.0, 9.0])
    examples = torch.tensor([[1.0, 0, 0, 0], [1.0, 0.01, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0]]).repeat(5, 1) + common
    alike = similarities(examples[:4].repeat(5, 1), examples[:4])[:, :4]
    assert [(i, j) for i, j, _ in near_duplicates(alike)] == [(0, 1)]
    two = torch.tensor([[1.0, 0.2], [0.2, 1.0]])
    assert float(similarities(two, two)[0, 1]) > 0, "two examples are not opposites"


def test_the_next_to_label_are_undecided_and_unlike_each_other() -> None:
    texts: Tensor = torch.eye(4)[[0, 0, 1, 2, 3]]
    to_examples = torch.eye(4)[3:]
    chosen = next_to_label([0.1, 0.1, 0.3, 0.9, 0.0], texts @ texts.T, texts @ to_examples.T, 5)
    assert chosen[:3] == [0, 2, 3], "the copy of the first and the copy of an example come last"
    assert set(chosen) == set(range(5))
    assert next_to_label([], torch.zeros(0, 0), torch.zeros(0, 3), 5) == []
    assert next_to_label([0.5], torch.ones(1, 1), torch.zeros(1, 0), 5) == [0]


def test_heads_that_diverge_have_answers_all_the_same() -> None:
    model, slow = model_of("protomaml")
    slices = answer_left_out(model, slow, support_of(), range(10), AdaptOptions(STEPS, learning_rate=1e30))
    with torch.no_grad():
        for _ in range(1000):
            try:
                next(slices)
            except StopIteration as done:
                assert bool(done.value.probabilities.isfinite().all())
                return
