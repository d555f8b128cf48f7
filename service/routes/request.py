"""What routes take from a request: its parts of the app, its tenant, its checked body."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from handful.wire import TASK_PATTERN
from service.auth import Authenticator
from service.engine.adapters import Adapters
from service.engine.engine import Engine
from service.errors import ClientGone, field_errors, invalid_content
from service.metrics import Metrics
from service.path_prefix import route_path
from service.routes.body import bounded_body, check_media_type, check_utf8
from service.settings import Settings
from service.store_access import StoreAccess
from service.timings import Timings

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")

_UNWATCHED_S = 0.02
"""For how long a request is worked on before anybody looks whether its client is still there."""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, description in {
        400: "Not HTTP/1.1 as RFC 9112 has it; the connection is closed",
        401: "No key, or an unknown one",
        404: "Absent, or another tenant's",
        409: "Version race, or made from another checkpoint",
        413: "Body too large",
        415: "Not JSON, not UTF-8, or a Content-Encoding other than gzip and deflate",
        422: "Bad content; `errors` points at it",
        500: "An error that nobody foresaw, or a damaged version",
        503: "Server full or stopping, or the store away; see Retry-After",
    }.items()
}
"""Answers that any route may give."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What ``create_app`` has put together, for the routes."""

    settings: Settings
    metrics: Metrics
    engine: Engine
    adapters: Adapters
    access: StoreAccess
    authenticator: Authenticator


def parts_of(request: Request) -> Parts:
    """The parts of the app that a request came to."""
    parts: Parts = request.app.state.parts
    return parts


def timings_of(request: Request) -> Timings:
    """The phases of a request."""
    timings: Timings = request.state.timings
    return timings


# Coroutines, since FastAPI sends a plain function to a thread, which takes longer than all that these do
async def _parts(request: Request) -> Parts:
    return parts_of(request)


async def _timings(request: Request) -> Timings:
    return timings_of(request)


_documented = HTTPBearer(auto_error=False, description="Needed once an API key exists.")


async def tenant_of(request: Request) -> str:
    """The tenant that a request speaks for, noted for the log.

    Raises:
        ApiError: 401, the key is missing or unknown.
        StoreUnavailable: The store does not answer.
    """
    tenant = await parts_of(request).authenticator.tenant(request.headers.get("authorization"))
    request.state.tenant = tenant
    return tenant


async def _tenant(request: Request, _: Annotated[object, Depends(_documented)]) -> str:
    return await tenant_of(request)


AppParts = Annotated[Parts, Depends(_parts)]
RequestTimings = Annotated[Timings, Depends(_timings)]
Tenant = Annotated[str, Depends(_tenant)]
TaskName = Annotated[str, Path(pattern=TASK_PATTERN, description="A task's name.", examples=["support-tickets"])]


def json_body(model: type[Body], *, too_large: str = "") -> Callable[[Request], Coroutine[Any, Any, Body]]:
    """A dependency that reads and checks the body.

    FastAPI's own reading answers 500 to NaN, lone surrogates and binary bodies, and bounds nothing.

    Args:
        model: Of the body.
        too_large: What to do about a body that is too large.
    """

    async def read(request: Request) -> Body:
        check_media_type(request.headers.get("content-type", ""))
        data = await bounded_body(request, parts_of(request).settings.max_body_bytes, too_large=too_large)
        try:
            return model.model_validate_json(data)
        except ValidationError as error:
            check_utf8(data)
            raise invalid_content(field_errors(error)) from None

    return read


def request_body(model: type[BaseModel], *, idempotent: bool = False) -> dict[str, Any]:
    """OpenAPI of a body that ``json_body`` reads; ``create_app`` adds the model to the components.

    Args:
        model: Of the body.
        idempotent: Whether the route takes an ``Idempotency-Key``.
    """
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    described: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    if idempotent:
        described["parameters"] = [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "For 24 hours the same key and body give the same answer and make no second version.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        ]
    return described


def json_response(model: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """A model as JSON, without FastAPI validating what was just made."""
    return Response(model.model_dump_json(), media_type="application/json", headers=headers)


async def unless_disconnected(request: Request, work: Awaitable[Result]) -> Result:
    """Awaits ``work``, and cancels it when the client goes away: nobody would read the answer.

    Most answers are there before it would pay to look whether the client is.

    Raises:
        ClientGone: The client went away first.
    """
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    watching: asyncio.Task[None] | None = None
    gone = answered = False

    def watch() -> None:
        nonlocal watching
        watching = loop.create_task(_disconnect(request))
        watching.add_done_callback(cancel)

    def cancel(watched: "asyncio.Task[None]") -> None:
        nonlocal gone
        if not answered and not watched.cancelled() and serving is not None:
            gone = True
            serving.cancel()

    unwatched = loop.call_later(_UNWATCHED_S, watch)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or serving is None:
            raise
        serving.uncancel()
        raise ClientGone from None
    finally:
        answered = True
        unwatched.cancel()
        if watching is not None:
            watching.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def request_digest(request: Request, body: BaseModel) -> str:
    """What tells one request under an idempotency key from another."""
    content = f"{request.method} {route_path(request.scope)}\n{body.model_dump_json()}"
    return hashlib.sha256(content.encode()).hexdigest()
