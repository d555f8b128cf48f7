"""fastText's training data: a text a line, with its labels before it as ``__label__NAME``."""

import re

from handful.files.content import Content
from handful.files.documents import Located
from handful.files.records import Records
from handful.files.rows import FileInvalid

_LABEL = re.compile(r"(?:^|(?<=\s))__label__(\S+)\s*")


def is_fasttext(content: Content) -> bool:
    """Whether the first line that is not blank begins with a label of fastText."""
    return content.text.lstrip().startswith("__label__")


def fasttext(content: Content) -> Records:
    """Reads a text and its labels of each line; lines of several labels make a multi-label task.

    Raises:
        FileInvalid: A line has no label.
    """
    found: list[tuple[int, list[str], str]] = []
    for number, line in enumerate(content.lines, 1):
        labels = _LABEL.findall(line)
        if labels:
            found.append((number, labels, _LABEL.sub("", line).strip()))
        elif line.strip():
            raise FileInvalid(content.source, number, "no label: a line of fastText begins with __label__NAME")
    several = any(len(labels) > 1 for _, labels, _ in found)
    items = [
        (number, Located({"text": text, **({"labels": labels} if several else {"label": labels[0]})}, number))
        for number, labels, text in found
    ]
    return Records(items, "fastText lines")
