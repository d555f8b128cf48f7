"""JSON and JSON lines as plain values; objects and texts have the number of their line."""

import bisect
import contextlib
import json
import json.decoder
import json.scanner
import re
from collections.abc import Callable
from typing import Any

from handful.files.columns import ID_NAMES, LABEL_NAMES, TEXT_NAMES, name_key
from handful.files.content import Content
from handful.files.rows import FileInvalid

_JSON_SUFFIXES = {".json", ".jsonl", ".ndjson", ".jl"}
_KNOWN_KEYS = frozenset(" ".join((*TEXT_NAMES, *LABEL_NAMES, *ID_NAMES, "support data utterances rows")).split())
_BLANKS = re.compile(r"[\s,]*")


class Located(dict[str, Any]):
    """An object of a file.

    Attributes:
        line: The line where it starts, from 1.
    """

    __slots__ = ("line",)

    def __init__(self, items: Any, line: int) -> None:
        """Takes the object's items and its line."""
        super().__init__(items)
        self.line = line


class LocatedText(str):
    """A text of a file.

    Attributes:
        line: The line of its first character, from 1.
        folded: Whether it is a YAML block whose lines were joined.
    """

    __slots__ = ("folded", "line")
    line: int
    folded: bool


def locate_text(text: str, line: int, *, folded: bool = False) -> LocatedText:
    """A text with the number of its line."""
    located = LocatedText(text)
    located.line, located.folded = line, folded
    return located


class _RepeatedKey(ValueError):
    """A key that stands twice in an object; of its values all but one would be lost."""

    def __init__(self, key: str, line: int = 0) -> None:
        super().__init__(key)
        self.key, self.line = key, line


def _unique(items: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(items)
    if len(made) != len(items):
        keys = [key for key, _ in items]
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return made


class _Decoder(json.JSONDecoder):
    """A decoder that adds the line to objects, and to texts in arrays."""

    def __init__(self, line_of: Callable[[int], int]) -> None:
        super().__init__(object_pairs_hook=_unique)

        def parse_object(text_and_start: tuple[str, int], *rest: Any) -> tuple[Located, int]:
            line = line_of(text_and_start[1] - 1)
            try:
                value, end = json.decoder.JSONObject(text_and_start, *rest)  # type: ignore[attr-defined]
            except _RepeatedKey as error:
                raise _RepeatedKey(error.key, error.line or line) from None
            return Located(value, line), end

        def parse_array(text_and_start: tuple[str, int], scan_once: Callable[[str, int], tuple[Any, int]]) -> Any:
            def scan_item(text: str, start: int) -> tuple[Any, int]:
                value, end = scan_once(text, start)
                return (locate_text(value, line_of(start)) if isinstance(value, str) else value), end

            return json.decoder.JSONArray(text_and_start, scan_item)  # type: ignore[attr-defined]

        self.parse_object = parse_object
        self.parse_array = parse_array
        self.scan_once = json.scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def read_json(content: Content) -> list[tuple[int, Any]] | None:
    """The values of a JSON document or of JSON lines, each with its line; commas after values are allowed.

    Returns:
        The values; None where the text is not meant as JSON.

    Raises:
        FileInvalid: The text is meant as JSON and is not valid.
    """
    must_be_json = content.suffix in _JSON_SUFFIXES
    text = (content.text if "\n" in content.text else content.text.replace("\r", "\n")).rstrip()
    if not must_be_json and text.lstrip()[:1] not in {"{", "["}:
        return None
    try:
        return _values(text)
    except json.JSONDecodeError as error:
        if not must_be_json and not _is_meant_as_json(text):
            return None
        raise _fault(content.source, text, error) from error
    except _RepeatedKey as error:
        detail = f"the key {error.key!r} stands twice in one object: keep one of the two, or join their values"
        raise FileInvalid(content.source, error.line, detail) from None


def read_json_texts(content: Content) -> list[tuple[int, str]] | None:
    """The texts of lines that are JSON strings; None where a line is anything else."""
    texts = []
    for number, line in enumerate(content.lines, 1):
        if not line.strip():
            continue
        if not line.lstrip().startswith('"'):
            return None
        try:
            texts.append((number, json.loads(line.strip().removesuffix(","))))
        except ValueError:
            return None
    return texts or None


def _values(text: str) -> list[tuple[int, Any]]:
    """Decodes consecutive values, which may stand on one line, on one line each, or on several lines."""
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def line_of(position: int) -> int:
        return bisect.bisect_right(line_starts, position)

    slow, fast = _Decoder(line_of), json.JSONDecoder(object_pairs_hook=_unique)
    values: list[tuple[int, Any]] = []
    at = len(text) - len(text.lstrip())
    while at < len(text):
        line, start = line_of(at), at
        try:
            value, at = fast.raw_decode(text, at)
            if isinstance(value, dict):
                spread = line_of(at) > line
                value = slow.raw_decode(text, start)[0] if spread else Located(value, line)
            elif isinstance(value, list):
                value = _array(text, start, line_of, fast)
        except _RepeatedKey:
            with contextlib.suppress(RecursionError):
                slow.raw_decode(text, start)  # raises it again, with the object's line
            raise
        except RecursionError as error:
            raise json.JSONDecodeError("nested too deeply", text, start) from error
        values.append((line, value))
        at = _BLANKS.match(text, at).end()  # type: ignore[union-attr]
    return values


def _array(text: str, start: int, line_of: Callable[[int], int], decoder: json.JSONDecoder) -> list[Any]:
    """Decodes a well-formed array whose objects get their lines; objects inside those get none."""
    items: list[Any] = []
    at = _BLANKS.match(text, start + 1).end()  # type: ignore[union-attr]
    while text[at] != "]":
        item, end = decoder.raw_decode(text, at)
        if isinstance(item, dict):
            item = Located(item, line_of(at))
        elif isinstance(item, str):
            item = locate_text(item, line_of(at))
        items.append(item)
        at = _BLANKS.match(text, end).end()  # type: ignore[union-attr]
    return items


def _is_meant_as_json(text: str) -> bool:
    """Whether invalid JSON was meant as JSON: a line of it is an object, or it starts like a list of records."""
    lines = [line.strip().removesuffix(",") for line in text.split("\n") if line.strip()]
    if lines[0] in {"[", "{", "[{"}:
        return True
    for line in lines:
        if line.startswith("{") and line.endswith("}"):
            try:
                json.loads(line)
            except (ValueError, RecursionError):
                continue
            return True
    first_key = re.match(r"""[\[\s]*\{\s*["']([^"']*)["']\s*:""", lines[0])
    if first_key is None or name_key(first_key[1]) not in _KNOWN_KEYS:
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(lines[0])
    except (ValueError, RecursionError):
        return True
    return not lines[0][end:].strip()


def _fault(source: str, text: str, error: json.JSONDecodeError) -> FileInvalid:
    line, place = error.lineno, f", column {error.colno}"
    lines = text.split("\n")
    # A record that is cut before its end is found at the start of the next one
    if line > 1 and error.colno == 1 and lines[line - 1].startswith("{") and lines[line - 2].lstrip().startswith("{"):
        line, place = line - 1, ""
    remedy = 'write one object a line, such as {"text": "…", "label": "…"}, or one JSON array of them'
    if re.match(r"\s*\[?\s*\{\s*'", lines[line - 1]):
        remedy = "JSON has double quotes around names and texts"
    elif text[error.pos : error.pos + 1] in {"]", "}"}:
        remedy = "take off the comma before the bracket"
    return FileInvalid(source, line, f"this is not JSON ({error.msg}{place}): {remedy}")
