"""The use case of reading examples: from the bytes of a file to examples, as the command line reads it."""

import re

from handful.files import FileInvalid, ReadOptions, Row, read_support_bytes
from handful.wire import LabelledText
from handful.wire_playground import ReadExamplesResponse
from service.tasks.errors import FileUnreadable

_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")
_FIELDS = ("text", "label", "text_pair", "id", "weight")


def read_examples(name: str, data: bytes, options: ReadOptions) -> ReadExamplesResponse:
    """Reads labelled examples; stores nothing. Takes a while on a large file, so it is called in a thread.

    Args:
        name: The file's name; empty for pasted text.
        data: The bytes of the file.
        options: The caller's statements about the file.

    Raises:
        FileUnreadable: The file cannot be read, or a row is no example.
    """
    try:
        read = read_support_bytes(name, data, options)
    except FileInvalid as error:
        # The reader names the options of the command line
        raise FileUnreadable(_FLAG.sub(lambda flag: flag[1].replace("-", "_"), str(error))) from error
    except RecursionError as error:
        raise FileUnreadable(f"{name or 'pasted text'}: the file is nested too deeply") from error
    if any(row.labels is not None or row.score is not None or row.tagged is not None for row in read.rows):
        raise FileUnreadable(
            f"{read.source} has several labels, spans or a score for each text, and is read here for one label: adapt "
            "on it by `handful adapt` or the API"
        )
    for row in read.rows:
        _refuse_half_characters(f"{read.source}, line {row.line}", row.text, row.text_pair, row.label)
    for label, description in read.descriptions.items():
        _refuse_half_characters(read.source, label, description)
    return ReadExamplesResponse(
        found=read.found,
        examples=[_example(row) for row in read.rows],
        lines=[row.line for row in read.rows],
        labels=dict(read.descriptions),
    )


def _refuse_half_characters(place: str, *texts: str | None) -> None:
    """Refuses halves of surrogate pairs, which JSON's escapes can write and no answer can repeat."""
    for text in texts:
        try:
            (text or "").encode()
        except UnicodeEncodeError as error:
            detail = f"{place}: the escape \\u{ord(error.object[error.start]):04x} is half of a character: correct it"
            raise FileUnreadable(detail) from None


def _example(row: Row) -> LabelledText:
    given = {field: getattr(row, field) for field in _FIELDS}
    return LabelledText.model_construct(
        **{name: value for name, value in given.items() if value is not None or name == "label"}
    )
