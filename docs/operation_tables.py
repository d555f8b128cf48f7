"""The tables of operators: the lines of the log, from the code that writes them, and the alerts."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

_ROOT = Path(__file__).parent.parent
_LOGGING = ("service", "model_store")
_LEVELS = {"exception": "error"}
_ORDER = ("critical", "error", "warning", "info")


def log_table() -> str:
    """Level and message of each line that the server logs beside its requests; … stands for what varies."""
    found = sorted(set(_events()), key=lambda event: (_ORDER.index(event[0]), event[1]))
    return "\n".join(["| level | message |", "|---|---|", *(f"| {level} | `{text}` |" for level, text in found)]) + "\n"


def _events() -> Iterator[tuple[str, str]]:
    for path in sorted(path for package in _LOGGING for path in (_ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="log"), attr=level),
                    args=[ast.Constant(value=str(text)), *_],
                ):
                    yield _LEVELS.get(level, level), re.sub(r"%[sd]", "…", text)


def alerts_table() -> str:
    """Alert, severity, delay and meaning of each rule."""
    rules = yaml.safe_load((_ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8"))
    lines = ["| alert | severity | after | |", "|---|---|---|---|"]
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        name, notes = rule["alert"], rule["annotations"]
        after = rule["for"].replace("m", " min") if "for" in rule else "at once"
        summary = re.sub(r"{{ \$labels\.instance }}", "a server", notes["summary"])
        summary = re.sub(r"{{[^}]*}}", "…", summary)
        lines.append(f"| [{name}](#{name.lower()}) | {rule['labels']['severity']} | {after} | {_cell(summary)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
