"""The text that stands for a class: its description, else the words of its label."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

from metalearn.types import SupportSet, TextInput

_CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")
_OPAQUE = re.compile(r"[a-z]{0,2}\d*|(?:class|label|cat|category|type|group|intent|topic|tag|cluster|item|lbl)\d+")


def label_words(label: str) -> str | None:
    """The words that a label is made of, or None where it carries none.

    ``card_arrival`` and ``cardArrival`` give "card arrival"; ``c17``, ``3``, ``label_2`` and ``A`` give None.
    """
    spaced = "".join(char if _is_of_a_word(char) else " " for char in _CAMEL_CASE.sub(" ", label))
    words = " ".join(word for word in spaced.split() if any(map(str.isalnum, word)))
    if _OPAQUE.fullmatch(words.replace(" ", "").lower()):
        return None
    return words


def _is_of_a_word(char: str) -> bool:
    # The vowels of Hindi, Tamil or Thai are marks, and no letters; so are the variants of an emoji
    return char.isalnum() or (unicodedata.category(char) in {"Mn", "Mc"} and not "\ufe00" <= char <= "\ufe0f")


def label_texts(support: SupportSet) -> dict[int, TextInput]:
    """Class index -> the text that stands for the class: its description, else the words of its name."""
    pairs = any(example.input.text_pair is not None for example in support.examples)
    return words_of_labels(support.labels, support.descriptions, pairs=pairs)


def words_of_labels(
    labels: Sequence[str], descriptions: Mapping[str, str] | None = None, *, pairs: bool = False
) -> dict[int, TextInput]:
    """Class index -> the text that stands for the class, for the classes that have one.

    Args:
        labels: Names of the classes.
        descriptions: Descriptions, by name, which go before names.
        pairs: Whether the task's texts are pairs. Then a label's text is paired with itself: the features of a
            pair's second text can be compared, and the two texts do not differ, for every label alike.
    """
    texts = {}
    for index, label in enumerate(labels):
        words = (descriptions or {}).get(label) or label_words(label)
        if words:
            texts[index] = TextInput(words, words if pairs else None)
    return texts
