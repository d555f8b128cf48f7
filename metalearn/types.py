"""The values that the learning core speaks of: frozen, and valid once they exist."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from metalearn.decision import Decision, TaskKind, n_outputs
from metalearn.errors import InvalidEpisode, InvalidSupportSet
from metalearn.tokens.words import OUTSIDE, LabelledSpan, Words

Objective = Literal["classification", "multi_label", "regression"]
"""The kind of a task's answers: one class, any number of classes, or a number."""

Target = int | tuple[int, ...] | float
"""The right answer to one text: a class index, the indices of its classes, or a score."""

OUT_OF_SCOPE = -1
"""Class index of a query that belongs to none of its episode's classes."""

FastWeights = Mapping[str, Tensor]
"""A task's own weights by name, after zero or more inner steps."""

SlowWeights = Mapping[str, Tensor]
"""The meta-learned start and rates by name, shared by all tasks."""


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text, or a pair of texts that are read together.

    Attributes:
        text: The text.
        text_pair: The second text of a pair, such as a hypothesis beside its premise.
        words: The characters of each word, from the first up to the one after the last, where words are tagged.
    """

    text: str
    text_pair: str | None = None
    words: Words | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled text (or pair).

    Attributes:
        input: The text or pair that is classified.
        label: Its class; None where it is out of scope, which means in none of the task's classes; empty where the kind
            of the task gives it several or none.
        id: Names the example within its support set, so that it can be erased later.
        weight: How much it counts. An example of weight 0 is kept without effect.
        labels: Its classes in a multi-label task; None in other tasks.
        score: Its score in a regression; None in other tasks.
        spans: The labelled parts of its text in a token classification; None in other tasks.
    """

    input: TextInput
    label: str | None = ""
    id: str = ""
    weight: float = 1.0
    labels: tuple[str, ...] | None = None
    score: float | None = None
    spans: tuple[LabelledSpan, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Its classes, however many the kind of the task gives it; none where it is out of scope."""
        if self.spans is not None:
            return tuple(sorted({span.label for span in self.spans}))
        if self.labels is not None:
            return self.labels
        return () if self.label is None or self.score is not None else (self.label,)

    @property
    def answer(self) -> tuple[str, ...] | float | tuple[LabelledSpan, ...]:
        """Its classes, its score, or its spans: what is compared where two examples have one text."""
        if self.spans is not None:
            return self.spans
        return self.classes if self.score is None else self.score

    @property
    def of_class(self) -> bool:
        """Whether it counts for the task's own answers: neither out of scope nor of weight 0."""
        return self.label is not None and self.weight > 0


@dataclass(frozen=True)
class SupportSet:
    """The labelled examples that a task is adapted on.

    Classes are ordered by name, so that the order of the examples does not decide the order of the classes; those of an
    ordinal task have the order that was asked for.

    Attributes:
        examples: May be empty where descriptions stand in for all of them.
        descriptions: The meaning of labels, in words, for the labels that the tenant describes. A label that stands
            only here is a class without examples.
        kind: What the task answers. The examples have the form of this kind.
        order: The classes of an ordinal task, from the lowest to the highest.

    Raises:
        InvalidSupportSet: There is nothing to learn from, there are fewer than two classes or scores, or two examples
            share an id.
    """

    examples: tuple[Example, ...]
    descriptions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    kind: TaskKind = "single_label"
    order: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.examples and len(self.descriptions) < 2:
            raise InvalidSupportSet(
                "empty_support",
                "the support set is empty: give at least one example per class, or describe at least two classes",
            )
        self._check_answers()
        ids = Counter(example.id for example in self.examples if example.id)
        if ids and max(ids.values()) > 1:
            repeated = next(i for i, example in enumerate(self.examples) if ids[example.id] > 1)
            last = max(i for i, example in enumerate(self.examples) if example.id == self.examples[repeated].id)
            raise InvalidSupportSet(
                "duplicate_id",
                f"examples {repeated} and {last} share the id {self.examples[last].id!r}: ids name one example each",
                ("support", last, "id"),
            )

    def _check_answers(self) -> None:
        """Refuses examples that all have one answer."""
        if self.kind == "regression":
            scores = [example.score for example in self.examples if example.weight and example.score is not None]
            if len(set(scores)) < 2:
                raise InvalidSupportSet(
                    "too_few_scores",
                    f"every example has the score {self.examples[0].score}, or the weight 0: a regression needs at "
                    "least two scores",
                )
            if len(set(torch.tensor(scores, dtype=torch.float32).tolist())) < 2:
                raise InvalidSupportSet(
                    "too_few_scores",
                    "the scores are all one number in 32 bits, which are computed with: subtract one number from all",
                )
        elif self.kind == "multi_label":
            if not any(example.classes and example.weight for example in self.examples):
                raise InvalidSupportSet(
                    "too_few_classes",
                    "no example has a label and a weight above 0: give at least one example with a label in labels",
                )
        elif self.kind == "tokens" and len(self.labels) < 2:
            raise InvalidSupportSet(
                "too_few_classes", "no example has a labelled span: give at least one, in spans or in tags"
            )
        elif self.kind == "ordinal" and not any(example.weight for example in self.examples):
            raise InvalidSupportSet("empty_support", "every example has the weight 0: give one a weight above 0")
        elif len(self.labels) < 2:
            same = f"every example has the label {self.labels[0]!r}" if self.labels else "no example has a label"
            if not all(example.of_class for example in self.examples):
                same += " (without those of weight 0 and those that are out of scope)" if self.labels else ""
                same += "" if self.labels else " and a weight above 0"
            raise InvalidSupportSet("too_few_classes", f"{same}: a classifier needs at least two classes")

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes; a class's index is its row in the head. None in a regression."""
        if self.kind == "ordinal":
            return self.order
        named = {label for example in self.examples if example.weight for label in example.classes}
        if self.kind == "tokens":
            named.add(OUTSIDE)
        return tuple(sorted(named | set(self.descriptions)))

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """The target of each example: a class index, the indices of its classes, or its score.

        ``OUT_OF_SCOPE`` without a class, or of a class whose examples weigh 0.
        """
        index = {label: i for i, label in enumerate(self.labels)}
        if self.kind == "regression":
            return tuple(example.score or 0.0 for example in self.examples)
        if self.kind in {"multi_label", "tokens"}:
            return tuple(tuple(sorted({index[name] for name in e.classes if name in index})) for e in self.examples)
        return tuple(OUT_OF_SCOPE if e.label is None else index.get(e.label, OUT_OF_SCOPE) for e in self.examples)

    @cached_property
    def weights(self) -> tuple[float, ...]:
        """The weight of each example."""
        return tuple(example.weight for example in self.examples)

    @cached_property
    def of_classes(self) -> "SupportSet":
        """The support set without out-of-scope examples and those of weight 0; itself where it has none."""
        kept = tuple(example for example in self.examples if example.of_class)
        return self if len(kept) == len(self.examples) else replace(self, examples=kept)

    @property
    def has_out_of_scope(self) -> bool:
        """Whether an out-of-scope example counts."""
        return any(example.label is None and example.weight for example in self.examples)

    @cached_property
    def class_indices(self) -> tuple[int, ...]:
        """The class index of each example of a task with one class an example."""
        return tuple(target for target in self.targets if isinstance(target, int))

    @cached_property
    def pairs(self) -> bool | None:
        """Whether the texts are pairs; None without examples, or where pairs and single texts are mixed."""
        found = {example.input.text_pair is not None for example in self.examples}
        return found.pop() if len(found) == 1 else None


@dataclass(frozen=True, slots=True)
class LabelledTexts:
    """Texts with their targets, as an episode holds them.

    Attributes:
        inputs: The texts.
        targets: One each, of the kind that the episode's objective asks for.
    """

    inputs: tuple[TextInput, ...]
    targets: tuple[Target, ...]

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise InvalidEpisode(f"{len(self.inputs)} texts do not match {len(self.targets)} targets")


@dataclass(frozen=True, slots=True)
class Episode:
    """A sampled task: what is adapted on, and what the result is judged by.

    Attributes:
        task: Name of the task that it was sampled from.
        group: Kind of task, such as ``intent``.
        objective: The kind of answers.
        labels: Names of the classes; a class's index is its place here. Empty in regression.
        support: Every class occurs at least once.
        query: No text of the support set; ``OUT_OF_SCOPE`` where a text belongs to no class.

    Raises:
        InvalidEpisode: One of these does not hold.
    """

    task: str
    group: str
    objective: Objective
    labels: tuple[str, ...]
    support: LabelledTexts
    query: LabelledTexts

    def __post_init__(self) -> None:
        if not self.support.inputs or not self.query.inputs:
            raise InvalidEpisode(f"an episode of {self.task} lacks a support or a query set")
        if self.objective == "regression":
            return
        if len(self.labels) < 2:
            raise InvalidEpisode(f"an episode of {self.task} has {len(self.labels)} classes; it needs two or more")
        missing = set(range(len(self.labels))) - classes_in(self.support.targets)
        if missing:
            raise InvalidEpisode(f"an episode of {self.task} has no example of {self.labels[min(missing)]!r}")
        unknown = classes_in(self.query.targets) - set(range(len(self.labels))) - {OUT_OF_SCOPE}
        if unknown:
            raise InvalidEpisode(f"an episode of {self.task} asks for class {min(unknown)}, which it does not have")

    @property
    def n_classes(self) -> int:
        """Number of classes, or of outputs in regression."""
        return len(self.labels) or 1


def classes_in(targets: tuple[Target, ...]) -> set[int]:
    """The class indices that occur in targets of classification or multi-label tasks."""
    found: set[int] = set()
    for target in targets:
        found.update(target if isinstance(target, tuple) else (int(target),))
    return found


@dataclass(frozen=True)
class Adapter:
    """The fast weights and labels that a task owns after adaptation.

    Attributes:
        fast_weights: Detached, on the compute device.
        labels: The classes; ``labels[i]`` belongs to row i of the head.
        checkpoint: Fingerprint of the checkpoint that it was adapted from and that alone can use it.
        learner: Name of the learner that made it and that alone can read it.
        pairs: Whether the task's texts are pairs; None where that is not known.
        objective: The meaning of its head's outputs.
        out_of_scope: Whether there is one more class, the last one, of texts that are in none of the task's classes.
        decision: How answers are made of the outputs, where the objective alone does not say it.
    """

    fast_weights: FastWeights
    labels: tuple[str, ...]
    checkpoint: str
    learner: str = "protomaml"
    pairs: bool | None = None
    objective: Objective = "classification"
    out_of_scope: bool = False
    decision: Decision | None = None

    @property
    def n_outputs(self) -> int:
        """Number of classes, that of out-of-scope texts included, or of outputs in regression."""
        return n_outputs(self.objective, self.labels) + self.out_of_scope

    @cached_property
    def size_bytes(self) -> int:
        """Bytes that the fast weights take in memory."""
        return sum(weight.numel() * weight.element_size() for weight in self.fast_weights.values())
