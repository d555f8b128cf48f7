"""The page of all calls and fields, made of the OpenAPI document that the app itself describes. No server is needed."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_METHODS = ("get", "post", "delete")
_GROUPS = {
    "adapt": "Adapt",
    "predict": "Predict and classify",
    "examples": "Examples",
    "feedback": "Feedback and drift",
    "tasks": "Tasks and versions",
    "operations": "Checkpoints",
    "doors": "Other APIs' shapes",
}
_INTRO = """# Calls and fields

Every call with its parameters, body and answer, made from the OpenAPI document of the server
(`/openapi.json`; `/docs` tries the calls out). [The API](api.md) explains what they do and promise,
[errors](errors.md) lists what they refuse.
"""


def openapi_page(document: Schema) -> str:
    """The page in Markdown.

    Args:
        document: An OpenAPI document, as ``app.openapi()`` gives it.
    """
    operations = [
        (method, path, item[method])
        for path, item in document["paths"].items()
        for method in _METHODS
        if method in item
    ]
    tags = list(dict.fromkeys(operation.get("tags", ["operations"])[0] for _, _, operation in operations))
    parts = [_INTRO]
    for tag in sorted(tags, key=lambda tag: [*_GROUPS, tag].index(tag)):
        parts.append(f"## {_GROUPS.get(tag, tag.capitalize())}\n")
        parts += [_operation(*each) for each in operations if each[2].get("tags", ["operations"])[0] == tag]
    parts.append("## Objects\n")
    schemas = document["components"]["schemas"]
    parts += [_object(name, schemas[name]) for name in sorted(schemas)]
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Schema) -> str:
    lines = [f"### `{method.upper()} {path}`\n", f"{_text(operation.get('description', ''))}\n"]
    if operation.get("parameters"):
        lines += ["| parameter | in | type | |", "|---|---|---|---|"]
        lines += [
            f"| `{each['name']}`{' (required)' if each.get('required') else ''} | {each['in']} "
            f"| {_type(each['schema'])} | {_text(each.get('description', ''))} |"
            for each in operation["parameters"]
        ]
        lines.append("")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"Body: `{kind}`, {_type(content.get('schema', {}))}\n")
    for status, answer in operation["responses"].items():
        if status.startswith("2"):
            types = [_type(content.get("schema", {})) for content in answer.get("content", {}).values()]
            lines.append(f"Answer: {status}{', ' if types else ''}{' or '.join(dict.fromkeys(types))}\n")
    return "\n".join(lines)


def _object(name: str, schema: Schema) -> str:
    lines = [f"### {name}\n", f"{_text(schema.get('description', ''))}\n"]
    fields = schema.get("properties", {})
    if fields:
        lines += ["| field | type | default | |", "|---|---|---|---|"]
        lines += [
            f"| `{field}` | {_type(each)} | {_default(field, each, schema)} | {_text(each.get('description', ''))} |"
            for field, each in fields.items()
        ]
        lines.append("")
    return "\n".join(lines)


def _default(field: str, schema: Schema, owner: Schema) -> str:
    if field in owner.get("required", ()):
        return "required"
    value = schema.get("default")
    return "" if value in (None, [], {}, "") else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _type(schema: Schema) -> str:
    """A schema's type in words; objects are links to their tables."""
    return " or ".join(dict.fromkeys(_types(schema)))


def _types(schema: Schema) -> Iterator[str]:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        yield f"[{name}](#{name.lower()})"
    elif choices := schema.get("anyOf") or schema.get("oneOf"):
        for choice in choices:
            yield from _types(choice)
    elif "enum" in schema:
        yield ", ".join(f"`{value}`" for value in schema["enum"])
    elif "const" in schema:
        yield f"`{schema['const']}`"
    elif schema.get("type") == "array":
        yield f"list of {_type(schema.get('items', {})) or 'anything'}"
    elif schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        yield f"object of {_type(schema['additionalProperties']) or 'anything'}"
    elif schema.get("format") == "binary":
        yield "bytes"
    else:
        yield str(schema.get("type", "anything"))


def _text(text: str) -> str:
    """A description on one line, fit for a cell of a table."""
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip().replace("|", "\\|").replace("<", "&lt;")
