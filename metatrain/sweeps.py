"""The computations of ``handful evaluate``: a report at given settings, reports along sweeps, and their picture."""

import io
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

from metalearn.errors import InvalidTasks
from metalearn.evaluation.evaluate import EpisodePlan, Evaluator, Observer, evaluate_fixed, evaluate_tasks
from metalearn.evaluation.report import Figures, NotEvaluated, Report
from metalearn.options import AdaptOptions
from metalearn.tasks.fixed import FixedTask
from metalearn.tasks.task import TaskPool
from model_store.learner_models import Models

Swept = Literal["steps", "learning_rate", "shots"]


class Episodes(Protocol):
    """The source of a report's episodes."""

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of shots that are evaluated by default."""

    def settings(self) -> dict[str, Any]:
        """The settings of the episodes, as they stand in the JSON."""

    def count(self, shots: Sequence[int]) -> int:
        """How many episodes there are at most."""

    def report(self, evaluator: Evaluator, settings: AdaptOptions, shots: tuple[int, ...], observe: Observer) -> Report:
        """Evaluates the episodes with these numbers of shots."""


@dataclass(frozen=True)
class RandomEpisodes:
    """Episodes drawn from files of tasks."""

    pool: TaskPool
    plan: EpisodePlan

    @property
    def shots(self) -> tuple[int, ...]:
        """The numbers of shots in the plan."""
        return self.plan.shots

    def settings(self) -> dict[str, Any]:
        """The settings of the plan; ``all`` where there is no bound."""
        bounds = {"ways": self.plan.ways, "queries": self.plan.queries}
        return {
            **{name: "all" if bound is None else bound for name, bound in bounds.items()},
            "shots": list(self.plan.shots),
            "episodes": self.plan.episodes,
        }

    def count(self, shots: Sequence[int]) -> int:
        """How many episodes there are if no task is too small."""
        return len(self.pool.tasks) * len(shots) * self.plan.episodes

    def report(self, evaluator: Evaluator, settings: AdaptOptions, shots: tuple[int, ...], observe: Observer) -> Report:
        """Evaluates the episodes, and adds the rows of the files that were left out."""
        found = evaluate_tasks(evaluator, self.pool.tasks, replace(self.plan, shots=shots), settings, observe=observe)
        unread = [NotEvaluated(s.file, s.reason, rows=s.rows) for s in self.pool.skipped]
        return replace(found, left_out=(*unread, *found.left_out))


@dataclass(frozen=True)
class FixedEpisodes:
    """Episodes that were drawn by somebody else."""

    tasks: tuple[FixedTask, ...]

    @property
    def shots(self) -> tuple[int, ...]:
        """All numbers of shots in the files."""
        return tuple(sorted({episode.shots for task in self.tasks for episode in task.episodes}))

    def settings(self) -> dict[str, Any]:
        """The numbers of shots: files have no other setting."""
        return {"shots": list(self.shots)}

    def count(self, shots: Sequence[int]) -> int:
        """How many episodes there are, exactly."""
        return sum(episode.shots in shots for task in self.tasks for episode in task.episodes)

    def report(self, evaluator: Evaluator, settings: AdaptOptions, shots: tuple[int, ...], observe: Observer) -> Report:
        """Evaluates the episodes with these numbers of shots."""
        kept = [
            replace(task, episodes=tuple(episode for episode in task.episodes if episode.shots in shots))
            for task in self.tasks
        ]
        return evaluate_fixed(evaluator, kept, settings, observe=observe)


@dataclass(frozen=True, slots=True)
class Sweep:
    """One setting tried at several values, the others as they are.

    Attributes:
        parameter: The setting's name.
        values: The values of the setting.
    """

    parameter: Swept
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> "Sweep":
        """Reads ``steps=0,5,10``.

        Raises:
            ValueError: That is not what it looks like.
        """
        name, equals, listed = text.partition("=")
        if not equals or name not in get_args(Swept):
            raise ValueError(f"{text!r} is not NAME=VALUE,VALUE… with a name of {', '.join(get_args(Swept))}")
        whole = name != "learning_rate"
        try:
            values = [int(value) if whole else float(value) for value in listed.split(",")]
        except ValueError:
            kind = "whole numbers" if whole else "numbers"
            raise ValueError(f"{listed!r} are not {kind} with commas between them") from None
        if not all(value >= (1 if name == "shots" else 0) for value in values):  # also where one is not a number
            raise ValueError(f"{listed!r}: one of these is too small for {name}")
        return cls(name, tuple(dict.fromkeys(values)))  # type: ignore[arg-type]  # one of them: see above

    def at(self, value: float, settings: AdaptOptions, shots: tuple[int, ...]) -> tuple[AdaptOptions, tuple[int, ...]]:
        """Settings and shots with the value in place."""
        if self.parameter == "shots":
            return settings, (int(value),)
        if self.parameter == "steps":
            return replace(settings, steps=int(value)), shots
        return replace(settings, learning_rate=float(value)), shots


@dataclass(frozen=True)
class SweepResult:
    """A report for each value of a sweep."""

    sweep: Sweep
    reports: tuple[Report, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as ``handful evaluate`` writes it."""
        points = [
            {"value": value, **report.to_json()} for value, report in zip(self.sweep.values, self.reports, strict=True)
        ]
        return {"parameter": self.sweep.parameter, "points": points}

    def curves(self) -> Mapping[str, list[tuple[float, Figures]]]:
        """Mean figures over the tasks along the values: one curve for each number of shots, or one over the shots."""
        curves: dict[str, list[tuple[float, Figures]]] = {}
        for value, report in zip(self.sweep.values, self.reports, strict=True):
            for shots, figures in report.mean.items():
                name = "mean over the tasks" if self.sweep.parameter == "shots" else f"{shots} shots"
                curves.setdefault(name, []).append((value, figures))
        return curves


@dataclass(frozen=True)
class Evaluation:
    """All measurements of one call of ``handful evaluate``."""

    report: Report
    sweeps: tuple[SweepResult, ...]

    def to_json(self) -> dict[str, Any]:
        """The evaluation as ``handful evaluate`` writes it."""
        swept = {"sweep": [result.to_json() for result in self.sweeps]} if self.sweeps else {}
        return {**self.report.to_json(), **swept}


def make_evaluator(models: Models, learner: str | None) -> Evaluator:
    """Evaluates what a server with these models does, for requests that name that learner, or none.

    Raises:
        UnknownLearner: There is no such learner.
    """
    loaded = models.of(learner)
    steps = models.checkpoint.manifest.hyperparameters.steps
    return Evaluator(loaded.model, loaded.slow_weights, steps=steps, clock=time.perf_counter)


def evaluate_all(
    evaluator: Evaluator,
    source: Episodes,
    settings: AdaptOptions,
    shots: tuple[int, ...],
    sweeps: Sequence[Sweep],
    *,
    set_total: Callable[[int], None],
    observe: Observer,
) -> Evaluation:
    """Evaluates at the settings, then along the sweeps. Features of queries are computed once for all of it.

    Args:
        evaluator: Holds the model.
        source: The episodes.
        settings: How support sets are adapted on.
        shots: Numbers of shots to evaluate.
        sweeps: Settings that are tried at several values.
        set_total: Gets the largest possible number of episodes.
        observe: Gets each episode when it is done.

    Raises:
        InvalidTasks: At the settings no episode could be evaluated; the message has the reason.
    """
    points = [[(value, *sweep.at(value, settings, shots)) for value in sweep.values] for sweep in sweeps]
    set_total(source.count(shots) + sum(source.count(at_shots) for along in points for _, _, at_shots in along))
    report = source.report(evaluator, settings, shots, observe)
    _check_evaluated(report)
    results = [
        SweepResult(sweep, tuple(source.report(evaluator, at, at_shots, observe) for _, at, at_shots in along))
        for sweep, along in zip(sweeps, points, strict=True)
    ]
    return Evaluation(report, tuple(results))


def _check_evaluated(report: Report) -> None:
    if any(figures.n_episodes for figures in report.mean.values()):
        return
    failures = [score.failure for by in report.scores.values() for scores in by.values() for score in scores]
    reasons = dict.fromkeys([*failures, *(left_out.reason for left_out in report.left_out)])
    raise InvalidTasks(f"no episode could be evaluated: {'; '.join(list(reasons)[:3]) or 'there was none'}")


def plot(title: str, found: Evaluation) -> bytes:
    """Accuracy along each sweep, or of each task where nothing was swept, with 95 % intervals, as PNG."""
    from matplotlib.figure import Figure

    if found.sweeps:
        picture = Figure(figsize=(5 * len(found.sweeps), 4), layout="constrained")
        for axes, result in zip(picture.subplots(1, len(found.sweeps), squeeze=False)[0], found.sweeps, strict=True):
            for name, points in result.curves().items():
                accuracies, reach = _accuracies([figures for _, figures in points])
                at = [value for value, _ in points]
                axes.errorbar(at, accuracies, yerr=reach, marker="o", capsize=3, label=name)
            axes.set(xlabel=result.sweep.parameter.replace("_", " "), ylabel="accuracy, mean over the tasks")
            axes.legend()
    else:
        tasks, shots = found.report.tasks, list(found.report.mean)
        picture = Figure(figsize=(8, 1.5 + 0.35 * len(tasks)), layout="constrained")
        axes = picture.subplots()
        for place, k in enumerate(shots):
            shift = 0.15 * (place - (len(shots) - 1) / 2)
            rows = [(row + shift, by_shots[k]) for row, by_shots in enumerate(tasks.values()) if k in by_shots]
            accuracies, reach = _accuracies([figures for _, figures in rows])
            axes.errorbar(accuracies, [y for y, _ in rows], xerr=reach, fmt="o", capsize=3, label=f"{k} shots")
        axes.set(xlabel="accuracy", yticks=range(len(tasks)), yticklabels=list(tasks), ylim=(len(tasks) - 0.5, -0.5))
        picture.legend(loc="outside right upper")
    picture.suptitle(title)
    file = io.BytesIO()
    picture.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _accuracies(figures: Sequence[Figures]) -> tuple[list[float], tuple[list[float], list[float]]]:
    """Accuracies, not a number where there is none, and how far their intervals reach below and above."""
    values, below, above = [], [], []
    for point in figures:
        value = math.nan if point.accuracy is None else point.accuracy
        low, high = point.interval or (value, value)
        values.append(value)
        below.append(max(0.0, value - low))  # a last bit may make it less, which matplotlib refuses
        above.append(max(0.0, high - value))
    return values, (below, above)
