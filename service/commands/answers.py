"""Answers to the rows of a file: asked in requests of many rows, shown as they come, none lost to a faulty row."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from service.client import HandfulError, Query
from service.commands.output import complain, print_json, show_lines, stdout, warn
from service.commands.places import Places, Rows
from service.files import Row
from service.schemas import Prediction

_HUGE_TEXT_CHARS = 100_000
_TOO_LARGE = 413
_SHOWN_TEXT_CHARS = 200

Ask = Callable[[Sequence[Row]], Sequence[Prediction]]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row has no answer."""

    row: Row
    detail: str


def query_of(row: Row) -> Query:
    """A row as the server reads a query."""
    return row.text if row.text_pair is None else {"text": row.text, "text_pair": row.text_pair}


def example_of(row: Row) -> dict[str, Any]:
    """A row as the server reads an example."""
    fields = {name: getattr(row, name) for name in ("text", "label", "text_pair", "id", "weight")}
    return {name: value for name, value in fields.items() if value is not None}


def answer_rows(rows: Sequence[Row], ask: Ask) -> Iterator[tuple[Row, Prediction] | Fault]:
    """The answer to each row, or why it has none.

    A request that is refused for some of its rows is sent again without them; one that is too large, in halves.

    Raises:
        HandfulError: A request is refused for another reason, or the server is away.
    """
    left = list(rows)
    while left:
        try:
            predictions = ask(left)
        except HandfulError as error:
            faults = _faulty_rows(error, len(left))
            if faults:
                yield from (Fault(left[i], detail) for i, detail in faults.items())
                left = [row for i, row in enumerate(left) if i not in faults]
                continue
            if not _is_too_much(error):
                raise
            if len(left) > 1:
                middle = len(left) // 2
                yield from answer_rows(left[:middle], ask)
                yield from answer_rows(left[middle:], ask)
                return
            if len(left[0].text) < _HUGE_TEXT_CHARS:
                raise  # the support set is too large, not this text
            yield Fault(left[0], str(error))
            return
        yield from zip(left, predictions, strict=True)
        return


class AnswerSheet:
    """Shows answers: JSON lines at once, or a table of all that came at the end, also when an error ends the work.

    Attributes:
        faulty: The lines without an answer.
        answered: How many rows have been answered.
    """

    def __init__(self, file: Rows, *, as_json: bool, max_tokens: Callable[[], int | None]) -> None:
        """Prepares an empty sheet.

        Args:
            file: Where the rows come from.
            as_json: JSON lines also on a terminal.
            max_tokens: Finds how many tokens the encoder reads; called once where a text was cut.
        """
        self._file = file
        self._as_json = as_json or not stdout.is_terminal
        self._max_tokens = max_tokens
        self._rows: list[tuple[object, ...]] = []
        self._cut: list[int] = []
        self._unreadable: list[int] = []
        self.faulty: list[int] = []
        self.answered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rows:
            show_lines((self._file.unit, "text", "label", "confidence"), self._rows)
        if self._cut:
            warn(cut_warning(len(self._cut), self._max_tokens(), self._file.at(self._cut)))
        if self._unreadable:
            count = len(self._unreadable)
            subject = "1 text is" if count == 1 else f"{count} texts are"
            warn(f"{subject} in words that the encoder hardly knows: {self._file.at(self._unreadable)}")

    def add(self, row: Row, prediction: Prediction) -> None:
        """Shows an answer."""
        self.answered += 1
        if prediction.truncated:
            self._cut.append(row.line)
        if prediction.unreadable:
            self._unreadable.append(row.line)
        if self._as_json:
            print_json(answer_record(row, prediction, self._file.unit))
        else:
            text = row.text if row.text_pair is None else f"{row.text} | {row.text_pair}"
            label = "(abstained)" if prediction.label is None else prediction.label
            self._rows.append((row.line, text[:_SHOWN_TEXT_CHARS], label, f"{prediction.confidence:.3f}"))

    def fault(self, fault: Fault) -> None:
        """Reports a row that has no answer."""
        self.faulty.append(fault.row.line)
        complain(f"{self._file.at([fault.row.line])}: {fault.detail}")


def answer_record(row: Row, prediction: Prediction, unit: str = "line") -> dict[str, Any]:
    """An answer as one JSON object, with the row that it answers."""
    fields: dict[str, Any] = {unit: row.line, "text": row.text}
    fields |= {name: getattr(row, name) for name in ("text_pair", "id") if getattr(row, name) is not None}
    return fields | prediction.model_dump(mode="json")


def cut_warning(count: int, max_tokens: int | None, place: str) -> str:
    """The words for texts that were cut."""
    length = "the encoder reads" if max_tokens is None else f"{max_tokens} tokens"
    subject = "1 text is longer than" if count == 1 else f"{count} texts are longer than"
    return f"{subject} {length} and {'was' if count == 1 else 'were'} cut{f': {place}' if place else ''}"


def show_warnings(answer: Any, places: Places, seen: set[str]) -> None:
    """Prints the warnings of an answer that have not been printed, with lines of files for pointers.

    Those on queries alone are left out: each prediction carries them, and the sheet sums them up.
    """
    for warning in answer.warnings:
        pointers = list(warning.pointers)
        if pointers and all(pointer.startswith("#/queries/") for pointer in pointers):
            continue
        place = places.of_all(pointers)
        text = f"{places.words(warning.detail, pointers)}{f' ({place})' if place else ''}"
        if text not in seen:
            seen.add(text)
            warn(text)


def _faulty_rows(error: HandfulError, count: int) -> dict[int, str]:
    """Which rows of a request are at fault, and why; none where anything else is at fault, too."""
    found: dict[int, str] = {}
    for part in error.errors:
        match = re.fullmatch(r"#/queries/(\d+)(?:/.*)?", part["pointer"])
        if match is None or int(match[1]) >= count:
            return {}
        found.setdefault(int(match[1]), part["detail"])
    return found


def _is_too_much(error: HandfulError) -> bool:
    return error.status == _TOO_LARGE or error.code == "too_many_queries"
