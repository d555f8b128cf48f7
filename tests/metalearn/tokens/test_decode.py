"""Decoding: the best sequence of tags against all sequences, and spans to tags and back."""

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalearn.tasks.entities import entity_spans
from metalearn.tokens.decode import (
    FoundSpan,
    Transitions,
    best_tags,
    bio_tags,
    learned_transitions,
    spans_of_tags,
    spans_of_words,
    tags_of_words,
)
from metalearn.tokens.words import LabelledSpan, joined

_TOKENS = joined(["Book", "a", "flight", "to", "New", "York", "from", "Paris"])


def _score(tags: tuple[int, ...], rows: list[list[float]], outside: int, t: Transitions) -> float:
    """The definition, word by word."""
    total = sum(math.log(row[tag]) for tag, row in zip(tags, rows, strict=True))
    for before, after in itertools.pairwise(tags):
        if before == outside:
            total += t.stay_outside if after == outside else t.begin
        else:
            total += t.end if after == outside else t.go_on if after == before else t.change
    return total


@pytest.mark.parametrize("seed", range(20))
def test_the_best_tags_are_those_of_all_sequences(seed: int) -> None:
    draw = random.Random(seed)
    n_classes, n_words = draw.choice([(2, 6), (3, 5), (4, 4)])
    rows = [[draw.uniform(0.01, 1) for _ in range(n_classes)] for _ in range(n_words)]
    outside = draw.randrange(n_classes)
    transitions = Transitions(*(draw.uniform(-2, 2) for _ in range(5)))
    best = max(
        itertools.product(range(n_classes), repeat=n_words), key=lambda tags: _score(tags, rows, outside, transitions)
    )
    assert best_tags(np.array(rows), outside, transitions) == list(best)


def test_no_word_has_no_tag() -> None:
    assert best_tags(np.empty((0, 3)), 0, Transitions(0, 0, 0, 0, 0)) == []


def test_transitions_tell_that_labels_go_on() -> None:
    found = learned_transitions([["O", "O", "O", "a", "a", "a", "O", "O", "O", "b", "b", "O", "O"]] * 3, [1.0] * 3, 2)
    assert found.go_on > 0 > found.change
    assert found.stay_outside > 0 > found.begin


def test_transitions_of_any_texts_are_finite() -> None:
    for texts, n_labels in (([["a"]], 1), ([["O"], ["a", "b"]], 2), ([[]], 1)):
        assert all(map(math.isfinite, learned_transitions(texts, [1.0] * len(texts), n_labels)))


def test_a_text_of_weight_two_counts_as_two_texts() -> None:
    one, other = ["O", "a", "a", "O"], ["b", "O", "O"]
    assert learned_transitions([one, other], [2.0, 1.0], 2) == learned_transitions([one, one, other], [1.0] * 3, 2)


def test_neighbours_with_one_label_are_one_span_with_the_mean_probability() -> None:
    text, words = _TOKENS
    tags, rows = (
        [1, 1, 1, 1, 0, 0, 1, 2],
        [[0.2, 0.7, 0.1]] * 4 + [[0.6, 0.3, 0.1], [0.8, 0.1, 0.1]] + [[0.0, 0.1, 0.9]] * 2,
    )
    spans = spans_of_words(words, tags, np.array(rows), ["city", "O", "person"])
    assert [(text[s.start : s.end], s.label) for s in spans] == [("New York", "city"), ("Paris", "person")]
    assert spans[0].confidence == pytest.approx(0.7)


@given(st.data())
def test_tags_become_spans_and_tags_again(data: st.DataObject) -> None:
    _, words = _TOKENS
    bounds = data.draw(st.lists(st.integers(0, len(words)), unique=True).map(sorted))
    bounds = bounds[: len(bounds) // 2 * 2]
    found = [
        (start, end, data.draw(st.sampled_from("ab"))) for start, end in zip(bounds[::2], bounds[1::2], strict=True)
    ]
    spans = spans_of_tags(words, found)
    tags = bio_tags(words, spans)
    assert [tuple(span) for span in entity_spans(tags, positions=True)] == found
    labels = tags_of_words(words, spans)
    assert [tag.removeprefix("B-").removeprefix("I-") for tag in tags] == labels


def test_a_span_of_a_part_of_a_word_labels_that_word() -> None:
    assert tags_of_words(((0, 4), (5, 9)), (LabelledSpan(6, 7, "a"),)) == ["O", "a"]
    assert bio_tags(((0, 4), (5, 9)), (FoundSpan(0, 9, "a", 1.0),)) == ["B-a", "I-a"]
