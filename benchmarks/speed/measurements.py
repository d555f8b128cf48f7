"""Measurements, line by line in a file, and their table."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number of one repeat.

    Attributes:
        name: The name of the measurement.
        value: The number.
        unit: Its unit; empty for a ratio, which is taken within one repeat.
        wanted: The bound that it is held to, such as ``>= 0.55``; empty without one.
        along: The growing quantity, where this is one of several measurements of growth.
        at: The amount of that quantity.
        line: The line of the picture that it belongs to.
    """

    name: str
    value: float
    unit: str = ""
    wanted: str = ""
    along: str = ""
    at: float = 0.0
    line: str = ""

    @property
    def held(self) -> bool:
        """Whether the number is as it should be."""
        if not self.wanted:
            return True
        sign, bound = self.wanted.split()
        return self.value >= float(bound) if sign == ">=" else self.value <= float(bound)


def append(path: Path, measurements: Iterable[Measurement]) -> None:
    """Adds lines to a file."""
    with path.open("a", encoding="utf-8") as file:
        for measurement in measurements:
            file.write(json.dumps(asdict(measurement)) + "\n")


def read(path: Path) -> list[Measurement]:
    """The lines of a file."""
    return [Measurement(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def table(measurements: Sequence[Measurement]) -> str:
    """Medians with the least and the greatest value, as Markdown, in the order of first appearance."""
    lines = ["| measured | median | least | greatest | runs | wanted | held |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(measurement.name for measurement in measurements):
        own = [measurement for measurement in measurements if measurement.name == name]
        values = sorted(measurement.value for measurement in own)
        first = own[0]
        middle = Measurement(name, statistics.median(values), first.unit, first.wanted)
        held = "" if not first.wanted else "yes" if middle.held else "**no**"
        shown = [f"{_shown(value)} {first.unit}".strip() for value in (middle.value, values[0], values[-1])]
        lines.append(f"| {name} | {' | '.join(shown)} | {len(own)} | {first.wanted} | {held} |")
    return "\n".join(lines)


def _shown(value: float) -> str:
    if value and abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:,.0f}"
