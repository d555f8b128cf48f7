"""Timings: the seconds that a request spends in each phase."""

from contextvars import ContextVar

_PHASES = ("queue", "encode", "adapt", "store")

_current: ContextVar["Timings"] = ContextVar("handful_timings")


class Timings:
    """The seconds of one request by phase, for ``Server-Timing``."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(_PHASES, 0.0)

    def add(self, phase: str, seconds: float) -> None:
        """Adds to a phase."""
        self._seconds[phase] += seconds

    def header(self) -> str:
        """The header's value, in milliseconds. Source: W3C Server Timing, section 3."""
        return ", ".join(f"{phase};dur={seconds * 1000:.3f}" for phase, seconds in self._seconds.items())


def start_timings() -> Timings:
    """Timings of a request that begins in this context."""
    timings = Timings()
    _current.set(timings)
    return timings


def add_to_current(phase: str, seconds: float) -> None:
    """Adds to a phase of the request that is served in this context; no effect outside of one."""
    timings = _current.get(None)
    if timings is not None:
        timings.add(phase, seconds)
