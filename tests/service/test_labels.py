"""Labels that are one class, and labels that look alike."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.tasks.labels import is_blank, look_alike_key, look_alikes, misspellings, normalised

WRITTEN = st.text(
    st.sampled_from("aAbé\u0301e\u0131 İß\uff5212 _-\u2013.+\t\u00a0\u200b\u200d\ufeff\u00ad"), max_size=8
) | st.text(max_size=20)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("refund ", "refund"),
        ("\u00a0refund\u3000\r\n", "refund"),
        ("\ufeffrefund", "refund"),
        ("\u200b\u2060refund\u200e \u200f", "refund"),
        ("cafe\u0301", "café"),
        ("re fund", "re fund"),
        ("Refund", "Refund"),
        ("\uff52\uff45\uff46\uff55\uff4e\uff44", "\uff52\uff45\uff46\uff55\uff4e\uff44"),
        ("नहीं\u200d", "नहीं\u200d"),
    ],
)
def test_ends_are_trimmed_and_the_form_is_composed_and_nothing_else(given: str, expected: str) -> None:
    assert normalised(given) == expected


@settings(deadline=None)
@given(WRITTEN)
def test_normalising_once_is_enough(label: str) -> None:
    once = normalised(label)
    assert normalised(once) == once
    assert once == once.strip()
    assert unicodedata.is_normalized("NFC", once)
    assert once == "" or not is_blank(label) or is_blank(once)


@settings(deadline=None)
@given(WRITTEN, st.sampled_from(["", " ", "\ufeff", "\u200b\n", "\u00a0"]), st.booleans())
def test_the_ways_to_write_a_label_are_one_class(label: str, end: str, decomposed: bool) -> None:
    other = end + (unicodedata.normalize("NFD", label) if decomposed else label) + end
    assert normalised(other) == normalised(label)
    assert look_alike_key(other) == look_alike_key(label)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\u200b",
        "\ufeff",
        "\u2060",
        "\u00ad",
        "\u3164",
        "\u115f\u1160",
        "\uffa0",
        "\u2800",
        "\x00\x1f",
        "\u202e",
    ],
    ids=ascii,
)
def test_nothing_to_see_is_blank(text: str) -> None:
    assert is_blank(text)


@pytest.mark.parametrize("text", ["a", "0", ".", "-", "_", "\u200ba", "❤\ufe0f", "\U0001f3f4\U000e0067", "ᄀ", "日"])
def test_a_sign_is_not_blank(text: str) -> None:
    assert not is_blank(text)


ALIKE = [
    ("refund", "Refund"),
    ("refund", "REFUND"),
    ("card arrival", "card  arrival"),
    ("card arrival", "card\u00a0arrival"),
    ("card arrival", "cardarrival"),
    ("card_arrival", "card-arrival"),
    ("card_arrival", "cardArrival"),
    ("card \u2013 arrival", "card arrival"),
    ("level 1", "level_1"),
    ("level1", "level-1"),
    ("refund", "\uff52\uff45\uff46\uff55\uff4e\uff44"),
    ("refund", "re\u200bfund"),
    ("refund", "re\u00adfund"),
    ("\u200drefund", "refund"),
    ("don't know", "don\u2019t know"),
    ("straße", "STRASSE"),
    ("İade", "iade"),
    ("می\u200cخو\u0627\u0647م", "میخواهم"),
    ("❤\ufe0f", "❤"),
    ("m²", "m2"),
]

DIFFERENT = [
    ("refund", "refunds"),
    ("A", "A-"),
    ("-1", "1"),
    ("temp -1", "temp 1"),
    ("1-2", "12"),
    ("1.0", "10"),
    ("c", "c++"),
    ("+", "-"),
    ("cafe", "café"),
    ("退款", "退貨"),
    ("\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
     "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=ascii)
def test_labels_that_differ_by_a_slip_look_alike(one: str, other: str) -> None:
    assert look_alikes([one, "another", other]) == [(one, other)]
    assert look_alikes([other, one]) == [(other, one)]


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=ascii)
def test_labels_that_differ_by_more_do_not(one: str, other: str) -> None:
    assert look_alikes([one, other]) == []


@settings(deadline=None)
@given(st.lists(WRITTEN, unique=True, max_size=8))
def test_groups_share_no_label_and_miss_none(labels: list[str]) -> None:
    groups = look_alikes(labels)
    grouped = [label for group in groups for label in group]
    assert len(grouped) == len(set(grouped))
    assert all(len(group) > 1 for group in groups)
    keys = [look_alike_key(label) for label in labels]
    assert set(grouped) == {label for label, key in zip(labels, keys, strict=True) if keys.count(key) > 1}
    assert {frozenset(group) for group in look_alikes(labels[::-1])} == {frozenset(group) for group in groups}


def test_a_name_one_character_off_is_a_misspelling() -> None:
    labels = ["delivery", "refund_request", "level_1"]
    names = ["delivry", "deliveryy", "delivary", "Deliveyr", "refund-requst", "level_2", "bug", "shipping"]
    assert misspellings(names, labels) == [
        ("delivry", "delivery"),
        ("deliveryy", "delivery"),
        ("delivary", "delivery"),
        ("Deliveyr", "delivery"),
        ("refund-requst", "refund_request"),
    ]


def test_labels_that_are_long_in_another_form_are_compared() -> None:
    # Each of these characters is eighteen in the compatible form
    labels = ["\ufdfa" * 256 + str(i) for i in range(12)]
    assert misspellings(labels[:6], labels[6:]) == []
    assert look_alikes(labels) == []


@settings(deadline=None, max_examples=50)
@given(st.text("abcd", min_size=4, max_size=8), st.text("abcd", min_size=4, max_size=8))
def test_misspelling_is_mutual(one: str, other: str) -> None:
    assert bool(misspellings([one], [other])) == bool(misspellings([other], [one]))
