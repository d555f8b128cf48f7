"""Findings against counts by hand and by brute force."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalearn.evidence.estimates import accuracy_on_new_texts, after_doubling
from metalearn.evidence.findings import (
    Answer,
    answers_of,
    at_threshold,
    confusions,
    counts_of_classes,
    suspects,
)
from metalearn.evidence.left_out import CurvePoint

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.booleans(), st.lists(st.integers(1, 9), min_size=4, max_size=4)), max_size=40
)
"""The class of each example, whether it is asked, and how its probabilities relate."""


@given(ROWS)
def test_counts_are_counts_of_rows(rows: list[tuple[int, bool, list[int]]]) -> None:
    targets, asked = [row[0] for row in rows], [row[1] for row in rows]
    probabilities = [[part / sum(row[2]) for part in row[2]] for row in rows]
    answers = answers_of(targets, asked, probabilities)
    assert [answer.example for answer in answers] == [i for i, was_asked in enumerate(asked) if was_asked]
    read = {i: probabilities[i].index(max(probabilities[i])) for i in range(len(rows)) if asked[i]}
    counts = counts_of_classes(targets, answers, 4)
    for kind, each in enumerate(counts):
        assert each.examples == targets.count(kind)
        assert each.asked == sum(targets[i] == kind for i in read)
        assert each.right == sum(targets[i] == kind == found for i, found in read.items())
        assert each.predicted == sum(found == kind for found in read.values())
        assert each.recall == (each.right / each.asked if each.asked else None)
        assert each.precision == (each.right / each.predicted if each.predicted else None)
    directed = Counter((targets[i], found) for i, found in read.items() if targets[i] != found)
    found = confusions(answers)
    assert {pair.classes: pair.counts for pair in found} == {
        pair.classes: (directed[pair.classes], directed[pair.classes[::-1]]) for pair in found
    }
    assert sum(sum(pair.counts) for pair in found) == sum(directed.values())
    totals = [sum(pair.counts) for pair in found]
    assert totals == sorted(totals, reverse=True)
    for pair in found:
        assert pair.counts[0] >= pair.counts[1]
        assert {targets[pair.shown], read[pair.shown]} == set(pair.classes)
    for threshold in (0.0, 0.4, 1.1):
        sure = [i for i in read if max(probabilities[i]) >= threshold]
        assert at_threshold(answers, threshold).answered == len(sure)
        assert at_threshold(answers, threshold).right == sum(read[i] == targets[i] for i in sure)
    named = suspects(answers)
    assert all(not answer.right for answer in named)
    assert len(named) <= max(1, round(0.15 * len(answers)))


def answer(example: int, actual: int, predicted: int, confidence: float, of_label: float) -> Answer:
    """An answer."""
    return Answer(example, actual, predicted, confidence, of_label)


def test_suspects_are_those_that_read_as_another_class_by_far() -> None:
    answers = [answer(i, 0, 0, 0.9, 0.9) for i in range(20)]
    answers += [answer(20, 0, 1, 0.5, 0.4), answer(21, 0, 1, 0.8, 0.1), answer(22, 0, 2, 0.9, 0.01)]
    assert [each.example for each in suspects(answers)] == [22, 21]
    assert len(suspects([answer(i, 0, 1, 0.9, 0.01) for i in range(20)])) == 3, (
        "where all read otherwise, the first few"
    )


@pytest.mark.parametrize(("right", "asked"), [(0, 1), (1, 1), (5, 10), (0, 50), (50, 50)])
def test_the_accuracy_is_a_share_within_its_interval(right: int, asked: int) -> None:
    for per_class in (2.0, 25.0):
        found = accuracy_on_new_texts(right, asked, per_class)
        assert right / asked <= found.value <= 1
        assert 0 <= found.interval[0] <= found.value <= found.interval[1] <= 1
        assert found.interval[0] < 1
        assert found.interval[1] > found.value or found.value == 1


def test_more_answers_make_the_interval_narrower_and_more_examples_the_correction_smaller() -> None:
    few, many = accuracy_on_new_texts(8, 10, 5), accuracy_on_new_texts(80, 100, 5)
    assert few.value == many.value == pytest.approx(1 - 0.2 * (1 - 0.3 / 5))
    assert many.interval[1] - many.interval[0] < few.interval[1] - few.interval[0]
    assert accuracy_on_new_texts(8, 10, 50).value < few.value


def test_twice_the_examples_bring_a_part_of_what_the_last_doubling_brought() -> None:
    found = after_doubling(0.8, (CurvePoint(2, 0.5), CurvePoint(5, 0.7)))
    assert found is not None
    assert found.value == pytest.approx(0.825)
    assert found.interval == pytest.approx((0.8, 0.9))
    lower = after_doubling(0.8, (CurvePoint(5, 0.85),))
    assert lower is not None
    assert (lower.value, lower.interval) == (0.8, (0.8, 0.8)), "no loss is expected"
    assert after_doubling(0.8, ()) is None
