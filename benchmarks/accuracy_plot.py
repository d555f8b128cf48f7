"""The picture of the accuracy comparison: shots against accuracy, and under it against the time of an adaptation."""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

from benchmarks.accuracy_report import MEASURES, Row, methods_of, rows_of
from benchmarks.comparison import Outcome
from benchmarks.suites import SUITES

_MARKERS = "os^vDPX<>"


def draw(outcomes: Sequence[Outcome], path: Path, measure: str = "accuracy") -> None:
    """Writes a PNG: a column for each suite, a line for each method.

    A point is a mean over the tasks, of times the median, on the episodes that all methods answered which are drawn
    there, so that the points above one number compare. A method that lacks a task at some shots is not drawn there.

    Args:
        outcomes: The outcomes of all methods.
        path: The file.
        measure: One of ``MEASURES``.
    """
    suites = [suite for suite in SUITES if any(outcome.suite == suite for outcome in outcomes)]
    methods = methods_of(outcomes)
    styles = {method: (f"C{i}", _MARKERS[i % len(_MARKERS)]) for i, method in enumerate(methods)}
    figure = Figure(figsize=(1.5 + 3.4 * len(suites), 7.5), layout="constrained")
    grid = figure.subplots(2, len(suites), squeeze=False)
    value = MEASURES[measure]
    for column, suite in enumerate(suites):
        rows = rows_of(outcomes, suite)
        accuracy, time = grid[0][column], grid[1][column]
        _lines(accuracy, rows, methods, styles, lambda found: 100 * fmean(fmean(map(value, each)) for each in found))
        _lines(time, rows, methods, styles, lambda found: median(o.adapt_s for each in found for o in each))
        accuracy.set(title=suite)
        time.set(xlabel="examples per class", yscale="log")
    grid[0][0].set(ylabel=f"{measure}, %, mean over tasks")
    grid[1][0].set(ylabel="seconds to adapt, median")
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    names = [method for method in methods if method in handles]
    columns = min(2 * len(suites), len(names))
    figure.legend([handles[name] for name in names], names, loc="outside lower center", ncols=columns)
    figure.savefig(path, dpi=120)


def _lines(
    axes: Axes,
    rows: Sequence[Row],
    methods: Sequence[str],
    styles: dict[str, tuple[str, str]],
    point: Callable[[list[list[Outcome]]], float],
) -> None:
    """Draws a line for each method. ``point`` maps the outcomes of each task, at each number of shots, to a figure."""
    shots = sorted({row.shots for row in rows})
    points: dict[str, list[tuple[int, float]]] = {method: [] for method in methods}
    for k in shots:
        at = [row for row in rows if row.shots == k]
        present = [method for method in methods if all(method in row.found for row in at)]
        shared = [(row, common) for row in at if (common := row.common(present))]
        for method in present if shared else []:
            found = [[row.found[method][index] for index in common] for row, common in shared]
            points[method].append((k, point(found)))
    for method, line in points.items():
        if line:
            colour, marker = styles[method]
            axes.plot(*zip(*line, strict=True), label=method, marker=marker, color=colour, alpha=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(k) for k in shots])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)
