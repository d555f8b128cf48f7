"""The route ``readapt``: a new version from a stored support set."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from handful.wire_readapt import ReadaptPreview, ReadaptRequest, ReadaptResponse
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
from service.tasks.readapt import preview, readapt

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["tasks"])

_read_json = json_body(ReadaptRequest)


async def _body(request: Request) -> ReadaptRequest:
    """The body; a request without a body takes every default."""
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return ReadaptRequest()
    return await _read_json(request)


_openapi = request_body(ReadaptRequest)
_openapi["requestBody"]["required"] = False


@router.post("/tasks/{task}/readapt", response_model=ReadaptResponse, openapi_extra=_openapi)
async def readapt_task(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[ReadaptRequest, Depends(_body)],
) -> Response:
    """Adapts the task again on the support set and with the options of its newest version.

    The new version is made from the default checkpoint, or from the one that is named. The task keeps its time to live.
    """
    return committed_response(await readapt(parts, tenant, task, body, idempotent_request(request, body)))


@router.get("/tasks/{task}/readapt", response_model=ReadaptPreview)
async def preview_readapt(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    version: Annotated[int | None, Query(ge=1, lt=2**63, description="As in the request that adapts.")] = None,
    checkpoint: Annotated[str | None, Query(description="As in the request that adapts.")] = None,
) -> Response:
    """The version that a readapt would make, compared with the one that has the support set. Nothing is stored."""
    return json_response(await preview(parts, tenant, task, version=version, checkpoint=checkpoint))
