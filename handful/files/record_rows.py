"""Rows from records, which have keys, and values of any JSON type."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from handful.files.columns import Columns, ColumnsUnclear, choose_columns
from handful.files.records import Records
from handful.files.rows import FileInvalid, ReadOptions, Row

# JSON can escape one, and no encoding can write it
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_MAX_SHOWN_CHARS = 60


class _NotALabel(Exception):
    pass


def rows_of_records(
    source: str, records: Records, options: ReadOptions, *, labelled: bool
) -> tuple[list[Row], str, tuple[str, ...]]:
    """Makes rows from records.

    Returns:
        The rows, a description of the keys that they come from, and a list of notes.

    Raises:
        FileInvalid: A record is no example, or no query.
    """
    form = '{"text": "…", "label": "…"}' if labelled else '{"text": "…"}'
    keys: dict[str, None] = {}
    for line, item in records.items:
        if isinstance(item, dict):
            keys.update(dict.fromkeys(item))
        elif labelled or not isinstance(item, str):
            raise FileInvalid(source, line, f"{_shown(item)} is no record: write {form}")
    if not keys:
        return [Row(line, _text(source, line, item, "text")) for line, item in records.items], "", ()
    names = list(keys)
    first_line = next(line for line, item in records.items if isinstance(item, dict))
    try:
        columns = choose_columns(names, options, labelled=labelled, places="keys")
    except ColumnsUnclear as error:
        raise FileInvalid(source, first_line, f"{error} (a record has the form {form})") from error
    rows = []
    numbers = False
    several = labelled and columns.label is not None and names[columns.label] == "labels" and _is_multi_label(records)
    outside = 0
    for line, item in records.items:
        if isinstance(item, str):
            rows.append(Row(line, _text(source, line, item, "text")))
            continue
        row, number = _row(source, line, item, names, columns, labelled=labelled, several=several)
        rows.append(row)
        numbers = numbers or number
        outside += row.label is None and row.labels is None and row.score is None
    notes: tuple[str, ...] = ("whole numbers as labels read as texts",) if numbers and labelled else ()
    if outside and labelled:
        notes += (f"{outside} example{'s' * (outside != 1)} with the label null read as out of scope",)
    return rows, describe_columns(list(map(repr, names)), columns, labelled=labelled), notes


def describe_columns(names: Sequence[str], columns: Columns, *, labelled: bool) -> str:
    """A description of the columns that are read; ``names`` are the columns' names as shown."""
    words = f"text from {names[columns.text]}"
    if columns.text_pair is not None:
        words += f" and {names[columns.text_pair]}"
    if labelled and columns.label is not None:
        words += f", label from {names[columns.label]}"
    if labelled and columns.score is not None:
        words += f", score from {names[columns.score]}"
    if columns.set_aside:
        words += f", not from {', '.join(map(repr, columns.set_aside))}"
    return words


def weight_of(source: str, line: int, value: Any) -> float | None:
    """An example's weight; None where it is empty.

    Raises:
        FileInvalid: The weight is no number of 0 or more.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        weight = math.nan if isinstance(value, bool | list | dict) else float(value)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise FileInvalid(source, line, f"the weight is {_shown(value)}: it has to be a number of 0 or more")
    return weight


def score_of(source: str, line: int, value: Any, name: str) -> float:
    """An example's score.

    Raises:
        FileInvalid: It is no number.
    """
    try:
        score = math.nan if isinstance(value, bool | list | dict | None) else float(value)
    except ValueError:
        score = math.nan
    if not math.isfinite(score):
        raise FileInvalid(source, line, f"the score {_shown(value)} in {name} is no number: write one, such as 1.5")
    return score


def _is_multi_label(records: Records) -> bool:
    """Whether ``labels`` holds lists of names, and some list has several or none: else each has one label."""
    lists = [item["labels"] for _, item in records.items if isinstance(item, dict) and "labels" in item]
    named = all(isinstance(each, list) and all(isinstance(label, str) for label in each) for each in lists)
    return named and any(len(each) != 1 for each in lists)


def _row(
    source: str,
    line: int,
    item: Mapping[str, Any],
    names: list[str],
    columns: Columns,
    *,
    labelled: bool,
    several: bool,
) -> tuple[Row, bool]:
    def value(column: int | None) -> Any:
        return None if column is None else item.get(names[column])

    text = _text(source, line, value(columns.text), names[columns.text])
    pair = value(columns.text_pair)
    label_value = value(columns.label)
    number, labels, score = False, None, None
    if several:
        if label_value is None:
            raise FileInvalid(source, line, "no 'labels': write a list of labels, [] for none")
        labels, label_value = tuple(label.strip() for label in label_value), None
    elif labelled and columns.score is not None:
        score = score_of(source, line, value(columns.score), repr(names[columns.score]))
    try:
        label, number = _label(label_value)
    except _NotALabel as error:
        if labelled:
            raise FileInvalid(source, line, f"the label {_shown(label_value)} {error}") from error
        label = None
    unanswered = label is None and labels is None and score is None
    if labelled and unanswered and not _is_out_of_scope(item):
        name = names[columns.label] if columns.label is not None else "label"
        raise FileInvalid(source, line, f"no label in {name!r}: give the example a label, or delete it")
    identifier = value(columns.id)
    row = Row(
        line,
        text,
        None if pair is None or pair == "" else _text(source, line, pair, names[columns.text_pair or 0]),
        label,
        str(identifier) if isinstance(identifier, str | int) and identifier != "" else None,
        weight_of(source, line, value(columns.weight)) if labelled else None,
        labels,
        score,
    )
    return row, number


def _is_out_of_scope(item: Mapping[str, Any]) -> bool:
    """Whether a record has ``"label": null``. Under another name, null means that nobody has labelled the text yet."""
    return "label" in item and item["label"] is None


def _text(source: str, line: int, value: Any, name: str) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise FileInvalid(source, line, f"no text in {name!r}: write the text, or delete the record")
    if not isinstance(value, str):
        raise FileInvalid(source, line, f"{name!r} is {_shown(value)}, which is no text: put it in double quotes")
    if _HALF_CHARACTER.search(value):
        raise FileInvalid(
            source, line, f"{name!r} has half a character, a surrogate without its pair: correct the text"
        )
    return str(value)


def _label(value: Any) -> tuple[str | None, bool]:
    """The label as a text, and whether it was a whole number. A list with one element counts as that element."""
    if isinstance(value, list):
        if len(value) > 1:
            raise _NotALabel('is a list of several: keep one label an example, or call the key "labels"')
        value = value[0] if value else None
        if isinstance(value, list):
            raise _NotALabel("is a list of lists, as spans have it: give one text")
    if value is None:
        return None, False
    if isinstance(value, str):
        if _HALF_CHARACTER.search(value):
            raise _NotALabel("has half a character, a surrogate without its pair: correct it")
        return value.strip() or None, False
    if isinstance(value, bool):
        raise _NotALabel(f'is no text: write "{str(value).lower()}" in double quotes if it is meant as a name')
    if isinstance(value, int):
        return str(value), True
    if isinstance(value, float) and value.is_integer():
        return str(int(value)), True
    if isinstance(value, float):
        raise _NotALabel("is a number, and no class: write it in double quotes if it is meant as a name")
    raise _NotALabel('is no text: write it as "label": "name"')


def _shown(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= _MAX_SHOWN_CHARS else shown[:_MAX_SHOWN_CHARS] + "…"
