"""The text that stands for a class, from its label or its description."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.label_text import label_texts, label_words, words_of_labels
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
        ("सकारात्मक_समीक्षा", "सकारात्मक समीक्षा"),
        ("ข้อดี/ข้อเสีย", "ข้อดี ข้อเสีย"),
        ("like ❤\ufe0f", "like"),
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
        "❤\ufe0f",
        "1\ufe0f\u20e3",
    ],
)
def test_opaque_names_have_no_text(label: str) -> None:
    assert label_words(label) is None


@settings(deadline=None, max_examples=60)
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


# ---- pairs -----------------------------------------------------------------------------------------------------------


def test_beside_pairs_a_labels_text_is_a_pair_with_itself() -> None:
    assert words_of_labels(["refund", "c1"], pairs=True) == {0: TextInput("refund", "refund")}
    pair = Example(TextInput("Where is it", "The parcel is lost"), "refund")
    support = SupportSet((pair, Example(TextInput("alone"), "card_arrival")))
    assert label_texts(support) == {0: TextInput("card arrival", "card arrival"), 1: TextInput("refund", "refund")}
