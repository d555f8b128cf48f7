"""The figures of a report on a task that tags words: entities that are found in sentences without their own example."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from handful.report_answers import ReportResponse
from handful.report_kinds import FigureName
from metalearn.evidence import kind_figures
from metalearn.evidence.findings import ClassCounts
from metalearn.evidence.similarity import similarities
from metalearn.tokens.decode import tags_of_words
from metalearn.tokens.features import is_read
from metalearn.tokens.left_out import LeftOutTags, entities
from metalearn.tokens.words import OUTSIDE, Words
from metalearn.types import Example
from service.engine.token_evidence import TokenEvidence
from service.tasks.kind_report import ODDS, ReportedKind, figure, most_suspect, report_with, suspect
from service.tasks.report_parts import MOST_SHOWN, class_reports, entities_in_words

Spans = set[tuple[int, int, str]]
"""The characters of entities, and their labels."""


def token_report_of(task: ReportedKind, evidence: TokenEvidence) -> ReportResponse:
    """The report, without the time that it took."""
    alike = similarities(evidence.features, evidence.features)
    figures = {} if evidence.tags is None else _figures(task, evidence, evidence.tags)
    return report_with(task, evidence, alike, figures)


def _figures(task: ReportedKind, evidence: TokenEvidence, left_out: Sequence[LeftOutTags]) -> dict[str, Any]:
    examples, labels = task.support.examples, [label for label in task.support.labels if label != OUTSIDE]
    read = [_read_words(e, text) for e, text in zip(examples, map(is_read, evidence.texts), strict=True)]
    actual = [_spans(words, tags_of_words(words, e.spans or ())) for e, words in zip(examples, read, strict=True)]
    found = [_found(words, each, task.support.labels) for words, each in zip(read, left_out, strict=True)]
    known = [_spans(words, tags) for words, tags in zip(read, _known_words(examples, read), strict=True)]
    draws = kind_figures.resampled(task.weights, seed=task.version.options.seed)
    own, others = _f1(actual, found, labels, draws), _f1(actual, known, labels, draws)
    names: tuple[FigureName, FigureName] = ("micro_f1", "macro_f1")
    strengths = [_doubt(e, w, tags, task.support.labels) for e, w, tags in zip(examples, read, left_out, strict=True)]
    named = most_suspect(strengths, math.log(ODDS))
    return {
        "figures": [figure(n, own[i], {"known_words": others[i]}) for i, n in enumerate(names)],
        "classes": class_reports(labels, [_counts(actual, found, label) for label in labels]),
        "suspects": [
            suspect(examples[i], entities_in_words(examples[i].input.text, found[i]), 1 / (1 + math.exp(-strengths[i])))
            for i in named[:MOST_SHOWN]
        ],
        "n_suspects": len(named),
    }


def _read_words(example: Example, read: Sequence[bool]) -> Words:
    return tuple(word for word, each in zip(example.input.words or (), read, strict=True) if each)


def _spans(words: Words, tags: Sequence[str]) -> Spans:
    """The entities of tagged words; neighbours with one label are one, as in answers."""
    return {(words[first][0], words[end - 1][1], label) for first, end, label in entities(tags)}


def _found(words: Words, left_out: LeftOutTags, labels: Sequence[str]) -> Spans:
    return _spans(words, [labels[tag] for tag in left_out.tags])


def _known_words(examples: Sequence[Example], read: Sequence[Words]) -> list[list[str]]:
    """The baseline: each word with its most frequent label in other examples, none where it is not there."""
    tagged = [
        [
            (e.input.text[start:end].lower(), tag)
            for (start, end), tag in zip(w, tags_of_words(w, e.spans or ()), strict=True)
        ]
        for e, w in zip(examples, read, strict=True)
    ]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sentence in tagged:
        for word, tag in sentence:
            counts[word][tag] += 1
    found = []
    for sentence in tagged:
        own: dict[str, Counter[str]] = defaultdict(Counter)
        for word, tag in sentence:
            own[word][tag] += 1
        others = {word: counts[word] - own[word] for word in own}
        found.append([max(sorted(others[w]), key=others[w].__getitem__, default=OUTSIDE) for w, _ in sentence])
    return found


def _f1(
    actual: Sequence[Spans], found: Sequence[Spans], labels: Sequence[str], draws: Float[Tensor, "draws examples"]
) -> tuple[Float[Tensor, " draws"], Float[Tensor, " draws"]]:
    """Micro and macro F1 of entities, in each draw."""

    def counted(sets: Sequence[Spans]) -> Float[Tensor, "examples labels"]:
        rows = [[sum(span[2] == label for span in each) for label in labels] for each in sets]
        return torch.tensor(rows, dtype=draws.dtype)

    hits = counted([a & f for a, f in zip(actual, found, strict=True)])
    return kind_figures.f1_of_counts(draws @ hits, draws @ (counted(actual) + counted(found)))


def _counts(actual: Sequence[Spans], found: Sequence[Spans], label: str) -> ClassCounts:
    def number(sets: Sequence[Spans]) -> int:
        return sum(span[2] == label for each in sets for span in each)

    asked = number(actual)
    return ClassCounts(asked, asked, number([a & f for a, f in zip(actual, found, strict=True)]), number(found))


def _doubt(example: Example, words: Words, left_out: LeftOutTags, labels: Sequence[str]) -> float:
    """Log odds of the answer against the given label, at the word where they are highest; -inf if they agree."""
    given = [labels.index(tag) for tag in tags_of_words(words, example.spans or ())]
    logs = left_out.probabilities.clamp_min(torch.finfo(torch.float32).tiny).log()
    return max(
        (float(row[tag] - row[own]) for row, tag, own in zip(logs, left_out.tags, given, strict=True) if tag != own),
        default=-math.inf,
    )
