"""The places in files of a request's parts, so that a server's messages can name file and line."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from handful.cli.output import number_list
from handful.errors import HandfulError
from handful.files import ReadFile, Row

_OPTIONS = {"steps", "learning_rate", "ttl_seconds", "top_k", "version", "abstain", "checkpoint"}
_POINTER = re.compile(r"#/(support|queries|labels)(?:/([^/]+))?(?:/(.+))?")


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a file that one request holds.

    Attributes:
        source: The file as errors name it.
        rows: The rows, in the request's order; ``line`` counts lines, or rows where a file has no lines.
        unit: The unit that ``line`` counts: ``line`` or ``row``.
    """

    source: str
    rows: Sequence[Row]
    unit: str = "line"

    @classmethod
    def of(cls, file: ReadFile) -> "Rows":
        """All rows of a file."""
        if all(row.line for row in file.rows):
            return cls(file.source, file.rows)
        return cls(file.source, tuple(replace(row, line=i) for i, row in enumerate(file.rows, 1)), "row")

    def only(self, rows: Sequence[Row]) -> "Rows":
        """The given rows of this file."""
        return replace(self, rows=rows)

    def at(self, lines: Sequence[int]) -> str:
        """A phrase for places in this file: ``intents.csv, lines 3 and 5``."""
        return f"{self.source}, {number_list(self.unit, lines)}"


@dataclass(frozen=True, slots=True)
class Places:
    """The sources of a request's parts.

    Attributes:
        support: The rows of the support set.
        queries: The rows of the queries.
        labels: The file of the descriptions.
    """

    support: Rows | None = None
    queries: Rows | None = None
    labels: str | None = None

    def of(self, pointer: str) -> str:
        """The place in a file, or the option, for a pointer into a request; another pointer stays as it is."""
        if pointer.removeprefix("#/") in _OPTIONS:
            return f"--{pointer.removeprefix('#/').replace('_', '-')}"
        named = re.match("#/(only_labels|abstain)/", pointer)
        if named is not None:
            return "--only-label" if named[1] == "only_labels" else "--threshold"
        file, line, rest = self._find(pointer)
        if file is None:
            return pointer
        place = file.source if line is None else file.at([line])
        return f"{place}, {rest}" if rest else place

    def of_all(self, pointers: Sequence[str]) -> str:
        """The places for several pointers; pointers into one file are named together."""
        lines: dict[str, tuple[Rows, list[int]]] = {}
        others: list[str] = []
        for pointer in pointers:
            file, line, _ = self._find(pointer)
            if file is None or line is None:
                others.append(self.of(pointer))
            else:
                lines.setdefault(file.source, (file, []))[1].append(line)
        found = [file.at(sorted(set(numbers))) for file, numbers in lines.values()]
        return "; ".join([*found, *dict.fromkeys(others)])

    def words(self, message: str, pointers: Sequence[str]) -> str:
        """A message in which these pointers are places in files."""
        for pointer in sorted(pointers, key=len, reverse=True):
            message = message.replace(pointer, self.of(pointer))
        return message

    def error(self, error: HandfulError) -> HandfulError:
        """An error whose pointers are places in files."""
        pointers = [part["pointer"] for part in error.errors]
        parts: list[Mapping[str, str]] = [
            {"pointer": self.of(part["pointer"]), "detail": self.words(part["detail"], pointers)}
            for part in error.errors
        ]
        return HandfulError(
            self.words(str(error), pointers),
            status=error.status,
            code=error.code,
            errors=parts,
            request_id=error.request_id,
        )

    @contextmanager
    def named(self) -> Iterator[None]:
        """Adds the places in files to errors that are raised in the context."""
        try:
            yield
        except HandfulError as error:
            raise self.error(error) from error

    def _find(self, pointer: str) -> tuple[Rows | None, int | None, str]:
        """The file, the line and the rest of a pointer; no file where it points elsewhere."""
        match = _POINTER.fullmatch(pointer)
        part, index, field = match.groups() if match else (None, None, None)
        file = {"support": self.support, "queries": self.queries}.get(part or "")
        if self.labels is not None and (part == "labels" or (part == "support" and self.support is None)):
            label = "" if index is None else f"label {index.replace('~1', '/').replace('~0', '~')!r}"
            return Rows(self.labels, ()), None, label
        if file is None or (index is not None and (not index.isdecimal() or int(index) >= len(file.rows))):
            return None, None, ""
        # A line stands for its text; another field has to be named
        return file, None if index is None else file.rows[int(index)].line, "" if field in {None, "text"} else field
