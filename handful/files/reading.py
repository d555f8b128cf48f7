"""Support sets, queries and descriptions from files and standard input."""

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from handful.files.columns import Columns, ColumnsUnclear, choose_columns, guess_columns, known_roles, likely_columns
from handful.files.content import Content, decode_content, read_content
from handful.files.document_shapes import descriptions_of, unfold
from handful.files.documents import read_json, read_json_texts
from handful.files.fasttext import fasttext, is_fasttext
from handful.files.rasa import is_rasa_markdown, is_rasa_yaml, rasa_markdown, rasa_yaml
from handful.files.record_rows import describe_columns, rows_of_records, score_of, weight_of
from handful.files.records import Records
from handful.files.rows import FileInvalid, ReadFile, ReadOptions, Row
from handful.files.tables import Table, holds_table, read_table
from handful.files.tagged_records import CONLL_SUFFIXES, conll_rows, holds_tags, tagged_rows

_NO_OPTIONS = ReadOptions()
_TABLE_SUFFIXES = {".csv", ".tsv", ".tab", ".psv"}
_YAML_SUFFIXES = {".yml", ".yaml"}
# A list of labels in a cell, as Python or JSON writes it
_LIST = re.compile(r"\[['\"].*['\"]\]")
# Rasa's training data, in a file of any name. Each part ends with its line, so that no text takes long to refuse
_RASA_YAML = re.compile(r"\s*(#[^\n]*\n\s*)*(version\s*:[^\n]*\n\s*)?nlu\s*:")
# Between labels that share a cell
_SEPARATOR = re.compile("[,;|]")
# The service's rule for the id of an example
_EXAMPLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def read_support(source: str, options: ReadOptions = _NO_OPTIONS) -> ReadFile:
    """Reads labelled examples.

    Args:
        source: A path, or ``-`` for standard input.
        options: The caller's statements about the file.

    Returns:
        Rows that have a label, or that a JSON record's ``"label": null`` says to be out of scope.

    Raises:
        FileInvalid: The file cannot be read, or a row is no example.
    """
    return _read(read_content(source, options.encoding), options, labelled=True)


def read_support_bytes(name: str, data: bytes, options: ReadOptions = _NO_OPTIONS) -> ReadFile:
    """Reads labelled examples from the bytes of a file, as ``read_support`` does from its path.

    Args:
        name: The file's name, which errors repeat and whose ending tells the format; empty for pasted text.
        data: The bytes of the file.
        options: The caller's statements about the file.

    Raises:
        FileInvalid: The file cannot be read, or a row is no example.
    """
    content = decode_content(name or "pasted text", PurePath(name).suffix.lower(), data, options.encoding)
    return _read(content, options, labelled=True)


def read_queries(source: str, options: ReadOptions = _NO_OPTIONS) -> ReadFile:
    """Reads texts to classify.

    Args:
        source: A path, or ``-`` for standard input.
        options: The caller's statements about the file.

    Returns:
        Rows; those of a labelled file keep their label.

    Raises:
        FileInvalid: The file cannot be read, or a row is no query.
    """
    return _read(read_content(source, options.encoding), options, labelled=False)


def read_descriptions(source: str) -> dict[str, str]:
    """Reads descriptions of labels.

    The file is a JSON object, alone or under ``labels``, the same in YAML, or a table of labels and descriptions.

    Raises:
        FileInvalid: The file holds no descriptions.
    """
    content = read_content(source)
    document: Any = None
    if content.suffix in _TABLE_SUFFIXES:
        options = ReadOptions(text_column="description")
        return {row.label or "": row.text for row in _of_table(content, options, labelled=True).rows}
    if content.suffix in _YAML_SUFFIXES:
        document = _yaml(content)
    else:
        values = read_json(content)
        document = values[0][1] if values and len(values) == 1 else None
    if isinstance(document, dict) and isinstance(document.get("labels"), dict):
        document = document["labels"]
    return descriptions_of(content.source, 0, document)


def _read(content: Content, options: ReadOptions, *, labelled: bool) -> ReadFile:
    if content.suffix in CONLL_SUFFIXES:
        read = _read_file(content, *conll_rows(content, labelled=labelled), "CoNLL columns")
    else:
        read = _of_content(content, options, labelled=labelled)
    if not read.rows and not (labelled and read.descriptions):
        needed = "a support set needs labelled examples" if labelled else "give texts to classify"
        reason = "the file is empty" if not content.text.strip() else read.found
        raise FileInvalid(content.source, 0, f"0 rows read: {reason}; {needed}")
    return _without_bad_ids(read) if labelled else read


def _of_content(content: Content, options: ReadOptions, *, labelled: bool) -> ReadFile:
    values = read_json(content)
    if values is not None:
        return _of_records(content, unfold(content.source, values, labelled=labelled), options, labelled=labelled)
    if content.suffix in _YAML_SUFFIXES or _RASA_YAML.match(content.text):
        document = _yaml(content)
        if is_rasa_yaml(document):
            records = rasa_yaml(content.source, document)
        else:
            records = unfold(
                content.source, [] if document is None else [(1, document)], labelled=labelled, form="YAML"
            )
        return _of_records(content, records, options, labelled=labelled)
    for is_format, read_format in ((is_rasa_markdown, rasa_markdown), (is_fasttext, fasttext)):
        if is_format(content):
            return _of_records(content, read_format(content), options, labelled=labelled)
    if labelled or content.suffix in _TABLE_SUFFIXES or holds_table(content, options):
        return _of_table(content, options, labelled=labelled)
    texts = read_json_texts(content)
    if texts is not None:
        return _of_records(content, Records(list(texts), "JSON lines"), options, labelled=False)
    rows = [Row(number, line) for number, line in enumerate(content.lines, 1) if line.strip()]
    return _read_file(content, rows, "one text a line")


def _yaml(content: Content) -> Any:
    # Slow to import, and few files are YAML
    from handful.files.yaml_documents import read_yaml

    return read_yaml(content)


def _of_records(content: Content, records: Records, options: ReadOptions, *, labelled: bool) -> ReadFile:
    if not records.items and labelled and records.descriptions:
        found = f"0 rows, {len(records.descriptions)} described labels; {records.shape}, {content.encoding}"
        return _read_file(content, [], found, descriptions=records.descriptions)
    if not records.items:
        return _read_file(
            content, [], f"no record in the {records.shape}", *records.notes, descriptions=records.descriptions
        )
    if holds_tags(records):
        return _read_file(content, *tagged_rows(content.source, records, labelled=labelled), records.shape)
    rows, columns, notes = rows_of_records(content.source, records, options, labelled=labelled)
    return _read_file(content, rows, columns, records.shape, *records.notes, *notes, descriptions=records.descriptions)


def _of_table(content: Content, options: ReadOptions, *, labelled: bool) -> ReadFile:
    table = read_table(content, options, labelled=labelled)
    columns, words = _table_columns(content, table, options, labelled=labelled)
    if columns is None:
        return _read_file(content, [], "the file has no row")
    rows = [_table_row(content.source, table, columns, line, fields, labelled=labelled) for line, fields in table.rows]
    blank = f"{table.blank_rows} blank row{'s' * (table.blank_rows != 1)} skipped" if table.blank_rows else ""
    if not rows:
        return _read_file(content, [], f"line {table.header_line} is a header, and nothing is below it")
    return _read_file(content, rows, words, *table.words, blank, _joined_labels(rows))


def _joined_labels(rows: Sequence[Row]) -> str:
    """A note on labels that look like several in one cell: their parts are in other labels, too."""
    parts = {row.label: [part.strip() for part in _SEPARATOR.split(row.label)] for row in rows if row.label}
    counted = Counter(part for each in parts.values() for part in each)
    for label, each in parts.items():
        if len(each) > 1 and all(counted[part] > 1 for part in each):
            return f"{label!r} is read as one label (several are a list in JSON)"
    return ""


def _table_columns(
    content: Content, table: Table, options: ReadOptions, *, labelled: bool
) -> tuple[Columns | None, str]:
    if table.header is not None:
        try:
            columns = choose_columns(table.header, options, labelled=labelled)
        except ColumnsUnclear as error:
            raise FileInvalid(content.source, table.header_line, str(error)) from error
        return columns, describe_columns(list(map(repr, table.header)), columns, labelled=labelled)
    if not table.rows:
        return None, ""
    line, first = table.rows[0]
    numbers = [f"column {number}" for number in range(1, table.width + 1)]
    columns_asked = _numbered(content, table, options, labelled=labelled)
    if columns_asked is not None:
        return columns_asked, f"{describe_columns(numbers, columns_asked, labelled=labelled)}, no header"
    shown = ", ".join(repr(field if len(field) <= 40 else field[:40] + "…") for field in first)
    if table.width == 1:
        if known_roles(re.split(r"[^\w\s]+", first[0]), ReadOptions()) >= {"text", "label"}:
            raise FileInvalid(
                content.source, line, f"the header {shown} is one field: take off quotes around whole lines, or name "
                "the delimiter with --delimiter"
            )  # fmt: skip
        if labelled:
            raise FileInvalid(
                content.source, line, f"no examples found: the line is one field, {shown}; give CSV with a header line "
                'such as text,label, or JSON lines such as {"text": "…", "label": "…"}'
            )  # fmt: skip
        return Columns(0), "one text a row, no header"
    guessed = guess_columns([fields for _, fields in table.rows]) if table.width == 2 else None
    if guessed is None:
        likely = likely_columns([fields for _, fields in table.rows]) if labelled else None
        proposed = [f" {shlex.quote(first[at].strip())}" for at in likely] if likely else ["", ""]
        options_like = "with --text-column{} and --label-column{}".format(*proposed)
        raise FileInvalid(
            content.source, line, f"no name of a text or label is in the first row, {shown}: if it is a header, name "
            f"the columns {options_like}; if it is an example, give their numbers, such as "
            "--text-column 1 --label-column 2"
            + ("" if labelled else "; where each line is one text, give --delimiter tab")
        )  # fmt: skip
    return guessed, f"{describe_columns(numbers, guessed, labelled=True)} (a guess), no header"


def _numbered(content: Content, table: Table, options: ReadOptions, *, labelled: bool) -> Columns | None:
    """Resolves columns that the caller gives by number, where the table has no header."""
    asked = {"text": options.text_column, "label": options.label_column}
    given = {role: name for role, name in asked.items() if name is not None}
    if not given:
        return None
    for role, name in given.items():
        if not name.isdecimal() or not 1 <= int(name) <= table.width:
            line, fields = table.rows[0]
            raise FileInvalid(
                content.source, line, f"--{role}-column {name!r} is none of the columns: {', '.join(map(repr, fields))}"
            )
    positions = {role: int(name) - 1 for role, name in given.items()}
    if table.width == 2 and len(positions) == 1:
        other = "label" if "text" in positions else "text"
        positions[other] = 1 - next(iter(positions.values()))
    missing = [role for role in ("text", "label") if role not in positions and (labelled or role == "text")]
    if missing:
        raise FileInvalid(content.source, table.rows[0][0], f"give --{missing[0]}-column too: the file has no header")
    return Columns(positions["text"], positions.get("label"))


def _table_row(source: str, table: Table, columns: Columns, line: int, fields: list[str], *, labelled: bool) -> Row:
    def value(column: int | None) -> str | None:
        return None if column is None else fields[column]

    def name(column: int | None) -> str:
        return "" if column is None else f"column {table.header[column]!r}" if table.header else f"column {column + 1}"

    text, label, pair, identifier = map(value, (columns.text, columns.label, columns.text_pair, columns.id))
    if text is None or not text.strip():
        raise FileInvalid(source, line, f"no text in {name(columns.text)}: write the text, or delete the row")
    label = (label or "").strip() or None
    score = None
    if labelled and columns.score is not None:
        score = score_of(source, line, value(columns.score), name(columns.score))
    elif labelled:
        if label is None:
            raise FileInvalid(source, line, f"no label in {name(columns.label)}: write the label, or delete the row")
        if label.startswith('{"choices"') or _LIST.fullmatch(label):
            raise FileInvalid(source, line, f"the label {label} is a list: keep one label an example")
    weight = weight_of(source, line, value(columns.weight)) if labelled else None
    pair = pair if pair and pair.strip() else None
    return Row(line, text, pair, label, (identifier or "").strip() or None, weight, None, score)


def _read_file(
    content: Content, rows: list[Row], *words: str, descriptions: Mapping[str, str] | None = None
) -> ReadFile:
    counted = f"{len(rows)} row{'s' * (len(rows) != 1)}"
    details = ", ".join(word for word in (*words[1:], content.encoding) if word)
    found = "; ".join(part for part in (counted, words[0], details) if part) if rows else words[0]
    return ReadFile(tuple(rows), found, dict(descriptions or {}), content.source)


def _without_bad_ids(read: ReadFile) -> ReadFile:
    """Drops ids that cannot name examples, with a note: columns named ``id`` often identify something else."""
    ids = [row.id for row in read.rows if row.id is not None]
    if all(map(_EXAMPLE_ID.fullmatch, ids)) and len(set(ids)) == len(ids):
        return read
    rows = tuple(replace(row, id=None) for row in read.rows)
    return ReadFile(
        rows, f"{read.found}; ids left out: they are not unique, or no names", read.descriptions, read.source
    )
