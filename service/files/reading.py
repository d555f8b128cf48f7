"""Support sets, queries and descriptions from files and standard input."""

import csv
import io
import json
import sys
from pathlib import Path

from service.files.rows import FileInvalid, ReadFile, ReadOptions, Row

_STANDARD_INPUT = "-"


def read_support(source: str, options: ReadOptions = ReadOptions()) -> ReadFile:  # noqa: B008
    """Reads labelled examples.

    Raises:
        FileInvalid: The file cannot be read, or a row is no example.
    """
    rows = _rows(source, plain_text=False)
    for row in rows:
        if row.label is None:
            raise FileInvalid(_name(source), row.line, "no label")
    return ReadFile(tuple(rows), f"{len(rows)} rows", source=_name(source))


def read_queries(source: str, options: ReadOptions = ReadOptions()) -> ReadFile:  # noqa: B008
    """Reads texts to classify.

    Raises:
        FileInvalid: The file cannot be read, or a row is no text.
    """
    rows = _rows(source, plain_text=True)
    return ReadFile(tuple(rows), f"{len(rows)} rows", source=_name(source))


def read_descriptions(source: str) -> dict[str, str]:
    """Reads what labels mean, in words.

    Raises:
        FileInvalid: The file is no JSON object of texts.
    """
    try:
        found = json.loads(_content(source))
    except (ValueError, RecursionError) as error:
        raise FileInvalid(_name(source), 0, f"not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise FileInvalid(_name(source), 0, 'descriptions have the form {"LABEL": "what it means", …}')
    return found


def _name(source: str) -> str:
    return "standard input" if source == _STANDARD_INPUT else source


def _rows(source: str, *, plain_text: bool) -> list[Row]:
    content = _content(source)
    if source.lower().endswith(".csv") or content.startswith("text,"):
        table = csv.DictReader(io.StringIO(content))
        return [_row(source, table.line_num, dict(row)) for row in table]
    lines = [(number, line.rstrip("\r")) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    if plain_text and lines and lines[0][1].lstrip()[0] not in '{"':
        return [Row(number, line) for number, line in lines]
    rows = []
    for number, line in lines:
        try:
            rows.append(_row(source, number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise FileInvalid(_name(source), number, f"not JSON: {error}") from error
    return rows


def _row(source: str, line: int, record: object) -> Row:
    if isinstance(record, str):
        return Row(line, record)
    if not isinstance(record, dict) or not isinstance(record.get("text"), str):
        raise FileInvalid(_name(source), line, 'no text: a row has the form {"text": "…", "label": "…"}')
    text_pair, label, identifier = (record.get(name) for name in ("text_pair", "label", "id"))
    return Row(
        line,
        record["text"],
        text_pair or None,
        None if label is None else str(label),
        None if identifier is None else str(identifier),
    )


def _content(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == _STANDARD_INPUT else Path(source).read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileInvalid(_name(source), 0, f"cannot be read: {error}") from error
