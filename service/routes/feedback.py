"""The routes of feedback on answers, and of drift."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from handful.wire_feedback import DriftResponse, FeedbackRequest, FeedbackResponse
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
from service.tasks.drift import drift
from service.tasks.feedback import give_feedback

router = APIRouter(prefix="/v1/tasks/{task}", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["feedback"])


@router.post("/feedback", response_model=FeedbackResponse, openapi_extra=request_body(FeedbackRequest, idempotent=True))
async def feedback(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[FeedbackRequest, Depends(json_body(FeedbackRequest))],
) -> Response:
    """Corrects an answer: the text becomes an example, unless the task's other examples would suffer."""
    return committed_response(await give_feedback(parts, tenant, task, body, idempotent_request(request, body)))


@router.get("/drift", response_model=DriftResponse, name="drift")
async def drift_of_task(task: TaskName, tenant: Tenant, parts: AppParts) -> Response:
    """The distance of recent queries from the examples, and the change of abstention; changes nothing."""
    return json_response(await drift(parts, tenant, task))
