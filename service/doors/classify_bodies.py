"""``POST /v1/classify`` for all who have that path: our own body, and those of Cohere, Jina, vLLM and SGLang.

The keys of a body tell them apart. Our own is tried first, so that it costs and answers what it does without doors.
"""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from handful.wire import ClassifyRequest, ClassifyResponse
from service.doors import cohere, jina, openai
from service.doors.door import (
    REFUSALS,
    Caller,
    DoorCaller,
    ErrorShape,
    Fields,
    body_bytes,
    documented,
    in_shape,
    keys_of,
)
from service.errors import field_errors, invalid_content
from service.routes.classify import classify_texts
from service.routes.request import SEND_FEWER_EXAMPLES, AppParts, tenant_of
from service.routes.request_body import check_utf8


@dataclass(frozen=True, slots=True)
class _Door:
    name: str
    classify: Callable[[Request, Caller, bytes], Coroutine[Any, Any, Response]]
    error: ErrorShape
    fields: Fields


_COHERE = _Door("cohere", cohere.classify, cohere.error_content, cohere.FIELDS)
_JINA = _Door("jina", jina.classify, jina.error_content, jina.FIELDS)
_VLLM = _Door("vllm", openai.classify, openai.error_content, openai.FIELDS)

router = APIRouter(prefix="/v1", responses=REFUSALS, tags=["predict"])


@dataclass(frozen=True, slots=True)
class _CountedAs:
    """The route of a request, for the metrics."""

    path: str


@router.post(
    "/classify",
    response_model=ClassifyResponse | cohere.CohereClassifyAnswer | jina.JinaClassifyAnswer | openai.ClassifyAnswer,
    openapi_extra=documented(
        ClassifyRequest, cohere.CohereClassifyRequest, jina.JinaClassifyRequest, openai.ClassifyInput
    ),
    name="classify",
)
async def door_classify_texts(caller: DoorCaller, parts: AppParts, request: Request) -> Response:
    """Adapts on the support set and classifies the queries, storing nothing. Takes other APIs' bodies, too."""
    data = await body_bytes(request, too_large=SEND_FEWER_EXAMPLES)
    try:
        asked = ClassifyRequest.model_validate_json(data)
    except ValidationError as error:
        door = _door_of(keys_of(data))
        if door is None:
            check_utf8(data)
            raise invalid_content(field_errors(error)) from None
        request.scope["route"] = _CountedAs(f"/v1/classify ({door.name})")
        return await in_shape(request, door.classify(request, caller, data), door.error, door.fields)
    tenant = caller.tenant if caller.plain else await tenant_of(request)
    return await classify_texts(tenant, parts, request, asked)


def _door_of(keys: frozenset[str]) -> _Door | None:
    """The door whose body has these keys; None for our own."""
    if keys & {"support", "queries"}:
        return None
    if "inputs" in keys:
        return _COHERE
    if "input" in keys:
        return _JINA if keys & {"classifier_id", "labels"} else _VLLM
    return None
