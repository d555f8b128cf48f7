"""The first use of a task whose checkpoint is not loaded: it is adapted again, or an older version answers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from typing import Literal

from metalearn.errors import MetalearnError
from model_store.errors import AdapterCorrupt, StaleAdapter, UnknownCheckpoint, VersionConflict
from model_store.records import Version
from model_store.store import TaskName
from service.caller import current_caller, start_caller
from service.engine.errors import SupportTooLarge, TextEmpty
from service.settings import PREFIX
from service.tasks.adapters import LeasedAdapter
from service.tasks.app_parts import Parts
from service.tasks.errors import ReadaptRefused, SupportNotKept, TaskNotFound
from service.tasks.readapt import checkpoint_of_terms, readapt_newest

log = logging.getLogger("handful")

_ATTEMPTS = 5
_PAGE = 100
_MOST_REMEMBERED = 10_000

Outcome = Literal["done", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class _NotReadapted:
    """Why a version was not adapted again, so that the next request need not try."""

    outcome: Outcome
    why: str


class Readapts:
    """The tasks that the server adapts again by itself. Lives on the event loop.

    Two processes that adapt one task again at the same time make one version: the commit of the second is refused.
    """

    def __init__(self) -> None:
        self._running: dict[TaskName, asyncio.Task[None]] = {}
        self._not_readapted: dict[str, _NotReadapted] = {}

    async def make_answerable(self, parts: Parts, tenant: str, task: str) -> None:
        """Lets a task answer whose newest version's checkpoint is not loaded; once for all who wait.

        Raises:
            StaleAdapter: No version of the task can answer.
            TaskNotFound: The task is absent by now.
            QueueFull: The queue has no room.
            StoreUnavailable: The store does not answer.
        """
        running = self._running.get((tenant, task))
        if running is None:
            # In a context of its own, since it serves more requests than the first one
            context, request_id = Context(), current_caller().request_id
            context.run(start_caller, request_id)
            work = _make_answerable(parts, tenant, task)
            running = asyncio.get_running_loop().create_task(work, context=context)
            self._running[tenant, task] = running
            running.add_done_callback(lambda done: self._ended((tenant, task), done))
        # Shielded, so that a cancelled request does not cancel it for the others
        await asyncio.shield(running)

    def _ended(self, name: TaskName, done: "asyncio.Task[None]") -> None:
        del self._running[name]
        if not done.cancelled():
            done.exception()  # so that it counts as seen where all who waited have gone

    def reason_against(self, version: Version) -> str | None:
        """Why a version was not adapted again earlier; None where it was not tried."""
        known = self._not_readapted.get(version.adapter_id)
        return None if known is None else known.why

    async def readapt(self, parts: Parts, newest: Version, trigger: Literal["first_use", "background"]) -> str | None:
        """Adapts a task again, from the checkpoint that it was asked for with or else from the default one.

        Returns:
            Why it was not adapted again; None where it was, by this process or another one.

        Raises:
            TaskNotFound: The task is absent by now.
            QueueFull: The queue has no room.
            StoreUnavailable: The store does not answer.
        """
        known = self.reason_against(newest)
        if known is not None:
            return known
        try:
            checkpoint = checkpoint_of_terms(parts, newest)
            await readapt_newest(parts, newest, checkpoint, background=trigger == "background")
        except VersionConflict:  # another process came first, or the task was adapted anew
            return None
        except ReadaptRefused as error:
            left = _NotReadapted("refused", error.why)
        except (MetalearnError, SupportTooLarge, TextEmpty, SupportNotKept, UnknownCheckpoint, AdapterCorrupt) as error:
            left = _NotReadapted("failed", str(error))
        else:
            parts.metrics.readapts.labels(trigger, "done").inc()
            return None
        parts.metrics.readapts.labels(trigger, left.outcome).inc()
        log.warning("task %s of %s was not adapted again: %s", newest.task, newest.tenant, left.why)
        self._not_readapted[newest.adapter_id] = left
        if len(self._not_readapted) > _MOST_REMEMBERED:
            del self._not_readapted[next(iter(self._not_readapted))]
        return left.why


@asynccontextmanager
async def lease_answering(parts: Parts, tenant: str, task: str, version: int | None) -> AsyncIterator[LeasedAdapter]:
    """Leases the adapter of a version, or of the version that answers for the task, see ``Adapters.lease``.

    Where the newest version's checkpoint is not loaded, the newest version of a loaded checkpoint answers: one that was
    adapted on the same support set, or one that is made now of the support set, or else an older one.

    Raises:
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        StaleAdapter: No version of the task can answer, or not the one that is asked for.
        AdapterCorrupt: The stored bytes are damaged.
        StoreUnavailable: The store does not answer.
    """
    async with AsyncExitStack() as stack:
        for attempt in range(_ATTEMPTS):
            try:
                leased = await stack.enter_async_context(parts.adapters.lease(tenant, task, version))
                break
            except StaleAdapter:
                if version is not None or attempt == _ATTEMPTS - 1:
                    raise
            await parts.readapts.make_answerable(parts, tenant, task)
        yield leased


async def loaded_version(parts: Parts, newest: Version, *, of: str | None = None) -> Version | None:
    """The newest version of a task whose checkpoint is loaded, one with the support set of the newest if there is any.

    Args:
        parts: The app's parts.
        newest: The task's newest version.
        of: The fingerprint of the checkpoint; None for any that is loaded.
    """
    store, before, found = parts.access.store, None, None
    while True:
        page = await parts.access.call(store.versions, newest.tenant, newest.task, before=before, limit=_PAGE)
        for version in page:
            if version.checkpoint == of or (of is None and version.checkpoint in parts.engine.checkpoints):
                if version.same_support(newest):
                    return version
                found = found or version
        if len(page) < _PAGE:
            return found
        before = page[-1].version


async def _make_answerable(parts: Parts, tenant: str, task: str) -> None:
    record = await parts.access.call(parts.access.store.task, tenant, task)
    if record is None:
        raise TaskNotFound
    newest, checkpoints = record.current, parts.engine.checkpoints
    if newest.checkpoint in checkpoints:
        return  # adapted again or anew meanwhile
    older = await loaded_version(parts, newest)
    if older is not None and older.same_support(newest):
        parts.adapters.let_stand_in(newest, older)
        return
    if not newest.support_kept:
        why = "its support set was not kept, so that it cannot be adapted again"
    elif not parts.settings.readapt_on_first_use:
        why = f"tasks are not adapted again at their first use ({PREFIX}READAPT_ON_FIRST_USE)"
    else:
        reason = await parts.readapts.readapt(parts, newest, "first_use")
        if reason is None:
            return
        why = f"it was not adapted again: {reason}"
    if older is not None:
        log.warning("version %d of task %s of %s answers for version %d: %s",
                    older.version, task, tenant, newest.version, why)  # fmt: skip
        parts.adapters.let_stand_in(newest, older)
        return
    raise StaleAdapter(
        newest.checkpoint, checkpoints.shapes.keys(), task=task, version=newest.version, advice=_advice(newest, why)
    )


def _advice(newest: Version, why: str) -> str:
    readapt = f"POST /v1/tasks/{newest.task}/readapt makes a new version of its support set; or " * newest.support_kept
    return f"{why}. {readapt}call adapt with the examples, or have the server load that checkpoint, too"
