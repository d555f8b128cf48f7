"""Rasa's training data: intents with examples, in YAML and in the Markdown of Rasa 1."""

import re
from typing import Any

from handful.files.content import Content
from handful.files.documents import Located
from handful.files.records import Records
from handful.files.rows import FileInvalid

# [Berlin](city), [Berlin](city:value), [Berlin]{"entity": "city"} and [Berlin][{"entity": "city"}, …]
_ENTITY = re.compile(r"\[([^\[\]]+)\](?:\([^()]*\)|\{[^{}]*\}|\[\s*\{.*?\}\s*\])")
_MARKDOWN_START = re.compile(r"(?:\s*<!--.*?-->)?\s*##\s*(?:intent|synonym|regex|lookup)\s*:", re.IGNORECASE)
_MARKDOWN_SECTION = re.compile(r"##\s*(intent|synonym|regex|lookup)\s*:\s*(.*)", re.IGNORECASE | re.DOTALL)


def is_rasa_yaml(document: Any) -> bool:
    """Whether a YAML document is Rasa's training data."""
    return isinstance(document, dict) and (
        "nlu" in document or {"stories", "rules", "responses"} & document.keys() != set()
    )


def is_rasa_markdown(content: Content) -> bool:
    """Whether a text is in the Markdown of Rasa 1."""
    return _MARKDOWN_START.match(content.text) is not None


def rasa_yaml(source: str, document: dict[str, Any]) -> Records:
    """Reads the examples of all intents, and notes the sections that are skipped.

    Raises:
        FileInvalid: There is no ``nlu`` section, or an example does not start with a dash.
    """
    sections = document.get("nlu")
    if not isinstance(sections, list):
        raise FileInvalid(
            source, 1, "this Rasa file has no 'nlu' section: give the file that holds the intents' examples"
        )
    items: list[tuple[int, Any]] = []
    skipped: list[str] = []
    for section in sections:
        if not isinstance(section, dict) or "intent" not in section:
            skipped.append(next(iter(section), "empty") if isinstance(section, dict) else "text")
            continue
        examples = section.get("examples", "")
        for example in examples if isinstance(examples, list) else [examples]:
            text = example.get("text", "") if isinstance(example, dict) else example
            dashed = not isinstance(examples, list)
            items += _examples(source, text, section["intent"], dashed=dashed)
    return Records(items, "Rasa YAML", _skipped_note(skipped))


def rasa_markdown(content: Content) -> Records:
    """Reads the examples of all intents.

    Raises:
        FileInvalid: A line is neither a heading nor an example.
    """
    items: list[tuple[int, Any]] = []
    skipped: list[str] = []
    intent: str | None = None
    for number, line in enumerate(content.lines, 1):
        stripped = line.strip()
        heading = _MARKDOWN_SECTION.match(stripped)
        if heading:
            intent = heading[2] if heading[1].lower() == "intent" else None
            if intent is None:
                skipped.append(heading[1].lower())
        elif stripped.startswith(("- ", "* ", "+ ")) and intent is not None:
            items.append((number, _record(stripped[2:], intent, number)))
        elif stripped and intent is not None and not stripped.startswith("<!--"):
            raise FileInvalid(content.source, number, "an example starts with '- '")
    return Records(items, "Rasa Markdown", _skipped_note(skipped))


def _examples(source: str, text: Any, intent: str, *, dashed: bool) -> list[tuple[int, Any]]:
    if not isinstance(text, str):
        raise FileInvalid(source, getattr(text, "line", 0), "examples are a block of lines that start with '- '")
    line = getattr(text, "line", 0)
    if dashed and getattr(text, "folded", False):
        raise FileInvalid(source, line, "'examples: >' joins the lines of all examples: write 'examples: |'")
    items: list[tuple[int, Any]] = []
    for number, raw in enumerate(text.split("\n"), line):
        example = raw.strip()
        if not example or example.startswith("#"):
            continue
        if example.startswith("-"):
            example = example[1:].strip()
        elif dashed:
            raise FileInvalid(source, number, "an example of an intent starts with '- '")
        items.append((number, _record(example, intent, number)))
    return items


def _record(example: str, intent: str, line: int) -> Located:
    return Located({"text": _ENTITY.sub(r"\1", example), "intent": intent}, line)


def _skipped_note(skipped: list[str]) -> tuple[str, ...]:
    kinds = ", ".join(dict.fromkeys(skipped))
    return (f"{len(skipped)} section{'s' * (len(skipped) != 1)} skipped ({kinds})",) if skipped else ()
