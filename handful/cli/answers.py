"""Answers to the rows of a file. A request has many rows, and a faulty row costs no other row its answer."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

from handful.cli.output import complain, print_json, show_lines, stdout, warn
from handful.cli.places import Places, Rows
from handful.client import Client
from handful.errors import HandfulError
from handful.files import Row
from handful.wire import Prediction, SupportWarning
from handful.wire_examples import StoredExample

_HUGE_TEXT_CHARS = 100_000
_TOO_LARGE = 413
_SHOWN_TEXT_CHARS = 200

Ask = Callable[[Sequence[Row]], Sequence[Prediction]]


@dataclass(frozen=True, slots=True)
class Fault:
    """The reason why a row has no answer."""

    row: Row
    detail: str


def answer_rows(file: Rows, ask: Ask, places: Places) -> Iterator[tuple[Row, Prediction] | Fault]:
    """Yields the answer to each row, or its fault.

    A request that is refused for some of its rows is sent again without them. A request that is too large is split
    into two.

    Args:
        file: The rows.
        ask: Requests the answers to some rows.
        places: The sources of the request's other parts, for error messages.

    Raises:
        HandfulError: A request is refused for another reason, or the server is away.
    """
    left = list(file.rows)
    while left:
        asked = replace(places, queries=file.only(left))
        try:
            predictions = ask(left)
        except HandfulError as error:
            named = asked.error(error)
            faults = _faulty_rows(error, named, len(left))
            if faults:
                yield from (Fault(left[i], detail) for i, detail in faults.items())
                left = [row for i, row in enumerate(left) if i not in faults]
                continue
            if not _is_too_much(error):
                raise named from error
            if len(left) > 1:
                middle = len(left) // 2
                yield from answer_rows(file.only(left[:middle]), ask, places)
                yield from answer_rows(file.only(left[middle:]), ask, places)
                return
            if len(left[0].text) < _HUGE_TEXT_CHARS:
                raise named from error  # the support set is too large, not this text
            yield Fault(left[0], str(named))
            return
        yield from zip(left, predictions, strict=True)
        return


class AnswerSheet:
    """Shows answers as JSON lines at once, or as one table at the end, also when an error ends the work.

    Attributes:
        faulty: The lines without an answer.
        answered: The number of rows with an answer.
    """

    def __init__(self, file: Rows, *, as_json: bool, client: Client) -> None:
        """Prepares an empty sheet.

        Args:
            file: The rows' file.
            as_json: Whether to print JSON lines on a terminal, too.
            client: Looks up the encoder's limit where a text was cut.
        """
        self._file = file
        self._as_json = as_json or not stdout.is_terminal
        self._client = client
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
            columns = (self._file.unit, "text", "label", "confidence", "nearest example")
            show_lines(columns[: len(self._rows[0])], self._rows)
        if self._cut:
            subject = "1 text is" if len(self._cut) == 1 else f"{len(self._cut)} texts are"
            verb = "was" if len(self._cut) == 1 else "were"
            warn(f"{subject} longer than {reading_limit(self._client)} and {verb} cut: {self._file.at(self._cut)}")
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
            label = answer_words(prediction)
            nearest = [] if prediction.nearest is None else [prediction.nearest[0].text if prediction.nearest else ""]
            self._rows.append((row.line, text[:_SHOWN_TEXT_CHARS], label, f"{prediction.confidence:.3f}", *nearest))

    def fault(self, fault: Fault) -> None:
        """Reports a row that has no answer."""
        self.faulty.append(fault.row.line)
        complain(f"{self._file.at([fault.row.line])}: {fault.detail}")


def answer_words(prediction: Prediction) -> str:
    """The answer of a task of any kind: a label, labels, a score or spans."""
    if prediction.abstained:
        return "(abstained)"
    if prediction.labels is not None:
        return ", ".join(prediction.labels) or "(none)"
    if prediction.spans is not None:
        return "; ".join(f"{span.text}: {span.label}" for span in prediction.spans) or "(none)"
    if prediction.label is None:
        return "(abstained)" if prediction.score is None else f"{prediction.score:.3f}"
    return prediction.label


def answer_of_example(example: StoredExample) -> str:
    """The answer that an example gives, of a task of any kind."""
    if example.labels is not None:
        return ", ".join(example.labels) or "(none)"
    if example.spans is not None:
        return "; ".join(f"{example.text[span.start : span.end]}: {span.label}" for span in example.spans) or "(none)"
    if example.score is not None:
        return f"{example.score:g}"
    return "(out of scope)" if example.label is None else example.label


def answer_record(row: Row, prediction: Prediction, unit: str = "line") -> dict[str, Any]:
    """An answer as one JSON object, with the row that it answers."""
    fields: dict[str, Any] = {unit: row.line, "text": row.text}
    fields |= {name: getattr(row, name) for name in ("text_pair", "id") if getattr(row, name) is not None}
    answer = prediction.model_dump(mode="json")
    if "id" in answer:  # which is the row's own, where the file has one
        answer["answer_id"] = answer.pop("id")
    return fields | answer


def reading_limit(client: Client) -> str:
    """The limit on the length of a text that the encoder reads, as a phrase."""
    try:
        return f"{client.checkpoint().encoder['max_tokens']} tokens"
    except (HandfulError, KeyError):
        return "the encoder reads"


def show_warnings(warnings: Iterable[SupportWarning], places: Places, seen: set[str]) -> None:
    """Prints warnings that have not been printed, with lines of files for pointers."""
    for warning in warnings:
        place = places.of_all(warning.pointers)
        text = places.words(warning.detail, warning.pointers)
        if place:
            text += f" See {place}." if text.endswith(".") else f" ({place})"
        if text not in seen:
            seen.add(text)
            warn(text)


def _faulty_rows(error: HandfulError, named: HandfulError, count: int) -> dict[int, str]:
    """The rows of a request that are at fault, with the reasons; none where another part is at fault, too."""
    found: dict[int, str] = {}
    for part, words in zip(error.errors, named.errors, strict=True):
        match = re.fullmatch(r"#/queries/(\d+)(?:/.*)?", part["pointer"])
        if match is None or int(match[1]) >= count:
            return {}
        found.setdefault(int(match[1]), words["detail"])
    return found


def _is_too_much(error: HandfulError) -> bool:
    return error.status == _TOO_LARGE or error.code == "too_many_queries"
