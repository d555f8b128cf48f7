"""``readapt``: a new version from a stored support set."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from handful.wire import AdaptResponse, ReadaptRequest
from service.idempotency import IdempotentRequest, replayed
from service.readapt import readapt
from service.routes.request import (
    PROBLEMS,
    AppParts,
    RequestTimings,
    TaskName,
    Tenant,
    json_body,
    request_body,
)

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["tasks"])

_read_json = json_body(ReadaptRequest)


async def _body(request: Request) -> ReadaptRequest:
    """The body; a request without any asks for nothing in particular."""
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return ReadaptRequest()
    return await _read_json(request)


_openapi = request_body(ReadaptRequest)
_openapi["requestBody"]["required"] = False


@router.post("/tasks/{task}/readapt", response_model=AdaptResponse, openapi_extra=_openapi)
async def readapt_task(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    timings: RequestTimings,
    request: Request,
    body: Annotated[ReadaptRequest, Depends(_body)],
) -> Response:
    """Adapts the task again on the support set that its newest version was made from, as it was asked for then.

    The new version is made from the loaded checkpoint; the task's time to live goes on.
    """
    idempotent = IdempotentRequest.of(request, body)
    former = await replayed(parts.access, tenant, idempotent)
    if former is not None:
        return former
    return await readapt(parts, tenant, task, body, timings=timings, idempotent=idempotent)
