"""Label texts that classify the examples worse than chance."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from metalearn.task_view.label_text_gate import worse_than_chance


@settings(deadline=None, max_examples=60)
@given(n_classes=st.integers(2, 6), per_class=st.integers(1, 4), wrong=st.integers(0, 24), seed=st.integers(0, 1000))
def test_the_gate_closes_where_names_classify_fewer_examples_than_chance(
    n_classes: int, per_class: int, wrong: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes = torch.arange(n_classes).repeat(per_class)
    order = torch.randperm(n_classes, generator=draw)
    # The first so many examples look like the next class's name
    looks = torch.where(torch.arange(len(classes)) < wrong, (classes + 1) % n_classes, classes)
    # The common part of all texts, and of each name with any text, must not count
    labels = torch.cat([torch.eye(n_classes), torch.rand(n_classes, 1, generator=draw)], dim=1)
    examples = torch.cat([torch.eye(n_classes)[looks], torch.full((len(classes), 1), 5.0)], dim=1)
    similarity = examples @ labels.T
    correct = (similarity - similarity.mean(dim=0)).argmax(dim=1) == classes
    found = worse_than_chance(examples, one_hot(classes, n_classes).float(), labels[order], order)
    assert bool(found) is (len(classes) >= 4 and int(correct.sum()) / len(classes) < 1 / n_classes)
    if wrong == 0:
        assert not found
    if wrong >= len(classes) >= 4 and per_class == 1:
        assert found


def test_examples_of_classes_without_a_text_are_not_asked() -> None:
    names = torch.eye(3)[:2]
    right, swapped, unnamed = (torch.eye(3)[torch.tensor(rows)] for rows in ([0, 1] * 2, [1, 0] * 2, [2] * 5))
    members, of_names = one_hot(torch.tensor([0, 1] * 2 + [2] * 5)).float(), torch.tensor([0, 1])
    assert not worse_than_chance(torch.cat([right, unnamed]), members, names, of_names)
    assert worse_than_chance(torch.cat([swapped, unnamed]), members, names, of_names)
    assert not worse_than_chance(unnamed, members[4:], names, of_names), "nothing is known against the names"
    assert not worse_than_chance(torch.cat([swapped[:3], unnamed]), members[[0, 1, 2, *range(4, 9)]], names, of_names)


def test_an_example_of_weight_0_is_as_if_it_were_absent() -> None:
    draw = torch.Generator().manual_seed(0)
    for _ in range(50):
        names, examples = torch.randn(3, 5, generator=draw), torch.randn(8, 5, generator=draw)
        members = one_hot(torch.randint(3, (8,), generator=draw), 3).float()
        kept = torch.rand(8, generator=draw) < 0.6
        found = worse_than_chance(examples, members * kept.unsqueeze(1), names, torch.arange(3))
        assert bool(found) is bool(worse_than_chance(examples[kept], members[kept], names, torch.arange(3)))
