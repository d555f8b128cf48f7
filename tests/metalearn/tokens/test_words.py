"""Words of texts: in order, without overlap, and nothing visible left out."""

# ruff: noqa: RUF001 - these characters are what is tested

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metalearn.tokens.words import joined, split_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Book a flight to Paris", ["Book", "a", "flight", "to", "Paris"]),
        ("what's 3.5%?", ["what", "'", "s", "3", ".", "5", "%", "?"]),
        ("snake_case  x", ["snake_case", "x"]),
        ("", []),
        (" \t\n", []),
        ("naïve Müller", ["naïve", "Müller"]),
        ("कमल के", ["कमल", "के"]),  # marks are no words of their own
        ("我要去北京", ["我", "要", "去", "北", "京"]),
        ("3月5日 Paris", ["3", "月", "5", "日", "Paris"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),  # a joiner of zero width stays inside
        ("a\x00b", ["a", "b"]),
    ],
)
def test_words_of_texts(text: str, words: list[str]) -> None:
    assert [text[start:end] for start, end in split_words(text)] == words


def test_ascii_texts_have_the_same_words_as_others() -> None:
    text = "Book 2 flights, now: a_b (x-y)!"
    beyond = text + " é"
    assert split_words(beyond)[:-1] == split_words(text)


@given(st.text(), st.lists(st.integers(0, 50)))
@example("10:30am", [4])
def test_words_are_in_order_and_hold_all_that_is_visible(text: str, edges: list[int]) -> None:
    words = split_words(text, edges)
    end = 0
    for start, after in words:
        assert end <= start < after <= len(text)
        assert not any(start < edge < after for edge in edges)
        end = after
    covered = {place for start, after in words for place in range(start, after)}
    assert all(place in covered for place, character in enumerate(text) if character.isalnum())


def test_a_word_is_cut_at_the_ends_of_a_span() -> None:
    assert split_words("at 10am", (3, 5)) == ((0, 2), (3, 5), (5, 7))


@given(st.lists(st.text(min_size=1), min_size=1))
def test_joined_tokens_keep_their_places(tokens: list[str]) -> None:
    text, words = joined(tokens)
    assert [text[start:end] for start, end in words] == tokens
