"""Plots of results: of ``handful evaluate``'s JSON files, one or several side by side."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from metalearn.evaluation.intervals import wilson_interval
from metatrain.plot_style import COLORS, INK, LINE, MARKERS, add_legend, as_svg, new_axes, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Result = Mapping[str, Any]
"""A file of ``handful evaluate --json``."""

_MOST_PANELS = 4


def plots_of(result: Result) -> dict[str, bytes]:
    """The plots of one evaluation: file name -> SVG."""
    name = str(result["checkpoint"]["name"])
    plots = {"tasks.svg": tasks_plot(result)}
    if common_tasks([result]):
        plots["shots.svg"] = shots_plot({name: result})
    if result.get("calibration"):
        plots["reliability.svg"] = reliability_plot(result)
    return plots


def shots_plot(results: Mapping[str, Result]) -> bytes:
    """Examples per class against the mean accuracy with its 95 % interval, a line for each result.

    Raises:
        ValueError: The results have no task in common.
    """
    first, tasks = next(iter(results.values())), _shared(results)
    figure = new_figure(7, 4.2, "Accuracy by the number of examples", source_of(first, len(tasks)))
    (axes,) = new_axes(figure)
    for (name, result), color, marker in zip(results.items(), COLORS, MARKERS, strict=False):
        at = sorted(map(int, result["mean"]))
        means = [_mean_over(result, tasks, str(k)) for k in at]
        axes.fill_between(at, [m.low for m in means], [m.high for m in means], color=color, alpha=0.15, linewidth=0)
        axes.plot(at, [mean.accuracy for mean in means], color=color, marker=marker, label=name)
        if len(results) == 1:
            majority = [mean.majority for mean in means]
            axes.plot(at, majority, color=COLORS[5], linestyle="--", label="always the most frequent class")
    shots = sorted({int(k) for result in results.values() for k in result["mean"]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(k) for k in shots])
    axes.minorticks_off()
    axes.set(xlabel="examples per class", ylabel="accuracy, %, mean over the tasks")
    add_legend(axes)
    return as_svg(figure)


def _shared(results: Mapping[str, Result]) -> list[str]:
    tasks = common_tasks(list(results.values()))
    if not tasks:
        raise ValueError("no task has an accuracy at every number of examples of every result")
    return tasks


def learners_plot(results: Mapping[str, Result]) -> bytes:
    """A row for each result, the best on top, and in it the mean accuracy at each number of examples.

    Raises:
        ValueError: The results have no task in common.
    """
    shots, tasks = sorted({int(k) for result in results.values() for k in result["mean"]}), _shared(results)
    means = {name: {int(k): _mean_over(result, tasks, k) for k in result["mean"]} for name, result in results.items()}
    ordered = sorted(means.items(), key=lambda each: each[1][max(each[1])].accuracy)
    source = source_of(next(iter(results.values())), len(tasks))
    figure = new_figure(7, 1.6 + 0.36 * len(ordered), "Learners compared", source)
    (axes,) = new_axes(figure)
    for place, k in enumerate(shots):
        shift = 0.16 * (place - (len(shots) - 1) / 2)
        shown = [(row + shift, by_shots[k]) for row, (_, by_shots) in enumerate(ordered) if k in by_shots]
        for row, mean in shown:
            axes.plot([mean.low, mean.high], [row] * 2, color=COLORS[place], linewidth=1.5)
        look: dict[str, Any] = {"color": COLORS[place], "marker": MARKERS[place], "linestyle": ""}
        axes.plot([mean.accuracy for _, mean in shown], [row for row, _ in shown], label=_examples(k), **look)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.set(xlabel="accuracy, %, mean over the tasks, with 95 % interval")
    add_legend(axes, above=True)
    return as_svg(figure)


def _examples(shots: int) -> str:
    return f"{shots} example{'s' if shots > 1 else ''} per class"


def reliability_plot(result: Result) -> bytes:
    """Confidence against accuracy, pooled over all answers at each number of examples, and how many there are.

    Source: Guo et al. 2017, "On calibration of modern neural networks", figure 1.
    """
    shots = sorted(result["calibration"], key=int)[:_MOST_PANELS]
    figure = new_figure(3.1 * len(shots) + 0.6, 4.4, "Confidence and accuracy", source_of(result))
    every = new_axes(figure, 2, len(shots), sharex=True, height_ratios=(3, 1))
    for column, k in enumerate(shots):
        bins = [each for each in result["calibration"][k] if each["decisions"]]
        width = 1 / len(result["calibration"][k])
        above, below = every[column], every[len(shots) + column]
        above.plot([0, 1], [0, 1], color=COLORS[5], linestyle="--", linewidth=1, label="confidence = accuracy")
        _bins(above, bins)
        at = [(place + 0.5) * width for place in range(len(result["calibration"][k]))]
        share = [each["decisions"] for each in result["calibration"][k]]
        below.bar(at, [100 * n / sum(share) for n in share], width=0.9 * width, color=COLORS[0])
        # Of all answers together: the mean of small episodes' errors is larger, since few answers fill few bins evenly
        gap = sum(each["decisions"] * abs(each["accuracy"] - each["confidence"]) for each in bins) / sum(share)
        told = f"\ncalibration error of all answers {100 * gap:.1f} %"
        above.set_title(f"{_examples(int(k))}{told}", size=9, color=INK)
        above.set(xlim=(0, 1), ylim=(0, 1))
        below.set(xlabel="confidence")
    every[0].set(ylabel="accuracy of these answers")
    every[len(shots)].set(ylabel="% of answers")
    add_legend(every[0])
    return as_svg(figure)


def tasks_plot(result: Result) -> bytes:
    """The accuracy of each task with its 95 % interval, a mark for each number of examples."""
    tasks = sorted(result["tasks"].items(), key=lambda each: _highest(each[1]))
    figure = new_figure(7, 1.6 + 0.26 * len(tasks), "Accuracy by task", source_of(result))
    (axes,) = new_axes(figure)
    shots = sorted({int(k) for _, by_shots in tasks for k in by_shots})
    for k, color, marker in zip(shots, COLORS, MARKERS, strict=False):
        known = [(row, by_shots[str(k)]) for row, (_, by_shots) in enumerate(tasks) if str(k) in by_shots]
        known = [(row, found) for row, found in known if found["accuracy"] is not None]
        for row, found in known:
            low, high = found["interval"] or (found["accuracy"], found["accuracy"])
            axes.plot([100 * low, 100 * high], [row, row], color=color, linewidth=1)
        at = [100 * found["accuracy"] for _, found in known]
        axes.plot(
            at, [row for row, _ in known], color=color, marker=marker, linestyle="", markersize=5, label=_examples(k)
        )
    axes.set_yticks(range(len(tasks)), [name for name, _ in tasks])
    axes.set(xlabel="accuracy, %, with 95 % interval")
    add_legend(axes)
    return as_svg(figure)


class _Mean(NamedTuple):
    """Means over tasks, as percentages, with the ends of the 95 % interval of the accuracy."""

    accuracy: float
    low: float
    high: float
    majority: float


def common_tasks(results: Sequence[Result]) -> list[str]:
    """The tasks with an accuracy at every number of examples of every result: means over others do not compare."""
    return [
        task
        for task in results[0]["tasks"]
        if all(
            result["tasks"].get(task, {}).get(k, {}).get("accuracy") is not None
            for result in results
            for k in result["mean"]
        )
    ]


def _mean_over(result: Result, tasks: Sequence[str], shots: str) -> _Mean:
    found = [result["tasks"][task][shots] for task in tasks]
    n = len(found)
    accuracy = fmean(each["accuracy"] for each in found)
    halves = [(each["interval"][1] - each["interval"][0]) / 2 if each["interval"] else 0.0 for each in found]
    reach = math.hypot(*halves) / n  # the tasks' episodes are drawn independently
    majority = fmean(each["majority"] or 0.0 for each in found)
    return _Mean(100 * accuracy, 100 * max(0.0, accuracy - reach), 100 * min(1.0, accuracy + reach), 100 * majority)


def source_of(result: Result, tasks: int | None = None) -> str:
    """What was measured, and how.

    Args:
        result: The evaluation.
        tasks: Number of its tasks that are shown; None for all.
    """
    settings = result["settings"]
    episodes = settings.get("episodes")
    drawn = f", {settings['ways']} ways, {episodes} episodes a task" if episodes else ", fixed episodes"
    tasks = len(result["tasks"]) if tasks is None else tasks
    name, fingerprint = result["checkpoint"]["name"], result["checkpoint"]["fingerprint"][:12]
    served = f"{name} ({fingerprint}), {settings['runtime']}"
    return f"handful evaluate: {served}; {tasks} tasks{drawn}, seed {settings['seed']}"


def _highest(by_shots: Mapping[str, Any]) -> float:
    return max((found["accuracy"] or 0.0 for found in by_shots.values()), default=0.0)


def _bins(axes: "Axes", bins: Sequence[Mapping[str, Any]]) -> None:
    at = [each["confidence"] for each in bins]
    for place, each in zip(at, bins, strict=True):
        low, high = wilson_interval(each["accuracy"], each["decisions"])
        axes.plot([place, place], [low, high], color=LINE, linewidth=4, solid_capstyle="butt")
    label = "answers of one confidence; bar: 95 % interval"
    axes.plot(at, [each["accuracy"] for each in bins], color=COLORS[0], marker="o", markersize=4, label=label)
