"""The routes of tasks as files: export and import."""

import base64
import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from handful.wire_moving import TASK_FILE_TYPE, ImportResponse
from service.errors import ApiError, FieldError
from service.routes.request import (
    IDEMPOTENCY_PARAMETER,
    KNOWN_QUERY,
    PROBLEMS,
    AppParts,
    TaskName,
    Tenant,
    committed_response,
    idempotent_request,
    parts_of,
)
from service.routes.request_body import bounded_bytes
from service.tasks.export import export_task
from service.tasks.import_file import import_task

router = APIRouter(prefix="/v1/tasks/{task}", responses=PROBLEMS, dependencies=[KNOWN_QUERY], tags=["tasks"])

_ACCEPTED = {TASK_FILE_TYPE, "application/x-zip-compressed"}  # Windows calls it so
_FILE: dict[str, Any] = {TASK_FILE_TYPE: {"schema": {"type": "string", "format": "binary"}}}
_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": _FILE}, "parameters": [IDEMPOTENCY_PARAMETER]}


@router.get(
    "/export",
    name="export",
    response_class=Response,
    responses={200: {"description": "The file", "content": _FILE}},
)
async def export(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    version: Annotated[int | None, Query(ge=1, lt=2**63, description="The newest version where it is missing.")] = None,
) -> Response:
    """One file of a version: weights, options, labels, descriptions, and the examples where they were kept."""
    exported = await export_task(parts, tenant, task, version)
    digest = base64.b64encode(hashlib.sha256(exported.content).digest()).decode()
    headers = {
        "Content-Disposition": f'attachment; filename="{exported.name}"',
        "Content-Digest": f"sha-256=:{digest}:",  # RFC 9530
    }
    return Response(exported.content, media_type=TASK_FILE_TYPE, headers=headers)


async def _file(request: Request) -> bytes:
    """The body; the rest is the file's own checks."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _ACCEPTED:
        detail = f"send the exported file itself, with the header Content-Type: {TASK_FILE_TYPE}"
        raise ApiError(415, "unsupported_media_type", detail, errors=[FieldError("header/Content-Type", detail)])
    too_large = "HANDFUL_MAX_BODY_BYTES on the server raises this limit; or export a task of fewer examples"
    return await bounded_bytes(request, parts_of(request).settings.max_body_bytes, too_large=too_large)


@router.post("/import", response_model=ImportResponse, openapi_extra=_BODY, name="import")
async def import_(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[bytes, Depends(_file)],
    readapt: Annotated[
        bool, Query(description="Adapt on the file's examples where the checkpoint that made it is not loaded.")
    ] = False,
    ttl_seconds: Annotated[
        int | None, Query(ge=1, le=10 * 366 * 86400, description="As in `adapt`: never where it is missing.")
    ] = None,
) -> Response:
    """Makes the version in an exported file the task's newest version. It answers with the bits of the exported one."""
    repeated = idempotent_request(request, body)
    return committed_response(
        await import_task(parts, tenant, task, body, readapt=readapt, ttl_s=ttl_seconds, idempotent=repeated)
    )
