"""The plot of latency, from the measurements of the benchmark of speed."""

import pytest

from benchmarks.plots import latency_plot
from benchmarks.speed.measurements import Measurement
from tests.metatrain.test_plots import texts_of


def test_a_bar_has_the_median_of_its_repeats() -> None:
    name = "one query, one connection: p50"
    measured = [Measurement(name, value, "ms") for value in (3.0, 9.0, 4.25)] + [Measurement("of no time", 7.0, "")]
    shown = texts_of(latency_plot(measured, "benchmarks.speed: here"))
    assert name in shown
    assert "4.25 ms" in shown
    assert "benchmarks.speed: here" in shown
    assert "of no time" not in shown


def test_measurements_without_a_time_are_refused_with_the_command() -> None:
    with pytest.raises(ValueError, match="--parts latency"):
        latency_plot([Measurement("of no time", 7.0, "")], "")
