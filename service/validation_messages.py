"""Messages on wrong fields that name the expected value, where pydantic's own messages do not."""

from collections.abc import Sequence

from handful.wire import TASK_NAME_RULE

_TEXT_NAMES = {"utterance", "sentence", "message", "query", "content", "body", "input"}
_LABEL_NAMES = {"category", "intent", "class", "target", "topic", "sentiment"}
_UNKNOWN = "unknown field: remove it, or check its spelling"

_FORMS = {
    "text": '{"text": "…", "label": "…"}',
    "label": '{"text": "…", "label": "…"}',
    "tags": '{"tokens": ["to", "Rome"], "tags": ["O", "B-city"]}',
}
"""Field that an example needs -> the form of such an example."""

_RIGHT_TYPES = {
    "label": 'a label is a string: write a number or a boolean in quotes, such as "1"',
    "text": "a text is a string",
    "text_pair": "the second text of a pair is a string",
    "support": 'support is a list of examples: [{"text": "…", "label": "…"}]',
    "examples": 'examples is a list: [{"text": "…", "label": "…"}]',
    "tokens": 'tokens are a list of strings: ["to", "Rome"]',
    "tags": 'tags are a list of strings: ["O", "B-city"]',
    "spans": 'spans are a list: [{"start": 3, "end": 7, "label": "city"}]',
    "queries": 'queries is a list, also for one text: ["…"]',
    "labels": 'labels is an object of descriptions: {"label": "what it means"}',
}
"""Field -> the message where its value is of another type."""

_PATTERNS = {
    "task": TASK_NAME_RULE,
    "after": TASK_NAME_RULE,
    "id": "an id has letters (a to z, A to Z), digits, '.', '_', ':' and '-', starts with a letter or digit, and is at "
    "most 64 characters long",
}
"""Field -> a description of its value."""


def validation_message(kind: str, path: Sequence[str | int], message: str) -> str:
    """The message for a fault that pydantic found; never with the value that was sent.

    Args:
        kind: Pydantic's name for the kind of fault.
        path: The place of the fault.
        message: Pydantic's own message.
    """
    field = path[-1] if path else ""
    in_support = len(path) > 1 and path[0] in {"support", "examples"}
    if kind == "extra_forbidden":
        return _unknown_field(str(field), in_list=in_support or (len(path) > 1 and path[0] == "queries"))
    if kind == "missing":
        return _missing(str(field), message, in_support=in_support)
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(field), message)
    if kind in {"string_type", "list_type", "dict_type"}:
        return _wrong_type(path, message, in_support=in_support)
    if kind == "json_invalid" and "hex escape" in message:
        return f"{message}: a \\u escape is cut, or is half a character (a surrogate without its pair)"
    return message


def _wrong_type(path: Sequence[str | int], message: str, *, in_support: bool) -> str:
    """The message for a value of another type, with the right one."""
    if in_support and path[-1] == "labels":
        return 'labels of an example is a list of its classes, [] for none: ["…", "…"]'
    if len(path) > 1 and path[0] == "labels":
        return "a description is a string"
    return _RIGHT_TYPES.get(str(path[-1]) if path else "", message)


def _missing(field: str, message: str, *, in_support: bool) -> str:
    """The message for a missing field, with its form."""
    if in_support:
        known = f'an example needs {"" if field == "tags" else "a "}"{field}": '
        return known + _FORMS[field] if field in _FORMS else message
    return f"this field is missing: {_RIGHT_TYPES[field]}" if field in _RIGHT_TYPES else message


def _unknown_field(field: str, *, in_list: bool) -> str:
    """The message for an unknown field; it names our field where the name is usual in another tool."""
    if in_list:
        if field in {"label", "labels", "score", "spans", "tokens", "tags"}:
            return (
                'an example has one of "label", "labels", "score" and "spans", or "tokens" and "tags" alone: remove '
                "the others"
            )
        for names, ours in ((_TEXT_NAMES, "text"), (_LABEL_NAMES, "label")):
            if field.lower() in names:
                return f'unknown field: it is called "{ours}" here'
    return _UNKNOWN
