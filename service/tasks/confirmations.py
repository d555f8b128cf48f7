"""Versions that the store has confirmed, with the times. They may be served from memory while it is away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from model_store.codec import AdapterKey
from model_store.records import CurrentVersion
from model_store.store import TaskName

_MOST_OTHERS = 8
"""Most versions of one task that are kept beside the newest."""


@dataclass(slots=True)
class Write:
    """A commit or a deletion of this process that is under way.

    Attributes:
        began_at: The monotonic time of its start.
        overlapped: Whether another write of the same task was under way at the same time, so that their order is
            unknown.
    """

    began_at: float
    overlapped: bool = False


@dataclass(slots=True)
class _Task:
    """A task's newest version, the time of its confirmation, and other versions that were asked for by number.

    The other versions are None for most tasks, since there may be many tasks.
    """

    newest: CurrentVersion
    at: float
    others: dict[int, tuple[str, float]] | None = None


class Confirmations:
    """The store's last answer on each of the most recently used tasks. Lives on the event loop."""

    def __init__(self, *, keep_s: float, most: int) -> None:
        """Prepares an empty set.

        Args:
            keep_s: Seconds for which a confirmation is of use; 0 keeps none.
            most: The most tasks.
        """
        self._keep_s = keep_s
        self._most = most
        self._tasks: dict[TaskName, _Task] = {}
        self._writes: dict[TaskName, list[Write]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def note(self, name: TaskName, current: CurrentVersion, at: float) -> None:
        """Notes the newest version of a task, by the store's answer to a question at time ``at``."""
        if not self._keep_s:
            return
        known = self._tasks.pop(name, None)
        if known is None or current == known.newest:
            others = known.others if known else None
        elif current.version > known.newest.version:
            others = _with(known.others, known.newest.version, known.newest.adapter_id, known.at)
        else:  # made anew: older numbers may be other versions now
            others = None
        self._tasks[name] = _Task(current, at, others)
        if len(self._tasks) > self._most:
            del self._tasks[next(iter(self._tasks))]

    def note_version(self, key: AdapterKey, at: float) -> None:
        """Notes a version that was asked for by number, of a task whose newest version was noted."""
        known = self._tasks.get((key.tenant, key.task))
        if known is not None and key.version != known.newest.version:
            known.others = _with(known.others, key.version, key.adapter_id, at)

    def drop(self, name: TaskName) -> None:
        """Forgets a task that was deleted, or whose newest version is uncertain."""
        self._tasks.pop(name, None)

    def clear(self) -> None:
        """Forgets all tasks."""
        self._tasks.clear()

    def find(self, tenant: str, task: str, version: int | None) -> tuple[AdapterKey, float] | None:
        """A version whose confirmation is recent enough, and its age in seconds; the newest version for None."""
        known = self._tasks.get((tenant, task))
        if known is None:
            return None
        if version is None or version == known.newest.version:
            number, adapter_id, at = known.newest.version, known.newest.adapter_id, known.at
        elif known.others and version in known.others:
            number, (adapter_id, at) = version, known.others[version]
        else:
            return None
        age_s = time.monotonic() - at
        return (AdapterKey(tenant, task, number, adapter_id), age_s) if age_s <= self._keep_s else None

    @contextmanager
    def writing(self, name: TaskName) -> Iterator[Write]:
        """Encloses a commit or a deletion, to detect overlapping ones."""
        write = Write(time.monotonic())
        others = self._writes.setdefault(name, [])
        for other in others:
            other.overlapped = write.overlapped = True
        others.append(write)
        try:
            yield write
        finally:
            others.remove(write)
            if not others:
                del self._writes[name]


def _with(
    others: dict[int, tuple[str, float]] | None, version: int, adapter_id: str, at: float
) -> dict[int, tuple[str, float]]:
    """Appends the version confirmed last; the first version goes if there are too many."""
    others = others or {}
    others.pop(version, None)
    others[version] = adapter_id, at
    if len(others) > _MOST_OTHERS:
        del others[next(iter(others))]
    return others
