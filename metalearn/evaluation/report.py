"""Figures of many episodes, per task and over tasks, as an evaluation hands them out."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

from metalearn.evaluation.figures import CalibrationBin
from metalearn.evaluation.intervals import LEVEL, Estimate, Interval, estimate_mean, mean_of, wilson_interval
from metalearn.evaluation.scores import EpisodeScores


@dataclass(frozen=True, slots=True)
class NotEvaluated:
    """Something that was left out, and why.

    Attributes:
        task: Name of the task.
        reason: In words.
        shots: The number of shots that it is about; None for all.
        rows: How many lines of a file were left out; None where it is about the whole task.
    """

    task: str
    reason: str
    shots: int | None = None
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a task at a number of shots, or the mean over several tasks. The JSON has the same names.

    Attributes:
        accuracy: Mean over the episodes, as are those below.
        macro_f1: See ``EpisodeScores``.
        ece: See ``EpisodeScores``.
        majority: See ``EpisodeScores``.
        interval: 95 % interval of the accuracy.
        n_queries: Queries scored per episode.
        adapt_ms: Median over the episodes.
        n_episodes: Episodes that the figures come from.
        failed: Episodes that gave none.
        unseen: See ``EpisodeScores``; per episode.
        mse: See ``EpisodeScores``.
        spearman: See ``EpisodeScores``.
        n_tasks: Tasks that a mean was taken over; None for a single task.
    """

    accuracy: float | None
    macro_f1: float | None
    ece: float | None
    majority: float | None
    interval: Interval | None
    n_queries: int
    adapt_ms: float | None
    n_episodes: int
    failed: int
    unseen: int
    mse: float | None = None
    spearman: float | None = None
    n_tasks: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Every field, an interval as a list; those of regression and of means only where they are."""
        optional = {"mse": self.mse, "spearman": self.spearman, "n_tasks": self.n_tasks}
        return {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "ece": self.ece,
            "majority": self.majority,
            "interval": list(self.interval) if self.interval else None,
            "n_queries": self.n_queries,
            "adapt_ms": self.adapt_ms,
            "n_episodes": self.n_episodes,
            "failed": self.failed,
            "unseen": self.unseen,
            **{name: value for name, value in optional.items() if value is not None},
        }


@dataclass(frozen=True)
class Report:
    """An evaluation's outcome.

    Attributes:
        scores: Task -> shots -> figures of its episodes, in their order: pairs for ``paired_difference``.
        left_out: Tasks, episodes and rows that were not evaluated.
    """

    scores: Mapping[str, Mapping[int, tuple[EpisodeScores, ...]]]
    left_out: tuple[NotEvaluated, ...] = ()

    @cached_property
    def tasks(self) -> Mapping[str, Mapping[int, Figures]]:
        """Task -> shots -> its figures."""
        return {
            task: {shots: _of_task(scores) for shots, scores in by_shots.items()}
            for task, by_shots in self.scores.items()
        }

    @cached_property
    def mean(self) -> Mapping[int, Figures]:
        """Shots -> mean over the tasks that have figures at that number."""
        shots = sorted({shots for by_shots in self.scores.values() for shots in by_shots})
        return {k: self._mean_at(k) for k in shots}

    @cached_property
    def calibration(self) -> Mapping[int, tuple[CalibrationBin, ...]]:
        """Shots -> the answers of all tasks and episodes at that number, by confidence."""
        found: dict[int, list[tuple[CalibrationBin, ...]]] = {}
        for by_shots in self.scores.values():
            for shots, scores in by_shots.items():
                found.setdefault(shots, []).extend(score.bins for score in scores if score.bins)
        return {
            shots: tuple(CalibrationBin(*map(sum, zip(*same, strict=True))) for same in zip(*every, strict=True))
            for shots, every in sorted(found.items())
        }

    def to_json(self) -> dict[str, Any]:
        """The report as ``handful evaluate`` writes it."""
        return {
            "tasks": {
                task: {str(shots): figures.to_json() for shots, figures in by_shots.items()}
                for task, by_shots in self.tasks.items()
            },
            "mean": {str(shots): figures.to_json() for shots, figures in self.mean.items()},
            "calibration": {
                str(shots): [_bin_json(each) for each in bins] for shots, bins in self.calibration.items() if bins
            },
            "skipped": [_skipped_json(skipped) for skipped in self.left_out],
            "failures": [
                {"task": task, "shots": shots, "episode": score.index, "reason": score.failure}
                for task, by_shots in self.scores.items()
                for shots, scores in by_shots.items()
                for score in scores
                if score.failure
            ],
        }

    def _mean_at(self, shots: int) -> Figures:
        every = [(self.tasks[task][shots], by[shots]) for task, by in self.scores.items() if shots in by]
        used = [figures for figures, _ in every if figures.n_episodes]
        estimates = [estimate for _, scores in every if (estimate := _accuracy_estimate(scores))]
        return Figures(
            accuracy=_mean(f.accuracy for f in used),
            macro_f1=_mean(f.macro_f1 for f in used),
            ece=_mean(f.ece for f in used),
            majority=_mean(f.majority for f in used),
            interval=_as_share(mean_of(estimates).interval()) if estimates else None,
            n_queries=_rounded_mean(f.n_queries for f in used),
            adapt_ms=_mean(f.adapt_ms for f in used),
            n_episodes=sum(f.n_episodes for f, _ in every),
            failed=sum(f.failed for f, _ in every),
            unseen=_rounded_mean(f.unseen for f in used),
            spearman=_mean(f.spearman for f in used),
            n_tasks=len(used),
        )


def _of_task(scores: Sequence[EpisodeScores]) -> Figures:
    used = [score for score in scores if not score.failure]
    times = [score.adapt_ms for score in used if score.adapt_ms is not None]
    return Figures(
        accuracy=_mean(s.accuracy for s in used),
        macro_f1=_mean(s.macro_f1 for s in used),
        ece=_mean(s.ece for s in used),
        majority=_mean(s.majority for s in used),
        interval=_as_share(_accuracy_interval(used)),
        n_queries=_rounded_mean(s.n_queries for s in used),
        adapt_ms=statistics.median(times) if times else None,
        n_episodes=len(used),
        failed=len(scores) - len(used),
        unseen=_rounded_mean(s.unseen for s in used),
        mse=_mean(s.mse for s in used),
        spearman=_mean(s.spearman for s in used),
    )


def _accuracies(scores: Iterable[EpisodeScores]) -> list[tuple[float, int]]:
    """Accuracy and number of queries of each episode that has an accuracy."""
    return [(score.accuracy, score.n_queries) for score in scores if score.accuracy is not None]


def _accuracy_interval(scores: Sequence[EpisodeScores]) -> Interval | None:
    """Interval over the episodes; of a single episode, over its queries."""
    known = _accuracies(scores)
    if len(known) == 1:
        return wilson_interval(*known[0])
    estimate = estimate_mean([accuracy for accuracy, _ in known])
    return estimate.interval() if estimate else None


def _accuracy_estimate(scores: Sequence[EpisodeScores]) -> Estimate | None:
    """The accuracy with its standard error, as a part of a mean over tasks."""
    known = _accuracies(scores)
    if len(known) == 1:
        low, high = wilson_interval(*known[0])
        return Estimate(known[0][0], (high - low) / 2 / NormalDist().inv_cdf((1 + LEVEL) / 2), None)
    return estimate_mean([accuracy for accuracy, _ in known])


def _as_share(interval: Interval | None) -> Interval | None:
    """The interval cut to 0 to 1: an accuracy is a share, which Student's t does not know."""
    return (max(0.0, interval[0]), min(1.0, interval[1])) if interval else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _rounded_mean(values: Iterable[int]) -> int:
    return round(_mean(float(value) for value in values) or 0.0)


def _bin_json(found: CalibrationBin) -> dict[str, Any]:
    """Mean confidence and accuracy of the decisions of a bin, null where there are none."""
    n = found.decisions
    return {
        "decisions": n,
        "confidence": found.confidence / n if n else None,
        "accuracy": found.correct / n if n else None,
    }


def _skipped_json(skipped: NotEvaluated) -> dict[str, Any]:
    optional = {"shots": skipped.shots, "rows": skipped.rows}
    return {
        "task": skipped.task,
        "reason": skipped.reason,
        **{name: value for name, value in optional.items() if value is not None},
    }
