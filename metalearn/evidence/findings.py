"""Findings about single classes and examples, each counted from answers to examples that were left out."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

_SUSPECT_RATIO = 5.0
"""The factor by which another class has to be more probable than the label."""
_SUSPECT_SHARE = 0.15
"""The largest share of the examples that are suspects: in a hard task the labels are right and the answers wrong.
Both were chosen on validation tasks; see docs/log.md."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to an example that was left out.

    Attributes:
        example: The example's index.
        actual: The class of its label.
        predicted: The most probable class.
        confidence: The probability of that class.
        of_label: The probability of the label's class.
    """

    example: int
    actual: int
    predicted: int
    confidence: float
    of_label: float

    @property
    def right(self) -> bool:
        """Whether the label is predicted."""
        return self.predicted == self.actual


@dataclass(frozen=True, slots=True)
class ClassCounts:
    """Counts of one class.

    Attributes:
        examples: Examples of the class.
        asked: Examples of it that were left out.
        right: Those that were classified correctly.
        predicted: Examples of any class that were classified as this one.
    """

    examples: int
    asked: int
    right: int
    predicted: int

    @property
    def recall(self) -> float | None:
        """The share of the class's examples that are found; None where none was asked."""
        return self.right / self.asked if self.asked else None

    @property
    def precision(self) -> float | None:
        """The share of the answers of this class that are right; None where there is none."""
        return self.right / self.predicted if self.predicted else None


@dataclass(frozen=True, slots=True)
class Confusion:
    """Two classes that are taken for each other.

    Attributes:
        classes: The two classes, the one whose examples are misread more often first.
        counts: Examples of the first that read as the second, and the other way round.
        shown: The misread example of the highest confidence.
    """

    classes: tuple[int, int]
    counts: tuple[int, int]
    shown: int


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """Answers under an abstention threshold.

    Attributes:
        answered: The number of answers of at least the threshold's confidence.
        right: How many of them are right.
    """

    answered: int
    right: int


def answers_of(targets: Sequence[int], asked: Sequence[bool], probabilities: Sequence[Sequence[float]]) -> list[Answer]:
    """The answers to the examples that were left out."""
    found = []
    for i, (actual, was_asked, row) in enumerate(zip(targets, asked, probabilities, strict=True)):
        if was_asked:
            best = max(range(len(row)), key=row.__getitem__)
            found.append(Answer(i, actual, best, row[best], row[actual]))
    return found


def counts_of_classes(targets: Sequence[int], answers: Sequence[Answer], n_classes: int) -> list[ClassCounts]:
    """The counts of each class."""
    examples, asked, right, predicted = ([0] * n_classes for _ in range(4))
    for target in targets:
        examples[target] += 1
    for answer in answers:
        asked[answer.actual] += 1
        right[answer.actual] += answer.right
        predicted[answer.predicted] += 1
    return [ClassCounts(*counts) for counts in zip(examples, asked, right, predicted, strict=True)]


def confusions(answers: Sequence[Answer]) -> list[Confusion]:
    """The pairs of classes that are taken for each other, the most frequent first."""
    misread: dict[tuple[int, int], list[Answer]] = defaultdict(list)
    for answer in answers:
        if not answer.right:
            misread[answer.actual, answer.predicted].append(answer)
    found = []
    for first, second in {(min(pair), max(pair)) for pair in misread}:
        there, back = misread.get((first, second), []), misread.get((second, first), [])
        shown = max([*there, *back], key=lambda answer: (answer.confidence, -answer.example)).example
        classes, counts = (first, second), (len(there), len(back))
        if len(back) > len(there):
            classes, counts = classes[::-1], counts[::-1]
        found.append(Confusion(classes, counts, shown))
    return sorted(found, key=lambda each: (-sum(each.counts), each.classes))


def suspects(answers: Sequence[Answer]) -> list[Answer]:
    """The answers to examples whose labels may be wrong, the most suspect first.

    Another class has to be several times as probable as the label, and no more than a share of the examples is named.
    """
    found = [a for a in answers if not a.right and a.confidence >= _SUSPECT_RATIO * a.of_label]
    found.sort(key=lambda a: (a.of_label / a.confidence, a.example))
    return found[: most_suspects(len(answers))]


def most_suspects(asked: int) -> int:
    """The largest number of suspects among a number of examples."""
    return max(1, round(_SUSPECT_SHARE * asked))


def at_threshold(answers: Sequence[Answer], threshold: float) -> AtThreshold:
    """The answers of at least a confidence."""
    sure = [answer for answer in answers if answer.confidence >= threshold]
    return AtThreshold(len(sure), sum(answer.right for answer in sure))
