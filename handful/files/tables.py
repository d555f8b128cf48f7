"""Tables (CSV, TSV and the like), split into records that are all as wide as the header."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from handful.files.columns import known_roles
from handful.files.content import Content
from handful.files.dialects import (
    Dialect,
    Malformed,
    Record,
    first_record,
    is_filled,
    read_records,
    sample_records,
    variants,
)
from handful.files.rows import FileInvalid, ReadOptions

DELIMITER_WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "pipes"}
_DELIMITER_ARTICLES = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a pipe"}
_DELIMITER_NAMES = {
    "tab": "\t",
    "\\t": "\t",
    "comma": ",",
    "semicolon": ";",
    "pipe": "|",
    "space": " ",
    **{character: character for character in DELIMITER_WORDS},
}
_QUOTES = "\"'`\u2018\u2019\u201c\u201d"
_TAB_SUFFIXES = {".tsv", ".tab"}
# Between header and rows of a Markdown table; the border before its first column makes an empty field
_RULE = re.compile(r"\s*(:?-{2,}:?)?\s*")
_SAMPLE_RECORDS = 200
_MAX_HEADER_CHARS = 40
_MAX_HEADER_WORDS = 4


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows are all as wide as its header.

    Attributes:
        header: The first row, where it names columns.
        header_line: The header's line; 0 where there is none.
        rows: The line and the fields of each row that is not blank.
        width: The number of columns.
        words: The delimiter and peculiarities for messages.
        blank_rows: The number of blank rows.
    """

    header: tuple[str, ...] | None
    header_line: int
    rows: list[Record]
    width: int
    words: tuple[str, ...]
    blank_rows: int


def holds_table(content: Content, options: ReadOptions) -> bool:
    """Whether a text of no known format is a table: its first line is a header, and no sentence with commas."""
    if options.delimiter or options.text_column or options.label_column or _sep_line(content.text):
        return True
    for delimiter in DELIMITER_WORDS:
        records = sample_records(content.text, Dialect(delimiter), 1 + _SAMPLE_RECORDS)
        if not records or not all(map(_reads_like_a_name, _trimmed(records[0][1]))):
            continue
        header = _trimmed(records[0][1])
        roles = known_roles(header, ReadOptions())
        if len(header) > 1 and roles >= {"text", "label"}:
            return True
        if len(records) == 1 or "text" not in roles:
            continue
        if len(header) == 1:
            return header[0].strip().casefold() in _LONE_HEADERS
        prose = any(field.startswith(" ") for field in header[1:])
        return not prose and not _misfits(header, records[1:])
    return False


_LONE_HEADERS = {"text", "texts", "utterance", "utterances", "sentence", "query", "queries"}


def read_table(content: Content, options: ReadOptions, *, labelled: bool) -> Table:
    """Splits a text into records.

    Args:
        content: The file's text.
        options: Delimiter and columns that the caller names.
        labelled: Whether the table should have a label.

    Raises:
        FileInvalid: The delimiter cannot be found, quotes do not match, or a row is not as wide as the header.
    """
    separator = _sep_line(content.text)
    text = content.text if separator is None else content.text[separator.end() :]
    first_line = 1 if separator is None else 2
    asked = _delimiter(content, options)
    if asked is None and separator is not None:
        asked = separator[1]
    dialect = Dialect(asked) if asked else _find_delimiter(content, text, options, labelled=labelled)
    first = first_record(text, dialect)
    if first is None:
        return Table(None, 0, [], 0, (), 0)
    has_header = _is_header(first[1], text, dialect, options)
    width = len(_trimmed(first[1])) if has_header else 0
    if any(field.startswith(" ") for field in first[1][1:]) and has_header:
        dialect = replace(dialect, skip_blanks=True)
    if all(re.fullmatch(r"\s*'[^']*'\s*", field) for field in first[1]):
        dialect = replace(dialect, quote="'")
    dialect, records, blank_rows = _read_records(content.source, text, dialect, width, first_line)
    words = () if max(width, len(records[0][1])) == 1 else (_words(dialect),)
    if has_header:
        if dialect.delimiter == "|" and len(records) > 1 and all(map(_RULE.fullmatch, _trimmed(records[1][1]))):
            del records[1]
        line, header = records[0]
        names = tuple(field.strip().strip(_QUOTES).strip() for field in header[:width])
        return Table(names, line, records[1:], width, words, blank_rows)
    return Table(None, 0, records, len(records[0][1]), words, blank_rows)


def _sep_line(text: str) -> re.Match[str] | None:
    """The delimiter that Excel's ``sep=`` line names."""
    return re.match(r'"?sep=([^\r\n])"?[;,\t]*(\r\n|\n|\r|\Z)', text, re.IGNORECASE)


def _delimiter(content: Content, options: ReadOptions) -> str | None:
    if options.delimiter is None:
        return None
    delimiter = _DELIMITER_NAMES.get(options.delimiter.lower(), options.delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n\0':
        raise FileInvalid(content.source, 0, f"a delimiter is one character, or tab; {options.delimiter!r} is not")
    return delimiter


def _find_delimiter(content: Content, text: str, options: ReadOptions, *, labelled: bool) -> Dialect:
    """Takes the delimiter under which the first row is a header; without a header, the one that all rows agree on."""
    order = sorted(DELIMITER_WORDS, key=lambda delimiter: (delimiter == "\t") != (content.suffix in _TAB_SUFFIXES))
    best, best_score = None, (False, 0, 0)
    for delimiter in order:
        first = first_record(text, Dialect(delimiter))
        if first is None:
            return Dialect(delimiter)
        roles = known_roles(first[1], options)
        score = (len(first[1]) > 1, len(roles), len(first[1])) if roles & {"text", "label"} else (False, 0, 0)
        if score > best_score:
            best, best_score = delimiter, score
    if best is not None:
        return Dialect(best)
    widths = {}
    for delimiter in ["\t"] if content.suffix in _TAB_SUFFIXES else order:
        records = sample_records(text, Dialect(delimiter), _SAMPLE_RECORDS)
        found = {len(fields) for _, fields in records}
        if len(found) == 1 and found != {1}:
            widths[delimiter] = found.pop()
    if len(widths) > 1:
        words = " or ".join(DELIMITER_WORDS[delimiter] for delimiter in widths)
        raise FileInvalid(content.source, 0, f"{words} could both separate the columns: choose with --delimiter")
    return Dialect(next(iter(widths), order[0]))


def _is_header(fields: Sequence[str], text: str, dialect: Dialect, options: ReadOptions) -> bool:
    """Whether the first row names columns.

    A row such as ``how do I reset it,question`` has a known name too, but among the labels of later rows.
    """
    roles = known_roles(fields, options)
    if not roles & {"text", "label"} or not all(map(_reads_like_a_name, _trimmed(fields))):
        return any(
            name is not None and not name.isdecimal() and known_roles(fields, ReadOptions(text_column=name)) & {"text"}
            for name in (options.text_column, options.label_column)
        )
    if roles >= {"text", "label"} or len(fields) == 1:
        return True
    rows = sample_records(text, dialect, _SAMPLE_RECORDS)[1:]
    return not any(
        field.strip() and field.strip().casefold() in {row[i].strip().casefold() for _, row in rows if i < len(row)}
        for i, field in enumerate(fields)
    )


def _read_records(
    source: str, text: str, dialect: Dialect, width: int, first_line: int
) -> tuple[Dialect, list[Record], int]:
    """Reads all records under the first variant of the dialect that they fit."""
    fault: FileInvalid | None = None
    for variant in variants(text, dialect):
        try:
            read = list(read_records(text, variant, first_line))
        except Malformed as error:
            fault = fault or FileInvalid(source, error.line, str(error))
            continue
        records = list(filter(is_filled, read))
        header = records[0][1][: width or None]
        misfits = _misfits(header, records[1:])
        if misfits:
            fault = fault or _width_fault(source, header, misfits, variant.delimiter, headed=bool(width))
        elif not _swallows_rows(text, variant, header, len(records)):
            return variant, records, len(read) - len(records)
    assert fault is not None  # noqa: S101  # a variant that fits returns
    raise fault


def _swallows_rows(text: str, dialect: Dialect, header: Sequence[str], n_records: int) -> bool:
    """Whether quotes join rows of a tab-separated file that would fit the header as they are.

    Such files mostly hold quotes literally, and then two quotes far apart swallow the rows between them. A header in
    quotes shows that quotes are no part of the texts.
    """
    if dialect.delimiter != "\t" or dialect.quote is None or '"' not in text or text.lstrip().startswith('"'):
        return False
    literal = list(filter(is_filled, read_records(text, replace(dialect, quote=None))))
    return len(literal) != n_records and not _misfits(header, literal)


def _trimmed(fields: Sequence[str]) -> list[str]:
    """The fields without blank ones at the end, which spreadsheets add."""
    kept = list(fields)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept


def _reads_like_a_name(field: str) -> bool:
    words = field.split()
    return len(field) <= _MAX_HEADER_CHARS and len(words) <= _MAX_HEADER_WORDS and not field.rstrip().endswith(
        (".", "!", "?", ":")
    )  # fmt: skip


def _misfits(header: Sequence[str], records: Sequence[Record]) -> list[Record]:
    """The rows that have fewer fields than the header, or more fields that are not blank."""
    width = len(header)
    return [
        record
        for record in records
        if len(record[1]) != width and (len(record[1]) < width or any(map(str.strip, record[1][width:])))
    ]


def _width_fault(
    source: str, header: Sequence[str], misfits: list[Record], delimiter: str, *, headed: bool
) -> FileInvalid:
    line, fields = misfits[0]
    width = len(header)
    has = max(len(_trimmed(fields)), min(len(fields), width))
    detail = f"this row has {has} field{'s' * (has != 1)}, {'the header' if headed else 'the first row'} has {width}: "
    if not headed:
        holds = _DELIMITER_ARTICLES.get(delimiter, "the delimiter")
        detail += (
            f"quote texts that hold {holds}, and name the columns in the first line; where each line is one text, "
        )
        detail += "give --delimiter tab"
    elif has > width:
        holds = _DELIMITER_ARTICLES.get(delimiter, "the delimiter")
        detail += f'quote texts that hold {holds}, such as "Hello{delimiter} you"'
    else:
        detail += "fill the fields that are missing, or delete the row"
    if headed and width == 1 and delimiter != "\t":
        detail += "; where each line is one text, give --delimiter tab"
    if len(misfits) > 1:
        detail += f" (also line{'s' * (len(misfits) > 2)} {_listed([line for line, _ in misfits[1:]])})"
    return FileInvalid(source, line, detail)


def _listed(lines: list[int]) -> str:
    shown = ", ".join(map(str, lines[:3]))
    return f"{shown} and {len(lines) - 3} more" if len(lines) > 3 else shown


def _words(dialect: Dialect) -> str:
    words = DELIMITER_WORDS.get(dialect.delimiter, f"delimiter {dialect.delimiter!r}")
    if dialect.quote is None:
        words += ", quotes kept as they are"
    return words
