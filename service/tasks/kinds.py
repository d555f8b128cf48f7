"""The kind of a request's task: asked for, or guessed from the form of the examples; and the check of that form."""

from collections import Counter
from collections.abc import Mapping, Sequence

from handful.wire import AnyExample, LabelledText
from handful.wire_kinds import KindFields, MultiLabelText, ScoredText, SpannedText, TaggedTokens
from metalearn.decision import TaskKind
from metalearn.kinds import KINDS
from service.tasks.checks import LimitChecker
from service.tasks.labels import normalised, trimmed
from service.tasks.token_examples import check_tagged

_FORMS: Mapping[str, str] = {
    "label": '"label", one class',
    "labels": '"labels", a list of classes',
    "score": '"score", a number',
    "spans": '"spans", or "tokens" and "tags"',
}
"""Key of an example that holds its answer -> words for it."""

_GUESSED: Mapping[str, TaskKind] = {
    "label": "single_label",
    "labels": "multi_label",
    "score": "regression",
    "spans": "tokens",
}


def answer_key(example: AnyExample) -> str:
    """The key of an example that holds its answer."""
    if isinstance(example, MultiLabelText):
        return "labels"
    if isinstance(example, SpannedText | TaggedTokens):
        return "spans"
    return "score" if isinstance(example, ScoredText) else "label"


def kind_of(asked: KindFields, examples: Sequence[AnyExample], check: LimitChecker, field: str) -> TaskKind:
    """The kind that a request asks for, or that most of its examples have the form of; notes examples of other forms.

    Args:
        asked: The kind and the order of the request.
        examples: The examples.
        check: Collects the faults.
        field: The list of the request that the examples are from.
    """
    found = Counter(map(answer_key, examples))
    kind = asked.kind or _GUESSED[found.most_common(1)[0][0] if found else "label"]
    check_form(kind, examples, check, field, guessed=asked.kind is None)
    if asked.order is not None and kind != "ordinal":
        detail = f'only an ordinal task has an order of its labels, and this one is {kind}: send "kind": "ordinal"'
        check.fault("order_unexpected", detail, "order")
    return kind


def check_form(
    kind: TaskKind, examples: Sequence[AnyExample], check: LimitChecker, field: str, *, guessed: bool = False
) -> None:
    """Notes the examples that do not have the form of a kind.

    Args:
        kind: The task's kind.
        examples: The examples.
        check: Collects the faults.
        field: The list of the request that the examples are from.
        guessed: Whether the kind is that of the most examples, and not one that was asked for.
    """
    wanted = KINDS[kind].answer
    allowed = {wanted, "score"} if kind == "ordinal" else {wanted}
    for i, example in enumerate(examples):
        key = answer_key(example)
        if kind != "single_label":
            _check_in_scope(kind, example, check, field, i)
        if key in allowed:
            continue
        others = "most examples have" if guessed else f"an example of a {kind} task has"
        detail = f"the example has {_FORMS[key]}, where {others} {_FORMS[wanted]}: a task has one kind of answers"
        check.fault("mixed_kinds", detail, field, i, key)


def _check_in_scope(kind: TaskKind, example: AnyExample, check: LimitChecker, *path: str | int) -> None:
    """Notes a text that is out of scope: of the kinds, those with one class an example alone know such texts."""
    if isinstance(example, LabelledText) and example.label is None:
        hint = 'give it an empty list of "labels"' if kind == "multi_label" else "leave the example out"
        detail = f"out of scope (the label null) is not there for {kind} tasks: {hint}"
        check.fault("option_unsupported", detail, *path, "label")


def check_labels(example: AnyExample, check: LimitChecker, *path: str | int) -> None:
    """Notes labels of an example that are empty or too long, or that stand there twice."""
    if isinstance(example, SpannedText | TaggedTokens):
        check_tagged(example, check, *path)
    elif isinstance(example, LabelledText):
        if example.label is not None:
            check.label(trimmed(example.label), *path, "label")
    elif isinstance(example, MultiLabelText):
        seen: set[str] = set()
        for i, label in enumerate(example.labels):
            if not check.label(trimmed(label), *path, "labels", i):
                continue
            if normalised(label) in seen:
                check.fault("duplicate_label", "the example has this label twice: give it once", *path, "labels", i)
            seen.add(normalised(label))


def order_of(kind: TaskKind, asked: KindFields, examples: Sequence[AnyExample], check: LimitChecker) -> tuple[str, ...]:
    """The classes of an ordinal task in their order; none for other kinds.

    Where no order is given, classes that are numbers have the order of the numbers.

    Args:
        kind: The task's kind.
        asked: The kind and the order of the request.
        examples: The examples, with labels that can be used.
        check: Collects the faults.
    """
    if kind != "ordinal":
        return ()
    labels = {label_of(example) for example in examples}
    if asked.order is None:
        try:
            return tuple(sorted(labels, key=float))
        except ValueError:
            detail = (
                "an ordinal task whose labels are no numbers needs their order, from the lowest to the highest: send "
                '"order": ["bad", "ok", "good"]'
            )
            check.fault("order_missing", detail, "order")
            return ()
    usable = [check.label(trimmed(label), "order", i) for i, label in enumerate(asked.order)]
    if not all(usable):
        return ()
    order = tuple(map(normalised, asked.order))
    for i, label in enumerate(order):
        if label in order[:i]:
            check.fault("duplicate_label", f"the order has the label {label!r} twice: give it once", "order", i)
    return order


def check_order(order: Sequence[str], examples: Sequence[AnyExample], check: LimitChecker, field: str) -> None:
    """Notes examples of an ordinal task whose label is not in the order."""
    for i, example in enumerate(examples):
        label = label_of(example)
        if label not in order:
            shown = ", ".join(map(repr, order[:20]))
            detail = f"the label {label!r} is not in the order of the task's labels: {shown}. Adapt with a longer order"
            check.fault("label_not_in_order", detail, field, i, answer_key(example))


def label_of(example: AnyExample) -> str:
    """The class of an example of a single-label or ordinal task; a number's class is the number as it is written."""
    if isinstance(example, ScoredText):
        return f"{example.score:g}"
    return normalised(example.label or "") if isinstance(example, LabelledText) else ""
