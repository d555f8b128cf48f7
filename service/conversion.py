"""Wire models <-> domain types, and the limits on what a request may hold."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from handful.wire import AdaptationFields, LabelledText, Prediction, PredictionFields
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import Example, SupportSet, TextInput
from service.errors import FieldError, body_pointer, invalid_content
from service.labels import is_blank, normalised, trimmed
from service.settings import PREFIX, Settings


class LimitChecker:
    """Checks what a request holds against the settings' limits and collects every fault."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._errors: list[FieldError] = []
        self._codes: list[str] = []

    def fault(self, code: str, message: str, *path: str | int) -> None:
        """Notes a fault."""
        self._codes.append(code)
        self._errors.append(FieldError(body_pointer(*path), message))

    def text(self, text: str, *path: str | int) -> None:
        """A text must show something."""
        if is_blank(text):
            self.fault("empty_text", "the text is empty", *path)

    def pair(self, text: str, text_pair: str, *path: str | int) -> None:
        """Both texts of a pair must be there; one of them may be of invisible characters."""
        if not text.strip():
            self.fault("empty_text", "the text is empty", *path, "text")
        if not text_pair.strip():
            detail = "the second text of the pair is empty: give it, or leave text_pair out of every text of the task"
            self.fault("empty_text", detail, *path, "text_pair")

    def input(self, text: str, text_pair: str | None, *path: str | int) -> None:
        """A text or a pair, as an object of the request holds it."""
        if text_pair is None:
            self.text(text, *path, "text")
        else:
            self.pair(text, text_pair, *path)

    def label(self, label: str, *path: str | int) -> bool:
        """A label must have a name of bounded length; returns whether it has."""
        if is_blank(label):
            self.fault("empty_label", "the label is empty: it has no visible character", *path)
            return False
        return self.limit("label_too_long", len(label), "max_label_chars", "characters", *path)

    def description(self, description: str, *path: str | int) -> None:
        """A description must say something and be of bounded length."""
        if not description.strip():
            self.fault("empty_description", "the description is empty", *path)
        else:
            self.limit("description_too_long", len(description), "max_description_chars", "characters", *path)

    def limit(self, code: str, found: int, setting: str, what: str, *path: str | int) -> bool:
        """A number must not be above a setting's, which the message names; returns whether it is not."""
        limit: int = getattr(self._settings, setting)
        if found > limit:
            self.fault(code, over_limit(found, limit, what, setting), *path)
        return found <= limit

    def raise_faults(self) -> None:
        """Raises the 422 where there was a fault; its code is the first fault's."""
        if self._errors:
            raise invalid_content(self._errors, self._codes[0])


def over_limit(found: int, limit: int, what: str, setting: str) -> str:
    """The message for a number above a limit, with the setting that raises the limit."""
    return f"{found} {what}; at most {limit} are allowed ({PREFIX}{setting.upper()} on the server raises this limit)"


@dataclass(frozen=True, slots=True)
class CheckedSupport:
    """A request's support set.

    Attributes:
        support: With the labels as classes are made of them.
        shortened: Indices of the examples that had more characters than are kept.
        description_keys: Class -> the key that describes it in the request.
    """

    support: SupportSet
    shortened: frozenset[int]
    description_keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class CheckedQueries:
    """A request's queries.

    Attributes:
        inputs: The queries.
        shortened: Indices of those that had more characters than are kept.
    """

    inputs: list[TextInput]
    shortened: frozenset[int]

    def check_pairs(self, pairs: bool | None) -> None:
        """Compares the queries with the texts that the task was adapted on.

        Args:
            pairs: Whether the task's texts are pairs; None where that is not known, and then anything goes.

        Raises:
            ApiError: 422, the task has pairs and a query is a single text, or the other way round.
        """
        if pairs is None:
            return
        odd = [i for i, each in enumerate(self.inputs) if (each.text_pair is not None) != pairs]
        if not odd:
            return
        if pairs:
            code, detail = "text_pair_missing", 'the task was adapted on pairs: give {"text": …, "text_pair": …}'
        else:
            code, detail = "text_pair_unexpected", "the task was adapted on single texts: leave text_pair out"
        raise invalid_content([FieldError(body_pointer("queries", i), detail) for i in odd], code)


def to_support_set(request: AdaptationFields, settings: Settings) -> CheckedSupport:
    """The checked support set of a request.

    Raises:
        ApiError: A limit is passed, a text or label is empty, or pairs and single texts are mixed.
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
    inputs, shortened = _shortened(
        [TextInput(example.text, example.text_pair) for example in request.support], settings.max_text_chars
    )
    labels = [normalised(example.label) for example in request.support]
    support = SupportSet(with_ids(request.support, labels, inputs), descriptions)
    check.limit("too_many_classes", len(support.labels), "max_classes", "classes", "support")
    check.raise_faults()
    return CheckedSupport(support, shortened, keys)


def _descriptions(given: Mapping[str, str], check: LimitChecker) -> tuple[dict[str, str], dict[str, str]]:
    """Descriptions by class, and the keys that they have in the request."""
    descriptions: dict[str, str] = {}
    keys: dict[str, str] = {}
    for key, description in given.items():
        check.description(description, "labels", key)
        # The key as it was sent, since pointers repeat it
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
    """A support set has pairs or single texts; the fewer ones are at fault, the single texts where both are as many."""
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


def _shortened(inputs: Sequence[TextInput], limit: int) -> tuple[list[TextInput], frozenset[int]]:
    """The texts without the middle of those that are too long, and which those are."""
    kept, shortened = list(inputs), []
    for i, each in enumerate(inputs):
        texts = (each.text, each.text_pair or "")
        if max(map(len, texts)) <= limit:
            continue
        kept[i] = TextInput(without_middle(each.text, limit), each.text_pair and without_middle(each.text_pair, limit))
        if any(len(text.strip()) > limit for text in texts):
            shortened.append(i)
    return kept, frozenset(shortened)


def without_middle(text: str, limit: int) -> str:
    """The beginning and the end of a text that has more characters than the limit; a shorter text as it is.

    A letter's request stands as often in its last sentence as in its first. White space at the ends is left out first.
    """
    if len(text) > limit:
        text = text.strip()
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]} {text[len(text) - tail :]}" if tail else text[:limit]


def with_ids(
    examples: Sequence[LabelledText], labels: Sequence[str], inputs: Sequence[TextInput]
) -> tuple[Example, ...]:
    """Examples, each with an id: the given one, else one that its content and its repetition decide.

    Args:
        examples: As the request has them.
        labels: Their classes.
        inputs: Their texts as they are kept.
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


def to_queries(request: PredictionFields, settings: Settings) -> CheckedQueries:
    """The checked queries of a request.

    Raises:
        ApiError: There is none, there are too many, or one is empty.
    """
    check = LimitChecker(settings)
    if not request.queries:
        check.fault("no_queries", "there is no query: give at least one text", "queries")
    check.limit("too_many_queries", len(request.queries), "max_queries", "queries", "queries")
    check.raise_faults()
    inputs = []
    for i, query in enumerate(request.queries):
        if isinstance(query, str):
            check.text(query, "queries", i)
            inputs.append(TextInput(query))
        else:
            check.input(query.text, query.text_pair, "queries", i)
            inputs.append(TextInput(query.text, query.text_pair))
    check.raise_faults()
    return CheckedQueries(*_shortened(inputs, settings.max_text_chars))


@dataclass(frozen=True, slots=True)
class Abstention:
    """When a prediction abstains.

    Attributes:
        threshold: Where its confidence is lower; 0 never does.
        unreadable: Whether it does so where the encoder cannot read the text.
    """

    threshold: float
    unreadable: bool = True

    @classmethod
    def asked(cls, abstain: bool | float | None, default: float) -> "Abstention":
        """What a request asks for.

        Args:
            abstain: The request's field.
            default: The checkpoint's threshold.
        """
        if abstain is None or abstain is False:
            return cls(0.0, unreadable=abstain is None)
        return cls(default if abstain is True else abstain)


def to_predictions(
    labels: Sequence[str],
    probabilities: Sequence[Sequence[float]],
    queries: CheckedQueries,
    texts: Sequence[TokenizedText],
    *,
    top_k: int | None,
    abstention: Abstention,
) -> list[Prediction]:
    """Wire predictions of rows of class probabilities.

    Args:
        labels: The classes.
        probabilities: One row per query.
        queries: As the request has them.
        texts: As the encoder reads them.
        top_k: How many scores to show.
        abstention: When a prediction abstains.
    """
    predictions = []
    for query, (row, text) in enumerate(zip(probabilities, texts, strict=True)):
        order = sorted(range(len(labels)), key=lambda i: -row[i])
        confidence = row[order[0]]
        abstained = confidence < abstention.threshold or (text.unreadable and abstention.unreadable)
        predictions.append(
            Prediction.model_construct(
                label=None if abstained else labels[order[0]],
                confidence=confidence,
                scores={labels[i]: row[i] for i in order[:top_k]},
                abstained=abstained,
                truncated=text.truncated or query in queries.shortened,
                unreadable=text.unreadable,
            )
        )
    return predictions


def limits_of(settings: Settings) -> Mapping[str, int]:
    """The limits that a client should know."""
    names = ("max_body_bytes", "max_support_examples", "max_classes", "max_queries", "max_text_chars",
             "max_label_chars", "max_description_chars", "max_steps", "max_deep_tokens",
             "max_kept_texts")  # fmt: skip
    return {name: getattr(settings, name) for name in names}
