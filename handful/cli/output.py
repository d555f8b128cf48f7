"""Output of commands: tables and progress on a terminal, JSON lines in a pipe, messages on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

stdout = Console()
stderr = Console(stderr=True)

_MANY_NUMBERS = 12


def complain(message: str, *details: str) -> None:
    """Prints an error."""
    stderr.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    for detail in details:
        stderr.print(f"  {escape(detail)}", highlight=False, soft_wrap=True)


def warn(message: str) -> None:
    """Prints a warning."""
    stderr.print(f"[bold yellow]warning:[/] {escape(message)}", highlight=False, soft_wrap=True)


def note(message: str) -> None:
    """Prints a note on standard error."""
    stderr.print(f"[dim]{escape(message)}[/]", highlight=False, soft_wrap=True)


def show(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    records: Iterable[BaseModel | Mapping[str, object]],
    *,
    as_json: bool,
) -> None:
    """Prints a table on a terminal, or JSON lines when asked for or when the output goes to a pipe."""
    if as_json or not stdout.is_terminal:
        for record in records:
            print_json(record)
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    stdout.print(table)


def show_lines(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table with one line per row. Long cells are cut, and control characters are removed."""
    table = Table(*(Column(name, no_wrap=True, overflow="ellipsis") for name in columns))
    for row in rows:
        table.add_row(*(escape(printable(str(cell))) for cell in row))
    stdout.print(table)


def printable(text: str) -> str:
    """A text in one line, without control characters."""
    return "".join(character if character.isprintable() else " " for character in text)


def print_json(record: BaseModel | Mapping[str, object]) -> None:
    """Prints one JSON object on one line."""
    fields = record.model_dump(mode="json") if isinstance(record, BaseModel) else record
    # Characters that the terminal's encoding lacks are escaped
    unicode = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    text = json.dumps(fields, ensure_ascii=not unicode, separators=(",", ":"))
    print(text, flush=True)  # noqa: T201 - this is what the command is for


def waiting(message: str) -> AbstractContextManager[object]:
    """Shows a spinner on a terminal, for work that takes more than a second."""
    return stderr.status(message)


def number_list(unit: str, numbers: Sequence[int]) -> str:
    """``line 3``, ``lines 3, 5 and 9``; a long list is cut."""
    if len(numbers) == 1:
        return f"{unit} {numbers[0]}"
    shown = [str(number) for number in numbers[:_MANY_NUMBERS]]
    if len(numbers) > _MANY_NUMBERS:
        return f"{unit}s {', '.join(shown)} and {len(numbers) - _MANY_NUMBERS} more"
    return f"{unit}s {', '.join(shown[:-1])} and {shown[-1]}"
