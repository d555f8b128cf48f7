"""Pictures of the dashboard's panels, from a Prometheus's answers to their queries."""

import io
import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image

from tests.e2e.monitored import Points, Prometheus, legend_of

Tree = dict[str, Any]

_COLUMN, _LINE = 0.72, 0.30
"""Inches of one of 24 columns, and of a unit of height."""
_INK, _FAINT = "#1f2328", "#8c959f"
_COLORS = {"green": "#1a7f37", "orange": "#bc4c00", "red": "#cf222e"}
_LISTED = 6
_DAY_S = 86_400


def draw_dashboard(dashboard: Tree, source: Prometheus, start: float, end: float, path: Path) -> list[str]:
    """Draws every panel in its place.

    Args:
        dashboard: The dashboard's file.
        source: Answers the queries.
        start: Begin of the time axis, in seconds since the epoch.
        end: Its end.
        path: The PNG.

    Returns:
        The titles of the panels without any series.
    """
    panels: list[Tree] = dashboard["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = Figure(figsize=(24 * _COLUMN, height * _LINE + 0.5))
    figure.text(0.01, 1 - 0.25 / (height * _LINE + 0.5), dashboard["title"], size=16, weight="bold", va="center")
    empty = []
    for panel in panels:
        at = panel["gridPos"]
        # Room around a panel, in inches: for its title above, for its axis on the left and below
        above, left, below = (0.32, 0.55, 0.3) if panel["type"] == "timeseries" else (0.32, 0.1, 0.05)
        total = height * _LINE + 0.5
        box = (
            (at["x"] * _COLUMN + left) / (24 * _COLUMN),
            1 - (0.5 + (at["y"] + at["h"]) * _LINE - below) / total,
            (at["w"] * _COLUMN - left - 0.12) / (24 * _COLUMN),
            (at["h"] * _LINE - above - below) / total,
        )
        if panel["type"] == "row":
            figure.text(0.01, 1 - (0.5 + (at["y"] + 0.6) * _LINE) / total, panel["title"], size=13, weight="bold")
            continue
        axes = figure.add_axes(box)
        axes.set_title(panel["title"], size=9, loc="left", color=_INK, pad=3)
        if not _DRAWN[panel["type"]](axes, panel, source, start, end):
            empty.append(panel["title"])
            axes.text(0.5, 0.5, "no data", ha="center", va="center", color=_FAINT, transform=axes.transAxes)
    content = io.BytesIO()
    figure.savefig(content, dpi=95)
    # Few colours: a third of the bytes
    Image.open(content).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    return empty


def shown(value: float, unit: str) -> str:
    """A value with its unit, as Grafana would write it: seconds as milliseconds where they are few, bytes as MiB."""
    text = f"{value:,.0f}" if value == int(value) else f"{value:.3g}"
    if unit == "s":
        text = f"{value / 60:.3g} min" if value >= 60 else f"{value:.3g} s" if value >= 1 else f"{1000 * value:.3g} ms"
    elif unit == "bytes":
        power = min(4, int(math.log2(value) // 10)) if value >= 1 else 0
        text = f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
    elif unit == "percentunit":
        text = f"{100 * value:.3g} %"
    elif unit in {"reqps", "ops"}:
        text = f"{value:.3g}/s"
    return text


def _series(panel: Tree, source: Prometheus, start: float, end: float, points: int = 240) -> list[tuple[str, Points]]:
    step_s = max(1.0, (end - start) / points)
    return [
        (legend_of(target["legendFormat"], labels), values)
        for target in panel["targets"]
        for labels, values in source.over(target["expr"], start, end, step_s)
    ]


def _most(values: Points) -> float:
    return max((value for _, value in values if not math.isnan(value)), default=0.0)


def _course(axes: Axes, panel: Tree, source: Prometheus, start: float, end: float) -> bool:
    found = sorted(_series(panel, source, start, end), key=lambda each: -_most(each[1]))
    defaults = panel["fieldConfig"]["defaults"]
    unit, stacked = defaults["unit"], defaults["custom"]["stacking"]["mode"] == "normal"
    places = sorted({at for _, values in found for at, _ in values})
    bottom = [0.0] * len(places)
    for number, (name, values) in enumerate(found):
        color, label = f"C{number % 10}", name if number < _LISTED else None
        if stacked:
            known = dict(values)
            top = [low + known.get(at, 0.0) for low, at in zip(bottom, places, strict=True)]
            days = [at / _DAY_S for at in places]
            axes.fill_between(days, bottom, top, color=color, alpha=0.35, linewidth=0, label=label)
            axes.plot(days, top, color=color, linewidth=0.8)
            bottom = top
        else:
            axes.plot(
                [at / _DAY_S for at, _ in values],
                [value for _, value in values],
                color=color,
                linewidth=1.1,
                label=label,
            )
    if "thresholdsStyle" in defaults["custom"]:
        axes.axhline(defaults["thresholds"]["steps"][-1]["value"], color=_COLORS["red"], linestyle="--", linewidth=0.8)
    axes.set_xlim(start / _DAY_S, end / _DAY_S)
    # Room for the legend
    most = max(bottom, default=0.0) if stacked else max((_most(values) for _, values in found), default=0.0)
    axes.set_ylim(0, defaults.get("max") or (0.12 * min(len(found), _LISTED) + 1.05) * most or 1)
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    axes.tick_params(labelsize=7, colors=_INK)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if found:
        axes.legend(fontsize=6.5, loc="upper left", frameon=True, framealpha=0.7, edgecolor="none")
    return bool(found)


def _stat(axes: Axes, panel: Tree, source: Prometheus, start: float, end: float) -> bool:
    axes.set_axis_off()
    found = _series(panel, source, start, end, points=60)
    if not found:
        return False
    (_, values), *_ = found
    defaults = panel["fieldConfig"]["defaults"]
    last = next((value for _, value in reversed(values) if not math.isnan(value)), math.nan)
    reached = [step for step in defaults["thresholds"]["steps"] if step["value"] is None or last >= step["value"]]
    color = _COLORS[reached[-1]["color"]]
    axes.fill_between([at for at, _ in values], [value for _, value in values], color=color, alpha=0.15, linewidth=0)
    axes.set_ylim(bottom=0)
    text = "-" if math.isnan(last) else shown(last, defaults["unit"])
    axes.text(0.5, 0.5, text, ha="center", va="center", size=17, color=color, transform=axes.transAxes)
    return True


def _table(axes: Axes, panel: Tree, source: Prometheus, _start: float, end: float) -> bool:
    axes.set_axis_off()
    (target,) = panel["targets"]
    columns = list(panel["transformations"][0]["options"]["indexByName"])
    rows = [[labels.get(name, "")[:24] for name in columns] for labels, _ in source.at_once(target["expr"], end)]
    if not rows:
        return False
    table = axes.table(rows, colLabels=columns, loc="upper left", cellLoc="left", colLoc="left", edges="horizontal")
    table.auto_set_font_size(value=False)
    table.set_fontsize(8)
    return True


_DRAWN = {"timeseries": _course, "stat": _stat, "table": _table}
