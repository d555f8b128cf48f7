"""The routes of stored tasks: list, show, versions, rollback and delete."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
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
from handful.wire_examples import DeleteVersionResponse, VersionDetail, VersionDiff
from service.routes.request import (
    KNOWN_QUERY,
    PROBLEMS,
    AppParts,
    TaskName,
    Tenant,
    committed_response,
    idempotent_request,
    json_body,
    json_response,
    request_body,
)
from service.tasks import version_diff, versions

router = APIRouter(prefix="/v1/tasks", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["tasks"])

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
    return json_response(await versions.list_tasks(parts, tenant, after=after, limit=limit))


@router.get("/{task}", response_model=TaskResponse)
async def show_task(task: TaskName, tenant: Tenant, parts: AppParts) -> Response:
    """The current state of a task."""
    return json_response(await versions.show_task(parts, tenant, task))


@router.delete("/{task}", response_model=DeleteResponse)
async def delete_task(task: TaskName, tenant: Tenant, parts: AppParts) -> Response:
    """Removes a task with all its versions and texts."""
    return json_response(await versions.delete_task(parts, tenant, task))


@router.get("/{task}/versions", response_model=VersionList)
async def list_versions(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    limit: PageLimit = 100,
    before: Annotated[int | None, Query(ge=1, lt=2**63, description="`next` of the page before.")] = None,
) -> Response:
    """A task's versions, newest first."""
    return json_response(await versions.list_versions(parts, tenant, task, before=before, limit=limit))


@router.get("/{task}/versions/{version}", response_model=VersionDetail)
async def show_version(
    task: TaskName,
    version: Annotated[int, Path(ge=1, lt=2**63, description="A version.")],
    tenant: Tenant,
    parts: AppParts,
) -> Response:
    """One version: who asked for it, when, with which options, and the digests of its examples."""
    return json_response(await versions.show_version(parts, tenant, task, version))


@router.get("/{task}/versions/{version}/diff", response_model=VersionDiff)
async def diff_versions(
    task: TaskName,
    version: Annotated[int, Path(ge=1, lt=2**63, description="A version.")],
    tenant: Tenant,
    parts: AppParts,
    other: Annotated[int, Query(alias="with", ge=1, lt=2**63, description="The version to compare it with.")],
) -> Response:
    """The examples and labels that a version has and another one lacks, and the other way round."""
    return json_response(await version_diff.diff_versions(parts, tenant, task, version, other))


@router.delete("/{task}/versions/{version}", response_model=DeleteVersionResponse)
async def delete_version(
    task: TaskName,
    version: Annotated[int, Path(ge=1, lt=2**63, description="A version that is not the newest.")],
    tenant: Tenant,
    parts: AppParts,
) -> Response:
    """Removes one version, with the examples that no other version has. The newest version is refused."""
    return json_response(await versions.delete_version(parts, tenant, task, version))


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
    return committed_response(await versions.rollback(parts, tenant, task, body, idempotent_request(request, body)))
