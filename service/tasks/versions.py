"""The use cases of stored tasks: list, show, roll back and delete."""

from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from handful.wire import (
    DeleteResponse,
    RollbackRequest,
    TaskList,
    TaskResponse,
    VersionList,
    VersionResponse,
)
from handful.wire_examples import DeleteVersionResponse, VersionDetail
from handful.wire_versions import RemovedVersion
from model_store.codec import AdapterKey
from model_store.errors import AdapterCorrupt, VersionConflict
from model_store.records import TaskRecord, Version
from model_store.removals import Removal
from service.caller import current_caller, removal_by
from service.tasks.app_parts import Parts
from service.tasks.commit import commit_next, remaining_ttl_s
from service.tasks.errors import NewestVersion, TaskNotFound
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.kind_answers import kind_fields
from service.tasks.missing_version import version_not_found


async def list_tasks(parts: Parts, tenant: str, *, after: str | None, limit: int) -> TaskList:
    """A page of the tenant's tasks, by name: at most ``limit`` tasks whose name sorts behind ``after``."""
    # One more than asked for shows whether there is a next page
    records = await parts.access.call(parts.access.store.tasks, tenant, after=after or "", limit=limit + 1)
    page = [_task_response(record) for record in records[:limit]]
    return TaskList(tasks=page, next=page[-1].task if len(records) > limit else None)


async def show_task(parts: Parts, tenant: str, task: str) -> TaskResponse:
    """The current state of a task.

    Raises:
        TaskNotFound: The task is absent.
    """
    record = await parts.access.call(parts.access.store.task, tenant, task)
    if record is None:
        raise TaskNotFound
    return _task_response(record)


async def delete_task(parts: Parts, tenant: str, task: str) -> DeleteResponse:
    """Removes a task with all its versions and texts.

    Raises:
        TaskNotFound: The task is absent.
    """
    with parts.adapters.writing(tenant, task):
        deleted = await parts.access.call(parts.access.store.delete, tenant, task)
    parts.adapters.forget(tenant, task)
    parts.examples.forget(tenant, task)
    parts.recent.forget(tenant, task)
    if not deleted:
        raise TaskNotFound
    return DeleteResponse(task=task)


async def delete_version(parts: Parts, tenant: str, task: str, version: int) -> DeleteVersionResponse:
    """Removes one version, with the examples that no other version has.

    Raises:
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        NewestVersion: The version is the newest one, which answers.
        StoreUnavailable: The store does not answer.
    """
    current = await parts.access.current(tenant, task)
    if current is None:
        raise TaskNotFound
    if version == current.version:
        raise NewestVersion(task, version)
    with parts.adapters.writing(tenant, task):
        removal = removal_by(current_caller(), "delete")
        found = await parts.access.call(parts.access.store.delete_versions, tenant, task, [version], removal=removal)
    parts.adapters.forget(tenant, task)
    parts.examples.forget(tenant, task)
    if not found:
        raise await version_not_found(parts.access, tenant, task, version, current.version)
    return DeleteVersionResponse(task=task, version=version)


async def list_versions(parts: Parts, tenant: str, task: str, *, before: int | None, limit: int) -> VersionList:
    """A page of a task's versions, newest first: at most ``limit`` versions with a number below ``before``.

    Raises:
        TaskNotFound: The task is absent.
    """
    if await parts.access.current(tenant, task) is None:
        raise TaskNotFound
    versions = await parts.access.call(parts.access.store.versions, tenant, task, before=before, limit=limit + 1)
    page = [_version_response(version) for version in versions[:limit]]
    last = page[-1].version if len(versions) > limit else None
    removed = await parts.access.call(parts.access.store.removed_versions, tenant, task, before=before)
    shown = [_removed(number, removal) for number, removal in removed if number > (last or 0)]
    return VersionList(versions=page, removed=shown, next=last)


async def show_version(parts: Parts, tenant: str, task: str, version: int) -> VersionDetail:
    """The record of one version.

    Raises:
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
    """
    current = await parts.access.current(tenant, task)
    if current is None:
        raise TaskNotFound
    found = await parts.access.call(parts.access.store.version, tenant, task, version)
    if found is None:
        raise await version_not_found(parts.access, tenant, task, version, current.version)
    digests = found.support_digests
    return VersionDetail(**_version_fields(found), support_digests=None if digests is None else list(digests))


async def rollback(
    parts: Parts, tenant: str, task: str, asked: RollbackRequest, idempotent: IdempotentRequest | None
) -> Committed:
    """Makes the weights and the support set of an earlier version the newest version, under a new number.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The version.
        idempotent: Set for a request that may be repeated.

    Raises:
        IdempotencyKeyReused: The key came with another request.
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        StaleAdapter: The version was made from a checkpoint that is not loaded.
        AdapterCorrupt: The stored version is damaged.
        VersionConflict: Another commit, or a deletion, came first.
        StoreUnavailable: The store does not answer.
    """
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    store = parts.access.store
    record = await parts.access.call(store.task, tenant, task)
    source = await parts.access.call(store.version, tenant, task, asked.version)
    data = await parts.access.call(store.load_adapter, tenant, task, asked.version)
    support = await parts.access.call(store.load_support, tenant, task, asked.version)
    if record is None:
        raise TaskNotFound
    if source is None or data is None:
        raise await version_not_found(parts.access, tenant, task, asked.version, record.current.version)
    if support is None and source.support_kept:  # removed between the reads
        raise VersionConflict(record.current.version)
    try:
        adapter = await parts.adapters.decode(data, AdapterKey(tenant, task, source.version, source.adapter_id))
    except AdapterCorrupt:
        # Deleted and made anew between the reads, the task has another adapter under the same number
        again = await parts.access.call(store.version, tenant, task, asked.version)
        if again is not None and again.adapter_id == source.adapter_id:
            raise
        raise TaskNotFound from None
    return await commit_next(
        parts,
        tenant,
        task,
        adapter=adapter,
        draft=source.copied(record.current.terms),
        support=support,
        ttl_s=remaining_ttl_s(record),
        answer=_version_response,
        idempotent=idempotent,
        # A task that is deleted meanwhile must not come back
        builds_on=record.current,
    )


def _removed(number: int, removal: Removal) -> RemovedVersion:
    return RemovedVersion(
        version=number,
        removed_at=_moment(removal.at),
        removed_by=removal.by,
        request_id=removal.request_id,
        reason=removal.reason,
    )


def _version_response(version: Version) -> VersionResponse:
    return VersionResponse(**_version_fields(version))


def _task_response(record: TaskRecord) -> TaskResponse:
    return TaskResponse(
        **_version_fields(record.current),
        task_created_at=_moment(record.created_at),
        expires_at=None if record.expires_at is None else _moment(record.expires_at),
    )


def _version_fields(version: Version) -> dict[str, Any]:
    names = {field.name for field in fields(Version)} & set(VersionResponse.model_fields) - {"created_at", "kind"}
    asked = asdict(version.options)
    return {
        # The answer's steps and learner are the version's; ``asked`` holds the request's
        **{name: value for name, value in asked.items() if name in VersionResponse.model_fields},
        **{name: getattr(version, name) for name in names},
        "asked": asked,
        **kind_fields(version.kind, version.labels, version.decision, version.figures),
        "labels": list(version.labels),
        "bytes": version.size_bytes,
        "created_at": _moment(version.created_at),
        "checkpoint_asked": version.terms.checkpoint,
        "keep_versions": version.terms.keep_versions,
        "keep_versions_seconds": version.terms.keep_versions_seconds,
    }


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
