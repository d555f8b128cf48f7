"""Plots of result files: evaluations side by side, and the latency that benchmarks.speed measured.

python -m benchmarks.plots --out FOLDER --evaluations NAME=FILE.json ... --latency measurements.jsonl

Evaluations are files of ``handful evaluate --json`` on the same episodes. Without a name the checkpoint's and the
learner's stand for it.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed.measurements import Measurement, read
from metatrain.plot_style import COLORS, as_svg, new_axes, new_figure
from metatrain.plots import learners_plot, shots_plot

_LATENCY = (
    "raw loop, one text: p50",
    "one query, one connection: p50",
    "one query, one connection: p99",
    "second query of a tenant: p50",
    "first query of a tenant (Redis): p50",
    "half load: p50",
    "half load: p99",
    "half load beside 4 adapts a second: p50",
    "half load beside 4 adapts a second: p99",
    "adapt, 5 classes, 5 examples each, again",
    "adapt, 5 classes, 5 examples each",
    "adapt beside half load: p50",
    "adapt, 77 classes, 10 examples each",
)
"""What is drawn of the measurements, in this order."""


def latency_plot(measurements: Sequence[Measurement], source: str) -> bytes:
    """A bar for each measured time, its median over the repeats, with the least and the greatest of them."""
    shown = [name for name in _LATENCY if any(each.name == name for each in measurements)]
    if not shown:
        raise ValueError(
            "these measurements have no latency: run python -m benchmarks.speed --parts latency adaptation"
        )
    figure = new_figure(7.5, 1.5 + 0.34 * len(shown), "Latency through HTTP", source)
    (axes,) = new_axes(figure)
    for row, name in enumerate(reversed(shown)):
        values = [each.value for each in measurements if each.name == name]
        middle = statistics.median(values)
        axes.barh(row, middle, color=COLORS[1 if name.startswith("adapt") else 0], height=0.6)
        axes.plot([min(values), max(values)], [row, row], color=COLORS[5], linewidth=2)
        shown_ms = f"{middle:,.0f}" if middle >= 100 else f"{middle:.3g}"
        axes.annotate(f" {shown_ms} ms", (max(values), row), va="center", size=8, color=axes.xaxis.label.get_color())
    axes.set_yticks(range(len(shown)), list(reversed(shown)))
    axes.set_xscale("log")
    axes.set_xlim(right=3 * axes.get_xlim()[1])
    axes.set(xlabel="milliseconds, median over the repeats; line: least to greatest")
    return as_svg(figure)


def _named(given: str) -> tuple[str, dict[str, Any]]:
    name, equals, file = given.rpartition("=")
    result = json.loads(Path(file).read_text(encoding="utf-8"))
    return (name if equals else f"{result['checkpoint']['name']}, {result['settings']['learner']}"), result


def main() -> None:
    """Writes the plots of the files that are given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the plots")
    parser.add_argument("--evaluations", nargs="+", default=[], metavar="[NAME=]FILE")
    parser.add_argument("--latency", type=Path, help="measurements.jsonl of benchmarks.speed")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = dict(map(_named, options.evaluations))
    if results:
        (options.out / "learners.svg").write_bytes(learners_plot(results))
        (options.out / "shots-compared.svg").write_bytes(shots_plot(results))
    if options.latency:
        report = options.latency.with_name("report.md")
        source = f"benchmarks.speed: {report.read_text(encoding='utf-8').splitlines()[0]}" if report.exists() else ""
        (options.out / "latency.svg").write_bytes(latency_plot(read(options.latency), source))


if __name__ == "__main__":
    main()
