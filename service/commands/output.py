"""How commands speak: tables and progress to a terminal, JSON lines to a pipe, complaints to standard error."""

import json
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.table import Table

stdout = Console()
stderr = Console(stderr=True)


def complain(message: str, *details: str) -> None:
    """Says what went wrong."""
    stderr.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    for detail in details:
        stderr.print(f"  {escape(detail)}", highlight=False, soft_wrap=True)


def show(
    columns: Sequence[str], rows: Iterable[Sequence[object]], records: Iterable[BaseModel], *, as_json: bool
) -> None:
    """A table on a terminal; one JSON object a line when asked for, or when the output goes to a pipe."""
    if as_json or not stdout.is_terminal:
        for record in records:
            print_json(record)
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    stdout.print(table)


def print_json(record: BaseModel | dict[str, object]) -> None:
    """One JSON object on one line."""
    text = record.model_dump_json() if isinstance(record, BaseModel) else json.dumps(record)
    print(text)  # noqa: T201 - this is what the command is for


def waiting(message: str) -> AbstractContextManager[object]:
    """A spinner on a terminal, for what takes more than a second."""
    return stderr.status(message)
