"""The count of tasks that have become less sure of their answers."""

import logging
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge

from service.tasks.recent_queries import WINDOW, QueriesOfTask, RecentQueries, abstention_shift

SURE, UNSURE, THRESHOLD = 0.9, 0.2, 0.5


@pytest.fixture
def gauge() -> Gauge:
    """The gauge of drifting tasks."""
    return Gauge("drifting", "Drifting tasks.", registry=CollectorRegistry())


def value(gauge: Gauge) -> float:
    """The gauge's number."""
    (metric,) = gauge.collect()
    return metric.samples[0].value


def ask(recent: RecentQueries, task: str, *confidences: float) -> None:
    """Counts queries of a task."""
    recent.note("acme", task, confidences, [], threshold=THRESHOLD)


@given(st.lists(st.booleans(), min_size=1, max_size=3 * WINDOW))
def test_the_window_is_counted_as_it_moves(below: list[bool]) -> None:
    counted = QueriesOfTask()
    for each in below:
        counted.add(UNSURE if each else SURE, below=each)
    assert counted.window_abstained == sum(below[-WINDOW:])
    assert (counted.total, counted.abstained) == (len(below), sum(below))


def test_a_shift_by_hand() -> None:
    # Pooled rate 0.3; its standard error is sqrt(0.3 * 0.7 * 2 / 100) = 0.0648: 0.2 is 3.09 of them, 0.18 is 2.7
    assert abstention_shift(0.4, 100, 0.2, 100) == pytest.approx(0.2)
    assert abstention_shift(0.2, 100, 0.4, 100) == pytest.approx(-0.2)
    assert abstention_shift(0.39, 100, 0.21, 100) == 0
    assert abstention_shift(1.0, 49, 0.0, 1000) == 0
    assert abstention_shift(1.0, 100, 1.0, 100) == 0


def test_a_task_counts_while_it_is_less_sure_and_is_logged_once(gauge: Gauge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "handful")
    recent = RecentQueries(most_tasks=10, drifting=gauge)
    ask(recent, "steady", *[SURE] * 500)
    ask(recent, "bank", *[SURE] * 300)
    assert value(gauge) == 0
    for _ in range(WINDOW):
        ask(recent, "bank", UNSURE)
    assert value(gauge) == 1
    ask(recent, "bank", *[SURE] * WINDOW)
    assert value(gauge) == 0
    ask(recent, "bank", *[UNSURE] * WINDOW)
    assert value(gauge) == 1
    assert caplog.text.count("task bank of acme has become less sure of its answers") == 1
    recent.forget("acme", "bank")
    assert value(gauge) == 0


def test_a_task_that_is_dropped_or_all_that_are_cleared_count_no_more(gauge: Gauge) -> None:
    recent = RecentQueries(most_tasks=2, drifting=gauge)
    drifted = [SURE] * 300 + [UNSURE] * WINDOW
    ask(recent, "one", *drifted)
    ask(recent, "two", *drifted)
    assert value(gauge) == 2
    ask(recent, "three", SURE)
    assert value(gauge) == 1
    recent.clear()
    assert value(gauge) == 0


def test_chance_alone_makes_no_drift(gauge: Gauge) -> None:
    recent, draw = RecentQueries(most_tasks=100, drifting=gauge), random.Random(0)
    for task in range(50):
        ask(recent, f"task-{task}", *(UNSURE if draw.random() < 0.3 else SURE for _ in range(600)))
    assert value(gauge) <= 1
