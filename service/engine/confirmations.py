"""Which versions the store has confirmed, and when: what may be served from memory while it is away."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from model_store.codec import AdapterKey
from model_store.records import CurrentVersion
from model_store.store import TaskName

_MOST_VERSIONS = 8
"""Of one task. Few clients ask for versions by number."""


@dataclass(slots=True)
class Write:
    """A commit or a deletion of this process that is under way.

    Attributes:
        began_at: Monotonic time.
        overlapped: Whether another one of the same task was under way at the same time: then nobody here knows which
            came first.
    """

    began_at: float
    overlapped: bool = False


@dataclass(slots=True)
class _Task:
    """A task's versions: number -> (adapter id, when the store confirmed it); the one confirmed last stands last."""

    newest: int
    versions: dict[int, tuple[str, float]] = field(default_factory=dict)


class Confirmations:
    """The store's last word on each task, for the tasks asked for last. Lives on the event loop."""

    def __init__(self, *, keep_s: float, most: int) -> None:
        """Prepares an empty set.

        Args:
            keep_s: How long a confirmation is of use; 0 keeps none.
            most: Of how many tasks.
        """
        self._keep_s = keep_s
        self._most = most
        self._tasks: dict[TaskName, _Task] = {}
        self._writes: dict[TaskName, list[Write]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def note(self, name: TaskName, current: CurrentVersion, at: float) -> None:
        """Notes the newest version of a task, as the store gave it to a question asked at ``at``."""
        if not self._keep_s:
            return
        known = self._tasks.pop(name, None)
        if known is None or current.version < known.newest or self._is_another(known, current):
            known = _Task(current.version)  # new, or made anew: older numbers may be other versions now
        known.newest = current.version
        self._put(known, current.version, current.adapter_id, at)
        self._tasks[name] = known
        if len(self._tasks) > self._most:
            del self._tasks[next(iter(self._tasks))]

    def note_version(self, key: AdapterKey, at: float) -> None:
        """Notes a version that was asked for by number, of a task whose newest version was noted."""
        known = self._tasks.get((key.tenant, key.task))
        if known is not None:
            self._put(known, key.version, key.adapter_id, at)

    def drop(self, name: TaskName) -> None:
        """Forgets a task: it was deleted, or what is known of it is in doubt."""
        self._tasks.pop(name, None)

    def clear(self) -> None:
        """Forgets all."""
        self._tasks.clear()

    def find(self, tenant: str, task: str, version: int | None) -> tuple[AdapterKey, float] | None:
        """A version that was confirmed not too long ago, and its age in seconds; the newest one for None."""
        known = self._tasks.get((tenant, task))
        if known is None:
            return None
        number = known.newest if version is None else version
        if number not in known.versions:
            return None
        adapter_id, at = known.versions[number]
        age_s = time.monotonic() - at
        return (AdapterKey(tenant, task, number, adapter_id), age_s) if age_s <= self._keep_s else None

    @contextmanager
    def writing(self, name: TaskName) -> Iterator[Write]:
        """Encloses a commit or a deletion, to find out which ones overlap."""
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

    def _is_another(self, known: _Task, current: CurrentVersion) -> bool:
        found = known.versions.get(current.version)
        return found is not None and found[0] != current.adapter_id

    def _put(self, known: _Task, version: int, adapter_id: str, at: float) -> None:
        known.versions.pop(version, None)
        known.versions[version] = adapter_id, at
        if len(known.versions) > _MOST_VERSIONS:
            del known.versions[next(number for number in known.versions if number != known.newest)]
