"""Digests of texts and examples, by which versions are found that are derived from a text."""

import hashlib
import json
from collections.abc import Iterable

from metalearn.types import Example, SupportSet, TextInput
from model_store.codec import ExampleRow


def support_digests(support: SupportSet) -> tuple[str, ...]:
    """SHA-256 of each example (text, second text, label), then of each description (label, description).

    A weight that is not 1 follows, after ``*``. The label of an example of weight 0 is left out: it has no effect.

    Half of each digest is kept, 32 hexadecimal digits: a record holds one for every example.
    """
    examples = (_digest_of(e) for e in support.examples)
    return (*examples, *map(_short_digest, sorted(support.descriptions.items())))


def _short_digest(content: tuple[str | None, ...]) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def example_digest(text: TextInput, label: str | None) -> str:
    """The digest of one example in ``support_digests``, without its weight."""
    return _short_digest((text.text, text.text_pair, label))


def _digest_of(example: Example) -> str:
    """Where the answer is no label, half of it is the text's, so that versions with a text are found by the text."""
    weight = "" if example.weight == 1 else f"*{example.weight!r}"
    if example.labels is None and example.score is None and example.spans is None:
        return example_digest(example.input, example.label if example.weight else None) + weight
    return half_digest(example.input) + hashlib.sha256(json.dumps(example.answer).encode()).hexdigest()[:16] + weight


def half_digest(text: TextInput) -> str:
    """The first half of a digest in ``support_digests`` of an example with several labels, a score or spans."""
    return _short_digest((text.text, text.text_pair))[:16]


def set_aside_digests(rows: Iterable[ExampleRow]) -> tuple[str, ...]:
    """The digest of the text of each row that is kept and not adapted on, whatever its label."""
    return tuple(text_digest(row.example.input) for row in rows if row.state != "adapted")


def text_digest(text: TextInput) -> str:
    """The digest of a text in ``set_aside_digests``; no example's digest, since no label is empty."""
    return example_digest(text, "")
