"""The check of a feedback request: its text, or the id of an answer, and its label."""

import difflib
from collections.abc import Mapping, Sequence

from handful.wire_feedback import FeedbackRequest
from handful.wire_kinds import MultiLabelText, SpannedText, TaggedTokens
from metalearn.decision import TaskKind
from metalearn.kinds import KINDS
from metalearn.types import Example, TextInput
from service.settings import Settings
from service.tasks.app_parts import Parts
from service.tasks.checks import LimitChecker, shortened_inputs
from service.tasks.errors import Fault, InvalidContent
from service.tasks.kinds import check_labels
from service.tasks.labels import look_alike_key, normalised, trimmed
from service.tasks.token_examples import check_tagged, tagged_examples

_NAMED = 10
_ALSO: Mapping[TaskKind, tuple[str, ...]] = {"ordinal": ("score",), "tokens": ("tags",)}
"""Keys that may hold an answer in place of the kind's own."""


def checked_text(parts: Parts, tenant: str, task: str, asked: FeedbackRequest) -> tuple[TextInput, bool]:
    """The text of a request, as it is kept, and whether its middle was cut out.

    Raises:
        InvalidContent: Neither a text nor an id is given, or both are, or the one that is given cannot be used.
    """
    if sum(each is not None for each in (asked.text, asked.tokens, asked.id)) != 1:
        raise InvalidContent("invalid_request", [Fault((), "give either text, or tokens, or the id of an answer")])
    if asked.tokens is not None:
        given = TextInput(" ".join(asked.tokens))
    elif asked.text is None:
        if asked.text_pair is not None:
            raise InvalidContent("invalid_request", [Fault(("text_pair",), "an id names both texts: leave it out")])
        given = parts.answer_ids.open(tenant, task, asked.id or "")
    else:
        check = LimitChecker(parts.settings)
        check.input(asked.text, asked.text_pair)
        check.raise_faults()
        given = TextInput(asked.text, asked.text_pair)
    (text,), shortened = shortened_inputs([given], parts.settings.max_text_chars)
    return text, bool(shortened)


def checked_answer(
    asked: FeedbackRequest, text: TextInput, kind: TaskKind, labels: Sequence[str], settings: Settings
) -> Example:
    """The text of a request with its right answer.

    Args:
        asked: The request.
        text: The text.
        kind: The kind of the task.
        labels: The task's classes.
        settings: The limits.

    Raises:
        InvalidContent: The answer is missing or of another kind, a label is empty or too long, or the task does not
            have it.
    """
    given = [key for key in ("label", "labels", "score", "spans", "tags") if getattr(asked, key) is not None]
    allowed = {KINDS[kind].answer, *_ALSO.get(kind, ())}
    if len(given) != 1 or given[0] not in allowed:
        detail = (
            f"feedback on a {kind} task has {' or '.join(sorted(allowed))}, and not {' and '.join(given) or 'none'}"
        )
        raise InvalidContent("invalid_request", [Fault((given[-1] if given else KINDS[kind].answer,), detail)])
    if kind == "regression":
        return Example(text, score=asked.score)
    if kind == "tokens":
        return _checked_spans(asked, text, labels, settings)
    if asked.labels is not None:
        check = LimitChecker(settings)
        check_labels(MultiLabelText(text=text.text, labels=asked.labels), check)
        check.raise_faults()
        found = (_class_of(label, ("labels", i), labels, settings) for i, label in enumerate(asked.labels))
        return Example(text, labels=tuple(sorted(found)))
    label = f"{asked.score:g}" if asked.label is None else asked.label
    return Example(text, _class_of(label, (given[0],), labels, settings))


def _checked_spans(asked: FeedbackRequest, text: TextInput, labels: Sequence[str], settings: Settings) -> Example:
    """The text of a request with its right spans, or its tokens with their right tags.

    Raises:
        InvalidContent: Tags come without tokens, or spans with them; a span or a tag is out of place, or the task does
            not have its label.
    """
    if (asked.tokens is None) != (asked.tags is None):
        detail = "tokens have tags, one each, and a text has spans: give tokens with tags, or text with spans"
        raise InvalidContent("invalid_request", [Fault(("tags" if asked.tokens is None else "tokens",), detail)])
    example: SpannedText | TaggedTokens
    if asked.tokens is None:
        example = SpannedText(text=text.text, spans=asked.spans or [])
    else:
        example = TaggedTokens(tokens=asked.tokens, tags=asked.tags or [])
    check = LimitChecker(settings)
    check_tagged(example, check)
    check.raise_faults()
    ((found,), _) = tagged_examples([example], settings.max_text_chars)
    field = "tags" if asked.spans is None else "spans"
    for span in found.spans or ():
        _class_of(span.label, (field,), labels, settings)
    return found


def _class_of(given: str, path: tuple[str | int, ...], labels: Sequence[str], settings: Settings) -> str:
    """The class of a label that a request gives.

    Raises:
        InvalidContent: The label is empty or too long, or the task does not have it.
    """
    check = LimitChecker(settings)
    check.label(trimmed(given), *path)
    check.raise_faults()
    label = normalised(given)
    if label in labels:
        return label
    keys = {look_alike_key(each): each for each in labels}
    near = difflib.get_close_matches(look_alike_key(label), keys, n=1)
    named = ", ".join(map(repr, labels[:_NAMED])) + (f" and {len(labels) - _NAMED} more" if labels[_NAMED:] else "")
    hint = f"did you mean {keys[near[0]]!r}?" if near else f"it has {named}."
    raise InvalidContent(
        "unknown_label",
        [Fault(path, f"the task has no such label: {hint} POST …/examples adds examples of a new label")],
    )
