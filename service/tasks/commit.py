"""The commit of a new version: durable first, then in the cache, then acknowledged."""

import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import asdict

from pydantic import BaseModel

from metalearn.types import Adapter
from model_store.codec import AdapterKey
from model_store.errors import IdempotencyReplay, VersionConflict
from model_store.records import NewVersion, StoredSupport, TaskRecord, Version, VersionDraft
from service.caller import current_caller, removal_by
from service.tasks.app_parts import Parts
from service.tasks.idempotency import Committed, IdempotentRequest
from service.tasks.retention import remove_old_versions

_ATTEMPTS = 20


def remaining_ttl_s(record: TaskRecord) -> int | None:
    """Seconds that are left of a task's time to live; None where it has no limit."""
    return None if record.expires_at is None else max(1, round(record.expires_at - time.time()))


async def commit_next(
    parts: Parts,
    tenant: str,
    task: str,
    *,
    adapter: Adapter,
    draft: VersionDraft,
    support: StoredSupport | None,
    ttl_s: int | None,
    answer: Callable[[Version], BaseModel],
    idempotent: IdempotentRequest | None,
    builds_on: Version | None = None,
    erased: Collection[int] = (),
) -> Committed:
    """Commits an adapter as the task's newest version and answers.

    A version that does not build on the one before it takes the next number when another commit comes first. So two
    simultaneous adapts of one task both succeed.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        adapter: The weights.
        draft: The rest of the record.
        support: The encoded support set, where it is kept.
        ttl_s: The task's time to live.
        answer: Makes the answer of the record.
        idempotent: Set for a request that may be repeated.
        builds_on: The version that has to be the newest one still; None where this version builds on no other.
        erased: Earlier versions that are removed in the same act.

    Raises:
        VersionConflict: Another commit, or a deletion, came first.
        StoreUnavailable: The store does not answer.
    """
    store, caller = parts.access.store, current_caller()
    if builds_on is None:
        current = await parts.access.current(tenant, task)
        expected = current.version if current else 0
    else:
        expected = builds_on.version
    for attempt in range(_ATTEMPTS):
        key = AdapterKey(tenant, task, expected + 1, uuid.uuid4().hex)
        data = await parts.adapters.encode(adapter, key)
        version = draft.committed(
            **asdict(key),
            checkpoint=adapter.checkpoint,
            size_bytes=len(data),
            support_kept=support is not None,
            created_at=time.time(),
            asked_by=caller.name,
            request_id=caller.request_id,
        )
        body = answer(version)
        try:
            with parts.adapters.writing(tenant, task) as write:
                await parts.access.call(
                    store.commit,
                    NewVersion(version, data, support),
                    expected_version=expected,
                    expected_adapter_id=builds_on.adapter_id if builds_on else None,
                    ttl_s=ttl_s,
                    idempotent=idempotent.kept(body) if idempotent else None,
                    erased=erased,
                    removal=removal_by(caller, "erase") if erased else None,
                )
        except VersionConflict as conflict:
            if builds_on is not None or attempt == _ATTEMPTS - 1:
                raise
            expected = conflict.current_version
        except IdempotencyReplay as replay:
            # The same request was in flight twice, and the other copy came first
            if idempotent is None:
                raise
            return idempotent.replay(replay.answer)
        else:
            break
    if erased:
        parts.adapters.forget(tenant, task)
        parts.examples.forget(tenant, task)
    parts.adapters.keep(key, adapter, write)
    await remove_old_versions(parts, version)
    return Committed(body.model_dump_json())
