"""Growth of cost: with examples, with classes, with the length of texts, with tenants."""

import statistics
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.server import ServerProcess
from benchmarks.speed.measurements import Measurement
from benchmarks.speed.parts import Bench, Measured, predictions
from benchmarks.speed.population import Tenant, new_tenant, predict_bodies, support_set
from handful.client import Client
from metalearn.types import TextInput
from model_store.store import TaskStore

_EXAMPLES, _CLASSES, _WORDS, _TENANTS = "examples of 5 classes", "classes of 5 examples", "words of a text", "tenants"
_TIMES = 3


def growth(bench: Bench, server: ServerProcess, store: TaskStore, tenants: Sequence[Tenant]) -> Measured:
    """Adaptations beside a bare forward pass over the same texts, and predictions from ever more tenants."""
    numbers = count()
    for _ in range(bench.repeats):
        measured = []
        for shots in (1, 2, 5, 10, 20, 40):
            measured += _adapting(bench, server, store, numbers, _EXAMPLES, 5 * shots, ways=5, shots=shots)
        for ways in (2, 5, 10, 20, 40, 77):
            measured += _adapting(bench, server, store, numbers, _CLASSES, ways, ways=ways, shots=5)
        for words in (5, 10, 20, 40, 80, 160):
            measured += _adapting(bench, server, store, numbers, _WORDS, words, ways=5, shots=5, words=words)
        bodies = predict_bodies(bench.texts, queries=1, count=2000)
        number = 1
        while number <= len(tenants):
            run = predictions(bench, server.url, tenants[:number], bodies, connections=64)
            measured.append(_point("predict, 64 connections", _TENANTS, number, run.requests_per_s, "texts/s"))
            number *= 10
        yield measured


def picture(measurements: Sequence[Measurement], path: Path) -> None:
    """A PNG with a panel for each thing that grows: medians over the repeats, both axes logarithmic.

    Args:
        measurements: Those that show no growth are left out.
        path: The file.
    """
    shown = [each for each in measurements if each.along]
    panels = list(dict.fromkeys(each.along for each in shown))
    figure = Figure(figsize=(3.6 * len(panels), 3.4), layout="constrained")
    for axes, along in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        own = [each for each in shown if each.along == along]
        for line in dict.fromkeys(each.line for each in own):
            at = sorted({each.at for each in own if each.line == line})
            medians = [statistics.median(e.value for e in own if e.line == line and e.at == place) for place in at]
            axes.plot(at, medians, marker="o", label=line)
        axes.set(xscale="log", yscale="log", xlabel=along, ylabel=own[0].unit)
        axes.legend(fontsize="small")
        axes.grid(visible=True, which="both", alpha=0.3)
    figure.savefig(path, dpi=120)


def _adapting(
    bench: Bench,
    server: ServerProcess,
    store: TaskStore,
    numbers: "count[int]",
    along: str,
    at: int,
    *,
    ways: int,
    shots: int,
    words: int | None = None,
) -> list[Measurement]:
    bare, first = [], []
    for _ in range(_TIMES):
        number = next(numbers)
        support = support_set(bench.train, ways=ways, shots=shots, seed=3_000_000 + number)
        if words is not None:
            support = [{**example, "text": _lengthened(bench, number + i, words)} for i, example in enumerate(support)]
        tenant = new_tenant(store, f"growing-{number}")
        bare.append(bench.raw.whole_s([TextInput(example["text"]) for example in support]))
        with Client(server.url, api_key=tenant.key, timeout_s=600) as client:
            client.checkpoint()  # so that there is a connection
            began = time.perf_counter()
            client.adapt(tenant.task, support)
            first.append(time.perf_counter() - began)
    return [
        _point("bare forward pass", along, at, statistics.median(bare) * 1000, "ms"),
        _point("adapt", along, at, statistics.median(first) * 1000, "ms"),
    ]


def _point(line: str, along: str, at: int, value: float, unit: str) -> Measurement:
    return Measurement(f"{line}, {at:,} {along}", value, unit, along=along, at=at, line=line)


def _lengthened(bench: Bench, place: int, words: int) -> str:
    """So many words of the texts from ``place`` on."""
    found: list[str] = []
    while len(found) < words:
        found += bench.texts[place % len(bench.texts)].split()
        place += 1
    return " ".join(found[:words])
