"""Rows of token classification: records with tokens and tags, or with a text and spans, and CoNLL's column files."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from handful.files.content import Content
from handful.files.document_shapes import is_token_list
from handful.files.record_rows import weight_of
from handful.files.records import Records
from handful.files.rows import FileInvalid, Row

CONLL_SUFFIXES = {".conll", ".bio", ".iob", ".iob2"}
"""File endings of column files: a token a line, its tag in the last column, a blank line after each sentence."""

_TAG = re.compile(r"O|[BIESLU]-.+")
_DOCUMENT = "-DOCSTART-"


_OTHER_ANSWERS = {"label", "labels", "score"}


def holds_tags(records: Records) -> bool:
    """Whether the records are of token classification: the first has tokens or spans, and no answer of another form."""
    first = next((item for _, item in records.items if isinstance(item, Mapping)), {})
    if is_token_list(first):
        return True
    return "text" in first and isinstance(first.get("spans"), list) and not _OTHER_ANSWERS & first.keys()


def tagged_rows(source: str, records: Records, *, labelled: bool) -> tuple[list[Row], str]:
    """Rows of records with tokens or spans, and a description of the keys that they come from.

    Raises:
        FileInvalid: A record is of another form.
    """
    rows, keys = [], {}
    for line, item in records.items:
        if not isinstance(item, Mapping):
            raise FileInvalid(source, line, 'the record has no tokens: write {"tokens": […], "tags": […]}')
        rows.append(_tagged_row(source, line, item, labelled=labelled))
        keys.update(dict.fromkeys(name for name in ("tokens", "tags", "text", "spans") if name in item))
    return rows, f"read from {', '.join(map(repr, keys))}"


def of_stored(row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored example in the form of a request: a text with spans, or tokens with tags where it came as tokens."""
    fields = dict(row)
    spans = [{"start": start, "end": end, "label": label} for start, end, label in fields.pop("spans")]
    words = fields.pop("words", None)
    if words is None:
        return {**fields, "spans": spans}
    text, tags = fields.pop("text"), ["O"] * len(words)
    for span in spans:
        inside = [i for i, (start, end) in enumerate(words) if start < span["end"] and end > span["start"]]
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{span['label']}"
    return {**fields, "tokens": [text[start:end] for start, end in words], "tags": tags}


def _is_stored(item: Mapping[str, Any]) -> bool:
    """Whether a record is a row of an exported task, whose spans and words are lists."""
    spans, words = item.get("spans"), item.get("words", [])
    if not isinstance(spans, list) or not isinstance(words, list) or not isinstance(item.get("text"), str):
        return False
    return bool(spans or words) and all(isinstance(each, list) for each in (*spans, *words))


def _tagged_row(source: str, line: int, item: Mapping[str, Any], *, labelled: bool) -> Row:
    if _is_stored(item):
        try:
            item = of_stored(item)
        except (TypeError, ValueError):
            raise FileInvalid(source, line, 'a span has the form {"start": 17, "end": 22, "label": "city"}') from None
    name = item.get("id")
    identifier = str(name) if isinstance(name, str | int) and name != "" else None
    weight = weight_of(source, line, item.get("weight")) if labelled else None
    tokens = item.get("tokens")
    if tokens is not None and (item.get("spans") is None or "tags" in item):
        tokens = _texts(source, line, tokens, "tokens")
        tagged: dict[str, Any] = {"tokens": tokens}
        if labelled:
            if item.get("tags") is None:
                raise FileInvalid(source, line, 'no tags in "tags": give a tag for each token, "O" for no label')
            tagged["tags"] = _texts(source, line, item["tags"], "tags")
            if len(tagged["tags"]) != len(tokens):
                detail = f"{len(tokens)} tokens and {len(tagged['tags'])} tags: give one tag for each token"
                raise FileInvalid(source, line, detail)
        return Row(line, " ".join(tokens), id=identifier, weight=weight, tagged=tagged)
    text, spans = item.get("text"), item.get("spans")
    if not isinstance(text, str) or not text.strip():
        raise FileInvalid(source, line, 'no text in "text", and no tokens: write the text, or delete the record')
    if not labelled:
        return Row(line, text, id=identifier)
    if not isinstance(spans, list):
        raise FileInvalid(source, line, 'no spans in "spans": give a list, [] for a text without any')
    fields = ("start", "end", "label")
    for span in spans:
        if not isinstance(span, Mapping) or any(name not in span for name in fields):
            raise FileInvalid(source, line, 'a span has the form {"start": 17, "end": 22, "label": "city"}')
    kept = [{name: span[name] for name in fields} for span in spans]
    return Row(line, text, id=identifier, weight=weight, tagged={"text": text, "spans": kept})


def _texts(source: str, line: int, value: Any, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise FileInvalid(source, line, f'"{name}" is no list of texts: write {{"{name}": ["…", "…"]}}')
    return [str(each) for each in value]


def conll_rows(content: Content, *, labelled: bool) -> tuple[list[Row], str]:
    """The sentences of a column file, and a description.

    The first column has the token, the last one the tag. Lines before a sentence that begin with ``#`` and end with no
    tag are comments.

    Raises:
        FileInvalid: Lines have different numbers of columns, or the last one holds no tags.
    """
    rows: list[Row] = []
    begun: list[tuple[int, list[str]]] = []
    width = 0
    for number, line in enumerate([*content.lines, ""], 1):
        columns = line.split()
        comment = not begun and len(columns) > 1 and line.startswith("#") and not _TAG.fullmatch(columns[-1])
        if columns and columns[0] != _DOCUMENT and not comment:
            width = width or len(columns)
            if len(columns) != width:
                detail = f"{len(columns)} columns, where earlier lines have {width}: a line is a token and its tag"
                raise FileInvalid(content.source, number, detail)
            begun.append((number, columns))
        elif begun and not columns:
            rows.append(_sentence(content.source, begun, labelled=labelled))
            begun = []
    return rows, f"tokens from column 1{f', tags from column {width}' if labelled else ''}"


def _sentence(source: str, lines: Sequence[tuple[int, list[str]]], *, labelled: bool) -> Row:
    tokens = [columns[0] for _, columns in lines]
    tagged: dict[str, Any] = {"tokens": tokens}
    if labelled:
        for number, columns in lines:
            if len(columns) < 2 or not _TAG.fullmatch(columns[-1]):
                detail = f"the last column is {columns[-1]!r}, which is no tag: write O, or B- and I- with a label"
                raise FileInvalid(source, number, detail)
        tagged["tags"] = [columns[-1] for _, columns in lines]
    return Row(lines[0][0], " ".join(tokens), tagged=tagged)
