"""Token classification as entity typing: a sentence and a mention in it -> the type of the mention."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from metalearn.tokens.words import OUTSIDE
from metalearn.types import TextInput

_POSITIONED = re.compile(r"([BIESLU])-(.+)", re.DOTALL)
_BEGINS = "BSU"
_ENDS = "ESLU"


class Span(NamedTuple):
    """An entity: tokens from ``start`` up to, not including, ``end``."""

    start: int
    end: int
    type: str


def has_positions(tags: Sequence[str]) -> bool:
    """Whether tags state where in an entity a token stands: BIO and its like, also with ``I-`` alone.

    To be asked of all the tags of a file: the plain tag ``E-mail`` among others is no position.
    """
    return all(tag == OUTSIDE or _POSITIONED.fullmatch(tag) for tag in tags)


def entity_spans(tags: Sequence[str], positions: bool) -> list[Span]:
    """The entities of a sentence; neighbours of one type are one entity unless their positions part them.

    Args:
        tags: One per token: ``O``, or with positions ``B-person`` and ``I-person`` (an ``I-`` may also begin an entity;
            ``E-``, ``L-`` end one and ``S-``, ``U-`` are one), else the bare type.
        positions: Whether the tags have positions, by ``has_positions``.
    """
    spans: list[Span] = []
    is_open = False
    for place, tag in enumerate(tags):
        if tag == OUTSIDE:
            is_open = False
            continue
        match = _POSITIONED.fullmatch(tag) if positions else None
        position, type_ = match.groups() if match else ("I", tag)
        if is_open and position not in _BEGINS and spans[-1].type == type_:
            spans[-1] = spans[-1]._replace(end=place + 1)
        else:
            spans.append(Span(place, place + 1, type_))
        is_open = position not in _ENDS
    return spans


def mentions(tokens: Sequence[str], tags: Sequence[str], positions: bool) -> Iterator[tuple[TextInput, str]]:
    """Each entity of a sentence as (sentence and mention, type)."""
    sentence = " ".join(tokens).strip()
    for span in entity_spans(tags, positions):
        mention = " ".join(tokens[span.start : span.end]).strip()
        if mention:
            yield TextInput(sentence, mention), span.type
