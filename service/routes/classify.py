"""The route ``classify``: from a support set and queries to predictions; stores nothing."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from handful.wire import ClassifyRequest, ClassifyResponse
from service.routes.disconnecting import unless_disconnected
from service.routes.request import (
    KNOWN_QUERY,
    PROBLEMS,
    SEND_FEWER_EXAMPLES,
    AppParts,
    Tenant,
    json_body,
    json_response,
    request_body,
)
from service.tasks.classify import classify

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["predict"])


@router.post("/classify", response_model=ClassifyResponse, openapi_extra=request_body(ClassifyRequest), name="classify")
async def classify_texts(
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[ClassifyRequest, Depends(json_body(ClassifyRequest, too_large=SEND_FEWER_EXAMPLES))],
) -> Response:
    """Adapts on the support set and classifies the queries, storing nothing."""
    return json_response(await unless_disconnected(request, classify(parts, tenant, body)))
