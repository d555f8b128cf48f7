"""Wire models <-> domain types, and the limits on what a request may hold."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from metalearn.types import Example, SupportSet, TextInput
from service.errors import FieldError, body_pointer, invalid_content
from service.schemas import AdaptationFields, LabelledText, Prediction, PredictionFields
from service.settings import Settings


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
        """A text must say something and not be too long."""
        limit = self._settings.max_text_chars
        if not text.strip():
            self.fault("empty_text", "the text is empty", *path)
        elif len(text) > limit:
            self.fault("text_too_long", f"{len(text)} characters; at most {limit} are allowed", *path)

    def label(self, label: str, *path: str | int) -> None:
        """A label must have a name of bounded length."""
        limit = self._settings.max_label_chars
        if not label.strip():
            self.fault("empty_label", "the label is empty", *path)
        elif len(label) > limit:
            self.fault("label_too_long", f"{len(label)} characters; at most {limit} are allowed", *path)

    def count(self, code: str, found: int, limit: int, what: str, *path: str | int) -> None:
        """A list must not be too long."""
        if found > limit:
            self.fault(code, f"{found} {what}; at most {limit} are allowed", *path)

    def raise_faults(self) -> None:
        """Raises the 422 where there was a fault; its code is the first fault's."""
        if self._errors:
            raise invalid_content(self._errors, self._codes[0])


def to_support_set(request: AdaptationFields, settings: Settings) -> SupportSet:
    """The checked support set of a request.

    Raises:
        ApiError: A limit is passed, or a text or label is empty.
        InvalidSupportSet: No learner could adapt on it.
    """
    check = LimitChecker(settings)
    limit = settings.max_support_examples
    check.count("too_many_examples", len(request.support), limit, "examples", "support")
    check.raise_faults()
    for i, example in enumerate(request.support):
        check.text(example.text, "support", i, "text")
        check.label(example.label, "support", i, "label")
        if example.text_pair is not None:
            check.text(example.text_pair, "support", i, "text_pair")
    descriptions = request.labels or {}
    for label, description in descriptions.items():
        check.label(label, "labels", label[: settings.max_label_chars])
        limit = settings.max_description_chars
        if not description.strip():
            check.fault("empty_description", "the description is empty", "labels", label)
        elif len(description) > limit:
            check.fault("description_too_long", f"{len(description)} characters; at most {limit}", "labels", label)
    if request.steps is not None and request.steps > settings.max_steps:
        check.fault("too_many_steps", f"at most {settings.max_steps} are allowed", "steps")
    check.raise_faults()
    examples = with_ids(request.support)
    support = SupportSet(examples, descriptions)
    check.count("too_many_classes", len(support.labels), settings.max_classes, "classes", "support")
    check.raise_faults()
    return support


def with_ids(examples: Sequence[LabelledText]) -> tuple[Example, ...]:
    """Examples, each with an id: the given one, else one that its content and its repetition decide."""
    taken = {example.id for example in examples if example.id is not None}
    repetitions: Counter[str] = Counter()
    result = []
    for example in examples:
        name = example.id
        if name is None:
            content = "\0".join([example.label, example.text, example.text_pair or ""])
            digest = hashlib.sha256(content.encode()).hexdigest()[:16]
            while name is None or name in taken:
                repetitions[digest] += 1
                name = digest if repetitions[digest] == 1 else f"{digest}-{repetitions[digest]}"
        result.append(Example(TextInput(example.text, example.text_pair), example.label, name))
    return tuple(result)


def to_inputs(request: PredictionFields, settings: Settings) -> list[TextInput]:
    """The checked queries of a request.

    Raises:
        ApiError: There is none, there are too many, or one is empty or too long.
    """
    check = LimitChecker(settings)
    if not request.queries:
        check.fault("no_queries", "there is no query: give at least one text", "queries")
    check.count("too_many_queries", len(request.queries), settings.max_queries, "queries", "queries")
    check.raise_faults()
    inputs = []
    for i, query in enumerate(request.queries):
        if isinstance(query, str):
            check.text(query, "queries", i)
            inputs.append(TextInput(query))
        else:
            check.text(query.text, "queries", i, "text")
            if query.text_pair is not None:
                check.text(query.text_pair, "queries", i, "text_pair")
            inputs.append(TextInput(query.text, query.text_pair))
    check.raise_faults()
    return inputs


def to_predictions(
    labels: Sequence[str],
    probabilities: Sequence[Sequence[float]],
    *,
    top_k: int | None,
    threshold: float,
) -> list[Prediction]:
    """Wire predictions of rows of class probabilities.

    Args:
        labels: The classes.
        probabilities: One row per query.
        top_k: How many scores to show.
        threshold: A prediction whose confidence is lower abstains; 0 never does.
    """
    predictions = []
    for row in probabilities:
        order = sorted(range(len(labels)), key=lambda i: -row[i])
        confidence = row[order[0]]
        abstained = confidence < threshold
        predictions.append(
            Prediction.model_construct(
                label=None if abstained else labels[order[0]],
                confidence=confidence,
                scores={labels[i]: row[i] for i in order[:top_k]},
                abstained=abstained,
            )
        )
    return predictions


def abstain_threshold(abstain: bool | float | None, default: float) -> float:
    """The threshold that a request asks for."""
    if abstain is None or abstain is False:
        return 0.0
    return default if abstain is True else abstain


def limits_of(settings: Settings) -> Mapping[str, int]:
    """The limits that a client should know."""
    names = ("max_body_bytes", "max_support_examples", "max_classes", "max_queries", "max_text_chars",
             "max_label_chars", "max_description_chars", "max_steps", "max_deep_tokens",
             "max_kept_texts")  # fmt: skip
    return {name: getattr(settings, name) for name in names}
