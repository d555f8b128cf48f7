"""The values that the learning core speaks of: frozen, and valid once they exist."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType

from jaxtyping import Float, Int
from torch import Tensor

from metalearn.errors import InvalidSupportSet

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
    """

    text: str
    text_pair: str | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A labelled text (or pair).

    Attributes:
        input: What is classified.
        label: Its class.
        id: Names the example within its support set, so that it can be erased later.
    """

    input: TextInput
    label: str
    id: str = ""


@dataclass(frozen=True)
class SupportSet:
    """The labelled examples that a task is adapted on.

    Classes are ordered by name, so that the order of the examples does not decide the order of the classes.

    Attributes:
        examples: At least one.
        descriptions: What a label means, in words, for the labels where the tenant says so. A label that stands only
            here is a class without examples.

    Raises:
        InvalidSupportSet: There is no example, there are fewer than two classes, or two examples share an id.
    """

    examples: tuple[Example, ...]
    descriptions: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not self.examples:
            raise InvalidSupportSet("empty_support", "the support set is empty: give at least one example per class")
        if len(self.labels) < 2:
            raise InvalidSupportSet(
                "too_few_classes",
                f"every example has the label {self.labels[0]!r}: a classifier needs at least two classes",
            )
        ids = Counter(example.id for example in self.examples if example.id)
        if ids and max(ids.values()) > 1:
            repeated = next(i for i, example in enumerate(self.examples) if ids[example.id] > 1)
            last = max(i for i, example in enumerate(self.examples) if example.id == self.examples[repeated].id)
            raise InvalidSupportSet(
                "duplicate_id",
                f"examples {repeated} and {last} share the id {self.examples[last].id!r}: ids name one example each",
                ("support", last, "id"),
            )

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The classes, ordered by name; a class's index is its row in the head."""
        return tuple(sorted({example.label for example in self.examples} | set(self.descriptions)))

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """The class index of each example."""
        index = {label: i for i, label in enumerate(self.labels)}
        return tuple(index[example.label] for example in self.examples)


@dataclass(frozen=True)
class SupportFeatures:
    """An encoded support set, as a learner sees it.

    Attributes:
        features: One row per example.
        targets: Class index of each row.
        weights: How much each row counts in the loss and in its class's mean; an example counts 1.
        n_classes: Number of classes; each has at least one row.
    """

    features: Float[Tensor, "support dim"]
    targets: Int[Tensor, " support"]
    weights: Float[Tensor, " support"]
    n_classes: int


@dataclass(frozen=True)
class Adapter:
    """What a task owns after adaptation.

    Attributes:
        fast_weights: Detached, on the compute device.
        labels: The classes; ``labels[i]`` belongs to row i of the head.
        checkpoint: Fingerprint of the checkpoint that it was adapted from and that alone can use it.
    """

    fast_weights: FastWeights
    labels: tuple[str, ...]
    checkpoint: str

    @cached_property
    def size_bytes(self) -> int:
        """Bytes that the fast weights take in memory."""
        return sum(weight.numel() * weight.element_size() for weight in self.fast_weights.values())
