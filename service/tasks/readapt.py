"""The use case readapt: a new version from a stored support set, made by a loaded checkpoint."""

import asyncio
import time

from handful.wire import ReadaptRequest
from model_store.codec import decode_support
from model_store.errors import AdapterCorrupt, VersionConflict
from service.tasks.adapt import adapt_and_commit
from service.tasks.app_parts import Parts
from service.tasks.commit import remaining_ttl_s
from service.tasks.errors import SupportNotKept, TaskNotFound, VersionNotFound
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.support_set import CheckedSupport


async def readapt(
    parts: Parts, tenant: str, task: str, asked: ReadaptRequest, idempotent: IdempotentRequest | None
) -> Committed:
    """Commits a new version, made from a version's stored support set with the options of that version.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The version and the checkpoint.
        idempotent: Set for a request that may be repeated.

    Raises:
        IdempotencyKeyReused: The key came with another request.
        UnknownCheckpoint: No loaded checkpoint has the name.
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        SupportNotKept: The version's support set was not kept.
        VersionConflict: Another commit, or a deletion, came first.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    began = time.perf_counter()
    store, call = parts.access.store, parts.access.call
    record = await call(store.task, tenant, task)
    if record is None:
        raise TaskNotFound
    newest = record.current
    source = newest if asked.version is None else await call(store.version, tenant, task, asked.version)
    if source is None:
        raise VersionNotFound(task, asked.version or 0, newest.version)
    kept = await call(store.load_support, tenant, task, source.version)
    if kept is None and not source.support_kept:
        raise SupportNotKept(task, source.version)
    if kept is None:
        if await call(store.version, tenant, task, source.version) == source:
            raise AdapterCorrupt(f"the support set of version {source.version} is missing")
        raise VersionConflict(0)  # deleted between the reads
    # In a thread, since reading megabytes would delay other requests
    support = await asyncio.to_thread(decode_support, kept)
    checked = CheckedSupport(support, frozenset(), {label: label for label in support.descriptions})
    return await adapt_and_commit(
        parts,
        tenant,
        task,
        source.options,
        checked,
        checkpoint=asked.checkpoint,
        keep_support=True,
        began=began,
        ttl_s=remaining_ttl_s(record),
        idempotent=idempotent,
        source="readapt",
        # An older support set must neither hide a version that was made meanwhile, nor bring a deleted task back
        builds_on=newest,
    )
