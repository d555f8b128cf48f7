"""What a label's name says, when it says nothing, and what its text counts beside examples."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.label_text import (
    LabelTextPrior,
    among_examples,
    label_texts,
    label_words,
    names_mislead,
    words_of_labels,
)
from metalearn.types import Example, SupportSet, TextInput


@pytest.mark.parametrize(
    ("label", "words"),
    [
        ("card_arrival", "card arrival"),
        ("cardArrival", "card Arrival"),
        ("CardArrival", "Card Arrival"),
        ("card.arrival", "card arrival"),
        ("card-arrival", "card arrival"),
        ("banking/card  arrival!", "banking card arrival"),
        ("__card__", "card"),
        ("extra_charge_on_statement", "extra charge on statement"),
        ("überweisung_fehlt", "überweisung fehlt"),
        ("опоздание-карты", "опоздание карты"),
        ("カード到着", "カード到着"),
        ("yes", "yes"),
        ("covid19", "covid19"),
        ("label_me", "label me"),
        ("class_action_suit", "class action suit"),
    ],
)
def test_words_are_read_from_the_name(label: str, words: str) -> None:
    assert label_words(label) == words


@pytest.mark.parametrize(
    "label",
    [
        "c17",
        "3",
        "A",
        "label_2",
        "class7",
        "",
        "_",
        "---",
        "C-3",
        "Label 12",
        "CLASS_7",
        "lbl3",
        "topic-04",
        "00",
        "ab1",
    ],
)
def test_opaque_names_say_nothing(label: str) -> None:
    assert label_words(label) is None


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(), max_size=30))
def test_no_label_is_too_strange(label: str) -> None:
    words = label_words(label)
    assert words is None or (words and words == words.strip() and "_" not in words)


def test_a_description_goes_before_the_name() -> None:
    support = SupportSet(
        (Example(TextInput("x"), "card_arrival"), Example(TextInput("y"), "c17"), Example(TextInput("z"), "c18")),
        {"c17": "a fee on the statement", "card_arrival": "where is the card", "refund_due": "", "c19": "lost pin"},
    )
    assert support.labels == ("c17", "c18", "c19", "card_arrival", "refund_due")
    assert label_texts(support) == {
        0: TextInput("a fee on the statement"),
        2: TextInput("lost pin"),
        3: TextInput("where is the card"),
        4: TextInput("refund due"),
    }


def test_labels_alone_give_the_words_of_their_names() -> None:
    assert words_of_labels(("card_arrival", "c17", "refundDue")) == {
        0: TextInput("card arrival"),
        2: TextInput("refund Due"),
    }
    assert words_of_labels(("c1", "c2"), {"c2": "lost pin", "c3": "nobody's"}) == {1: TextInput("lost pin")}


# ---- what a label's text counts --------------------------------------------------------------------------------------


def _weights(weight: float, fade: float, counts: list[float]) -> list[float]:
    slow = {
        "log_weight": torch.tensor(weight, dtype=torch.float64).log(),
        "fade": torch.tensor(fade, dtype=torch.float64),
    }
    found: list[float] = LabelTextPrior().weights(slow, torch.tensor(counts, dtype=torch.float64)).tolist()
    return found


def test_the_weight_of_a_labels_text_by_hand() -> None:
    # w / (1 + n)^f beside 0, 1 and 5 examples
    assert _weights(3.0, 0.5, [0, 1, 5]) == pytest.approx([3, 3 / math.sqrt(2), 3 / math.sqrt(6)])
    assert _weights(0.5, 2.0, [0, 1, 5]) == pytest.approx([1 / 2, 1 / 8, 1 / 72])
    assert _weights(2.0, -1.0, [0, 1, 5]) == pytest.approx([2, 4, 12])
    assert _weights(2.0, 0.0, [0, 1, 5]) == pytest.approx([2, 2, 2])


@pytest.mark.parametrize("weight", [2.0, 0.25])
def test_before_meta_training_a_labels_text_counts_the_same_beside_any_number_of_examples(weight: float) -> None:
    prior = LabelTextPrior(weight)
    slow = prior.initial_slow_weights()
    assert {name: tuple(value.shape) for name, value in slow.items()} == {"log_weight": (), "fade": ()}
    found = prior.weights(slow, torch.arange(100).float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((100,), weight), atol=1e-6, rtol=0)
    assert LabelTextPrior() == LabelTextPrior(2.0)


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-3, 1e3), st.floats(0, 3), st.integers(0, 1000))
def test_the_share_of_a_labels_text_shrinks_as_examples_are_added(weight: float, fade: float, n: int) -> None:
    here, next_ = _weights(weight, fade, [n, n + 1])
    assert here == pytest.approx(weight / (1 + n) ** fade)
    assert here > 0
    assert next_ / (next_ + n + 1) < here / (here + n)


def test_gradients_of_a_labels_weight_by_hand() -> None:
    slow = {"log_weight": torch.tensor(3.0).log().requires_grad_(), "fade": torch.tensor(0.5, requires_grad=True)}
    found = LabelTextPrior().weights(slow, torch.tensor([0.0, 1.0, 5.0]))
    for n, weight in zip((0, 1, 5), found, strict=True):
        gradients = torch.autograd.grad(weight, list(slow.values()), retain_graph=True)
        value = 3 / math.sqrt(1 + n)
        assert [float(gradient) for gradient in gradients] == pytest.approx([value, -value * math.log(1 + n)])


# ---- names that mislead ----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(n_classes=st.integers(2, 6), per_class=st.integers(1, 4), wrong=st.integers(0, 24), seed=st.integers(0, 1000))
def test_names_mislead_where_they_tell_fewer_examples_than_chance(
    n_classes: int, per_class: int, wrong: int, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    classes = torch.arange(n_classes).repeat(per_class)
    order = torch.randperm(n_classes, generator=draw)
    # The first so many examples look like the next class's name
    looks = torch.where(torch.arange(len(classes)) < wrong, (classes + 1) % n_classes, classes)
    # What all texts have in common, and what each name has with any text, tell nothing
    labels = torch.cat([torch.eye(n_classes), torch.rand(n_classes, 1, generator=draw)], dim=1)
    examples = torch.cat([torch.eye(n_classes)[looks], torch.full((len(classes), 1), 5.0)], dim=1)
    similarity = examples @ labels.T
    told = (similarity - similarity.mean(dim=0)).argmax(dim=1) == classes
    found = names_mislead(examples, classes, labels[order], order)
    assert bool(found) is (len(classes) >= 4 and int(told.sum()) / len(classes) < 1 / n_classes)
    if wrong == 0:
        assert not found
    if wrong >= len(classes) >= 4 and per_class == 1:
        assert found


def test_examples_of_classes_without_a_text_are_not_asked() -> None:
    names = torch.eye(3)[:2]
    right, swapped, unnamed = (torch.eye(3)[torch.tensor(rows)] for rows in ([0, 1] * 2, [1, 0] * 2, [2] * 5))
    classes, of_names = torch.tensor([0, 1] * 2 + [2] * 5), torch.tensor([0, 1])
    assert not names_mislead(torch.cat([right, unnamed]), classes, names, of_names)
    assert names_mislead(torch.cat([swapped, unnamed]), classes, names, of_names)
    assert not names_mislead(unnamed, classes[4:], names, of_names), "nothing is known against the names"
    assert not names_mislead(torch.cat([swapped[:3], unnamed]), classes[[0, 1, 2, *range(4, 9)]], names, of_names)


# ---- texts of labels among examples ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(n_classes=st.integers(3, 8), named=st.integers(3, 8), per_class=st.integers(1, 4), seed=st.integers(0, 1000))
def test_what_all_names_differ_by_is_taken_from_them(n_classes: int, named: int, per_class: int, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    order = torch.randperm(n_classes, generator=draw)[:named]
    classes = torch.arange(n_classes).repeat(per_class)
    of_class = torch.randn(n_classes, 4, generator=draw, dtype=torch.float64)
    apart = torch.randn(4, generator=draw, dtype=torch.float64)
    moved = among_examples(of_class[classes], classes, of_class[order] + apart, order, n_classes)
    # n classes that have examples and a name count 1 - 2/n
    torch.testing.assert_close(moved, of_class[order] + 2 / len(order) * apart)


def test_names_of_two_classes_stay_where_they_are() -> None:
    labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [3.0, 3.0]])
    examples, classes = torch.tensor([[9.0, 9.0], [8.0, 9.0]]), torch.tensor([2, 0])
    moved = among_examples(examples, classes, labels, torch.arange(3), 3)
    assert torch.equal(moved, labels), "the third class has no example to be compared with"


def test_names_stay_where_they_are_without_examples() -> None:
    labels = torch.randn(4, 3)
    moved = among_examples(torch.empty(0, 3), torch.empty(0, dtype=torch.long), labels, torch.arange(4), 4)
    assert torch.equal(moved, labels)


def test_a_class_without_an_example_has_its_name_moved_as_the_others() -> None:
    names = torch.eye(5)
    examples = names[:4] + torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0])
    moved = among_examples(examples, torch.arange(4), names, torch.arange(5), 5)
    torch.testing.assert_close(moved - names, torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0]).expand(5, 5))


def test_large_classes_say_no_more_of_names_than_small_ones() -> None:
    names = torch.eye(4)
    classes = torch.tensor([0, 1, 2, 3, 3, 3, 3, 3])
    examples = names[classes] + 1.0
    torch.testing.assert_close(among_examples(examples, classes, names, torch.arange(4), 4), names + 0.5)


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_beside_pairs_a_labels_text_is_a_pair_with_itself() -> None:
    assert words_of_labels(["refund", "c1"], pairs=True) == {0: TextInput("refund", "refund")}
    pair = Example(TextInput("Where is it", "The parcel is lost"), "refund")
    support = SupportSet((pair, Example(TextInput("alone"), "card_arrival")))
    assert label_texts(support) == {0: TextInput("card arrival", "card arrival"), 1: TextInput("refund", "refund")}


def test_a_label_paired_with_itself_is_hardly_apart(stock_folder: Path) -> None:
    encoder = build_encoder(stock_folder, encoder_stages(), torch.device("cpu"))
    pairs = encoder.tokenize([TextInput("card arrival", "card arrival"), TextInput("card arrival", "a sunny day")])
    apart = encoder.frozen_features(encoder.begin_batch(pairs, 3), 3)
    assert float(apart[0].norm()) < 0.5 * float(apart[1].norm())
