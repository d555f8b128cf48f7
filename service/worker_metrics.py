"""The ``process_`` series of a server with several workers: sums over all its processes."""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

_START_TIME = "process_start_time_seconds"
_CPU = "process_cpu_seconds"
_LIVE_GAUGES = re.compile(r"gauge_live\w+_(\d+)\.db")
"""The pattern of a worker's gauge files, which ``mark_process_dead`` removes when the worker has ended."""


class WorkerProcesses(Collector):
    """Memory, CPU time and open files of the workers and of the process that started them, added up.

    CPU time includes workers that have ended, so that the sum never falls.
    """

    def __init__(self, folder: Path, parent: int) -> None:
        """Prepares the collector.

        Args:
            folder: The folder of the workers' counts.
            parent: The process that started them.
        """
        self._folder = folder
        self._parent = parent

    def collect(self) -> Iterable[Metric]:
        """Yields one sample per series; no series where the system has no ``/proc``."""
        sums: dict[str, Metric] = {}
        for pid in (self._parent, *sorted(self._workers())):
            # Bound at once, since the collector calls it later
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                if metric.name == _START_TIME:
                    continue  # each worker has written its own start time
                value = metric.samples[0].value
                known = sums.setdefault(metric.name, metric)
                if known is not metric:
                    known.samples[0] = known.samples[0]._replace(value=known.samples[0].value + value)
        if _CPU in sums:
            (sample,) = sums[_CPU].samples
            sums[_CPU].samples[0] = sample._replace(value=sample.value + _ended_children_cpu_s(self._parent))
        return sums.values()

    def _workers(self) -> Iterator[int]:
        found = {_LIVE_GAUGES.fullmatch(file.name) for file in self._folder.iterdir()}
        return (pid for pid in {int(match[1]) for match in found if match} if pid != self._parent)


def note_start(started_at: float) -> None:
    """Writes this worker's start time, so that all workers show the latest start.

    The series changes when a worker is replaced, as it does when the server restarts.
    """
    Gauge(
        _START_TIME,
        "Start time of the worker that started last since unix epoch in seconds.",
        multiprocess_mode="livemax",
        registry=None,
    ).set(started_at)


def _ended_children_cpu_s(pid: int) -> float:
    """The CPU time of a process's children that have ended and were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
