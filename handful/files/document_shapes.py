"""Shapes of documents that tools write, unfolded into a flat list of records."""

from collections.abc import Mapping, Sequence
from typing import Any

from handful.files.annotation_tools import flatten_tools
from handful.files.columns import LABEL_NAMES, TEXT_NAMES, name_key
from handful.files.documents import Located
from handful.files.records import Records
from handful.files.rows import FileInvalid

_TEXT_KEYS = frozenset(" ".join(TEXT_NAMES).split())
_LABEL_KEYS = frozenset(" ".join(LABEL_NAMES).split())
_SUPPORT_KEYS = ("support", "examples", "train", "data", "rows", "items", "utterances")
_QUERY_KEYS = ("queries", "texts", "inputs", "test", "examples", "data", "rows", "items", "utterances", "support")
_EXAMPLES_OF_AN_INTENT = (
    "examples", "patterns", "utterances", "sampleUtterances", "samples", "texts", "sentences", "phrases",
)  # fmt: skip
_NAME_OF_AN_INTENT = ("intent", "tag", "name", "label")

Values = Sequence[tuple[int, Any]]


def unfold(source: str, values: Values, *, labelled: bool, form: str = "JSON") -> Records:
    """Finds the records in a document's values.

    Args:
        source: The file as errors name it.
        values: The values at the top of the file, with their lines.
        labelled: Whether examples are wanted, and not queries.
        form: The format's name for messages.

    Raises:
        FileInvalid: The document is an object without records.
    """
    if len(values) != 1:
        return flatten_tools(source, Records(list(values), f"{form} lines"), labelled=labelled)
    line, value = values[0]
    if isinstance(value, list):
        return flatten_tools(source, Records(_located(value, line), f"{form} array"), labelled=labelled)
    if not isinstance(value, dict) or (is_token_list(value) and ("tags" in value or not labelled)):
        return Records(list(values), form)
    return flatten_tools(source, _of_object(source, value, line, labelled=labelled, form=form), labelled=labelled)


def is_token_list(record: Mapping[str, Any]) -> bool:
    """Whether a record is a sentence as a list of tokens, and not a text of another form."""
    tokens = record.get("tokens")
    return isinstance(tokens, list) and all(map(_is_text, tokens)) and ("tags" in record or "text" not in record)


def descriptions_of(source: str, line: int, labels: Any) -> dict[str, str]:
    """Checks descriptions of labels.

    Raises:
        FileInvalid: The value is no object of texts.
    """
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        line = getattr(labels, "line", line)
        raise FileInvalid(source, line, 'descriptions have the form {"LABEL": "what it means", …}')
    return dict(labels)


def _of_object(source: str, document: dict[str, Any], line: int, *, labelled: bool, form: str) -> Records:
    for name, find in (("Rasa", _rasa_json), ("CLU", _clu), ("LUIS", _luis), ("intents", _intents)):
        found = find(document, line)
        if found is not None:
            return Records(found, f"{name} {form}")
    by_key = {name_key(key): value for key, value in document.items()}
    if any(isinstance(by_key.get(key), str) for key in (*_TEXT_KEYS, "data")) or isinstance(by_key.get("data"), dict):
        return Records([(line, document)], form)
    columns = _columns(source, document, line, labelled=labelled)
    if columns is not None:
        return Records(columns, f"{form} columns")
    key = next((key for key in (_SUPPORT_KEYS if labelled else _QUERY_KEYS) if isinstance(document.get(key), list)), "")
    if key:
        labels = document.get("labels")
        described = descriptions_of(source, line, labels) if isinstance(labels, dict) else {}
        return Records(_located(document[key], line), f"{form} with {key!r}", (), described)
    if document and all(isinstance(texts, list) and all(map(_is_text, texts)) for texts in document.values()):
        items = [
            (place, Located({"text": text, "label": label}, place))
            for label in document
            for place, text in _located(document[label], line)
        ]
        return Records(items, f"{form} lists of texts by label")
    wanted = '{"support": […]}' if labelled else '{"queries": […]}'
    keys = ", ".join(map(repr, list(document)[:8])) or "none"
    raise FileInvalid(
        source, line, f"this object holds no list of records; its keys are {keys}: give {wanted}, or a list"
    )


def _located(items: Sequence[Any], line: int) -> list[tuple[int, Any]]:
    return [(getattr(item, "line", line), item) for item in items]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _rasa_json(document: dict[str, Any], line: int) -> list[tuple[int, Any]] | None:
    data = document.get("rasa_nlu_data")
    return _located(data["common_examples"], line) if isinstance(data, dict) and "common_examples" in data else None


def _clu(document: dict[str, Any], line: int) -> list[tuple[int, Any]] | None:
    assets = document.get("assets")
    return _located(assets["utterances"], line) if isinstance(assets, dict) and "utterances" in assets else None


def _luis(document: dict[str, Any], line: int) -> list[tuple[int, Any]] | None:
    utterances = document.get("utterances")
    return _located(utterances, line) if "luis_schema_version" in document and isinstance(utterances, list) else None


def _intents(document: dict[str, Any], line: int) -> list[tuple[int, Any]] | None:
    """Unfolds intents that hold their examples, as in Watson Assistant, Alexa, Lex and tutorials' ``intents.json``."""
    model = document.get("interactionModel", {})
    model = model.get("languageModel", {}) if isinstance(model, dict) else {}
    model = document["resource"] if isinstance(document.get("resource"), dict) else model
    intents = model.get("intents", document.get("intents"))
    if not isinstance(intents, list) or not all(isinstance(intent, dict) for intent in intents):
        return None
    items: list[tuple[int, Any]] = []
    held = False
    for intent in intents:
        name = next((intent[key] for key in _NAME_OF_AN_INTENT if key in intent), None)
        examples = next((intent[key] for key in _EXAMPLES_OF_AN_INTENT if isinstance(intent.get(key), list)), None)
        held = held or examples is not None
        for example in examples or ():
            text = example.get("text") if isinstance(example, dict) else example
            place = getattr(example, "line", getattr(intent, "line", line))
            items.append((place, Located({"text": text, "intent": name}, place)))
    return items if held else None


def _columns(source: str, document: dict[str, Any], line: int, *, labelled: bool) -> list[tuple[int, Any]] | None:
    """Unfolds one list per column, as Hugging Face's ``Dataset.to_dict`` and pandas' ``to_dict("list")`` write it."""
    lists = {key: value for key, value in document.items() if isinstance(value, list)}
    keys = {name_key(key) for key in lists}
    text = next((key for key in lists if name_key(key) in _TEXT_KEYS and all(map(_is_text, lists[key]))), None)
    if text is None or (labelled and not keys & _LABEL_KEYS):
        return None
    lengths = {key: len(value) for key, value in lists.items()}
    if len(set(lengths.values())) > 1:
        raise FileInvalid(source, line, f"the columns are not of one length: {lengths}")
    places = [place for place, _ in _located(lists[text], line)]
    rows = zip(*lists.values(), strict=True)
    return [(place, Located(zip(lists, row, strict=True), place)) for place, row in zip(places, rows, strict=True)]
