"""Labels: their normal form as classes, look-alikes and misspellings."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
)
"""Invisible characters: Default_Ignorable_Code_Point of Unicode, without the tags of the last plane."""

_TAGS = "\U000e0000-\U000e0fff"
"""Tag characters. They are ignorable too, but the flags of England, Scotland and Wales differ by them alone."""

_BLANK = "\u2800"
"""The Braille pattern without dots: a symbol by its category, but invisible."""

_CONTROLS = "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
_BLANK_TEXT = re.compile(rf"[\s{_CONTROLS}{_IGNORABLE}{_TAGS}{_BLANK}]*")
_INVISIBLE = re.compile(rf"[{_CONTROLS}{_IGNORABLE}]+")

_WHITE_SPACE = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
_MARKS_AT_ENDS = "\u00ad\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
"""Byte order mark, zero-width space, word joiner, soft hyphen and marks of writing direction. Not the joiners, which
some scripts write at the end of a word.
"""

_DASHES = "\\-\u2010-\u2015\u2212\ufe58\ufe63\uff0d"
_DASH_BETWEEN_WORDS = re.compile(rf"(?<=\w)(?:[{_DASHES}]+|\s+[{_DASHES}]+\s+)(?=\w)")
_SPACES = re.compile(r"[\s_]+")
_SPACE_BESIDE_LETTER = re.compile(r"(?<=[^\W\d]) (?=\w)|(?<=\w) (?=[^\W\d])")
_SAME_SIGNS = str.maketrans({"\u2018": "'", "\u2019": "'", "\u02bc": "'", "\u201c": '"', "\u201d": '"', "\u0131": "i"})

_MISSPELT_CHARS = range(4, 65)


def trimmed(label: str) -> str:
    """A label without white space and invisible marks at its ends."""
    return label.strip(_WHITE_SPACE + _MARKS_AT_ENDS)


def normalised(label: str) -> str:
    """The class of a label: the label trimmed, in the composed form NFC.

    The label's length has to be bounded, since the time to compose grows with the square of a run of combining marks.
    """
    return unicodedata.normalize("NFC", trimmed(label))


def is_blank(text: str) -> bool:
    """Whether a text consists of white space, control and invisible characters alone."""
    return _BLANK_TEXT.fullmatch(text) is not None


def look_alike_key(label: str) -> str:
    """A key that is equal for labels that differ by case, white space, word separators, Unicode form or invisible
    characters alone.

    Spaces, underscores and dashes between words count nothing. Between two digits one is as good as another, so that
    "1-2" and "12" stay apart; a sign before a number or after a grade counts.
    """
    visible = _INVISIBLE.sub("", unicodedata.normalize("NFKC", label))
    folded = unicodedata.normalize("NFKC", visible.casefold()).replace("i\u0307", "i").translate(_SAME_SIGNS)
    spaced = _SPACES.sub(" ", _DASH_BETWEEN_WORDS.sub(" ", folded)).strip()
    return _SPACE_BESIDE_LETTER.sub("", spaced)


def look_alikes(labels: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of two or more labels with one look-alike key, in the order of the labels."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[look_alike_key(label)].append(label)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def misspellings(names: Sequence[str], labels: Sequence[str]) -> list[tuple[str, str]]:
    """Each name that is one character off a label, with that label.

    A character may be missing, added, replaced or swapped with its neighbour. Digits have to be the same, since
    "level 1" and "level 2" are no misspellings of each other.
    """
    near: dict[str, str] = {}
    for label in labels:
        for form in _nearby(look_alike_key(label)):
            near.setdefault(form, label)
    found = []
    for name in names:
        key = look_alike_key(name)
        meant = next((near[form] for form in _nearby(key) if form in near), None)
        if meant is not None and _digits(key) == _digits(look_alike_key(meant)):
            found.append((name, meant))
    return found


def _nearby(key: str) -> list[str]:
    """The key, and the key without each one of its characters. Two keys are near if these sets meet."""
    if len(key) not in _MISSPELT_CHARS:
        return []
    return [key, *(key[:i] + key[i + 1 :] for i in range(len(key)))]


def _digits(key: str) -> str:
    return "".join(filter(str.isdigit, key))
