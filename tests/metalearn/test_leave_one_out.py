"""The share of examples that are told by the others of their class."""

import pytest
import torch

from metalearn.leave_one_out import leave_one_out_accuracy
from metalearn.types import EncodedSet
from tests.metalearn.conftest import clusters


def support(features: list[list[float]], classes: list[int], *, label_texts: int = 0) -> EncodedSet:
    n_classes = max(classes) + 1
    return EncodedSet(
        torch.tensor(features), torch.tensor(classes), torch.ones(len(classes)), n_classes, label_texts=label_texts
    )


def test_classes_that_lie_apart_are_told() -> None:
    assert leave_one_out_accuracy(clusters(4, 5)) == 1.0


def test_an_example_among_those_of_another_class_is_not() -> None:
    found = support([[0.0], [0.1], [0.2], [1.0], [1.1], [0.15]], [0, 0, 0, 1, 1, 1])
    assert leave_one_out_accuracy(found) == pytest.approx(5 / 6)


def test_it_is_the_accuracy_of_the_nearest_mean_without_each_example() -> None:
    draw = torch.Generator().manual_seed(0)
    classes = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 0, 1])  # the last two are texts of labels
    features = torch.randn(len(classes), 3, generator=draw)
    weights = torch.ones(len(classes)).index_fill(0, torch.tensor([10, 11]), 2.0)
    hits = []
    for i in range(10):
        others = torch.arange(len(classes)) != i
        distances = torch.stack(
            [
                ((weights * features.T).T[others & (classes == k)].sum(0) / weights[others & (classes == k)].sum()
                 - features[i]).norm() if (others & (classes == k)).any() else torch.tensor(torch.inf)
                for k in range(4)
            ]
        )  # fmt: skip
        if classes[i] != 3:
            hits.append(int(distances.argmin()) == int(classes[i]))
    encoded = EncodedSet(features, classes, weights, 4, label_texts=2)
    assert leave_one_out_accuracy(encoded) == pytest.approx(sum(hits) / len(hits))


def test_the_only_example_of_a_class_is_not_asked() -> None:
    found = support([[0.0], [0.1], [5.0]], [0, 0, 1])
    assert leave_one_out_accuracy(found) == 1.0


@pytest.mark.parametrize("label_texts", [0, 3])
def test_without_two_examples_of_a_class_there_is_none(label_texts: int) -> None:
    classes = [0, 1, 2] * (2 if label_texts else 1)
    found = support([[float(i), 1.0] for i in range(len(classes))], classes, label_texts=label_texts)
    assert leave_one_out_accuracy(found) is None


def test_without_examples_there_is_none() -> None:
    assert leave_one_out_accuracy(support([[0.0], [1.0]], [0, 1], label_texts=2)) is None
