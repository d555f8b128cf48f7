"""The forms in which callers give examples and queries, and the one that is sent."""

from collections.abc import Iterable, Mapping
from typing import Any

Query = str | Mapping[str, Any]
"""A text, or ``{"text", "text_pair"}``."""

Queries = Query | Iterable[Query]
"""One query or many."""

Example = Mapping[str, Any] | tuple[str, str]
"""``{"text", "label"}`` with ``text_pair``, ``id`` and ``weight`` where wanted, or a pair ``(text, label)``."""

Examples = Iterable[Example] | Mapping[str, Iterable[Query]] | Mapping[str | None, Iterable[Query]]
"""Examples, or the texts of each label: ``{"billing": ["…", "…"]}``. The label None is out of scope."""

_SUPPORT_FORM = (
    'a support set is a list of {"text": …, "label": …} or of pairs (text, label), or the texts of each label, '
    '{"billing": ["…", "…"]}'
)
_QUERIES_FORM = 'queries are a text, or a list of texts or of {"text": …, "text_pair": …}'


def examples_of(support: Examples) -> list[dict[str, Any]]:
    """Examples as the server reads them.

    Args:
        support: Examples in any of the forms; also a single example.

    Raises:
        TypeError: They have another form, or one that may be read in two ways.
    """
    if isinstance(support, str | bytes) or not isinstance(support, Iterable):
        raise TypeError(f"{_SUPPORT_FORM}, not a {type(support).__name__}")
    if isinstance(support, Mapping):
        given: Mapping[Any, Any] = support
        # A class may be called "text"; then its texts are a list
        return [dict(given)] if isinstance(given.get("text"), str) else _of_texts_by_label(given)
    if _is_pair(support):
        return [_of_pair(support)]
    return [_of_example(example, i) for i, example in enumerate(support)]


def queries_of(queries: Queries) -> list[str | dict[str, Any]]:
    """Queries as the server reads them; one text is a list of one.

    Raises:
        TypeError: They have another form.
    """
    if isinstance(queries, str | Mapping):
        queries = [queries]
    if isinstance(queries, bytes) or not isinstance(queries, Iterable):
        raise TypeError(f"{_QUERIES_FORM}, not a {type(queries).__name__}")
    texts: list[str | dict[str, Any]] = []
    for i, query in enumerate(queries):
        if not isinstance(query, str | Mapping):
            raise TypeError(f"{_QUERIES_FORM}: queries[{i}] is a {type(query).__name__}")
        texts.append(query if isinstance(query, str) else dict(query))
    return texts


def _of_example(example: Any, i: int) -> dict[str, Any]:
    if isinstance(example, Mapping):
        return dict(example)
    if _is_pair(example):
        return _of_pair(example)
    raise TypeError(f"{_SUPPORT_FORM}: support[{i}] is a {type(example).__name__}")


def _is_pair(example: Any) -> bool:
    # A tuple alone: two lists may be the texts and the labels as well as two examples
    return isinstance(example, tuple) and len(example) == 2 and all(isinstance(part, str) for part in example)


def _of_pair(pair: Any) -> dict[str, Any]:
    text, label = pair
    return {"text": text, "label": label}


def _of_texts_by_label(support: Mapping[Any, Any]) -> list[dict[str, Any]]:
    if "text" in support and not {"label", "labels", "score"}.isdisjoint(support):
        raise TypeError(
            f"{_SUPPORT_FORM}, not columns: give the pairs, zip(support['text'], support['label']). "
            "Classes with these names are given as pairs, too"
        )
    examples = []
    for label, texts in support.items():
        if not (label is None or isinstance(label, str)):
            raise TypeError(f"{_SUPPORT_FORM}: the label {label!r} is a {type(label).__name__}, not a string")
        if not isinstance(texts, Iterable) or isinstance(texts, bytes):
            raise TypeError(f"{_SUPPORT_FORM}: the texts of {label!r} are a {type(texts).__name__}")
        for i, text in enumerate([texts] if isinstance(texts, str | Mapping) else texts):
            if isinstance(text, Mapping) and "label" not in text:
                examples.append({**text, "label": label})
            elif isinstance(text, str):
                examples.append({"text": text, "label": label})
            else:
                found = (
                    "an example with a label of its own" if isinstance(text, Mapping) else f"a {type(text).__name__}"
                )
                raise TypeError(f"{_SUPPORT_FORM}: text {i} of {label!r} is {found}")
    return examples
