"""Folds of support sets of any shape."""

import random

import torch
from hypothesis import given
from hypothesis import strategies as st

from metalearn.evidence.folds import draw_folds, draw_part, with_each_class

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 8)), min_size=1, max_size=30)
"""Class and number of the text of each example."""


@given(rows=ROWS, most=st.integers(1, 8), seed=st.integers(0, 99))
def test_folds_leave_out_every_example_that_can_be_once_and_copies_together(
    rows: list[tuple[int, int]], most: int, seed: int
) -> None:
    classes, texts = [kind for kind, _ in rows], [text for _, text in rows]
    kept = draw_folds(classes, texts, most=most, draw=random.Random(seed))
    assert 1 <= len(kept) <= most
    assert int((~kept).sum(dim=0).max()) <= 1
    for fold in kept:
        assert {classes[i] for i in range(len(rows)) if fold[i]} == set(classes), "no class is without an example"
        for i in range(len(rows)):
            for j in range(len(rows)):
                if texts[i] == texts[j] and classes[i] == classes[j]:
                    assert bool(fold[i]) == bool(fold[j]), "copies of one class are left out together"
    if len(set(texts)) == len(texts) and most > 1:
        assert (~kept).any(dim=0).tolist() == [classes.count(kind) > 1 for kind in classes]


def test_a_fold_leaves_out_one_example_of_each_class() -> None:
    classes = [0] * 5 + [1] * 5 + [2] * 3
    kept = draw_folds(classes, range(13), most=32, draw=random.Random(0))
    assert kept.shape == (5, 13)
    of_class = torch.tensor(
        [[int((~fold[[i for i in range(13) if classes[i] == k]]).sum()) for k in range(3)] for fold in kept]
    )
    assert of_class[:, 0].tolist() == of_class[:, 1].tolist() == [1] * 5
    assert sorted(of_class[:, 2].tolist()) == [0, 0, 1, 1, 1]


def test_many_examples_are_left_out_in_few_folds() -> None:
    kept = draw_folds([0] * 40 + [1] * 40, range(80), most=5, draw=random.Random(0))
    assert kept.shape == (5, 80)
    assert (~kept).sum(dim=1).tolist() == [16] * 5


@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=40), share=st.sampled_from([0.1, 0.25, 0.5]))
def test_a_part_has_its_share_of_each_class(rows: list[int], share: float) -> None:
    kept = draw_part(rows, share, random.Random(0))
    for kind in set(rows):
        count = sum(bool(kept[i]) for i, other in enumerate(rows) if other == kind)
        assert count == max(1, round(share * rows.count(kind)))


def test_a_class_without_an_example_gets_all_of_its_own_back() -> None:
    kept = torch.tensor([[True, False, False], [False, True, False]])
    assert with_each_class(kept, [0, 1, 1]).tolist() == [[True, True, True], [True, True, False]]
