"""Lines of files of tasks: JSON objects, checked one by one."""

import codecs
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NoReturn

from metalearn.errors import InvalidTasks
from metalearn.objectives.objective import Value

Kind = Literal["label", "labels", "score", "tags"]
"""The field with the targets. It identifies the kind of the file."""

_KINDS: tuple[Kind, ...] = ("label", "labels", "score", "tags")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file of tasks.

    Attributes:
        number: From 1.
        kind: The kind of its file.
        texts: The text; the text and its pair; or, beside tags, the tokens.
        value: The label, the labels, a tag for each token, or the score.
    """

    number: int
    kind: Kind
    texts: tuple[str, ...]
    value: Value


def read_lines(path: Path) -> tuple[Line, ...]:
    """The lines of a file of tasks, all of one kind. Empty lines are passed over.

    Raises:
        InvalidTasks: The file cannot be read, or a line is malformed; the message names it.
    """
    lines: list[Line] = []
    for number, content in numbered_lines(path):
        try:
            line = _parse(number, content)
        except ValueError as error:
            raise InvalidTasks(f"{path}:{number}: {error}") from error
        if lines and line.kind != lines[0].kind:
            raise InvalidTasks(
                f"{path}:{number}: has {line.kind!r}, but line {lines[0].number} has {lines[0].kind!r}: "
                "a file holds one kind of task"
            )
        lines.append(line)
    return tuple(lines)


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not empty, with their numbers from 1.

    Raises:
        InvalidTasks: The file cannot be read, or a line is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidTasks(f"cannot read {path}: {error.strerror}") from error
    # Split by hand: str.splitlines would also split at U+2028, which JSON strings may hold
    for number, line in enumerate(content.removeprefix(codecs.BOM_UTF8).split(b"\n"), 1):
        try:
            text = line.decode().rstrip("\r")
        except UnicodeDecodeError as error:
            raise InvalidTasks(f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8") from error
        if text.strip():
            yield number, text


def read_object(content: str) -> dict[str, object]:
    """A JSON object.

    Raises:
        ValueError: It is none.
    """
    try:
        value = json.loads(content, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError('is not a JSON object such as {"text": "…", "label": "…"}')
    return value


def read_string(value: object, name: str) -> str:
    """The string in a field, without white space around it.

    Raises:
        ValueError: It is no string, or not one that could be written as UTF-8.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} is {_kind_of(value)}, not a string")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} holds half of a surrogate pair at character {error.start + 1}") from error
    return value.strip()


def _parse(number: int, content: str) -> Line:
    fields = read_object(content)
    kinds = [kind for kind in _KINDS if kind in fields]
    if not kinds:
        raise ValueError(f"has none of {', '.join(map(repr, _KINDS))}")
    if len(kinds) > 1:
        raise ValueError(f"has {' and '.join(map(repr, kinds))}: which of them is asked for?")
    kind = kinds[0]
    if kind == "tags":
        tokens = tuple(read_string(token, "a token") for token in _list(fields.get("tokens"), "'tokens'"))
        tags = tuple(_label(tag, "a tag") for tag in _list(fields["tags"], "'tags'"))
        if len(tokens) != len(tags):
            raise ValueError(f"has {len(tokens)} tokens, but {len(tags)} tags")
        return Line(number, kind, tokens, tags)
    texts: tuple[str, ...] = (read_string(fields.get("text"), "'text'"),)
    if fields.get("text_pair") is not None:
        texts += (read_string(fields["text_pair"], "'text_pair'"),)
    return Line(number, kind, texts, _VALUE_OF_KIND[kind](fields[kind]))


def _one_label(value: object) -> Value:
    return (_label(value, "'label'"),)


def _label_set(value: object) -> Value:
    return tuple(sorted({_label(label, "one of 'labels'") for label in _list(value, "'labels'")}))


def _label(value: object, name: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    label = str(value) if isinstance(value, int) else read_string(value, name)
    if not label:
        raise ValueError(f"{name} is blank")
    return label


def _score(value: object) -> Value:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"'score' is {_kind_of(value)}, not a number")
    try:
        score = float(value)
    except OverflowError:
        score = math.inf
    if not math.isfinite(score):
        raise ValueError("'score' is not a finite number")
    return score


_VALUE_OF_KIND: Mapping[Kind, Callable[[object], Value]] = {
    "label": _one_label,
    "labels": _label_set,
    "score": _score,
}


def _list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{name} is {_kind_of(value)}, not a list")
    return value


def _kind_of(value: object) -> str:
    return "missing" if value is None else f"of type {type(value).__name__}"


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")
