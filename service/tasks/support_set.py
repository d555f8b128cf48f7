"""The support set of a request: its check and its normal form."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from handful.wire import AdaptationFields, AnyExample, LabelledText
from handful.wire_kinds import MultiLabelText, ScoredText, SpannedText, TaggedTokens
from metalearn.decision import TaskKind
from metalearn.kinds import KINDS
from metalearn.types import Example, SupportSet, TextInput
from service.settings import Settings
from service.tasks.checks import LimitChecker, shortened_inputs
from service.tasks.kinds import check_form, check_labels, check_order, kind_of, label_of, order_of
from service.tasks.labels import normalised
from service.tasks.token_examples import tagged_examples


@dataclass(frozen=True, slots=True)
class CheckedSupport:
    """A request's support set.

    Attributes:
        support: The support set, with normalised labels.
        shortened: Indices of the examples that had more characters than are kept.
        description_keys: Class -> the key of its description in the request.
        stored: Number of examples at the front that were stored before the request.
        added_field: The request's list of the other examples.
    """

    support: SupportSet
    shortened: frozenset[int]
    description_keys: Mapping[str, str]
    stored: int = 0
    added_field: str = "support"

    def place(self, index: int) -> tuple[str | int, ...]:
        """The path to an example: in the request, or in the stored support set."""
        return ("support", index) if index < self.stored else (self.added_field, index - self.stored)

    @property
    def added(self) -> tuple[Example, ...]:
        """The examples of the request."""
        return self.support.examples[self.stored :]


def to_support_set(request: AdaptationFields, settings: Settings) -> CheckedSupport:
    """The checked support set of a request.

    Raises:
        InvalidContent: A limit is passed, a text or label is empty, or pairs and single texts are mixed.
        InvalidSupportSet: No learner could adapt on it.
    """
    check = LimitChecker(settings)
    check.limit("too_many_examples", len(request.support), "max_support_examples", "examples", "support")
    check.raise_faults()
    kind = kind_of(request, request.support, check, "support")
    check.raise_faults()
    _check_examples(request.support, check, "support")
    descriptions, keys = _descriptions(request.labels or {}, check)
    if descriptions and not KINDS[kind].described:
        check.fault(
            "descriptions_unexpected", f"a {kind} task uses no descriptions of labels: leave them out", "labels"
        )
    check.limit("too_many_steps", request.steps or 0, "max_steps", "inner steps", "steps")
    check.raise_faults()
    _check_mixed(request.support, check)
    order = order_of(kind, request, request.support, check)
    check.raise_faults()
    if kind == "ordinal":
        check_order(order, request.support, check, "support")
        check.raise_faults()
    examples, shortened = _normal_forms(request.support, kind, settings)
    support = SupportSet(examples, descriptions, kind, order)
    check.limit("too_many_classes", len(support.labels), "max_classes", "classes", "support")
    check.raise_faults()
    return CheckedSupport(support, shortened, keys)


def to_grown_support(
    examples: Sequence[AnyExample], stored: SupportSet, settings: Settings, set_aside: Collection[str] = ()
) -> CheckedSupport:
    """The checked examples of a request behind those of a stored support set.

    Args:
        examples: The examples of the request.
        stored: The stored support set.
        settings: The limits.
        set_aside: Ids of further examples that are stored.

    Raises:
        InvalidContent: There is no example, a limit is passed, a text or label is empty, an id is taken, or pairs and
            single texts are mixed.
    """
    field, check, count = "examples", LimitChecker(settings), len(stored.examples)
    if not examples:
        check.fault("no_examples", "there is no example: give at least one", field)
    check.limit(
        "too_many_examples", count + len(set_aside) + len(examples), "max_support_examples", "examples in all", field
    )
    check.raise_faults()
    check_form(stored.kind, examples, check, field)
    check.raise_faults()
    _check_examples(examples, check, field)
    taken = {*set_aside, *(example.id for example in stored.examples)}
    for i, example in enumerate(examples):
        if example.id in taken:
            detail = f"the task has an example with the id {example.id!r}: ids name one example each"
            check.fault("duplicate_id", detail, field, i, "id")
        taken |= {example.id} if example.id else set()
    check.raise_faults()
    if stored.pairs is None:
        _check_mixed(examples, check, field)
    else:
        _check_kind(examples, stored.pairs, check, field)
    if stored.kind == "ordinal":
        check_order(stored.order, examples, check, field)
    check.raise_faults()
    added, shortened = _normal_forms(examples, stored.kind, settings, taken)
    grown = SupportSet(stored.examples + added, stored.descriptions, stored.kind, stored.order)
    check.limit("too_many_classes", len(grown.labels), "max_classes", "classes in all", field)
    check.raise_faults()
    keys = {label: label for label in stored.descriptions}
    return CheckedSupport(grown, frozenset(count + i for i in shortened), keys, count, field)


def _check_examples(examples: Sequence[AnyExample], check: LimitChecker, field: str) -> None:
    for i, example in enumerate(examples):
        if not isinstance(example, SpannedText | TaggedTokens):
            check.input(example.text, example.text_pair, field, i)
        check_labels(example, check, field, i)


def _normal_forms(
    examples: Sequence[AnyExample], kind: TaskKind, settings: Settings, taken: Collection[str] = ()
) -> tuple[tuple[Example, ...], frozenset[int]]:
    """Examples with normalised labels, bounded texts and ids, and the indices of the texts that were shortened."""
    tagged = [example for example in examples if isinstance(example, SpannedText | TaggedTokens)]
    if kind == "tokens":
        made, cut = tagged_examples(tagged, settings.max_text_chars)
        return with_ids(examples, made, taken), cut
    inputs, shortened = shortened_inputs(
        [TextInput(example.text, example.text_pair) for example in examples], settings.max_text_chars
    )
    answers = [_answered(example, kind, kept) for example, kept in zip(examples, inputs, strict=True)]
    return with_ids(examples, answers, taken), shortened


def _answered(example: AnyExample, kind: TaskKind, kept: TextInput) -> Example:
    """An example with its answer in its normal form, without an id."""
    if isinstance(example, MultiLabelText):
        return Example(kept, labels=tuple(sorted(map(normalised, example.labels))), weight=example.weight)
    if isinstance(example, ScoredText) and kind == "regression":
        return Example(kept, score=example.score, weight=example.weight)
    if isinstance(example, LabelledText) and example.label is None:
        return Example(kept, None, weight=example.weight)
    return Example(kept, label_of(example), weight=example.weight)


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


def _check_kind(examples: Sequence[AnyExample], pairs: bool, check: LimitChecker, field: str) -> None:
    """Refuses single texts for a task of pairs, and pairs for a task of single texts."""
    for i, example in enumerate(examples):
        if pairs and example.text_pair is None:
            check.fault("text_pair_missing", "no text_pair, where the task's examples have one", field, i)
        elif not pairs and example.text_pair is not None:
            check.fault("text_pair_unexpected", "a text_pair, where the task's examples have none", field, i)


def _check_mixed(examples: Sequence[AnyExample], check: LimitChecker, field: str = "support") -> None:
    """Refuses a mix of pairs and single texts; the rarer kind is at fault, or the single texts in a tie."""
    single = [i for i, example in enumerate(examples) if example.text_pair is None]
    pairs = [i for i, example in enumerate(examples) if example.text_pair is not None]
    if not single or not pairs:
        return
    if len(single) <= len(pairs):
        detail = f"no text_pair, where {len(pairs)} other examples have one: a task has pairs or single texts, not both"
        for i in single:
            check.fault("text_pair_missing", detail, field, i)
    else:
        detail = (
            f"a text_pair, where {len(single)} other examples have none: a task has pairs or single texts, not both"
        )
        for i in pairs:
            check.fault("text_pair_unexpected", detail, field, i)


def with_ids(
    given: Sequence[AnyExample], examples: Sequence[Example], taken: Collection[str] = ()
) -> tuple[Example, ...]:
    """Examples, each with its given id, or with an id made of its content and its number among equal ones.

    Args:
        given: The examples of the request.
        examples: The same examples as they are kept.
        taken: Further ids that are in use.
    """
    taken = {*taken, *(example.id for example in given if example.id is not None)}
    repetitions: Counter[str] = Counter()
    result = []
    for example, kept in zip(given, examples, strict=True):
        name = example.id
        if name is None:
            plain = kept.labels is None and kept.score is None and kept.spans is None
            answer = (kept.label or "") if plain else json.dumps(kept.answer)
            content = "\0".join([answer, example.text, example.text_pair or ""])
            digest = hashlib.sha256(content.encode()).hexdigest()[:16]
            while name is None or name in taken:
                repetitions[digest] += 1
                name = digest if repetitions[digest] == 1 else f"{digest}-{repetitions[digest]}"
        result.append(replace(kept, id=name))
    return tuple(result)
