"""The labels of a task that a request names: those that may be answered, and those with thresholds of their own."""

from collections.abc import Mapping, Sequence

from handful.wire import PredictionFields
from service.tasks.errors import Fault, InvalidContent
from service.tasks.labels import normalised

_MOST_NAMED = 10
_MAX_LABEL_CHARS = 512
"""Characters of a label that are looked at, since the time to normalise one grows with its square."""


def check_labels(asked: PredictionFields, labels: Sequence[str]) -> None:
    """Checks the labels that a request names, before anything is computed for it.

    Raises:
        InvalidContent: The task does not have one of them, or one has two thresholds.
    """
    classes_of(asked.only_labels, labels)
    if isinstance(asked.abstain, Mapping):
        thresholds_of(asked.abstain, labels)


def classes_of(only_labels: Sequence[str] | None, labels: Sequence[str]) -> list[int]:
    """The indices of the classes that may be answered, in the task's order; of all where the request names none.

    Args:
        only_labels: The request's field.
        labels: The task's labels.

    Raises:
        InvalidContent: The task does not have one of them.
    """
    if only_labels is None:
        return list(range(len(labels)))
    places = {label: i for i, label in enumerate(labels)}
    found = {i: places.get(_class(label)) for i, label in enumerate(only_labels)}
    _refuse_unknown([("only_labels", i) for i, place in found.items() if place is None], labels)
    return sorted({place for place in found.values() if place is not None})


def thresholds_of(abstain: Mapping[str, float], labels: Sequence[str]) -> dict[str, float]:
    """The thresholds by class.

    Args:
        abstain: The request's field.
        labels: The task's labels.

    Raises:
        InvalidContent: The task does not have one of them, or one stands there twice.
    """
    known, thresholds = set(labels), dict[str, float]()
    _refuse_unknown([("abstain", label) for label in abstain if _class(label) not in known], labels)
    for label, threshold in abstain.items():
        if _class(label) in thresholds:
            detail = f"a second threshold of the label {_class(label)!r}: keep one"
            raise InvalidContent("duplicate_threshold", [Fault(("abstain", label), detail)])
        thresholds[_class(label)] = threshold
    return thresholds


def shares(row: Sequence[float], classes: Sequence[int], n_labels: int) -> tuple[dict[int, float], float]:
    """The probabilities of some classes, the largest first, and that of out of scope, where nothing else can be.

    Args:
        row: The probability of each class and, where the task has out-of-scope examples, of out of scope.
        classes: The classes.
        n_labels: Number of classes.
    """
    found, outside = {i: row[i] for i in classes}, sum(row[n_labels:])
    if len(classes) < n_labels:
        total = sum(found.values()) + outside
        # All of them may be too small for a number: then nothing is known of their order
        found = {i: share / total if total else 1 / len(classes) for i, share in found.items()}
        outside = outside / total if total else 0.0
    return dict(sorted(found.items(), key=lambda pair: -pair[1])), outside


def _class(label: str) -> str:
    return normalised(label) if len(label) <= _MAX_LABEL_CHARS else label


def _refuse_unknown(places: Sequence[tuple[str | int, ...]], labels: Sequence[str]) -> None:
    if places:
        named = ", ".join(map(repr, labels[:_MOST_NAMED])) + (", …" if len(labels) > _MOST_NAMED else "")
        detail = f"the task has no such label; its {len(labels)} labels are {named}"
        raise InvalidContent("unknown_label", [Fault(place, detail) for place in places])
