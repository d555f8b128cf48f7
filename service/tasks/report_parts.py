"""The parts of reports that tasks of all kinds have: texts with their answers, pairs of texts, counts of classes."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from jaxtyping import Float
from torch import Tensor

from handful.report_answers import ClassReport, ConfusablePair, Contradiction, ExampleText, NearDuplicate
from metalearn.evidence.findings import ClassCounts, Confusion
from metalearn.evidence.similarity import near_duplicates
from metalearn.types import Example, SupportSet
from service.engine.evidence_slices import Evidence, KindEvidence
from service.engine.token_evidence import TokenEvidence

MOST_SHOWN = 50
"""Entries of a list; its count is of all."""


def answer_in_words(example: Example) -> str:
    """The answer of an example: its class, its classes, its score, or its entities."""
    if example.spans is not None:
        return entities_in_words(example.input.text, example.spans)
    if example.score is not None:
        return f"{example.score:g}"
    return ", ".join(example.classes) or "no label"


def entities_in_words(text: str, spans: Iterable[tuple[int, int, str]]) -> str:
    """Entities with their parts of the text, in their order."""
    return ", ".join(f"{label} {text[start:end]!r}" for start, end, label in sorted(spans)) or "no entity"


def shown(example: Example) -> ExampleText:
    """An example as a report shows it."""
    return ExampleText(
        id=example.id, label=answer_in_words(example), text=example.input.text, text_pair=example.input.text_pair
    )


def same_texts(support: SupportSet, numbers: Sequence[int]) -> list[Contradiction]:
    """Texts that stand there with more than one answer.

    Args:
        support: The support set.
        numbers: A number of each example's text, the same for copies.
    """
    groups: dict[int, list[Example]] = defaultdict(list)
    for number, example in zip(numbers, support.examples, strict=True):
        groups[number].append(example)
    return [
        Contradiction(examples=[shown(example) for example in group[:MOST_SHOWN]])
        for group in groups.values()
        if len({example.answer for example in group}) > 1
    ]


def nearly_the_same(
    support: SupportSet, numbers: Sequence[int], alike: Float[Tensor, "examples examples"]
) -> list[NearDuplicate]:
    """Near-duplicates, without copies of a text with several answers, which are contradictions.

    Args:
        support: The support set.
        numbers: A number of each example's text, the same for copies.
        alike: The similarities of the examples with each other.
    """
    examples = support.examples
    return [
        NearDuplicate(examples=(shown(examples[i]), shown(examples[j])), similarity=similarity)
        for i, j, similarity in near_duplicates(alike)
        if numbers[i] != numbers[j] or examples[i].answer == examples[j].answer
    ]


def class_reports(labels: Sequence[str], counts: Iterable[ClassCounts]) -> list[ClassReport]:
    """The figures of each class."""
    return [
        ClassReport(
            label=label,
            examples=each.examples,
            asked=each.asked,
            right=each.right,
            predicted=each.predicted,
            recall=each.recall,
            precision=each.precision,
        )
        for label, each in zip(labels, counts, strict=True)
    ]


def confusable_pairs(
    support: SupportSet, confused: Sequence[Confusion], alike: Float[Tensor, "examples examples"]
) -> list[ConfusablePair]:
    """The first pairs of classes that are taken for each other, each with two texts that show it.

    Args:
        support: The support set.
        confused: All pairs.
        alike: The similarities of the examples with each other.
    """
    examples, labels = support.examples, support.labels
    return [
        ConfusablePair(
            labels=(labels[pair.classes[0]], labels[pair.classes[1]]),
            counts=pair.counts,
            shown=(shown(examples[pair.shown]), shown(examples[_most_like(pair, support, alike)])),
        )
        for pair in confused[:MOST_SHOWN]
    ]


def _most_like(pair: Confusion, support: SupportSet, alike: Float[Tensor, "examples examples"]) -> int:
    """The example of the other class that is most similar to a misread one."""
    targets = support.class_indices
    (other,) = set(pair.classes) - {targets[pair.shown]}
    rows = [i for i, target in enumerate(targets) if target == other]
    # A class of a description alone has no example to show
    return max(rows, key=lambda i: float(alike[pair.shown, i]), default=pair.shown)


def cut_and_unreadable(
    support: SupportSet, evidence: Evidence | KindEvidence | TokenEvidence, max_chars: int
) -> tuple[list[str], list[str]]:
    """The ids of the examples that are longer than what is read, and of those that cannot be read.

    Args:
        support: The support set.
        evidence: The examples as the encoder reads them.
        max_chars: The most characters of a text that are kept.
    """
    both = list(zip(support.examples, evidence.texts, strict=True))
    cut = [
        example.id
        for example, text in both
        if text.truncated or max(len(example.input.text), len(example.input.text_pair or "")) >= max_chars
    ]
    return cut, [example.id for example, text in both if text.unreadable]
