"""Dialects of tables: the rules by which records are split into fields."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

Record = tuple[int, list[str]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """The syntax of a table's records.

    Attributes:
        delimiter: The character between fields.
        quote: The character around fields that hold a delimiter or a line end; None where quotes are part of the text.
        skip_blanks: Whether blanks after a delimiter are dropped from the field.
        backslash: Whether a quote inside a quoted field is escaped by a backslash, and not doubled.
    """

    delimiter: str
    quote: str | None = '"'
    skip_blanks: bool = False
    backslash: bool = False


class Malformed(Exception):
    """Quotes that do not match.

    Attributes:
        line: The line where the record starts.
    """

    def __init__(self, line: int, detail: str) -> None:
        """Takes the record's line and the message."""
        super().__init__(detail)
        self.line = line


def variants(text: str, dialect: Dialect) -> Iterator[Dialect]:
    """The dialect and its likely variants, the likeliest first."""
    yield dialect
    if dialect.delimiter == "\t":
        yield replace(dialect, quote=None)
    if not dialect.skip_blanks and dialect.delimiter + ' "' in text:
        yield replace(dialect, skip_blanks=True)
    if '\\"' in text:
        yield replace(dialect, backslash=True)


def read_records(text: str, dialect: Dialect, first_line: int = 1) -> Iterator[Record]:
    """The fields of each record, with the line where it starts.

    Raises:
        Malformed: Quotes do not match.
    """
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        quoting=csv.QUOTE_NONE if dialect.quote is None else csv.QUOTE_MINIMAL,
        skipinitialspace=dialect.skip_blanks,
        escapechar="\\" if dialect.backslash else None,
        doublequote=not dialect.backslash,
        strict=True,
    )
    line = first_line
    try:
        for fields in reader:
            yield line, fields
            line = first_line + reader.line_num
    except csv.Error as error:
        if "expected after" in str(error):
            remedy = 'a quoted text goes on after its closing quote: inside a quoted text, write each quote twice ("")'
        elif "field limit" in str(error):
            remedy = f"a field is longer than {csv.field_size_limit()} characters: shorten it, or close its quote"
        elif "unexpected end" in str(error):
            remedy = "a quote opens here and is not closed: close it, or write it twice inside a quoted text"
        else:
            remedy = str(error)
        raise Malformed(line, remedy) from error


def is_filled(record: Record) -> bool:
    """Whether a record holds more than white space."""
    return any(map(str.strip, record[1]))


def sample_records(text: str, dialect: Dialect, n_records: int) -> list[Record]:
    """The first records that are not blank, as far as they can be read."""
    found: list[Record] = []
    try:
        for record in islice(filter(is_filled, read_records(text, dialect)), n_records):
            found.append(record)  # noqa: PERF402  # what came before a fault is kept
    except Malformed:
        pass
    return found


def first_record(text: str, dialect: Dialect) -> Record | None:
    """The first record that is not blank, even where its quotes do not match."""
    found = sample_records(text, dialect, 1) or sample_records(text, replace(dialect, quote=None), 1)
    return found[0] if found else None
