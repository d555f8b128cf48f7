"""The share of examples that the others of their class classify correctly."""

from dataclasses import replace

import pytest
import torch

from metalearn.encoded_set import EncodedSet
from metalearn.leave_one_out import leave_one_out_accuracy, leave_one_out_classes
from tests.metalearn.conftest import clusters


def support(features: list[list[float]], classes: list[int]) -> EncodedSet:
    return EncodedSet(torch.tensor(features), torch.tensor(classes), torch.ones(len(classes)), max(classes) + 1)


def test_separate_classes_are_classified_correctly() -> None:
    assert leave_one_out_accuracy(clusters(4, 5)) == 1.0


def test_an_example_among_those_of_another_class_is_misclassified() -> None:
    found = support([[0.0], [0.1], [0.2], [1.0], [1.1], [0.15]], [0, 0, 0, 1, 1, 1])
    assert leave_one_out_accuracy(found) == pytest.approx(5 / 6)


def test_it_is_the_accuracy_of_the_nearest_mean_without_each_example() -> None:
    draw = torch.Generator().manual_seed(0)
    classes = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    features = torch.randn(len(classes), 3, generator=draw)
    within = [(features[classes == k] - features[classes == k].mean(dim=0)).square().sum() for k in range(4)]
    variance = sum(within) / (len(classes) - 4)
    nearest = []
    for i in range(9):  # the last one is the only one of its class
        distances = []
        for k in range(4):
            n = int((classes == k).sum())
            others = (classes == k) & (torch.arange(len(classes)) != i)
            credit = variance * (1 / (n - 1) - 1 / n) if k == classes[i] else 0.0
            distances.append((features[others].mean(dim=0) - features[i]).square().sum() - credit)
        nearest.append(int(torch.stack(distances).argmin()))
    hits = [found == int(classes[i]) for i, found in enumerate(nearest)]
    assert 0 < sum(hits) < 9
    encoded = EncodedSet(features, classes, torch.ones(len(classes)), 4)
    assert leave_one_out_classes(encoded).tolist() == [*nearest, -1]
    assert leave_one_out_accuracy(encoded) == pytest.approx(sum(hits) / 9)


def test_texts_of_labels_count_in_the_means_and_are_not_asked() -> None:
    features, classes = [[0.0], [4.0], [5.0], [9.0]], [0, 0, 1, 1]
    assert leave_one_out_accuracy(support(features, classes)) == 0.5
    assert leave_one_out_accuracy(support([*features, [3.9], [5.1]], [*classes, 0, 1]), 4) == 1.0
    none = support([*features, [9.0], [0.0]], [*classes, 0, 1])
    weighed = replace(none, weights=torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0, 0.0]))
    assert leave_one_out_accuracy(weighed, 4) == 0.5, "names that the gate closes on weigh nothing"


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("per_class", [2, 5, 20])
def test_random_labels_are_classified_as_well_as_by_chance(n_classes: int, per_class: int) -> None:
    draw = torch.Generator().manual_seed(n_classes * per_class)
    classes = torch.arange(n_classes).repeat_interleave(per_class)
    found = []
    for _ in range(4000 // len(classes)):
        features = torch.randn(len(classes), 100, generator=draw)
        found.append(leave_one_out_accuracy(EncodedSet(features, classes, torch.ones(len(classes)), n_classes)) or 0.0)
    assert sum(found) / len(found) == pytest.approx(1 / n_classes, abs=0.1)


def test_scaling_what_a_class_counts_changes_no_example() -> None:
    encoded = EncodedSet(
        torch.randn(12, 4, generator=torch.Generator().manual_seed(1)), torch.arange(12) % 3, torch.ones(12), 3
    )
    scaled = replace(encoded, weights=torch.tensor([1.0, 2.0, 0.5] * 4))
    found = leave_one_out_classes(encoded)
    assert torch.equal(leave_one_out_classes(scaled), found)
    right = (found == encoded.targets).float() * scaled.weights
    assert leave_one_out_accuracy(scaled) == pytest.approx(float(right.sum() / scaled.weights.sum()))


def test_the_only_example_of_a_class_is_not_asked() -> None:
    found = support([[0.0], [0.1], [5.0]], [0, 0, 1])
    assert leave_one_out_accuracy(found) == 1.0


@pytest.mark.parametrize("label_texts", [0, 3])
def test_without_two_examples_of_a_class_there_is_none(label_texts: int) -> None:
    classes = [0, 1, 2] * (2 if label_texts else 1)
    found = support([[float(i), 1.0] for i in range(len(classes))], classes)
    assert leave_one_out_accuracy(found, 3) is None


def test_without_examples_there_is_none() -> None:
    assert leave_one_out_accuracy(support([[0.0], [1.0]], [0, 1]), 0) is None
