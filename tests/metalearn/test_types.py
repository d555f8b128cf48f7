"""Support sets are valid once they exist."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.errors import InvalidSupportSet
from metalearn.types import Adapter, Example, SupportSet, TextInput


def test_an_empty_support_set_is_refused() -> None:
    with pytest.raises(InvalidSupportSet) as caught:
        SupportSet((), {"a": "words", "b": "words"})
    assert caught.value.code == "empty_support"
    assert caught.value.location == ("support",)


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
