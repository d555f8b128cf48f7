"""The route ``predict``: answers a tenant's queries.

Most requests are predictions. A plain route serves them, since the framework's dependencies take longer than all other
work of a prediction on the event loop (docs/log.md has the figures).
"""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from handful.wire import TASK_NAME_RULE, TASK_PATTERN, PredictRequest, PredictResponse
from service.errors import FieldError, invalid_content
from service.routes.disconnecting import unless_disconnected
from service.routes.request import (
    KNOWN_QUERY,
    PROBLEMS,
    AppParts,
    TaskName,
    Tenant,
    check_query,
    json_body,
    json_response,
    parts_of,
    request_body,
    tenant_of,
)
from service.tasks.predict import Answered, predict

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["predict"])

_TASK = re.compile(TASK_PATTERN.strip("^$"))
_read = json_body(PredictRequest, too_large="send the queries in several requests")


@router.post(
    "/tasks/{task}/predict", response_model=PredictResponse, openapi_extra=request_body(PredictRequest), name="predict"
)
async def predict_texts(
    task: TaskName, tenant: Tenant, parts: AppParts, request: Request, body: Annotated[PredictRequest, Depends(_read)]
) -> Response:
    """Classifies texts with the task's newest version, or with the one that is asked for."""
    answered = await unless_disconnected(request, predict(parts, tenant, task, body))
    return json_response(answered.response, degraded_header(answered))


def degraded_header(answered: Answered) -> dict[str, str]:
    """The header of predictions from memory; none for others."""
    degraded = answered.degraded
    # Source: RFC 9651, an item with a parameter
    return {} if degraded is None else {"Handful-Degraded": f"{degraded.reason};age={round(degraded.age_s)}"}


def add_to(app: FastAPI) -> None:
    """Adds the plain route, which serves requests, and behind it the router, which documents the route."""
    app.router.routes.insert(0, _PlainRoute(f"{router.prefix}/tasks/{{task}}/predict", _serve, methods=["POST"]))
    app.include_router(router)


class _PlainRoute(Route):
    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child_scope = super().matches(scope)
        if match is not Match.NONE:
            child_scope["route"] = self  # for the metrics; FastAPI's own routes do the same
        return match, child_scope


async def _serve(request: Request) -> Response:
    tenant = await tenant_of(request)
    check_query(request)
    body = await _read(request)
    task = request.path_params["task"]
    if not _TASK.fullmatch(task):
        raise invalid_content([FieldError("path/task", TASK_NAME_RULE)])
    return await predict_texts(task, tenant, parts_of(request), request, body)
