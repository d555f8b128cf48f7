"""A task is adapted again on its stored support set, from the checkpoint that is loaded now."""

import asyncio
import time

from starlette.responses import Response

from handful.wire import ReadaptRequest
from model_store.codec import decode_support
from model_store.errors import AdapterCorrupt, VersionConflict
from service.commit import remaining_ttl_s
from service.conversion import CheckedSupport
from service.engine.adapters import task_not_found, version_not_found
from service.errors import ApiError, FieldError, body_pointer, invalid_content
from service.idempotency import IdempotentRequest
from service.request_context import Timings
from service.routes.adapt import adapt_and_commit
from service.routes.request import Parts

_AUTO = "auto"
_MIN_FINGERPRINT_CHARS = 12


async def readapt(
    parts: Parts,
    tenant: str,
    task: str,
    body: ReadaptRequest,
    *,
    timings: Timings,
    idempotent: IdempotentRequest | None,
) -> Response:
    """Commits a new version, made from a version's stored support set as that version was asked for.

    Args:
        parts: The app's parts.
        tenant: Whose task.
        task: Which task.
        body: Which version, and from which checkpoint.
        timings: Of the request.
        idempotent: Whether the answer is kept for a repeated request.

    Raises:
        ApiError: 404, the task or the version is absent; 409, its support set was not kept; 422, the checkpoint is not
            the loaded one.
        VersionConflict: Another commit, or a deletion, came first.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    _check_checkpoint(parts, body.checkpoint)
    store, call = parts.access.store, parts.access.call
    record = await call(store.task, tenant, task)
    if record is None:
        raise task_not_found()
    newest = record.current
    source = newest if body.version is None else await call(store.version, tenant, task, body.version)
    if source is None:
        raise version_not_found(task, body.version or 0, newest.version)
    kept = await call(store.load_support, tenant, task, source.version)
    if kept is None and not source.support_kept:
        raise ApiError(
            409,
            "support_not_kept",
            f"the support set of version {source.version} of task {task!r} was not kept: call adapt with the examples",
        )
    if kept is None:
        if await call(store.version, tenant, task, source.version) == source:
            raise AdapterCorrupt(f"the support set of version {source.version} is missing")
        raise VersionConflict(0)  # deleted between the reads
    # Megabytes take long enough to be felt by others
    support = await asyncio.to_thread(decode_support, kept)
    checked = CheckedSupport(support, frozenset(), {label: label for label in support.descriptions})
    return await adapt_and_commit(
        parts,
        tenant,
        task,
        source.options,
        checked,
        keep_support=True,
        timings=timings,
        began=began,
        ttl_s=remaining_ttl_s(record),
        idempotent=idempotent,
        source="readapt",
        # What was adapted meanwhile must not be hidden by an older support set, nor a deleted task come back
        builds_on=newest,
    )


def _check_checkpoint(parts: Parts, asked: str | None) -> None:
    manifest = parts.engine.checkpoint.manifest
    if asked in {None, _AUTO, manifest.name}:
        return
    if asked is not None and len(asked) >= _MIN_FINGERPRINT_CHARS and manifest.fingerprint.startswith(asked):
        return
    detail = f"the checkpoint is not loaded; loaded is {manifest.name!r} ({manifest.fingerprint[:12]})"
    raise invalid_content([FieldError(body_pointer("checkpoint"), detail)], "unknown_checkpoint")
