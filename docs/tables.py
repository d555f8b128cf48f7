"""Writes tables into the documents, from the code that declares what they list.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. ``python -m docs.tables`` rewrites all of
them; a test holds the documents to what this makes.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from prometheus_client.metrics_core import Metric
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from docs import operation_tables
from handful.wire import AdaptOptionFields, AdaptRequest
from handful.wire_feedback import FeedbackRequest
from metatrain.options import TrainingOptions
from service.error_codes import ERROR_CODES, WARNING_CODES
from service.metrics import Metrics
from service.settings import PREFIX, Settings

DOCS = Path(__file__).parent
_TABLE = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def request_table(model: type[BaseModel], *, own_first: Collection[str]) -> str:
    """Field, default and description of each field of a request."""
    names = [*own_first, *(name for name in model.model_fields if name not in own_first)]
    return _rows("field", names, model, lambda name: f"`{name}`")


def flag_table(model: type[BaseModel]) -> str:
    """Flag, default and description of each option that a command has of a model."""
    return _rows("option", list(model.model_fields), model, lambda name: f"`--{name.replace('_', '-')}`")


def setting_table() -> str:
    """Variable, flag, default and description of each setting of a server."""
    lines = ["| variable | flag | default | |", "|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        flag = f"`--{name.replace('_', '-')}`"
        cells = (f"`{PREFIX}{name.upper()}`", flag, _default(field), f"{field.description}".replace("|", "\\|"))
        lines.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(lines) + "\n"


def metric_table() -> str:
    """Name, type, labels and meaning of each metric that the server defines."""
    lines = ["| metric | type | labels | |", "|---|---|---|---|"]
    metrics = Metrics()
    labels = {each._name: each._labelnames for each in vars(metrics).values() if hasattr(each, "_labelnames")}
    found = (metric for metric in metrics.registry.collect() if metric.name in labels)
    for metric in sorted(found, key=lambda metric: metric.name):
        named = ", ".join(f"`{label}`" for label in labels[metric.name])
        lines.append(f"| `{_exposed_name(metric)}` | {metric.type} | {named} | {metric.documentation} |")
    return "\n".join(lines).replace("  ", " ") + "\n"


def _exposed_name(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def error_table() -> str:
    """Code, status, cause and remedy of each error, by status."""
    lines = ["| code | status | where | what to do |", "|---|---|---|---|"]
    for code, error in sorted(ERROR_CODES.items(), key=lambda item: item[1].status):
        lines.append(f"| `{code}` | {error.status} | {error.cause} | {error.remedy} |")
    return "\n".join(lines) + "\n"


def warning_table() -> str:
    """Code and finding of each warning."""
    lines = ["| code | found |", "|---|---|", *(f"| `{code}` | {found} |" for code, found in WARNING_CODES.items())]
    return "\n".join(lines) + "\n"


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
    if isinstance(value, SecretStr):
        value = value.get_secret_value() or None
    elif isinstance(value, tuple):
        value = ", ".join(value)
    if value == "":
        return ""
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
    "settings": setting_table,
    "metrics": metric_table,
    "errors": error_table,
    "warnings": warning_table,
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
