"""Progress of a command that goes through many tasks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from handful.cli.output import note, stderr

_LINE_EVERY_S = 5.0


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """Shows progress on standard error, by a bar or by lines; yields the function to call after each task."""
    if stderr.is_terminal:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=stderr, transient=True) as bar:
            shown = bar.add_task("", total=total)
            yield lambda: bar.advance(shown)
        return
    done, said_at = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, said_at
        done += 1
        if time.monotonic() - said_at > _LINE_EVERY_S:
            said_at = time.monotonic()
            note(f"{done:,} of {total:,} tasks {what}")

    yield advance
