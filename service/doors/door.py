"""The parts that all doors share: caller, implied task, body, errors in a door's own shape, predictions."""

import base64
import binascii
import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json
from starlette.responses import Response

from handful.wire import TASK_NAME_RULE, TASK_PATTERN, Prediction, PredictRequest, PredictResponse
from handful.wire_query import Query
from service.auth import Authenticator
from service.errors import ApiError, FieldError, field_errors, invalid_content, to_api_error
from service.routes.disconnecting import unless_disconnected
from service.routes.predict import degraded_header
from service.routes.request import PROBLEMS, KeyHeader, parts_of
from service.routes.request_body import bounded_body, check_media_type, check_utf8
from service.tasks.app_parts import Parts
from service.tasks.errors import Fault, InvalidContent
from service.tasks.predict import predict

TASK_HEADER = "X-Handful-Task"
TASK_PARAMETER = "task"
NO_KEY = "none"
"""The key of a client that insists on one, where the server needs none."""

_TASK = re.compile(TASK_PATTERN.strip("^$"))
_MAX_LISTED = 100

Body = TypeVar("Body", bound=BaseModel)
Content = dict[str, Any]
ErrorShape = Callable[[ApiError], Content]
Fields = Mapping[str, str]
"""Pointer of our own requests -> pointer of the door's request."""


REFUSALS: dict[int | str, dict[str, Any]] = {
    # In the door's shape, or a problem where the refusal comes before the door
    status: {**problem, "content": {**problem["content"], "application/json": {"schema": {"type": "object"}}}}
    for status, problem in PROBLEMS.items()
}
"""The error answers of every door."""


class DoorRequest(BaseModel):
    """A request of another API. Unknown fields are refused, as in our own requests."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True, protected_namespaces=())


class DoorAnswer(BaseModel):
    """An answer of another API."""

    model_config = ConfigDict(protected_namespaces=())


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a door.

    Attributes:
        tenant: The tenant of the key.
        task: The task that header, query parameter or key names; None where none does.
        plain: Whether our own routes take the Authorization header as it is.
    """

    tenant: str
    task: str | None
    plain: bool


async def caller_of(request: Request) -> Caller:
    """The caller of a request, noted for the log.

    Clients that can set nothing but a key name a task behind it, ``KEY/TASK``. Basic authentication has the key as its
    password, whatever the user's name.

    Raises:
        Unauthorized: The key is missing or unknown.
        ApiError: 422, the header or the parameter is no task's name.
        StoreUnavailable: The store does not answer.
    """
    given = request.headers.get("authorization")
    header, behind_key = _credentials(given)
    authenticator: Authenticator = request.app.state.authenticator
    tenant = await authenticator.tenant(header)
    request.state.tenant = tenant
    places = {
        f"header/{TASK_HEADER}": request.headers.get(TASK_HEADER),
        f"query/{TASK_PARAMETER}": request.query_params.get(TASK_PARAMETER),
        "header/Authorization": behind_key,
    }
    named = next(((place, task) for place, task in places.items() if task), None)
    if named is not None:
        check_task_name(named[1], named[0])
    return Caller(tenant, named and named[1], plain=header == given)


def _credentials(given: str | None) -> tuple[str | None, str | None]:
    """An Authorization header as our own routes take it, and the task behind its key."""
    scheme, _, credentials = (given or "").partition(" ")
    if scheme.lower() == "basic":
        try:
            credentials = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return given, None
    elif scheme.lower() != "bearer":
        return given, None
    key, slash, task = credentials.strip().partition("/")
    if key == NO_KEY:
        return None, task or None
    return (f"Bearer {key}" if slash or scheme.lower() == "basic" else given), task or None


async def _caller(request: Request, _: KeyHeader) -> Caller:
    return await caller_of(request)


DoorCaller = Annotated[Caller, Depends(_caller)]


def check_task_name(task: str, pointer: str) -> None:
    """Refuses what is no task's name.

    Raises:
        ApiError: 422, with the place.
    """
    if not _TASK.fullmatch(task):
        raise invalid_content([FieldError(pointer, TASK_NAME_RULE)])


async def task_of(parts: Parts, caller: Caller, named: str | None = None, pointer: str = "#/model") -> str:
    """The task of a request: the one that its body names, or else the caller's, or else the tenant's only one.

    Args:
        parts: The app's parts.
        caller: The caller.
        named: The task that the body names.
        pointer: The place of that name.

    Raises:
        ApiError: 404, the tenant has no task; 422, it has several and none is named, or the name is no task's name.
        StoreUnavailable: The store does not answer.
    """
    if named:
        check_task_name(named, pointer)
        return named
    if caller.task is not None:
        return caller.task
    records = await parts.access.call(parts.access.store.tasks, caller.tenant, after="", limit=2)
    if not records:
        raise ApiError(404, "task_not_found", "there is no task yet: POST /v1/tasks/TASK/adapt makes one")
    if len(records) > 1:
        detail = (
            f"there are several tasks, and the request names none: name it in the header {TASK_HEADER}, in the address "
            f"(?{TASK_PARAMETER}=TASK), or behind the key (Authorization: Bearer KEY/TASK)"
        )
        raise ApiError(422, "task_needed", detail, errors=[FieldError(f"header/{TASK_HEADER}", detail)])
    return records[0].current.task


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predictions with a label for each query, and the headers that go with them."""

    response: PredictResponse
    headers: dict[str, str]


_ROUNDING = 1e-4
"""The difference of a sum of probabilities to 1 that says nothing."""


async def predicted(
    request: Request,
    tenant: str,
    task: str,
    queries: Sequence[Query],
    version: int | None = None,
    only_labels: list[str] | None = None,
) -> Predicted:
    """Predictions of a stored task, which never abstain: other APIs have no answer without a label.

    Raises:
        ApiError: 409, the task's answers are several labels, or a number.
    """
    asked = PredictRequest(queries=list(queries), abstain=False, version=version, only_labels=only_labels)
    answered = await unless_disconnected(request, predict(parts_of(request), tenant, task, asked))
    if any(each.labels is not None or not each.scores for each in answered.response.predictions):
        raise kind_not_served(task)
    headers = degraded_header(answered) | notes(answered.response.predictions)
    among = [_among_labels(each) for each in answered.response.predictions]
    return Predicted(answered.response.model_copy(update={"predictions": among}), headers)


def kind_not_served(task: str) -> ApiError:
    """The refusal of a task whose answers are not one label."""
    detail = (
        f"task {task!r} answers with several labels or a number, and this API's answers have one label: ask "
        f"POST /v1/tasks/{task}/predict"
    )
    return ApiError(409, "kind_not_served", detail)


def _among_labels(prediction: Prediction) -> Prediction:
    """The prediction with probabilities that sum to 1, also where a part of them is out of scope."""
    total = sum(prediction.scores.values())
    if total > 1 - _ROUNDING:
        return prediction
    scores = {label: score / total for label, score in prediction.scores.items()}
    return prediction.model_copy(update={"scores": scores, "confidence": prediction.confidence / total})


def notes(predictions: Sequence[Prediction]) -> dict[str, str]:
    """Headers that list the queries that were cut and those that could not be read, which other APIs cannot tell."""
    found = {
        "Handful-Truncated": [i for i, each in enumerate(predictions) if each.truncated],
        "Handful-Unreadable": [i for i, each in enumerate(predictions) if each.unreadable],
    }
    return {
        name: ",".join(map(str, places[:_MAX_LISTED])) + ",…" * (len(places) > _MAX_LISTED)
        for name, places in found.items()
        if places
    }


def refuse_truncated(predictions: Sequence[Prediction], advice: str) -> None:
    """Refuses a request with texts that were cut, which the caller asked for.

    Raises:
        InvalidContent: A text was cut.
    """
    detail = f"the text is longer than the encoder reads: shorten it, or {advice}"
    faults = [Fault(("queries", i), detail) for i, each in enumerate(predictions) if each.truncated]
    if faults:
        raise InvalidContent("text_too_long", faults)


def checkpoint_of(parts: Parts, model: str | None) -> tuple[str | None, str | None]:
    """The loaded checkpoint of a name, and a warning where another API's name means none: the default one adapts."""
    if model is None or model in {each.checkpoint.manifest.name for each in parts.engine.checkpoints}:
        return model, None
    return None, "model names no loaded checkpoint: the default one was adapted"


async def body_bytes(request: Request, *, too_large: str = "") -> bytes:
    """The body of a request.

    Raises:
        ApiError: 413, 415 or 422, as for our own routes.
    """
    check_media_type(request.headers.get("content-type", ""))
    return await bounded_body(request, parts_of(request).settings.max_body_bytes, too_large=too_large)


def parsed(model: type[Body], data: bytes) -> Body:
    """A body as a model.

    Raises:
        ApiError: 422, with every fault.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        check_utf8(data)
        raise invalid_content(field_errors(error)) from None


def keys_of(data: bytes) -> frozenset[str]:
    """The keys of a body that is an object; none of another body."""
    try:
        body = from_json(data)
    except ValueError:
        return frozenset()
    return frozenset(body) if isinstance(body, dict) else frozenset()


def answer(content: BaseModel | Sequence[Any] | Content, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer in ASCII."""
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json")
    return Response(json.dumps(content), media_type="application/json", headers=dict(headers or {}))


def error_answer(error: ApiError, shape: ErrorShape, fields: Fields) -> Response:
    """An error in a door's own shape, with the places of the door's own request."""
    content = json.dumps(shape(in_fields(error, fields)))
    return Response(content, status_code=error.status, headers=error.headers, media_type="application/json")


def in_fields(error: ApiError, fields: Fields) -> ApiError:
    """An error with the places of a door's own request."""
    moved = [replace(each, pointer=_moved(each.pointer, fields)) for each in error.errors]
    detail = error.detail
    if error.errors and detail.startswith(f"{error.errors[0].pointer}: "):
        detail = moved[0].pointer + detail[len(error.errors[0].pointer) :]
    return ApiError(error.status, error.code, detail, errors=moved)


def _moved(pointer: str, fields: Fields) -> str:
    ours = next((each for each in fields if pointer == each or pointer.startswith(f"{each}/")), None)
    return pointer if ours is None else fields[ours] + pointer[len(ours) :]


async def in_shape(
    request: Request, work: Coroutine[Any, Any, Response], shape: ErrorShape, fields: Fields
) -> Response:
    """The answer of a door, errors included."""
    try:
        return await work
    except Exception as error:
        return error_answer(to_api_error(error, request.state.request_id), shape, fields)


def door_route(shape: ErrorShape, fields: Fields) -> type[APIRoute]:
    """The class of a door's routes.

    Args:
        shape: Makes the content of an error's answer.
        fields: Pointers of our own requests, and those of the door's.
    """

    class DoorRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await in_shape(request, handler(request), shape, fields)

            return handle

    return DoorRoute


def documented(*models: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI entry of a body of one of several forms; ``create_app`` adds the models to the components."""
    schemas = [{"$ref": f"#/components/schemas/{model.__name__}"} for model in models]
    schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
