"""Support sets and queries from files: JSON lines, CSV, or plain lines of text."""

import csv
import io
import json
import sys
from pathlib import Path

import typer

_STANDARD_INPUT = "-"
_FIELDS = ("text", "text_pair", "label", "id")


def read_support(source: str) -> list[dict[str, str]]:
    """Labelled examples.

    Raises:
        typer.BadParameter: A line is no example.
    """
    examples = []
    for line, record in _records(source, plain_text=False):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str) or record.get("label") is None:
            raise typer.BadParameter(f'{source}, line {line}: an example has the form {{"text": "…", "label": "…"}}')
        examples.append({name: str(record[name]) for name in _FIELDS if record.get(name) is not None})
    return examples


def read_descriptions(source: str) -> dict[str, str]:
    """What labels mean, in words.

    Raises:
        typer.BadParameter: The file is no JSON object of texts.
    """
    try:
        found = json.loads(_content(source))
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{source} is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise typer.BadParameter(f'{source}: descriptions have the form {{"LABEL": "what it means", …}}')
    return found


def read_queries(source: str) -> list[str | dict[str, str]]:
    """Texts to classify.

    Raises:
        typer.BadParameter: A line is no text.
    """
    queries: list[str | dict[str, str]] = []
    for line, record in _records(source, plain_text=True):
        if isinstance(record, str):
            queries.append(record)
        elif isinstance(record, dict) and isinstance(record.get("text"), str):
            pair = record.get("text_pair")
            queries.append({"text": record["text"], "text_pair": pair} if pair else record["text"])
        else:
            raise typer.BadParameter(f'{source}, line {line}: a query is a text, or {{"text": "…"}}')
    return queries


def _records(source: str, *, plain_text: bool) -> list[tuple[int, object]]:
    content = _content(source)
    if source.lower().endswith(".csv"):
        rows = csv.DictReader(io.StringIO(content))
        try:
            return [(rows.line_num, dict(row)) for row in rows]
        except csv.Error as error:
            raise typer.BadParameter(f"{source}, line {rows.line_num}: {error}") from error
    # Not splitlines: a text may hold a line separator of its own
    lines = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    if plain_text and lines and lines[0][1].lstrip()[0] not in '{"':
        return [(number, line.rstrip("\r")) for number, line in lines]
    records: list[tuple[int, object]] = []
    for number, line in lines:
        try:
            records.append((number, json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(f"{source}, line {number} is not JSON: {error}") from error
    return records


def _content(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == _STANDARD_INPUT else Path(source).read_bytes()
        return data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"cannot read {source}: {error}") from error
