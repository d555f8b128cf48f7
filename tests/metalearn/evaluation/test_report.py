"""Figures over episodes and over tasks."""

import json

import pytest

from metalearn.evaluation.intervals import estimate_mean, mean_interval, mean_of, wilson_interval
from metalearn.evaluation.report import NotEvaluated, Report
from metalearn.evaluation.scores import EpisodeScores

FIELDS = {"accuracy", "macro_f1", "ece", "majority", "interval", "n_queries", "adapt_ms"}
"""What the contract names."""


def scored(task: str, accuracy: float, *, index: int = 0, adapt_ms: float | None = None) -> EpisodeScores:
    """An episode's figures; all shares follow the accuracy."""
    return EpisodeScores(
        task,
        index=index,
        n_queries=50,
        accuracy=accuracy,
        macro_f1=accuracy / 2,
        ece=accuracy / 4,
        majority=accuracy / 8,
        adapt_ms=adapt_ms,
    )


A = (scored("a", 0.5, adapt_ms=1.0), scored("a", 0.7, adapt_ms=9.0), scored("a", 0.9, adapt_ms=2.0))
B = (scored("b", 0.2, adapt_ms=4.0), scored("b", 0.4, adapt_ms=4.0))


def test_a_tasks_figures_are_means_over_its_episodes() -> None:
    figures = Report({"a": {5: A}}).tasks["a"][5]
    assert figures.accuracy == pytest.approx(0.7)
    assert figures.macro_f1 == pytest.approx(0.35)
    assert figures.ece == pytest.approx(0.175)
    assert figures.majority == pytest.approx(0.0875)
    assert figures.adapt_ms == 2.0  # the median: one slow episode does not decide
    wanted = mean_interval([0.5, 0.7, 0.9])
    assert wanted and figures.interval == pytest.approx((wanted[0], min(1.0, wanted[1])))
    assert (figures.n_queries, figures.n_episodes, figures.failed, figures.unseen) == (50, 3, 0, 0)


def test_the_interval_of_a_single_episode_is_over_its_queries() -> None:
    report = Report({"a": {5: A[:1]}})
    assert report.tasks["a"][5].interval == pytest.approx(wilson_interval(0.5, 50))
    low, high = wilson_interval(0.5, 50)
    mean = report.mean[5].interval
    assert mean and mean[1] - mean[0] == pytest.approx(high - low)


def test_the_mean_is_over_tasks_with_the_standard_errors_of_each() -> None:
    report = Report({"a": {5: A}, "b": {5: B}})
    mean = report.mean[5]
    assert mean.accuracy == pytest.approx((0.7 + 0.3) / 2)
    assert mean.adapt_ms == pytest.approx(3.0)
    assert (mean.n_tasks, mean.n_episodes, mean.n_queries) == (2, 5, 50)
    first, second = estimate_mean([0.5, 0.7, 0.9]), estimate_mean([0.2, 0.4])
    assert first and second
    low, high = mean_of([first, second]).interval()
    assert mean.interval == pytest.approx((max(0.0, low), min(1.0, high)))


def test_each_number_of_shots_has_a_mean_of_its_own() -> None:
    report = Report({"a": {16: A, 4: B}, "b": {4: B}})
    assert list(report.mean) == [4, 16]
    assert (report.mean[4].n_tasks, report.mean[16].n_tasks) == (2, 1)


def test_failed_episodes_are_counted_and_not_averaged() -> None:
    failed = EpisodeScores("a", index=3, failure="too steep")
    report = Report({"a": {5: (*A, failed)}, "b": {5: (EpisodeScores("b", failure="no luck"),)}})
    figures = report.tasks["a"][5]
    assert figures.accuracy == pytest.approx(0.7)
    assert (figures.n_episodes, figures.failed) == (3, 1)
    empty = report.tasks["b"][5]
    assert (empty.accuracy, empty.interval, empty.n_episodes, empty.failed) == (None, None, 0, 1)
    assert report.mean[5].accuracy == pytest.approx(0.7)
    assert (report.mean[5].n_tasks, report.mean[5].failed) == (1, 2)
    assert report.to_json()["failures"] == [
        {"task": "a", "shots": 5, "episode": 3, "reason": "too steep"},
        {"task": "b", "shots": 5, "episode": 0, "reason": "no luck"},
    ]


def test_the_json_has_what_the_contract_names() -> None:
    left_out = (NotEvaluated("c", "too small", shots=5), NotEvaluated("d.jsonl", "blank text", rows=3))
    answer = json.loads(json.dumps(Report({"a": {5: A}, "b": {5: B}}, left_out).to_json(), allow_nan=False))
    assert answer["tasks"]["a"]["5"].keys() >= FIELDS
    assert answer["mean"]["5"].keys() >= FIELDS
    low, high = answer["tasks"]["a"]["5"]["interval"]
    assert 0 <= low <= answer["tasks"]["a"]["5"]["accuracy"] <= high <= 1
    assert answer["skipped"] == [
        {"task": "c", "reason": "too small", "shots": 5},
        {"task": "d.jsonl", "reason": "blank text", "rows": 3},
    ]


def test_regression_has_its_own_figures_and_null_for_the_others() -> None:
    scores = (EpisodeScores("r", n_queries=9, mse=2.0, spearman=0.5), EpisodeScores("r", n_queries=9, mse=4.0))
    report = Report({"r": {5: scores}, "a": {5: A}})
    answer = report.to_json()
    assert (
        answer["tasks"]["r"]["5"] | {"accuracy": None, "interval": None, "mse": 3.0, "spearman": 0.5}
        == (answer["tasks"]["r"]["5"])
    )
    assert "mse" not in answer["tasks"]["a"]["5"]
    assert answer["mean"]["5"]["accuracy"] == pytest.approx(0.7)
    assert answer["mean"]["5"]["spearman"] == pytest.approx(0.5)
    assert "mse" not in answer["mean"]["5"]  # each task has its own scale


def test_episodes_of_different_size_are_counted_on_average() -> None:
    scores = (EpisodeScores("a", n_queries=10, accuracy=0.5), EpisodeScores("a", n_queries=13, accuracy=0.5, unseen=3))
    figures = Report({"a": {1: scores}}).tasks["a"][1]
    assert (figures.n_queries, figures.unseen) == (12, 2)
