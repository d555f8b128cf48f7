"""Label texts, moved to where the examples are."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from metalearn.task_view.label_text_shift import shifted_label_texts


@settings(deadline=None, max_examples=60)
@given(n_classes=st.integers(3, 8), named=st.integers(3, 8), per_class=st.integers(1, 4), seed=st.integers(0, 1000))
def test_what_all_names_differ_by_is_taken_from_them(n_classes: int, named: int, per_class: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_classes, generator=draw)[:named]
    classes = torch.arange(n_classes).repeat(per_class)
    of_class = torch.randn(n_classes, 4, generator=draw, dtype=torch.float64)
    apart = torch.randn(4, generator=draw, dtype=torch.float64)
    moved = shifted_label_texts(of_class[order] + apart, order, of_class[classes], one_hot(classes, n_classes).double())
    # n classes that have examples and a name count 1 - 2/n
    torch.testing.assert_close(moved, of_class[order] + 2 / len(order) * apart)


def test_names_of_two_classes_stay_where_they_are() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    examples, classes = torch.tensor([[9.0, 9.0], [8.0, 9.0]]), torch.tensor([2, 0])
    moved = shifted_label_texts(labels, torch.arange(3), examples, one_hot(classes, 3).float())
    assert torch.equal(moved, labels), "the third class has no example to be compared with"


def test_names_stay_where_they_are_without_examples() -> None:
    labels = torch.randn(4, 3)
    moved = shifted_label_texts(labels, torch.arange(4), torch.empty(0, 3), torch.empty(0, 4))
    assert torch.equal(moved, labels)


def test_a_class_without_an_example_has_its_name_moved_as_the_others() -> None:
    names = torch.eye(5)
    examples = names[:4] + torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0])
    moved = shifted_label_texts(names, torch.arange(5), examples, one_hot(torch.arange(4), 5).float())
    torch.testing.assert_close(moved - names, torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).expand(5, 5))


def test_large_classes_shift_names_no_more_than_small_ones() -> None:
    names = torch.eye(4)
    classes = torch.tensor([0, 1, 2, 3, 3, 3, 3, 3])
    examples = names[classes] + 1.0
    moved = shifted_label_texts(names, torch.arange(4), examples, one_hot(classes, 4).float())
    torch.testing.assert_close(moved, names + 0.5)
