"""The count of stale tasks, whose newest version was made from a checkpoint that is not loaded."""

import asyncio
import logging
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass

from prometheus_client import Gauge

from model_store.errors import StoreUnavailable
from model_store.records import StoredTask
from model_store.store import TaskStore
from service.store_access import StoreAccess
from service.turn import Turn

log = logging.getLogger("handful")

HOW_TO_READAPT = (
    "each is adapted again at its first prediction if its support set is kept, and `handful tasks readapt --all "
    "--local` does so now"
)

_EVERY_S = 60.0
_PAGE = 256
PAUSES_PER_PAGE = 9.0
"""Pause of the walk per second of reading: a walk over a million tasks keeps a tenth of a core busy for minutes."""


@dataclass(frozen=True, slots=True)
class TaskCount:
    """The number of tasks in a store.

    Attributes:
        total: The number of all tasks.
        stale: The number of tasks whose newest version was made from a checkpoint that is not loaded.
    """

    total: int
    stale: int

    def __str__(self) -> str:
        if not self.stale:
            return f"{self.total:,} tasks, none made from another checkpoint"
        return f"{self.stale:,} of {self.total:,} tasks were made from a checkpoint that is not loaded"


def is_stale(task: StoredTask, fingerprints: Container[str]) -> bool:
    """Whether a task is of none of these checkpoints. A task with a damaged record is not stale."""
    return task.checkpoint is not None and task.checkpoint not in fingerprints


def walk_tasks(store: TaskStore) -> Iterator[StoredTask]:
    """Yields all tasks of a store, page by page.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    after: str | None = ""
    while after is not None:
        page = store.all_tasks(after=after, limit=_PAGE)
        yield from page.tasks
        after = page.next


def count_tasks(store: TaskStore, fingerprints: Container[str]) -> TaskCount:
    """Counts the tasks without a pause.

    Raises:
        StoreUnavailable: The store does not answer.
    """
    total = stale = 0
    for task in walk_tasks(store):
        total += 1
        stale += is_stale(task, fingerprints)
    return TaskCount(total, stale)


async def watch_stale_tasks(access: StoreAccess, gauge: Gauge, fingerprints: Container[str]) -> None:
    """Counts stale tasks again and again, into a gauge and, where there begin to be some, into the log.

    Only one of several workers counts.

    Args:
        access: The store.
        gauge: The gauge ``handful_stale_tasks``.
        fingerprints: The fingerprints of the loaded checkpoints.
    """
    turn, known = Turn("stale-tasks"), 0
    while True:
        if turn.is_ours():
            try:
                count = await _count_slowly(access, fingerprints)
            except StoreUnavailable as error:
                log.warning("stale tasks cannot be counted: %s", error)
            else:
                gauge.set(count.stale)
                if count.stale and not known:
                    log.warning("stale tasks: %s: %s", count, HOW_TO_READAPT)
                elif known and not count.stale:
                    log.info("no task is made from another checkpoint any more")
                known = count.stale
        await asyncio.sleep(_EVERY_S)


async def _count_slowly(access: StoreAccess, fingerprints: Container[str]) -> TaskCount:
    total = stale = 0
    after: str | None = ""
    while after is not None:
        began = time.perf_counter()
        page = await access.call(access.store.all_tasks, after=after, limit=_PAGE)
        total += len(page.tasks)
        stale += sum(is_stale(task, fingerprints) for task in page.tasks)
        after = page.next
        if after is not None:
            await asyncio.sleep(PAUSES_PER_PAGE * (time.perf_counter() - began))
    return TaskCount(total, stale)
