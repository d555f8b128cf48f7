"""The examples of an exported task as a file that ``handful adapt`` reads: JSON lines, JSON or CSV."""

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handful.cli.output import note
from handful.errors import HandfulError
from handful.files import FileInvalid, Row, read_support
from handful.files.tagged_records import of_stored

_BOOKKEEPING = {"source", "state"}
"""Fields of a stored example that are not the caller's."""


def write_dataset(content: bytes, path: Path) -> None:
    """Writes the examples of an exported task; the end of the file's name decides the format.

    Fields are those of the stored examples. What a CSV file cannot hold is refused, and not written otherwise.

    Args:
        content: The exported task.
        path: The file.

    Raises:
        HandfulError: The task's examples were not kept, or the format cannot hold them.
    """
    rows, descriptions = _examples(content)
    kind = path.suffix.lower()
    if kind == ".json":
        document = {"support": rows} | ({"labels": descriptions} if descriptions else {})
        text = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
    elif kind == ".csv":
        text = _table(rows)
    else:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8", newline="")
    _check(path, rows)
    note(f"wrote {len(rows)} examples to {path}")
    if descriptions and kind != ".json":
        note(f"{len(descriptions)} descriptions of labels are not in it: a name that ends in .json takes them along")


def _examples(content: bytes) -> tuple[list[dict[str, Any]], Mapping[str, str]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if "examples.jsonl" not in archive.namelist():
            raise HandfulError(
                "the examples of this version were not kept (keep_support: false), so that there is no dataset of them",
                status=0,
                code="support_not_kept",
            )
        lines = archive.read("examples.jsonl").splitlines()
        descriptions: Mapping[str, str] = json.loads(archive.read("support.json"))["descriptions"]
    # Examples that are set aside would be adapted on like all others
    rows = [row for row in map(json.loads, lines) if row.get("state", "adapted") == "adapted"]
    return [_of_caller(row) for row in rows], descriptions


def _of_caller(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored example that its caller gave; one with several labels or a score has no label."""
    fields = {name: value for name, value in row.items() if name not in _BOOKKEEPING}
    if "spans" in row:
        return of_stored(fields)
    if "labels" in row or "score" in row:
        fields.pop("label", None)
    return fields


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    written = io.StringIO()
    table = csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n")
    table.writerow(columns)
    for row in rows:
        cells = (row.get(name) for name in columns)
        table.writerow([cell if isinstance(cell, str) else "" if cell is None else json.dumps(cell) for cell in cells])
    return written.getvalue()


def _check(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Reads the file again, as ``handful adapt`` would."""
    names = ("text", "text_pair", "label", "id", "weight", "labels", "score", "spans", "tokens", "tags")
    try:
        found = [[_as_json(_field(row, name)) for name in names] for row in read_support(str(path)).rows]
        reason = "other examples"
    except FileInvalid as error:
        found, reason = [], str(error)
    if found != [[row.get(name) for name in names] for row in rows]:
        advice = "" if path.suffix.lower() == ".json" else "; choose a name that ends in .json"
        raise HandfulError(
            f"{path} does not hold the examples as they are, and `handful adapt` would read {reason}{advice}",
            status=0,
            code="not_representable",
        )


def _field(row: Row, name: str) -> Any:
    if row.tagged is not None and name not in {"id", "weight"}:
        return row.tagged.get(name)
    return getattr(row, name, None)


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
