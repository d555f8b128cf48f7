"""The check of a feedback request: its text, or the id of an answer, and its label."""

import difflib
from collections.abc import Sequence

from handful.wire_feedback import FeedbackRequest
from metalearn.types import TextInput
from service.settings import Settings
from service.tasks.app_parts import Parts
from service.tasks.checks import LimitChecker, shortened_inputs
from service.tasks.errors import Fault, InvalidContent
from service.tasks.labels import look_alike_key, normalised, trimmed

_NAMED = 10


def checked_text(parts: Parts, tenant: str, task: str, asked: FeedbackRequest) -> tuple[TextInput, bool]:
    """The text of a request, as it is kept, and whether its middle was cut out.

    Raises:
        InvalidContent: Neither a text nor an id is given, or both are, or the one that is given cannot be used.
    """
    if (asked.text is None) == (asked.id is None):
        raise InvalidContent("invalid_request", [Fault((), "give either text, or the id of an answer")])
    if asked.text is None:
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


def checked_label(asked: FeedbackRequest, labels: Sequence[str], settings: Settings) -> str:
    """The class of the request's label.

    Raises:
        InvalidContent: The label is empty or too long, or the task does not have it.
    """
    check = LimitChecker(settings)
    check.label(trimmed(asked.label), "label")
    check.raise_faults()
    label = normalised(asked.label)
    if label in labels:
        return label
    keys = {look_alike_key(each): each for each in labels}
    near = difflib.get_close_matches(look_alike_key(label), keys, n=1)
    named = ", ".join(map(repr, labels[:_NAMED])) + (f" and {len(labels) - _NAMED} more" if labels[_NAMED:] else "")
    hint = f"did you mean {keys[near[0]]!r}?" if near else f"it has {named}."
    raise InvalidContent(
        "unknown_label",
        [Fault(("label",), f"the task has no such label: {hint} POST …/examples adds examples of a new label")],
    )
