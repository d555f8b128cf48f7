"""From probabilities of each word's tags to spans: the best sequence of tags, under how tags follow one another."""

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from metalearn.tokens.words import OUTSIDE, LabelledSpan, Words

_STRENGTH = 0.4
"""Weight of transitions beside probabilities, which know a part of the context already. See docs/log.md."""
_SMOOTHING = 0.5
_LEAST = 1e-30


class FoundSpan(NamedTuple):
    """A span that was found, with the mean probability of its label over its words."""

    start: int
    end: int
    label: str
    confidence: float


class Transitions(NamedTuple):
    """How much likelier a tag is after another one than anywhere, as logarithms; all labels are alike.

    Source: the abstract transitions of Yang and Katiyar 2020 (StructShot), section 3.3.

    Attributes:
        stay_outside: No label after no label.
        begin: A label after no label.
        end: No label after a label.
        go_on: The same label again.
        change: Another label.
    """

    stay_outside: float
    begin: float
    end: float
    go_on: float
    change: float


def learned_transitions(texts: Sequence[Sequence[str]], weights: Sequence[float], n_labels: int) -> Transitions:
    """The transitions of tagged texts.

    Args:
        texts: The tag of each word, ``O`` or a label.
        weights: How much each text counts.
        n_labels: The number of labels beside ``O``.
    """
    counts: dict[str, float] = defaultdict(float)
    of_words: dict[bool, float] = defaultdict(float)
    for tags, weight in zip(texts, weights, strict=True):
        for tag in tags:
            of_words[tag != OUTSIDE] += weight
        for before, after in pairwise(tags):
            counts[_step(before, after)] += weight
    labelled = (1 + of_words[True]) / (of_words[True] + of_words[False] + 2)
    of_outside, of_label = 1 - labelled, labelled / n_labels

    def ratio(step: str, steps: Sequence[str], expected: float, shared: int = 1) -> float:
        share = (counts[step] + _SMOOTHING) / (sum(counts[each] for each in steps) + len(steps) * _SMOOTHING)
        return _STRENGTH * math.log(share / shared / expected)

    outside, inside = ("stay_outside", "begin"), ("end", "go_on", "change")
    return Transitions(
        stay_outside=ratio("stay_outside", outside, of_outside),
        begin=ratio("begin", outside, labelled),
        end=ratio("end", inside, of_outside),
        go_on=ratio("go_on", inside, of_label),
        change=ratio("change", inside, of_label, max(1, n_labels - 1)),
    )


def _step(before: str, after: str) -> str:
    """The field of ``Transitions`` that one tag after another is."""
    if before == OUTSIDE:
        return "stay_outside" if after == OUTSIDE else "begin"
    return "end" if after == OUTSIDE else "go_on" if after == before else "change"


def best_tags(
    probabilities: Float[np.ndarray[Any, Any], "words classes"], outside: int, transitions: Transitions
) -> list[int]:
    """The most likely tag of each word, of all words together (Viterbi); classes as in the rows.

    Takes time in proportion to words times classes, since all labels have the same transitions.

    Args:
        probabilities: For each word, that of each class.
        outside: The class of words without a label.
        transitions: How tags follow one another.
    """
    if not len(probabilities):
        return []
    logs = np.log(np.maximum(probabilities.astype(np.float64), _LEAST))
    classes, scores, back = np.arange(logs.shape[1]), logs[0], []
    for row in logs[1:]:
        of_labels = scores.copy()
        of_labels[outside] = -np.inf
        # Another label came before: the best one, or the second best before the best one itself
        first = int(of_labels.argmax())
        best_label, of_labels[first] = of_labels[first], -np.inf
        second = int(of_labels.argmax())
        others, other = np.full_like(scores, best_label), np.full_like(classes, first)
        others[first], other[first] = of_labels[second], second
        choices = np.stack(
            [
                np.full_like(scores, scores[outside] + transitions.begin),
                scores + transitions.go_on,
                others + transitions.change,
            ]
        )
        choices[:, outside] = scores[outside] + transitions.stay_outside, best_label + transitions.end, -np.inf
        came_from = np.stack([np.full_like(classes, outside), classes, other])
        came_from[1, outside] = first
        best = choices.argmax(axis=0)
        back.append(came_from[best, classes])
        scores = choices[best, classes] + row
    tags = [int(scores.argmax())]
    for former in reversed(back):
        tags.append(int(former[tags[-1]]))
    return tags[::-1]


def spans_of_words(
    words: Words,
    tags: Sequence[int],
    probabilities: Float[np.ndarray[Any, Any], "words classes"],
    labels: Sequence[str],
) -> list[FoundSpan]:
    """The spans that tagged words make: neighbours with one label are one span.

    Args:
        words: The characters of each word.
        tags: The class of each word.
        probabilities: For each word, that of each class.
        labels: The classes, among them ``O``.
    """
    spans: list[FoundSpan] = []
    parts: list[float] = []
    former = OUTSIDE
    for (start, end), tag, row in zip(words, tags, probabilities, strict=True):
        label = labels[tag]
        if label == OUTSIDE:
            former = label
            continue
        if label == former:
            parts.append(float(row[tag]))
            spans[-1] = spans[-1]._replace(end=end, confidence=math.fsum(parts) / len(parts))
        else:
            parts = [float(row[tag])]
            spans.append(FoundSpan(start, end, label, parts[0]))
        former = label
    return spans


def tags_of_words(words: Words, spans: Sequence[LabelledSpan]) -> list[str]:
    """The label of each word, ``O`` where no span touches it."""
    tags = [OUTSIDE] * len(words)
    ordered, place = sorted(spans), 0
    for span in ordered:
        while place < len(words) and words[place][1] <= span.start:
            place += 1
        at = place
        while at < len(words) and words[at][0] < span.end:
            tags[at] = span.label
            at += 1
    return tags


def bio_tags(words: Words, spans: Sequence[LabelledSpan | FoundSpan]) -> list[str]:
    """The tag of each word in the scheme BIO: ``B-`` on the first word of each span, ``I-`` on its others."""
    tags = [OUTSIDE] * len(words)
    for span in spans:
        position = "B"
        for place, (start, end) in enumerate(words):
            if start < span.end and end > span.start:
                tags[place] = f"{position}-{span.label}"
                position = "I"
    return tags


def spans_of_tags(words: Words, found: Sequence[tuple[int, int, str]]) -> tuple[LabelledSpan, ...]:
    """Entities of words, as ``metalearn.tasks.entities.entity_spans`` finds them, as parts of the text."""
    return tuple(LabelledSpan(words[start][0], words[end - 1][1], label) for start, end, label in found)
