"""Support sets and episodes are valid once they exist."""

import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.encoded_set import EncodedSet
from metalearn.errors import InvalidEpisode, InvalidSupportSet
from metalearn.types import (
    OUT_OF_SCOPE,
    Adapter,
    Episode,
    Example,
    LabelledTexts,
    Objective,
    SupportSet,
    Target,
    TextInput,
    classes_in,
)


@pytest.mark.parametrize("descriptions", [{}, {"a": "words"}])
def test_an_empty_support_set_is_refused_where_fewer_than_two_classes_are_described(
    descriptions: dict[str, str],
) -> None:
    with pytest.raises(InvalidSupportSet, match="describe at least two classes") as caught:
        SupportSet((), descriptions)
    assert caught.value.code == "empty_support"
    assert caught.value.location == ("support",)


def test_descriptions_of_two_classes_may_stand_in_for_all_examples() -> None:
    support = SupportSet((), {"refund": "asks for money back", "delay": "the parcel is late"})
    assert support.labels == ("delay", "refund")
    assert support.targets == ()


def test_one_class_is_refused_and_named() -> None:
    with pytest.raises(InvalidSupportSet, match="'refund'") as caught:
        SupportSet((Example(TextInput("x"), "refund"), Example(TextInput("y"), "refund")))
    assert caught.value.code == "too_few_classes"


def test_a_described_class_counts_as_the_second_one() -> None:
    support = SupportSet((Example(TextInput("x"), "refund"),), {"delay": "the parcel is late"})
    assert support.labels == ("delay", "refund")
    assert support.targets == (1,)


@pytest.mark.parametrize(
    ("ids", "later"),
    [
        (("a", "a", "b"), 1),
        (("a", "b", "a"), 2),
        (("", "a", "", "a"), 3),
        (("b", "a", "a", "b"), 3),
        (("a", "a", "a"), 2),
    ],
)
def test_a_repeated_id_is_refused_where_it_stands_the_second_time(ids: tuple[str, ...], later: int) -> None:
    examples = tuple(Example(TextInput(str(i)), "xy"[i % 2], id_) for i, id_ in enumerate(ids))
    with pytest.raises(InvalidSupportSet) as caught:
        SupportSet(examples)
    assert caught.value.code == "duplicate_id"
    assert caught.value.location == ("support", later, "id")
    assert repr(ids[later]) in str(caught.value)


def test_examples_without_an_id_do_not_share_one() -> None:
    support = SupportSet((Example(TextInput("x"), "a"), Example(TextInput("y"), "b"), Example(TextInput("z"), "b")))
    assert len(support.examples) == 3


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.text(max_size=6), min_size=2, max_size=12).filter(lambda names: len(set(names)) > 1),
    described=st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=4),
    shuffle=st.randoms(use_true_random=False),
)
def test_the_order_of_the_classes_does_not_come_from_the_order_of_the_examples(
    labels: list[str], described: dict[str, str], shuffle: random.Random
) -> None:
    examples = [Example(TextInput(str(i)), label) for i, label in enumerate(labels)]
    support = SupportSet(tuple(examples), described)
    shuffled = list(examples)
    shuffle.shuffle(shuffled)
    pairs = list(described.items())
    shuffle.shuffle(pairs)
    other = SupportSet(tuple(shuffled), dict(pairs))
    assert other.labels == support.labels
    assert set(support.labels) == set(labels) | set(described)
    assert len(set(support.labels)) == len(support.labels)
    for either in (support, other):
        assert [either.labels[target] for target in either.targets] == [example.label for example in either.examples]


def test_the_size_of_an_adapter_is_that_of_its_numbers() -> None:
    adapter = Adapter({"head.weight": torch.zeros(3, 5), "head.bias": torch.zeros(3)}, ("a", "b", "c"), "print")
    assert adapter.size_bytes == 3 * 5 * 4 + 3 * 4


def test_an_adapter_knows_its_learner() -> None:
    assert Adapter({}, (), "print").learner == "protomaml"
    assert Adapter({}, (), "print", "matching").learner == "matching"


# ---- episodes --------------------------------------------------------------------------------------------------------


def _texts(*targets: Target) -> LabelledTexts:
    return LabelledTexts(tuple(TextInput(f"text {i}") for i in range(len(targets))), targets)


def _episode(
    support: LabelledTexts,
    query: LabelledTexts,
    objective: Objective = "classification",
    labels: tuple[str, ...] = ("a", "b"),
) -> Episode:
    return Episode("bank", "intent", objective, labels, support, query)


def test_what_episodes_may_hold() -> None:
    assert _episode(_texts(0, 1), _texts(1, OUT_OF_SCOPE)).n_classes == 2
    assert _episode(_texts((0,), (0, 1)), _texts((), (1,)), "multi_label").n_classes == 2
    assert _episode(_texts(0.5), _texts(-3.0, 7.0), "regression", ()).n_classes == 1


@pytest.mark.parametrize(
    ("episode", "message"),
    [
        (lambda: _episode(_texts(), _texts(0)), "lacks a support"),
        (lambda: _episode(_texts(0, 1), _texts()), "lacks a support or a query"),
        (lambda: _episode(_texts(), _texts(1.0), "regression", ()), "lacks a support"),
        (lambda: _episode(_texts(0), _texts(0), labels=("a",)), "1 classes"),
        (lambda: _episode(_texts(0, 0), _texts(0)), "no example of 'b'"),
        (lambda: _episode(_texts((1,), ()), _texts((1,)), "multi_label"), "no example of 'a'"),
        (lambda: _episode(_texts(0, 1), _texts(2)), "class 2"),
        (lambda: _episode(_texts((0, 1)), _texts((0, 3)), "multi_label"), "class 3"),
        (lambda: LabelledTexts((TextInput("x"),), (0, 1)), "1 texts do not match 2 targets"),
    ],
)
def test_an_episode_that_cannot_be_used_is_refused(episode: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidEpisode, match=message):
        episode()


def test_classes_are_found_in_targets_of_either_kind() -> None:
    assert classes_in((0, 2, 2, OUT_OF_SCOPE)) == {0, 2, OUT_OF_SCOPE}
    assert classes_in(((0, 2), (), (3,))) == {0, 2, 3}
    assert classes_in(()) == set()


def test_membership_is_one_hot_or_the_rows_themselves() -> None:
    features, weights = torch.zeros(2, 3), torch.ones(2)
    assert EncodedSet(features, torch.tensor([2, 0]), weights, 3).membership.tolist() == [[0, 0, 1], [1, 0, 0]]
    rows = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert torch.equal(EncodedSet(features, rows, weights, 2, "multi_label").membership, rows)
    assert EncodedSet(features.double(), torch.tensor([1, 0]), weights, 2).membership.dtype == torch.float64
