"""The routes of reports: the evidence about a task's classifier."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from handful.report_answers import ReportResponse
from handful.report_request import ReportRequest
from service.routes.disconnecting import unless_disconnected
from service.routes.request import (
    KNOWN_QUERY,
    PROBLEMS,
    AppParts,
    TaskName,
    Tenant,
    json_body,
    json_response,
    request_body,
)
from service.tasks.report import report

router = APIRouter(prefix="/v1/tasks", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["tasks"])


@router.get("/{task}/report", response_model=ReportResponse, name="report")
async def report_on_task(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    version: Annotated[int | None, Query(ge=1, lt=2**63, description="The newest version where it is missing.")] = None,
) -> Response:
    """Estimates the accuracy on new texts, and finds faults of the examples and what to do next; changes nothing."""
    asked = ReportRequest(version=version)
    return json_response(await unless_disconnected(request, report(parts, tenant, task, asked)))


@router.post(
    "/{task}/report",
    response_model=ReportResponse,
    openapi_extra=request_body(ReportRequest),
    name="report_with_unlabelled_texts",
)
async def report_with_unlabelled_texts(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[ReportRequest, Depends(json_body(ReportRequest))],
) -> Response:
    """The same report, and a choice between unlabelled texts of those to label next; changes nothing."""
    return json_response(await unless_disconnected(request, report(parts, tenant, task, body)))
