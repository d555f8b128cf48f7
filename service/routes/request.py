"""The parts of requests and responses that routes work with: tenant, checked body, idempotency key, JSON answer."""

import hashlib
from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Path, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from handful.wire import TASK_PATTERN
from service.auth import Authenticator, hint_of_key
from service.caller import name_caller
from service.errors import IDEMPOTENCY_KEY, ApiError, FieldError, field_errors, invalid_content
from service.path_prefix import route_path
from service.routes.request_body import bounded_body, check_media_type, check_utf8
from service.tasks.app_parts import Parts
from service.tasks.idempotency import Committed, IdempotentRequest

Body = TypeVar("Body", bound=BaseModel)

_MAX_KEY_CHARS = 255
_MOST_SHOWN = 64

SEND_FEWER_EXAMPLES = (
    "adapt needs the whole support set in one request: send fewer examples, or raise HANDFUL_MAX_BODY_BYTES"
)

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": description,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status, description in {
        400: "Not HTTP/1.1 as RFC 9112 has it; the connection is closed",
        401: "No key, or an unknown one",
        404: "Absent, or another tenant's",
        409: "Version race, or made from a checkpoint that is not loaded",
        413: "Body too large",
        415: "Not JSON, not UTF-8, or a Content-Encoding other than gzip and deflate",
        422: "Bad content; `errors` points at it",
        500: "An error that nobody foresaw, or a damaged version",
        503: "Server full or stopping, or the store away; see Retry-After",
    }.items()
}
"""The error answers of every route."""


def parts_of(request: Request) -> Parts:
    """The parts of the app of a request."""
    parts: Parts = request.app.state.parts
    return parts


# Coroutines, since FastAPI runs a plain function in a thread, which takes longer than the function itself
async def _parts(request: Request) -> Parts:
    return parts_of(request)


_documented = HTTPBearer(auto_error=False, description="Needed once an API key exists.")


async def tenant_of(request: Request) -> str:
    """The tenant of a request, noted for the log.

    Raises:
        Unauthorized: The key is missing or unknown.
        StoreUnavailable: The store does not answer.
    """
    authenticator: Authenticator = request.app.state.authenticator
    authorization = request.headers.get("authorization")
    tenant = await authenticator.tenant(authorization)
    request.state.tenant = tenant
    name_caller(hint_of_key(authorization) or tenant)
    return tenant


async def _tenant(request: Request, _: Annotated[object, Depends(_documented)]) -> str:
    return await tenant_of(request)


def check_query(request: Request) -> None:
    """Refuses parameters in the query that the route does not have, such as a misspelt one.

    Raises:
        ApiError: There is one.
    """
    if not request.url.query:
        return
    dependant = getattr(request.scope["route"], "dependant", None)
    known, faults = [] if dependant is None else sorted(_query_parameters(dependant)), []
    for name in request.query_params:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            there = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
            faults.append(FieldError(f"query/{name[:_MOST_SHOWN]}", f"this route has no such parameter: {there}"))
    if faults:
        raise invalid_content(faults)


def _query_parameters(dependant: Dependant) -> set[str]:
    own = {each.alias for each in dependant.query_params}
    return own.union(*map(_query_parameters, dependant.dependencies))


async def _query(request: Request) -> None:
    check_query(request)


KNOWN_QUERY = Depends(_query)
AppParts = Annotated[Parts, Depends(_parts)]
KeyHeader = Annotated[object, Depends(_documented)]
Tenant = Annotated[str, Depends(_tenant)]
TaskName = Annotated[str, Path(pattern=TASK_PATTERN, description="A task's name.", examples=["support-tickets"])]


def json_body(model: type[Body], *, too_large: str = "") -> Callable[[Request], Coroutine[Any, Any, Body]]:
    """A dependency that reads and checks the body.

    FastAPI's own reading answers 500 to NaN, lone surrogates and binary bodies, and bounds nothing.

    Args:
        model: The model of the body.
        too_large: The advice on a body that is too large.
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


IDEMPOTENCY_PARAMETER = {
    "name": IDEMPOTENCY_KEY,
    "in": "header",
    "required": False,
    "description": "For 24 hours the same key and body give the same answer and make no second version.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _MAX_KEY_CHARS},
}
"""The OpenAPI entry of the header."""


def request_body(model: type[BaseModel], *, idempotent: bool = False) -> dict[str, Any]:
    """The OpenAPI entry of a body that ``json_body`` reads; ``create_app`` adds the model to the components.

    Args:
        model: The model of the body.
        idempotent: Whether the route takes an ``Idempotency-Key``.
    """
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    described: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
    if idempotent:
        described["parameters"] = [IDEMPOTENCY_PARAMETER]
    return described


def json_response(model: BaseModel, headers: dict[str, str] | None = None) -> Response:
    """A model as a JSON response, without FastAPI's second validation."""
    return Response(model.model_dump_json(), media_type="application/json", headers=headers)


def committed_response(committed: Committed) -> Response:
    """The answer to a request that made a version, now or in an earlier attempt."""
    headers = {"Idempotent-Replayed": "true"} if committed.replayed else None
    return Response(committed.json, media_type="application/json", headers=headers)


def idempotent_request(request: Request, body: BaseModel | bytes) -> IdempotentRequest | None:
    """The key and the digest of a request that may be repeated; None where the client sent no key.

    Of a body that is no JSON, the query of the request has the options, and the digest covers it, too.

    Raises:
        ApiError: 422, the key is empty or too long.
    """
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is None:
        return None
    if not 0 < len(key) <= _MAX_KEY_CHARS:
        detail = f"an idempotency key has 1 to {_MAX_KEY_CHARS} characters"
        error = FieldError(f"header/{IDEMPOTENCY_KEY}", detail)
        raise ApiError(422, "invalid_idempotency_key", detail, errors=[error])
    line = f"{request.method} {route_path(request.scope)}"
    content = (
        f"{line}?{request.url.query}\n".encode() + body
        if isinstance(body, bytes)
        else f"{line}\n{body.model_dump_json()}".encode()
    )
    return IdempotentRequest(hashlib.sha256(key.encode()).hexdigest(), hashlib.sha256(content).hexdigest())
