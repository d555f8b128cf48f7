"""The door of the Model Context Protocol: ``POST /mcp``, streamable HTTP without sessions, with tools for agents.

The protocol's SDK comes with the extra ``handful[mcp]``. It is loaded by the first request, since that takes a second.
"""

import asyncio
import importlib
from importlib.util import find_spec
from types import ModuleType
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.doors.door import Content, DoorCaller, body_bytes, door_route
from service.errors import ApiError, FieldError
from service.routes.request import SEND_FEWER_EXAMPLES, AppParts
from service.settings import Settings

_INVALID_REQUEST, _INTERNAL_ERROR = -32600, -32603
"""Codes of JSON-RPC."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TOOLS = "service.doors.model_context_tools"


def error_content(error: ApiError) -> Content:
    """An error as JSON-RPC has it, with our own code as its data."""
    code = _INTERNAL_ERROR if error.status >= 500 else _INVALID_REQUEST
    return {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": code, "message": error.detail, "data": {"code": error.code}},
    }


router = APIRouter(route_class=door_route(error_content, {}), tags=["doors"])


@router.post("/mcp", include_in_schema=False)
async def door_mcp(caller: DoorCaller, parts: AppParts, request: Request) -> Response:
    """Answers one message of the Model Context Protocol."""
    _check_origin(request, parts.settings)
    tools = await _tools(request)
    data = await body_bytes(request, too_large=SEND_FEWER_EXAMPLES)
    answered: Response = await tools.answered(parts, caller, request, data)
    return answered


def _check_origin(request: Request, settings: Settings) -> None:
    """Refuses pages of other sites, which could reach a server on the reader's own machine through a changed DNS entry.

    Source: the protocol's specification, "Streamable HTTP: Security Warning".

    Raises:
        ApiError: 403, the page's origin is neither this machine nor an allowed one.
    """
    origin = request.headers.get("origin")
    allowed = settings.allowed_origins
    if origin is None or origin in allowed or "*" in allowed or urlsplit(origin).hostname in _LOOPBACK:
        return
    detail = f"pages of {origin[:100]} may not use this server: HANDFUL_CORS_ORIGINS has the origins that may"
    raise ApiError(403, "origin_refused", detail, errors=[FieldError("header/Origin", detail)])


async def _tools(request: Request) -> ModuleType:
    """The module that needs the SDK.

    Raises:
        ApiError: 501, the SDK is not installed.
    """
    loaded: ModuleType | None = getattr(request.app.state, "model_context_tools", None)
    if loaded is None:
        if find_spec("mcp") is None:
            detail = (
                "this server is installed without the Model Context Protocol: its operator adds it with "
                "pip install 'handful[mcp]' and a restart"
            )
            raise ApiError(501, "extra_missing", detail)
        # In a thread, so that other requests do not wait for the second that it takes
        loaded = request.app.state.model_context_tools = await asyncio.to_thread(importlib.import_module, _TOOLS)
    return loaded
