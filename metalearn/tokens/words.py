"""The words of a text, which are what token classification tags, and its labelled spans."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

Words = tuple[tuple[int, int], ...]
"""The characters of each word: its first, and the one after its last. In order, and none overlaps another."""

OUTSIDE = "O"
"""Tag of a word that has no label."""

_ASCII_WORD = re.compile(r"\w+|[!-/:-@\[-^`{-~]", re.ASCII)
_WITHOUT_SPACES = re.compile(
    "[\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003134f]"
)
"""Letters of scripts that write no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Japanese, Chinese."""


class LabelledSpan(NamedTuple):
    """A labelled part of a text: its characters from ``start`` up to, not including, ``end``."""

    start: int
    end: int
    label: str


def split_words(text: str, edges: Iterable[int] = ()) -> Words:
    """The words of a text: runs of letters, digits and underscores; every other visible character is one by itself.

    In scripts without spaces between words each letter is a word, with its marks.

    Args:
        text: The text.
        edges: Places at which a word is cut in two as well, such as the ends of labelled spans.
    """
    if text.isascii():
        words: Iterable[tuple[int, int]] = (match.span() for match in _ASCII_WORD.finditer(text))
    else:
        words = _words(text)
    inside = sorted(set(edges))
    return tuple(_cut(words, inside) if inside else words)


def joined(tokens: Sequence[str]) -> tuple[str, Words]:
    """The text of a list of tokens, with a space between each two, and the place of each token in it."""
    words, place = [], 0
    for token in tokens:
        words.append((place, place + len(token)))
        place += len(token) + 1
    return " ".join(tokens), tuple(words)


def _words(text: str) -> Iterator[tuple[int, int]]:
    begin, open_kind = 0, "space"
    for place, character in enumerate(text):
        kind = _kind(character)
        # Marks, and characters without width, belong to what stands before them
        goes_on = (kind == "mark" and open_kind != "space") or (kind == open_kind == "word")
        if goes_on:
            continue
        if open_kind != "space":
            yield begin, place
        begin, open_kind = place, "word" if kind == "mark" else kind
    if open_kind != "space":
        yield begin, len(text)


def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf":
        return "mark"
    if category == "Cc":
        return "space"
    if _WITHOUT_SPACES.match(character):
        return "alone"
    return "word" if category[0] in "LN" or character == "_" else "sign"


def _cut(words: Iterable[tuple[int, int]], edges: Sequence[int]) -> Iterator[tuple[int, int]]:
    next_edge = 0
    for first, end in words:
        begin = first
        while next_edge < len(edges) and edges[next_edge] <= begin:
            next_edge += 1
        while next_edge < len(edges) and edges[next_edge] < end:
            yield begin, edges[next_edge]
            begin = edges[next_edge]
            next_edge += 1
        yield begin, end
