"""The life of tasks: list, show, versions, rollback, delete."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from handful.wire import (
    TASK_PATTERN,
    DeleteResponse,
    RollbackRequest,
    TaskList,
    TaskResponse,
    VersionList,
    VersionResponse,
)
from model_store.codec import AdapterKey
from model_store.errors import AdapterCorrupt
from service.commit import commit_next, remaining_ttl_s
from service.engine.adapters import task_not_found, version_not_found
from service.idempotency import IdempotentRequest, replayed
from service.routes.request import (
    PROBLEMS,
    AppParts,
    TaskName,
    Tenant,
    json_body,
    json_response,
    request_body,
)
from service.version_responses import task_response, version_response

router = APIRouter(prefix="/v1/tasks", responses=PROBLEMS, tags=["tasks"])

_MAX_PAGE = 1000

PageLimit = Annotated[int, Query(ge=1, le=_MAX_PAGE, description="How many at most.")]


@router.get("", response_model=TaskList)
async def list_tasks(
    tenant: Tenant,
    parts: AppParts,
    limit: PageLimit = 100,
    after: Annotated[str | None, Query(pattern=TASK_PATTERN, description="`next` of the page before.")] = None,
) -> Response:
    """The tenant's tasks, by name."""
    # One more than asked for tells whether there is a next page
    records = await parts.access.call(parts.access.store.tasks, tenant, after=after or "", limit=limit + 1)
    page = [task_response(record) for record in records[:limit]]
    return json_response(TaskList(tasks=page, next=page[-1].task if len(records) > limit else None))


@router.get("/{task}", response_model=TaskResponse)
async def show_task(task: TaskName, tenant: Tenant, parts: AppParts) -> Response:
    """One task, as it stands."""
    record = await parts.access.call(parts.access.store.task, tenant, task)
    if record is None:
        raise task_not_found()
    return json_response(task_response(record))


@router.delete("/{task}", response_model=DeleteResponse)
async def delete_task(task: TaskName, tenant: Tenant, parts: AppParts) -> Response:
    """Removes a task with all its versions and texts."""
    with parts.adapters.writing(tenant, task):
        deleted = await parts.access.call(parts.access.store.delete, tenant, task)
    parts.adapters.forget(tenant, task)
    if not deleted:
        raise task_not_found()
    return json_response(DeleteResponse(task=task))


@router.get("/{task}/versions", response_model=VersionList)
async def list_versions(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    limit: PageLimit = 100,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next` of the page before.")] = None,
) -> Response:
    """A task's versions, newest first."""
    if await parts.access.current(tenant, task) is None:
        raise task_not_found()
    versions = await parts.access.call(parts.access.store.versions, tenant, task, before=before, limit=limit + 1)
    page = [version_response(version) for version in versions[:limit]]
    return json_response(VersionList(versions=page, next=page[-1].version if len(versions) > limit else None))


@router.post(
    "/{task}/rollback",
    response_model=VersionResponse,
    openapi_extra=request_body(RollbackRequest, idempotent=True),
)
async def rollback(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[RollbackRequest, Depends(json_body(RollbackRequest))],
) -> Response:
    """Brings an earlier version back: its weights and support set become the newest version, under a new number.

    History stays as it was, so a rollback can itself be rolled back.
    """
    idempotent = IdempotentRequest.of(request, body)
    former = await replayed(parts.access, tenant, idempotent)
    if former is not None:
        return former
    store = parts.access.store
    record = await parts.access.call(store.task, tenant, task)
    source = await parts.access.call(store.version, tenant, task, body.version)
    data = await parts.access.call(store.load_adapter, tenant, task, body.version)
    support = await parts.access.call(store.load_support, tenant, task, body.version)
    if record is None:
        raise task_not_found()
    if source is None or data is None:
        raise version_not_found(task, body.version, record.current.version)
    try:
        adapter = await parts.adapters.decode(data, AdapterKey(tenant, task, source.version, source.adapter_id))
    except AdapterCorrupt:
        # Deleted and made anew between the reads, the task has another adapter under the same number
        again = await parts.access.call(store.version, tenant, task, body.version)
        if again is not None and again.adapter_id == source.adapter_id:
            raise
        raise task_not_found() from None
    return await commit_next(
        parts,
        tenant,
        task,
        adapter=adapter,
        draft=source.copied(),
        support=support,
        ttl_s=remaining_ttl_s(record),
        answer=version_response,
        idempotent=idempotent,
        # A task that is deleted meanwhile must not come back
        builds_on=record.current,
    )
