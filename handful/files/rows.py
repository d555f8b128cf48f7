"""The rows of a file of examples or queries."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One example or query.

    Attributes:
        line: The line of the file, from 1, where the record starts; 0 where the format has no lines.
        text: The text, as it stands in the file.
        text_pair: The second text of a pair.
        label: The class, without surrounding white space; None for a query, and for an out-of-scope example.
        id: The example's name.
        weight: The weight of the example.
        labels: The classes of an example of a multi-label task.
        score: The score of an example of a regression.
        tagged: The example of a token classification as a request has it: tokens and tags, or a text and spans; of a
            query, tokens.
    """

    line: int
    text: str
    text_pair: str | None = None
    label: str | None = None
    id: str | None = None
    weight: float | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    tagged: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ReadFile:
    """The rows of a file, and a summary of how they were read.

    Attributes:
        rows: Examples or queries in the file's order.
        found: A summary in one line: the number of rows, the columns, the format and the encoding.
        descriptions: Descriptions of labels, where the file holds them.
        source: The file as errors name it: its path, or ``standard input``.
    """

    rows: tuple[Row, ...]
    found: str
    descriptions: Mapping[str, str] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """The caller's statements about a file, which replace guesses.

    Attributes:
        text_column: Name of the text's column or key, or its number from 1 where a table has no header.
        label_column: Name or number of the label's column or key.
        delimiter: One character, or ``tab``.
        encoding: A codec's name, such as ``utf-8`` or ``windows-1252``.
    """

    text_column: str | None = None
    label_column: str | None = None
    delimiter: str | None = None
    encoding: str | None = None


class FileInvalid(Exception):
    """A file that cannot be read as asked; the message names file, line, fault and remedy.

    Attributes:
        source: The file as errors name it.
        line: The line at fault, from 1; 0 where no single line is at fault.
    """

    def __init__(self, source: str, line: int, detail: str) -> None:
        """Puts the place before the fault.

        Args:
            source: The file as errors name it.
            line: The line at fault; 0 for none.
            detail: The fault and its remedy.
        """
        super().__init__(f"{source}, line {line}: {detail}" if line else f"{source}: {detail}")
        self.source = source
        self.line = line
