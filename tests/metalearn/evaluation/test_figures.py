"""Figures of predictions are scikit-learn's, SciPy's, or what a hand computes."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score
from torch.nn.functional import one_hot

from metalearn.evaluation import figures

pairs_of_classes = st.integers(2, 6).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), min_size=1, max_size=40),
    )
)
"""Number of classes, and (predicted, actual) rows in which some classes may be absent."""

rows_of_sets = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.tuples(*[st.lists(st.booleans(), min_size=n, max_size=n)] * 2), min_size=1, max_size=20)
)


@given(pairs_of_classes)
def test_accuracy_and_macro_f1_of_classes_are_scikit_learns(case: tuple[int, list[tuple[int, int]]]) -> None:
    n, rows = case
    predicted, actual = (torch.tensor(column) for column in zip(*rows, strict=True))
    assert figures.accuracy(predicted, actual) == pytest.approx(accuracy_score(actual, predicted))
    wanted = f1_score(actual, predicted, average="macro", labels=range(n), zero_division=0)
    found = figures.macro_f1(one_hot(predicted, n).bool(), one_hot(actual, n).bool())
    assert found == pytest.approx(wanted)


@given(rows_of_sets)
def test_accuracy_and_macro_f1_of_label_sets_are_scikit_learns(rows: list[tuple[list[bool], list[bool]]]) -> None:
    predicted, actual = (torch.tensor(column) for column in zip(*rows, strict=True))
    assert figures.accuracy(predicted, actual) == pytest.approx(
        sum(p == a for p, a in rows) / len(rows)  # scikit-learn reads a single column as classes
    )
    if predicted.shape[1] > 1:
        assert figures.accuracy(predicted, actual) == pytest.approx(accuracy_score(actual.numpy(), predicted.numpy()))
        wanted = f1_score(actual.numpy(), predicted.numpy(), average="macro", zero_division=0)
        assert figures.macro_f1(predicted, actual) == pytest.approx(wanted)


def test_a_class_that_nobody_has_or_predicts_counts_as_zero() -> None:
    predicted = actual = torch.tensor([[True, False, False], [False, True, False]])
    assert figures.macro_f1(predicted, actual) == pytest.approx(2 / 3)


def test_the_majority_is_the_most_frequent_class_or_set() -> None:
    assert figures.majority_share(torch.tensor([2, 0, 2, 1, 2])) == pytest.approx(3 / 5)
    sets = torch.tensor([[True, False], [True, False], [True, True], [False, False]])
    assert figures.majority_share(sets) == pytest.approx(1 / 2)


def test_calibration_error_by_hand() -> None:
    confidence = torch.tensor([0.55, 0.58, 0.95, 0.99, 1.0])
    correct = torch.tensor([True, False, True, True, False])
    # Bins of 1/15: 0.55 and 0.58 share (8/15, 9/15]; 0.95, 0.99 and 1.0 the last
    by_hand = 2 / 5 * abs(1 / 2 - 0.565) + 3 / 5 * abs(2 / 3 - 0.98)
    assert figures.expected_calibration_error(confidence, correct) == pytest.approx(by_hand, abs=1e-6)


def test_calibration_bins_hold_their_upper_end() -> None:
    confidence = torch.tensor([0.0, 0.5, 0.5000001, 1.0], dtype=torch.float64)
    correct = torch.tensor([False, True, False, True])
    # Two bins: {0, 0.5} and {0.5000001, 1}
    by_hand = abs(0.5 - 0.25) / 2 + abs(0.5 - 0.75) / 2
    assert figures.expected_calibration_error(confidence, correct, bins=2) == pytest.approx(by_hand, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_calibration_error_is_that_of_a_loop_over_bins(decisions: list[tuple[float, bool]]) -> None:
    wanted = 0.0
    for m in range(1, 16):
        inside = [(c, hit) for c, hit in decisions if math.ceil(c * 15) == m or (m == 1 and c == 0)]
        if inside:
            accuracy = sum(hit for _, hit in inside) / len(inside)
            wanted += len(inside) / len(decisions) * abs(accuracy - sum(c for c, _ in inside) / len(inside))
    confidence, correct = (torch.tensor(column) for column in zip(*decisions, strict=True))
    found = figures.expected_calibration_error(
        torch.tensor([c for c, _ in decisions], dtype=torch.float64), correct.bool()
    )
    assert len(confidence) == len(correct)
    assert found == pytest.approx(wanted, abs=1e-9)


def test_a_perfectly_sure_and_right_model_is_calibrated() -> None:
    assert figures.expected_calibration_error(torch.ones(4), torch.ones(4, dtype=torch.bool)) == 0
    assert figures.expected_calibration_error(torch.ones(4), torch.zeros(4, dtype=torch.bool)) == 1


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_rank_correlation_is_scipys(rows: list[tuple[int, int]]) -> None:
    predicted, actual = (torch.tensor(column, dtype=torch.float32) for column in zip(*rows, strict=True))
    found = figures.spearman(predicted, actual)
    if len(set(predicted.tolist())) == 1 or len(set(actual.tolist())) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(predicted, actual).statistic, abs=1e-9)


def test_mean_squared_error_by_hand() -> None:
    assert figures.mean_squared_error(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 4.0])) == pytest.approx(2.5)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_bins_hold_every_decision_and_give_the_calibration_error(rows: list[tuple[float, bool]], bins: int) -> None:
    confidence = torch.tensor([share for share, _ in rows], dtype=torch.float64)
    correct = torch.tensor([right for _, right in rows])
    found = figures.calibration_bins(confidence, correct, bins)
    assert len(found) == bins
    assert sum(each.decisions for each in found) == len(rows)
    assert sum(each.correct for each in found) == int(correct.sum())
    error = sum(abs(each.correct - each.confidence) for each in found) / len(rows)
    assert error == pytest.approx(figures.expected_calibration_error(confidence, correct, bins), abs=1e-9)
    for place, each in enumerate(found):
        if each.decisions:
            assert place / bins - 1e-9 <= each.confidence / each.decisions <= (place + 1) / bins + 1e-9
