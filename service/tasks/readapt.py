"""The use case readapt: a new version from a stored support set, made by a loaded checkpoint."""

import time

from handful.wire import ReadaptRequest
from service.tasks.adapt import adapt_and_commit
from service.tasks.app_parts import Parts
from service.tasks.commit import remaining_ttl_s
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.kept_support import load_kept_support


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
    kept = await load_kept_support(parts, tenant, task, asked.version)
    return await adapt_and_commit(
        parts,
        tenant,
        task,
        kept.source.options,
        kept.checked(),
        rows=kept.rows,
        checkpoint=asked.checkpoint,
        began=began,
        ttl_s=remaining_ttl_s(kept.record),
        idempotent=idempotent,
        source="readapt",
        # An older support set must neither hide a version that was made meanwhile, nor bring a deleted task back
        builds_on=kept.record.current,
    )
