"""Writes tables into the documents, from the code that declares what they list.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. ``python -m docs.tables`` rewrites all of
them; a test holds the documents to what this makes.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from docs import operation_tables
from handful.wire import AdaptOptionFields, AdaptRequest
from handful.wire_feedback import FeedbackRequest
from metatrain.options import TrainingOptions

DOCS = Path(__file__).parent
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def request_table(model: type[BaseModel], *, own_first: Collection[str]) -> str:
    """Field, default and description of each field of a request."""
    names = [*own_first, *(name for name in model.model_fields if name not in own_first)]
    return _rows("field", names, model, lambda name: f"`{name}`")


def flag_table(model: type[BaseModel]) -> str:
    """Flag, default and description of each option that a command has of a model."""
    return _rows("option", list(model.model_fields), model, lambda name: f"`--{name.replace('_', '-')}`")


def _rows(kind: str, names: Collection[str], model: type[BaseModel], shown: Callable[[str], str]) -> str:
    lines = [f"| {kind} | default | |", "|---|---|---|"]
    for name in names:
        field = model.model_fields[name]
        choices = ", ".join(f"`{choice}`" for choice in _choices(field.annotation))
        description = f"{field.description}{f' One of {choices}.' if choices else ''}".replace("|", "\\|")
        lines.append(f"| {shown(name)} | {_default(field)} | {description} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value: Any = field.get_default(call_default_factory=False)
    if value is None or value == [] or field.default_factory is not None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}`"


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return next((found for part in get_args(annotation) if (found := _choices(part))), ())


TABLES: Mapping[str, Callable[[], str]] = {
    "adapt-fields": lambda: request_table(AdaptRequest, own_first=("support", "labels")),
    "feedback-fields": lambda: request_table(FeedbackRequest, own_first=()),
    "adapt-options": lambda: flag_table(AdaptOptionFields),
    "metatrain-options": lambda: flag_table(TrainingOptions),
    "log-events": operation_tables.log_table,
    "alerts": operation_tables.alerts_table,
}


def rewritten(text: str) -> str:
    """A document with its tables as the code has them."""
    return _TABLE.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)


def main() -> None:
    """Rewrites the documents."""
    for path in sorted(DOCS.glob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = rewritten(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
