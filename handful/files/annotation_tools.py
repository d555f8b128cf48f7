"""Records of annotation tools and of sets for fine-tuning, flattened to one text and its label."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from handful.files.columns import LABEL_NAMES, name_key
from handful.files.documents import Located
from handful.files.records import Records
from handful.files.rows import FileInvalid

_LABEL_KEYS = frozenset(" ".join(LABEL_NAMES).split())
_PRODIGY_ANSWERS = frozenset({"accept", "reject", "ignore"})
_ARGILLA_RESPONSES = ".responses"
_ARGILLA_OWN_KEYS = frozenset({"id", "status", "_server_id", "score"})


def flatten_tools(source: str, records: Records, *, labelled: bool) -> Records:
    """Flattens the records of annotation tools; other records stay as they are.

    Args:
        source: The file as errors name it.
        records: The records of the file.
        labelled: Whether examples are wanted, and not queries.

    Raises:
        FileInvalid: A record of a tool lacks its text, or its annotations disagree.
    """
    objects = [item for _, item in records.items if isinstance(item, dict)]
    if not objects or len(objects) != len(records.items):
        return records
    for holds, flatten in _TOOLS:
        if holds(objects):
            return flatten(source, records, labelled=labelled)
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


def _prodigy(_source: str, records: Records, *, labelled: bool) -> Records:
    kept = []
    for line, item in records.items:
        if item.get("answer") == "accept":
            label = item.get("label", item.get("accept"))
            of_spans = label is None and isinstance(item.get("spans"), list)
            answer = {"spans": item["spans"]} if of_spans else {"label": label}
            kept.append((line, Located({"text": item.get("text"), **answer}, line)))
    notes = _skipped(len(records.items) - len(kept), "rejected or ignored record")
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
                raise _several_questions(source, line, "choices of", questions)
            label = _agreed(source, line, _label_studio_choices(annotations))
        flat = {key: value for key, value in data.items() if name_key(key) not in _LABEL_KEYS or not annotations}
        if label is not None:
            flat["label"] = label
        if "id" in item:
            flat["id"] = item["id"]
        items.append((line, Located(flat, line)))
    notes = _skipped(unlabelled, "task", "without annotation ")
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


def _label_studio_choices(annotations: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    for annotation in annotations:
        for result in annotation["result"]:
            value = result.get("value") if isinstance(result, dict) else None
            choices = value.get("choices") if isinstance(value, dict) else None
            if choices is not None:
                yield choices


def _several_questions(source: str, line: int, answered: str, names: Iterable[str]) -> FileInvalid:
    """An error for labels of different questions: ``answered`` says what the file has of them."""
    shown = f" and {answered.rsplit(maxsplit=1)[-1]} ".join(map(repr, names))
    detail = f"the file has {answered} {shown}, which would be classes of one task: keep those of one"
    return FileInvalid(source, line, detail)


def _agreed(source: str, line: int, answers: Iterable[Any]) -> Any:
    """The one answer that all annotators of a text gave; None where none gave one."""
    found: list[Any] = []
    for answer in answers:
        if answer not in found:
            found.append(answer)
    if len(found) > 1:
        raise FileInvalid(source, line, f"annotations of this task disagree: {found}; keep one of them")
    return found[0] if found else None


def _skipped(count: int, what: str, why: str = "") -> tuple[str, ...]:
    return (f"{count} {what}{'s' * (count != 1)} {why}skipped",) if count else ()


def _argilla(source: str, records: Records, *, labelled: bool) -> Records:
    """Flattens records of Argilla, nested as ``to_json`` writes them or flat as ``to_list(flatten=True)`` does."""
    items, unlabelled = [], 0
    questions: dict[str, None] = {}
    for line, item in records.items:
        answers = {name: given for name, given in _argilla_answers(item) if given}
        questions.update(dict.fromkeys(answers))
        if labelled and len(questions) > 1:
            raise _several_questions(source, line, "answers to", questions)
        if labelled and not answers:
            unlabelled += 1
            continue
        answer = _agreed(source, line, next(iter(answers.values()), ()))
        items.append((line, Located({**_argilla_fields(item), **_argilla_label(answer)}, line)))
    notes = _skipped(unlabelled, "record", "without response ")
    return Records(items, "Argilla JSON", (*records.notes, *notes), records.descriptions)


def _argilla_answers(item: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """The submitted answers to each question."""
    responses = item.get("responses")
    if isinstance(responses, dict):
        for name, given in responses.items():
            values = [each.get("value") for each in given or () if isinstance(each, dict)]
            yield name, [value for value in values if value is not None]
    for key, values in item.items():
        if key.endswith(_ARGILLA_RESPONSES) and isinstance(values, list):
            states = item.get(f"{key}.status") or ["submitted"] * len(values)
            kept = [value for value, state in zip(values, states, strict=False) if state in {None, "submitted"}]
            yield key.removesuffix(_ARGILLA_RESPONSES), [value for value in kept if value is not None]


def _argilla_fields(item: Mapping[str, Any]) -> dict[str, Any]:
    fields = item.get("fields")
    if not isinstance(fields, dict):
        fields = {key: value for key, value in item.items() if key not in _ARGILLA_OWN_KEYS and "." not in key}
    fields = {key: value for key, value in fields.items() if name_key(key) not in _LABEL_KEYS}
    if len(fields) == 1:
        fields = {"text": next(iter(fields.values()))}
    return {**fields, "id": item["id"]} if item.get("id") else fields


def _argilla_label(answer: Any) -> dict[str, Any]:
    """An answer under the key of its kind: one label, several, or spans."""
    if answer is None:
        return {}
    if not isinstance(answer, list):
        return {"label": answer}
    if answer and all(isinstance(each, dict) for each in answer):
        return {"spans": [{key: span.get(key) for key in ("start", "end", "label")} for span in answer]}
    return {"labels": answer}


def _conversations(source: str, records: Records, *, labelled: bool) -> Records:
    """Takes the user's message as the text and the assistant's as the label, as sets for fine-tuning have them."""
    items, systems = [], 0
    for line, item in records.items:
        said: dict[Any, list[Any]] = {}
        for message in item["messages"]:
            if isinstance(message, dict):
                said.setdefault(message.get("role"), []).append(message.get("content"))
        texts, labels = said.get("user", []), said.get("assistant", [])
        if len(texts) != 1 or len(labels) > 1 or (labelled and not labels):
            detail = f"{len(texts)} messages of the user and {len(labels)} of the assistant: an example has one of each"
            raise FileInvalid(source, line, f"{detail}, its text and its label")
        systems += "system" in said
        items.append((line, Located({"text": texts[0], **({"label": labels[0]} if labels else {})}, line)))
    notes = _skipped(systems, "system message")
    return Records(items, "conversations in JSON lines", (*records.notes, *notes), records.descriptions)


def _is_argilla(objects: Sequence[Mapping[str, Any]]) -> bool:
    return any(isinstance(item.get("fields"), dict) and "responses" in item for item in objects) or any(
        f"{key}.users" in item for item in objects for key in item if key.endswith(_ARGILLA_RESPONSES)
    )


def _is_prodigy(objects: Sequence[Mapping[str, Any]]) -> bool:
    return any(item.get("answer") in _PRODIGY_ANSWERS and "_task_hash" in item for item in objects)


def _is_conversation(objects: Sequence[Mapping[str, Any]]) -> bool:
    messages = [item["messages"] if isinstance(item.get("messages"), list) else [None] for item in objects]
    return all(isinstance(message, dict) and "role" in message for each in messages for message in each)


_TOOLS: tuple[tuple[Callable[[Sequence[Mapping[str, Any]]], bool], Callable[..., Records]], ...] = (
    (lambda objects: any(isinstance(item.get("data"), dict) for item in objects), _label_studio),
    (_is_prodigy, _prodigy),
    (_is_argilla, _argilla),
    (_is_conversation, _conversations),
)
