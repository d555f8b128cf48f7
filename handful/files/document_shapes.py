"""Shapes of documents that tools write, unfolded into a flat list of records."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from handful.files.columns import LABEL_NAMES, TEXT_NAMES, name_key
from handful.files.documents import Located
from handful.files.rows import FileInvalid

_TEXT_KEYS = frozenset(" ".join(TEXT_NAMES).split())
_LABEL_KEYS = frozenset(" ".join(LABEL_NAMES).split())
_SUPPORT_KEYS = ("support", "examples", "train", "data", "rows", "items", "utterances")
_QUERY_KEYS = ("queries", "texts", "inputs", "test", "examples", "data", "rows", "items", "utterances", "support")
_EXAMPLES_OF_AN_INTENT = ("examples", "patterns", "utterances", "samples", "texts", "sentences", "phrases")
_NAME_OF_AN_INTENT = ("intent", "tag", "name", "label")
_PRODIGY_ANSWERS = frozenset({"accept", "reject", "ignore"})

Values = Sequence[tuple[int, Any]]


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a file, all of one shape.

    Attributes:
        items: The line and the value of each record.
        shape: The format's name for messages.
        notes: Messages on what was left out.
        descriptions: Descriptions of labels.
    """

    items: list[tuple[int, Any]]
    shape: str
    notes: tuple[str, ...] = ()
    descriptions: Mapping[str, str] = field(default_factory=dict)


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
        return _of_tools(source, Records(list(values), f"{form} lines"), labelled=labelled)
    line, value = values[0]
    if isinstance(value, list):
        return _of_tools(source, Records(_located(value, line), f"{form} array"), labelled=labelled)
    if not isinstance(value, dict) or (is_token_list(value) and ("tags" in value or not labelled)):
        return Records(list(values), form)
    return _of_tools(source, _of_object(source, value, line, labelled=labelled, form=form), labelled=labelled)


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
    """Unfolds intents that hold their examples, as in Watson Assistant, Alexa and tutorials' ``intents.json``."""
    model = document.get("interactionModel", {})
    model = model.get("languageModel", {}) if isinstance(model, dict) else {}
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


def _of_tools(source: str, records: Records, *, labelled: bool) -> Records:
    """Flattens records of annotation tools."""
    objects = [item for _, item in records.items if isinstance(item, dict)]
    if not objects or len(objects) != len(records.items):
        return records
    if any(isinstance(item.get("data"), dict) for item in objects):
        return _label_studio(source, records, labelled=labelled)
    if any(item.get("answer") in _PRODIGY_ANSWERS and "_task_hash" in item for item in objects):
        return _prodigy(records)
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    if all(isinstance(item.get("row"), dict) for item in objects):
        change = _row_of_dataset_viewer
    elif all(isinstance(item.get("data"), str) for item in objects) and not any("text" in item for item in objects):
        change = _with_data_as_text
    elif any(isinstance(item.get("cats"), dict) for item in objects):
        change = _with_cats_as_label
    if change is None:
        return records
    items = [(line, Located(change(item), line)) for line, item in records.items]
    return Records(items, records.shape, records.notes, records.descriptions)


def _row_of_dataset_viewer(item: dict[str, Any]) -> dict[str, Any]:
    """Unwraps a record of Hugging Face's dataset viewer, which stands under ``row``."""
    row: dict[str, Any] = item["row"]
    return row


def _with_data_as_text(item: dict[str, Any]) -> dict[str, Any]:
    """Renames the text's key in a record of some versions of Doccano."""
    return {**item, "text": item["data"]}


def _with_cats_as_label(item: dict[str, Any]) -> dict[str, Any]:
    """Makes labels of spaCy's ``cats``, a number for each class: classes whose number is not 0 are labels."""
    cats = item.get("cats")
    chosen = [name for name, weight in cats.items() if weight] if isinstance(cats, dict) else []
    return {**{key: value for key, value in item.items() if key != "cats"}, "label": chosen}


def _prodigy(records: Records) -> Records:
    kept = []
    for line, item in records.items:
        if item.get("answer") == "accept":
            label = item.get("label", item.get("accept"))
            of_spans = label is None and isinstance(item.get("spans"), list)
            answer = {"spans": item["spans"]} if of_spans else {"label": label}
            kept.append((line, Located({"text": item.get("text"), **answer}, line)))
    left = len(records.items) - len(kept)
    notes = (f"{left} rejected or ignored record{'s' * (left != 1)} skipped",) if left else ()
    return Records(kept, "Prodigy JSON lines", (*records.notes, *notes), records.descriptions)


def _label_studio(source: str, records: Records, *, labelled: bool) -> Records:
    """Flattens a task of Label Studio, whose annotations hold results that hold choices."""
    items, unlabelled = [], 0
    questions: dict[Any, None] = {}
    for line, item in records.items:
        data = item.get("data")
        if not isinstance(data, dict):
            raise FileInvalid(source, line, 'a task of Label Studio has its text in "data"')
        annotations = [
            annotation
            for annotation in item.get("annotations", item.get("completions")) or ()
            if isinstance(annotation, dict) and not annotation.get("was_cancelled") and annotation.get("result")
        ]
        if not annotations and ("annotations" in item or "completions" in item):
            if labelled:
                unlabelled += 1
                continue
            label = None
        else:
            questions.update(dict.fromkeys(_label_studio_questions(annotations)))
            if labelled and len(questions) > 1:
                names = " and of ".join(map(repr, questions))
                detail = f"the file has choices of {names}, which would be classes of one task: keep those of one"
                raise FileInvalid(source, line, detail)
            label = _label_studio_label(source, line, annotations)
        flat = {key: value for key, value in data.items() if name_key(key) not in _LABEL_KEYS or not annotations}
        if label is not None:
            flat["label"] = label
        if "id" in item:
            flat["id"] = item["id"]
        items.append((line, Located(flat, line)))
    notes = (f"{unlabelled} task{'s' * (unlabelled != 1)} without annotation skipped",) if unlabelled else ()
    return Records(items, "Label Studio JSON", (*records.notes, *notes), records.descriptions)


def _label_studio_questions(annotations: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The names of the controls whose choices the annotations hold."""
    for annotation in annotations:
        for result in annotation["result"]:
            if (
                isinstance(result, dict)
                and result.get("type") == "choices"
                and isinstance(result.get("from_name"), str)
            ):
                yield result["from_name"]


def _label_studio_label(source: str, line: int, annotations: Sequence[Mapping[str, Any]]) -> Any:
    found: list[Any] = []
    for annotation in annotations:
        for result in annotation["result"]:
            value = result.get("value") if isinstance(result, dict) else None
            choices = value.get("choices") if isinstance(value, dict) else None
            if choices is not None and choices not in found:
                found.append(choices)
    if len(found) > 1:
        raise FileInvalid(source, line, f"annotations of this task disagree: {found}; keep one of them")
    return found[0] if found else None
