"""The routes for people who look at a task: files of examples, and a map."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from handful.files import ReadOptions
from handful.wire_playground import MapRequest, MapResponse, ReadExamplesResponse
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
from service.routes.request_body import bounded_bytes
from service.tasks.read_examples import read_examples
from service.tasks.task_map import map_task

router = APIRouter(prefix="/v1", responses=PROBLEMS, dependencies=[KNOWN_QUERY])

_ANY_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post("/examples/read", response_model=ReadExamplesResponse, openapi_extra=_ANY_FILE, tags=["examples"])
async def read_examples_of_file(
    _: Tenant,
    parts: AppParts,
    request: Request,
    name: Annotated[
        str, Query(max_length=256, description="The file's name, whose ending tells the format; empty for pasted text.")
    ] = "",
    text_column: Annotated[
        str | None, Query(max_length=256, description="Name of the text's column or key, or its number from 1.")
    ] = None,
    label_column: Annotated[
        str | None, Query(max_length=256, description="Name or number of the label's column or key.")
    ] = None,
    delimiter: Annotated[str | None, Query(max_length=16, description="One character, or `tab`.")] = None,
    encoding: Annotated[str | None, Query(max_length=64, description="A codec's name, such as `utf-8`.")] = None,
) -> Response:
    """Reads labelled examples from a file of any format that the command line reads; the body is the file.

    It stores nothing. The answer's `examples` are a support set for `adapt`.
    """
    data = await bounded_bytes(request, parts.settings.max_body_bytes, too_large="give a part of the file")
    options = ReadOptions(text_column or None, label_column or None, delimiter or None, encoding or None)
    return json_response(await asyncio.to_thread(read_examples, name, data, options))


@router.post(
    "/tasks/{task}/map", response_model=MapResponse, openapi_extra=request_body(MapRequest), name="map", tags=["tasks"]
)
async def map_examples_and_queries(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[MapRequest, Depends(json_body(MapRequest))],
) -> Response:
    """Places a version's examples, and queries, on a plane where similar texts are near each other; changes nothing."""
    return json_response(await unless_disconnected(request, map_task(parts, tenant, task, body)))
