"""Intervals are SciPy's, and hold what they promise to hold."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metalearn.evaluation.intervals import (
    Estimate,
    estimate_mean,
    mean_interval,
    mean_of,
    paired_difference,
    student_t_quantile,
    wilson_interval,
)

samples = st.lists(st.floats(0, 1), min_size=2, max_size=30)


@given(st.integers(1, 400), st.floats(0.51, 0.9995))
def test_the_quantile_of_students_t_is_scipys(degrees: int, probability: float) -> None:
    assert student_t_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-7)


@given(samples)
def test_the_interval_of_a_mean_is_scipys(values: list[float]) -> None:
    found = mean_interval(values)
    assert found is not None
    scale = stats.sem(values)
    if scale < 1e-12:  # SciPy gives nan where nothing varies
        assert found[1] - found[0] < 1e-9
        return
    wanted = stats.t.interval(0.95, len(values) - 1, loc=sum(values) / len(values), scale=scale)
    assert found == pytest.approx(wanted, rel=1e-7, abs=1e-12)


def test_a_single_value_has_no_interval() -> None:
    assert mean_interval([0.5]) is None
    assert mean_interval([]) is None
    assert estimate_mean([0.5]) is None


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_scipys(case: tuple[int, int]) -> None:
    hits, n = case
    wanted = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    low, high = wilson_interval(hits / n, n)
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert 0 <= low <= hits / n <= high <= 1


def test_a_mean_of_two_estimates_is_welchs() -> None:
    a, b = [0.5, 0.7, 0.6, 0.9], [0.1, 0.35, 0.2]
    first, second = estimate_mean(a), estimate_mean(b)
    assert first and second
    found = mean_of([first, second])
    # Welch's test of the difference has the same standard error, twice, and the same degrees of freedom
    wanted = stats.ttest_ind(a, b, equal_var=False)
    assert found.value == pytest.approx((sum(a) / 4 + sum(b) / 3) / 2)
    low, high = wanted.confidence_interval(0.95)
    t = stats.t.ppf(0.975, wanted.df)
    assert found.standard_error == pytest.approx((high - low) / 2 / t / 2)
    assert found.degrees_of_freedom == int(wanted.df)


def test_the_mean_of_one_estimate_is_the_estimate() -> None:
    estimate = estimate_mean([0.2, 0.4, 0.9])
    assert estimate
    found = mean_of([estimate])
    assert found.value == estimate.value
    assert found.standard_error == pytest.approx(estimate.standard_error)
    assert found.degrees_of_freedom == 2


def test_known_standard_errors_give_a_normal_interval() -> None:
    found = mean_of([Estimate(0.5, 0.1, None), Estimate(0.7, 0.1, None)])
    assert found.degrees_of_freedom is None
    assert found.interval() == pytest.approx((0.6 - 1.959964 * 0.0707107, 0.6 + 1.959964 * 0.0707107), abs=1e-6)


def test_the_interval_holds_the_mean_in_95_of_100_samples() -> None:
    draw = random.Random(1)
    held = 0
    for _ in range(2000):
        interval = mean_interval([draw.gauss(0.3, 0.1) for _ in range(4)])
        assert interval
        held += interval[0] <= 0.3 <= interval[1]
    assert 0.935 < held / 2000 < 0.965


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=20))
def test_a_paired_difference_is_scipys_paired_test(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    found = paired_difference(a, b)
    assert found.n_pairs == len(pairs)
    assert found.mean == pytest.approx(sum(a) / len(a) - sum(b) / len(b), abs=1e-12)
    assert found.interval
    if stats.sem([x - y for x, y in pairs]) > 1e-9:
        wanted = stats.ttest_rel(a, b).confidence_interval(0.95)
        assert found.interval == pytest.approx((wanted.low, wanted.high), rel=1e-6, abs=1e-9)


def test_what_both_share_drops_out_of_a_paired_difference() -> None:
    found = paired_difference([0.21, 0.52, 0.93], [0.2, 0.5, 0.9])
    assert found.interval and found.interval[0] > -0.01
    assert paired_difference([0.5], [0.4]).interval is None


@pytest.mark.parametrize(("a", "b"), [([], []), ([0.5], []), ([0.5, 0.6], [0.5])])
def test_what_makes_no_pairs_is_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired_difference(a, b)
