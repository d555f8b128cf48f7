"""Plots of results: of ``handful evaluate``'s JSON files, one or several side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
    plots = {"tasks.svg": tasks_plot(result), "shots.svg": shots_plot({name: result})}
    if result.get("calibration"):
        plots["reliability.svg"] = reliability_plot(result)
    return plots


def shots_plot(results: Mapping[str, Result]) -> bytes:
    """Examples per class against the mean accuracy with its 95 % interval, a line for each result."""
    figure = new_figure(7, 4.2, "Accuracy by the number of examples", source_of(next(iter(results.values()))))
    (axes,) = new_axes(figure)
    for (name, result), color, marker in zip(results.items(), COLORS, MARKERS, strict=False):
        _with_intervals(axes, result["mean"], name, color, marker)
    if len(results) == 1:
        (result,) = results.values()
        known = [(int(k), mean["majority"]) for k, mean in result["mean"].items() if mean["majority"] is not None]
        axes.plot(
            [k for k, _ in known],
            [100 * share for _, share in known],
            color=COLORS[5],
            linestyle="--",
            label="always the most frequent class",
        )
    shots = sorted({int(k) for result in results.values() for k in result["mean"]})
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(k) for k in shots])
    axes.minorticks_off()
    axes.set(xlabel="examples per class", ylabel="accuracy, %, mean over the tasks")
    add_legend(axes)
    return as_svg(figure)


def learners_plot(results: Mapping[str, Result]) -> bytes:
    """A row for each result, best first, and in it the mean accuracy at each number of examples."""
    shots = sorted({int(k) for result in results.values() for k in result["mean"]})
    last = str(shots[-1])
    ordered = sorted(results.items(), key=lambda each: each[1]["mean"][last]["accuracy"] or 0.0)
    figure = new_figure(7, 1.6 + 0.36 * len(ordered), "Learners compared", source_of(ordered[0][1]))
    (axes,) = new_axes(figure)
    for place, k in enumerate(shots):
        shift = 0.16 * (place - (len(shots) - 1) / 2)
        for row, (_, result) in enumerate(ordered):
            mean = result["mean"].get(str(k))
            if mean is not None and mean["accuracy"] is not None:
                low, high = mean["interval"] or (mean["accuracy"], mean["accuracy"])
                axes.plot([100 * low, 100 * high], [row + shift] * 2, color=COLORS[place], linewidth=1.5)
                label = f"{k} example{'s' if k > 1 else ''} per class" if row == 0 else None
                at = 100 * mean["accuracy"]
                axes.plot(at, row + shift, color=COLORS[place], marker=MARKERS[place], linestyle="", label=label)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.set(xlabel="accuracy, %, mean over the tasks, with 95 % interval")
    add_legend(axes)
    return as_svg(figure)


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
        error = result["mean"][k]["ece"]
        told = "" if error is None else f"\nexpected calibration error {100 * error:.1f} %"
        above.set_title(f"{k} example{'s' if int(k) > 1 else ''} per class{told}", size=9, color=INK)
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
        label = f"{k} example{'s' if k > 1 else ''} per class"
        at = [100 * found["accuracy"] for _, found in known]
        axes.plot(at, [row for row, _ in known], color=color, marker=marker, linestyle="", markersize=5, label=label)
    axes.set_yticks(range(len(tasks)), [name for name, _ in tasks])
    axes.set(xlabel="accuracy, %, with 95 % interval")
    add_legend(axes)
    return as_svg(figure)


def source_of(result: Result) -> str:
    """What was measured, and how."""
    means = list(result["mean"].values())
    settings = result["settings"]
    episodes = settings.get("episodes")
    drawn = f", {settings['ways']} ways, {episodes} episodes a task" if episodes else ", fixed episodes"
    tasks = max((mean.get("n_tasks") or 0 for mean in means), default=0)
    name, fingerprint = result["checkpoint"]["name"], result["checkpoint"]["fingerprint"][:12]
    served = f"{name} ({fingerprint}), {settings['runtime']}"
    return f"handful evaluate: {served}; {tasks} tasks{drawn}, seed {settings['seed']}"


def _highest(by_shots: Mapping[str, Any]) -> float:
    return max((found["accuracy"] or 0.0 for found in by_shots.values()), default=0.0)


def _with_intervals(axes: "Axes", mean: Mapping[str, Any], name: str, color: str, marker: str) -> None:
    known = sorted((int(k), found) for k, found in mean.items() if found["accuracy"] is not None)
    at = [k for k, _ in known]
    bounds = [found["interval"] or (found["accuracy"], found["accuracy"]) for _, found in known]
    low, high = [100 * low for low, _ in bounds], [100 * high for _, high in bounds]
    axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(at, [100 * found["accuracy"] for _, found in known], color=color, marker=marker, label=name)


def _bins(axes: "Axes", bins: Sequence[Mapping[str, Any]]) -> None:
    at = [each["confidence"] for each in bins]
    for place, each in zip(at, bins, strict=True):
        low, high = wilson_interval(each["accuracy"], each["decisions"])
        axes.plot([place, place], [low, high], color=LINE, linewidth=4, solid_capstyle="butt")
    label = "answers of one confidence; bar: 95 % interval"
    axes.plot(at, [each["accuracy"] for each in bins], color=COLORS[0], marker="o", markersize=4, label=label)
