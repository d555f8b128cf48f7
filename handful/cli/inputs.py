"""Support sets and queries of commands, from the files that their options name."""

import sys
from dataclasses import dataclass
from typing import Any

import typer

from handful.cli.output import note
from handful.cli.places import Places, Rows
from handful.files import ReadFile, ReadOptions, Row, read_descriptions, read_queries, read_support
from handful.forms import Query

STANDARD_INPUT = "-"


@dataclass(frozen=True, slots=True)
class SupportFiles:
    """A support set from files.

    Attributes:
        examples: The support set as a request has it.
        labels: Descriptions of labels; None where there are none.
        places: The places of both in the files.
    """

    examples: list[dict[str, Any]]
    labels: dict[str, str] | None
    places: Places


def read_support_files(support: str | None, labels: str | None, options: ReadOptions) -> SupportFiles:
    """Reads a support set from files and prints a summary on standard error.

    Raises:
        FileInvalid: A file cannot be read.
        typer.BadParameter: No file is given, or both come from standard input.
    """
    if support is None and labels is None:
        raise typer.BadParameter("give --support FILE, --labels FILE, or both")
    if support == labels == STANDARD_INPUT:
        raise typer.BadParameter("--support and --labels cannot both come from stdin")
    examples = ReadFile((), "") if support is None else read_support(support, options)
    if support is not None:
        note_found(examples)
    descriptions = dict(examples.descriptions)
    if labels is not None:
        descriptions |= read_descriptions(labels)
    rows = Rows.of(examples)
    return SupportFiles(
        [example_of(row) for row in rows.rows],
        descriptions or (None if labels is None else {}),
        Places(support=None if support is None else rows, labels=_label_source(examples, labels)),
    )


def _label_source(examples: ReadFile, labels: str | None) -> str:
    if labels is None:
        return examples.source
    return "standard input" if labels == STANDARD_INPUT else labels


def note_found(file: ReadFile) -> None:
    """Prints the reader's summary."""
    note(f"{file.source}: {file.found}")


def read_query_rows(source: str, options: ReadOptions) -> Rows:
    """Reads the rows to classify and prints a summary on standard error.

    Raises:
        FileInvalid: The file cannot be read.
    """
    if source == STANDARD_INPUT and sys.stdin is not None and sys.stdin.isatty():
        note("reading texts from the terminal, one a line; Ctrl-D ends them")
    file = read_queries(source, options)
    note_found(file)
    return Rows.of(file)


def query_of(row: Row) -> Query:
    """A row as the server reads a query."""
    return row.text if row.text_pair is None else {"text": row.text, "text_pair": row.text_pair}


def example_of(row: Row) -> dict[str, Any]:
    """A row as the server reads an example."""
    fields = {name: getattr(row, name) for name in ("text", "labels", "score", "text_pair", "id", "weight")}
    kept = {name: list(value) if name == "labels" else value for name, value in fields.items() if value is not None}
    # The label null is an answer too: out of scope
    return kept if "labels" in kept or "score" in kept else {"label": row.label, **kept}
