"""The route ``adapt``: from a support set to a stored version."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from handful.wire import AdaptRequest, AdaptResponse
from service.routes.request import (
    KNOWN_QUERY,
    PROBLEMS,
    SEND_FEWER_EXAMPLES,
    AppParts,
    TaskName,
    Tenant,
    committed_response,
    idempotent_request,
    json_body,
    request_body,
)
from service.tasks.adapt import adapt

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["adapt"])


@router.post(
    "/tasks/{task}/adapt",
    response_model=AdaptResponse,
    openapi_extra=request_body(AdaptRequest, idempotent=True),
    name="adapt",
)
async def adapt_task(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[AdaptRequest, Depends(json_body(AdaptRequest, too_large=SEND_FEWER_EXAMPLES))],
) -> Response:
    """Adapts a task on exactly this support set and commits the result as its newest version."""
    return committed_response(await adapt(parts, tenant, task, body, idempotent_request(request, body)))
