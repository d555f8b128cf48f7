"""The support set of a request: its check and its normal form."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from handful.wire import AdaptationFields, LabelledText
from metalearn.types import Example, SupportSet, TextInput
from service.settings import Settings
from service.tasks.checks import LimitChecker, shortened_inputs
from service.tasks.labels import normalised, trimmed


@dataclass(frozen=True, slots=True)
class CheckedSupport:
    """A request's support set.

    Attributes:
        support: The support set, with normalised labels.
        shortened: Indices of the examples that had more characters than are kept.
        description_keys: Class -> the key of its description in the request.
    """

    support: SupportSet
    shortened: frozenset[int]
    description_keys: Mapping[str, str]


def to_support_set(request: AdaptationFields, settings: Settings) -> CheckedSupport:
    """The checked support set of a request.

    Raises:
        InvalidContent: A limit is passed, a text or label is empty, or pairs and single texts are mixed.
        InvalidSupportSet: No learner could adapt on it.
    """
    check = LimitChecker(settings)
    check.limit("too_many_examples", len(request.support), "max_support_examples", "examples", "support")
    check.raise_faults()
    for i, example in enumerate(request.support):
        check.input(example.text, example.text_pair, "support", i)
        check.label(trimmed(example.label), "support", i, "label")
    descriptions, keys = _descriptions(request.labels or {}, check)
    check.limit("too_many_steps", request.steps or 0, "max_steps", "inner steps", "steps")
    check.raise_faults()
    _check_mixed(request.support, check)
    check.raise_faults()
    inputs, shortened = shortened_inputs(
        [TextInput(example.text, example.text_pair) for example in request.support], settings.max_text_chars
    )
    labels = [normalised(example.label) for example in request.support]
    support = SupportSet(with_ids(request.support, labels, inputs), descriptions)
    check.limit("too_many_classes", len(support.labels), "max_classes", "classes", "support")
    check.raise_faults()
    return CheckedSupport(support, shortened, keys)


def _descriptions(given: Mapping[str, str], check: LimitChecker) -> tuple[dict[str, str], dict[str, str]]:
    """The descriptions by class, and their keys in the request."""
    descriptions: dict[str, str] = {}
    keys: dict[str, str] = {}
    for key, description in given.items():
        check.description(description, "labels", key)
        # The key is checked as it was sent, since the answer repeats it
        if not check.label(key, "labels", key):
            continue
        label = normalised(key)
        if label in keys:
            detail = f"two descriptions of one class: the labels {keys[label]!r} and {key!r} are both {label!r}"
            check.fault("duplicate_description", detail, "labels", keys[label])
            check.fault("duplicate_description", detail, "labels", key)
        else:
            descriptions[label], keys[label] = description, key
    return descriptions, keys


def _check_mixed(examples: Sequence[LabelledText], check: LimitChecker) -> None:
    """Refuses a mix of pairs and single texts; the rarer kind is at fault, or the single texts in a tie."""
    single = [i for i, example in enumerate(examples) if example.text_pair is None]
    pairs = [i for i, example in enumerate(examples) if example.text_pair is not None]
    if not single or not pairs:
        return
    if len(single) <= len(pairs):
        detail = f"no text_pair, where {len(pairs)} other examples have one: a task has pairs or single texts, not both"
        for i in single:
            check.fault("text_pair_missing", detail, "support", i)
    else:
        detail = (
            f"a text_pair, where {len(single)} other examples have none: a task has pairs or single texts, not both"
        )
        for i in pairs:
            check.fault("text_pair_unexpected", detail, "support", i)


def with_ids(
    examples: Sequence[LabelledText], labels: Sequence[str], inputs: Sequence[TextInput]
) -> tuple[Example, ...]:
    """Examples, each with its given id, or with an id made of its content and its number among equal ones.

    Args:
        examples: The examples of the request.
        labels: Their classes.
        inputs: Their texts, as they are kept.
    """
    taken = {example.id for example in examples if example.id is not None}
    repetitions: Counter[str] = Counter()
    result = []
    for example, label, kept in zip(examples, labels, inputs, strict=True):
        name = example.id
        if name is None:
            content = "\0".join([label, example.text, example.text_pair or ""])
            digest = hashlib.sha256(content.encode()).hexdigest()[:16]
            while name is None or name in taken:
                repetitions[digest] += 1
                name = digest if repetitions[digest] == 1 else f"{digest}-{repetitions[digest]}"
        result.append(Example(kept, label, name))
    return tuple(result)
