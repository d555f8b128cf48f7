"""The background work that adapts tasks of other checkpoints again, a bounded number a second."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator

from model_store.errors import StoreUnavailable
from model_store.records import StoredTask, Version
from model_store.store import TaskName
from service.engine.errors import ComputeStopped
from service.stale_tasks import PAUSES_PER_PAGE
from service.tasks.app_parts import Parts
from service.tasks.errors import TaskNotFound
from service.tasks.first_use import loaded_version
from service.tasks.readapt import checkpoint_of_terms
from service.turn import Turn

log = logging.getLogger("handful")

_EVERY_S = 60.0
_PAGE = 256
_PAUSE_OF_WORK = 1.0
"""Pause after a task, in parts of the time that it took. It takes longer where requests keep the server busy, so that
the pause grows with the load."""
_MOST_LEFT_ALONE = 100_000
_LOOK_AGAIN_AFTER_ROUNDS = 60


async def readapt_in_background(parts: Parts) -> None:
    """Adapts tasks again, for as long as the server runs, where the settings give a rate.

    Of several workers only one does so. Several servers on one store may try the same task: one of them commits, and
    the other ones find the new version.
    """
    if not parts.settings.readapt_tasks_per_second:
        return
    work, turn = _Background(parts), Turn("readapt")
    while True:
        if turn.is_ours():
            try:
                await work.once_through()
            except StoreUnavailable as error:
                log.warning("tasks cannot be adapted again: %s", error)
            except Exception:  # the next round may fare better
                log.exception("tasks could not be adapted again")
        await asyncio.sleep(_EVERY_S)


class _Background:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._interval_s = 1 / parts.settings.readapt_tasks_per_second
        self._next_at = time.monotonic()
        # Tasks that stay as they are, by the checkpoint of their newest version: not read again each round
        self._left_alone: dict[TaskName, str | None] = {}
        self._rounds = 0

    async def once_through(self) -> None:
        """Counts the tasks that are due, then adapts them again.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        self._rounds += 1
        if self._rounds % _LOOK_AGAIN_AFTER_ROUNDS == 0:
            self._left_alone.clear()
        pending = len([task async for page in self._pages() for task in page])
        self._parts.metrics.readapt_pending.set(pending)
        if not pending:
            return
        log.info("%d tasks of other checkpoints are adapted again", pending)
        done = 0
        async for page in self._pages():
            for stored in page:
                done += await self._move(stored)
                pending = max(0, pending - 1)
                self._parts.metrics.readapt_pending.set(pending)
        log.info("%d tasks were adapted again", done)

    async def _pages(self) -> AsyncIterator[list[StoredTask]]:
        access, after = self._parts.access, ""
        while True:
            began = time.perf_counter()
            page = await access.call(access.store.all_tasks, after=after, limit=_PAGE)
            took_s = time.perf_counter() - began
            yield [task for task in page.tasks if self._is_due(task)]
            if page.next is None:
                return
            after = page.next
            await asyncio.sleep(PAUSES_PER_PAGE * took_s)

    def _is_due(self, task: StoredTask) -> bool:
        if task.checkpoint is None or not task.support_kept:
            return False
        if self._left_alone.get((task.tenant, task.task)) == task.checkpoint:
            return False
        checkpoints = self._parts.engine.checkpoints
        if task.checkpoint not in checkpoints:
            return True
        return self._parts.settings.readapt_to_default and task.checkpoint != checkpoints.default.checkpoint.fingerprint

    async def _move(self, stored: StoredTask) -> bool:
        """Adapts one task again, when its time has come; returns whether that was done."""
        await asyncio.sleep(max(0.0, self._next_at - time.monotonic()))
        began = time.monotonic()
        try:
            return await self._moved(stored)
        finally:
            ended = time.monotonic()
            self._next_at = max(self._next_at, ended + _PAUSE_OF_WORK * (ended - began))

    async def _moved(self, stored: StoredTask) -> bool:
        parts = self._parts
        record = await parts.access.call(parts.access.store.task, stored.tenant, stored.task)
        if record is None:
            return False
        if not await self._is_wanted(record.current):
            self._leave_alone(record.current)
            return False
        self._next_at = time.monotonic() + self._interval_s
        try:
            stays = await parts.readapts.readapt(parts, record.current, "background") is not None
        except (TaskNotFound, ComputeStopped):
            return False
        if stays:
            self._leave_alone(record.current)
        return not stays

    def _leave_alone(self, newest: Version) -> None:
        self._left_alone[newest.tenant, newest.task] = newest.checkpoint
        if len(self._left_alone) > _MOST_LEFT_ALONE:
            del self._left_alone[next(iter(self._left_alone))]

    async def _is_wanted(self, newest: Version) -> bool:
        """Whether a task is to be adapted again, by the record of its newest version.

        A server that has loaded the other checkpoint may be about to be replaced by this one, or this one by that one.
        So a task that has a version of either on one support set is left alone: both servers have their answer.
        """
        parts = self._parts
        if not newest.support_kept or parts.readapts.reason_against(newest) is not None:
            return False
        checkpoints = parts.engine.checkpoints
        if newest.checkpoint not in checkpoints:
            found = await loaded_version(parts, newest)
            return found is None or not found.same_support(newest)
        default = checkpoints.default.checkpoint.fingerprint
        if newest.checkpoint == default or not parts.settings.readapt_to_default:
            return False
        if checkpoint_of_terms(parts, newest) not in {None, default}:
            return False
        found = await loaded_version(parts, newest, of=default)
        return found is None or not found.same_support(newest)
