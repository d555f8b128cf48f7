"""The door of the Open Inference Protocol, version 2, as KServe and Triton speak it: ``/v2`` with tasks as models."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import Response

from handful.wire import Prediction, TaskResponse, VersionResponse
from handful.wire_query import Query, TextPair
from metalearn.kinds import KINDS
from service.doors.door import (
    REFUSALS,
    Caller,
    Content,
    DoorAnswer,
    DoorCaller,
    DoorRequest,
    answer,
    documented,
    door_route,
    kind_not_served,
    parsed,
    predicted,
)
from service.doors.tensors import InputTensor, OutputTensor, texts_of
from service.errors import ApiError, FieldError, invalid_content
from service.routes.request import AppParts, TaskName, parts_of
from service.routes.request_body import bounded_body, check_media_type
from service.tasks.errors import Fault, InvalidContent
from service.tasks.status import readiness
from service.tasks.versions import list_versions, show_task, show_version

HEADER_LENGTH = "Inference-Header-Content-Length"
"""The header with the bytes of the JSON, where further bytes follow it."""

_BINARY = "application/octet-stream"
_PAIR_ADVICE = {
    "text_pair_missing": "the task was adapted on pairs: give two tensors, text and text_pair",
    "text_pair_unexpected": "the task was adapted on single texts: give one tensor, text",
}
_MOST_VERSIONS = 100

VersionNumber = Annotated[int, Path(ge=1, lt=2**63, description="A version's number.")]


class RequestedOutput(DoorRequest):
    """A tensor that the answer is to have."""

    name: str = Field(description="label, probabilities or labels.")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="binary_data: whether its elements stand behind the JSON. classification, of probabilities: a "
        "number n, for the n most probable classes as strings `probability:index:label`.",
    )


class InferRequest(DoorRequest):
    """Texts for a task, as tensors."""

    id: str | None = Field(None, description="The answer repeats it.")
    parameters: dict[str, Any] = Field(
        default_factory=dict,
        description="binary_data_output: whether all elements of the answer stand behind the JSON. Others change "
        "nothing.",
    )
    inputs: list[InputTensor] = Field(min_length=1, max_length=2, description="The texts; of pairs a tensor each.")
    outputs: list[RequestedOutput] | None = Field(None, description="All tensors where it is missing.")


class TensorMetadata(DoorAnswer):
    """The name, type and shape of a tensor; -1 is any number."""

    name: str
    datatype: str
    shape: list[int]


class Tensor(TensorMetadata):
    """A tensor of an answer."""

    parameters: dict[str, Any] | None = Field(None, exclude_if=lambda each: each is None)
    data: list[str] | list[float] | None = Field(None, exclude_if=lambda each: each is None)


class InferAnswer(DoorAnswer):
    """Predictions as tensors."""

    model_name: str
    model_version: str
    id: str
    outputs: list[Tensor]


class ModelMetadata(DoorAnswer):
    """A task as a model."""

    name: str
    versions: list[str] = Field(description="The newest versions that are there, at most 100.")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    labels: list[str] = Field(description="The labels, in the order of `probabilities`.")


class ModelReady(DoorAnswer):
    """Whether a model can answer."""

    name: str
    ready: bool


class ServerMetadata(DoorAnswer):
    """The server, as it describes itself."""

    name: str
    version: str
    extensions: list[str]


class ServerHealth(DoorAnswer):
    """The health of the server."""

    live: bool
    ready: bool | None = Field(None, exclude_if=lambda each: each is None)


FIELDS = {"#/queries": "#/inputs/0/data"}


def error_content(error: ApiError) -> Content:
    """An error as the protocol has it, with our own code beside it."""
    return {"error": error.detail, "code": error.code}


router = APIRouter(prefix="/v2", route_class=door_route(error_content, FIELDS), responses=REFUSALS, tags=["doors"])
_INFERRED: dict[str, Any] = {
    "response_model": InferAnswer,
    "responses": {200: {"content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}}}},
    "openapi_extra": documented(InferRequest),
}


@router.get("", response_model=ServerMetadata, include_in_schema=False)
async def show_server(request: Request) -> Response:
    """The server's name, version and extensions."""
    extensions = ["binary_tensor_data", "classification"]
    return answer(ServerMetadata(name="handful", version=request.app.version, extensions=extensions))


@router.get("/health/live", response_model=ServerHealth, include_in_schema=False)
async def server_live(parts: AppParts) -> Response:
    """Whether this process can still compute."""
    return _health(ServerHealth(live=parts.engine.alive))


@router.get("/health/ready", response_model=ServerHealth, include_in_schema=False)
async def server_ready(request: Request, parts: AppParts) -> Response:
    """Whether requests should be sent here now."""
    checks = await readiness(parts, draining=request.app.state.draining, without_store=False)
    return _health(ServerHealth(live=parts.engine.alive, ready=all(checks.values())))


@router.get("/models/{task}", response_model=ModelMetadata)
async def show_model_metadata(task: TaskName, caller: DoorCaller, parts: AppParts) -> Response:
    """A task and its tensors."""
    return await _metadata(parts, caller, await _model(parts, caller, task))


@router.get("/models/{task}/versions/{version}", response_model=ModelMetadata)
async def show_version_metadata(
    task: TaskName, version: VersionNumber, caller: DoorCaller, parts: AppParts
) -> Response:
    """A task and the tensors of one version."""
    return await _metadata(parts, caller, await _model(parts, caller, task, version))


@router.get("/models/{task}/ready", response_model=ModelReady)
async def model_ready(task: TaskName, caller: DoorCaller, parts: AppParts) -> Response:
    """Whether the task is there."""
    return answer(ModelReady(name=(await _model(parts, caller, task)).task, ready=True))


@router.get("/models/{task}/versions/{version}/ready", response_model=ModelReady)
async def version_ready(task: TaskName, version: VersionNumber, caller: DoorCaller, parts: AppParts) -> Response:
    """Whether the version is there."""
    return answer(ModelReady(name=(await _model(parts, caller, task, version)).task, ready=True))


@router.post("/models/{task}/infer", **_INFERRED)
async def infer(task: TaskName, caller: DoorCaller, request: Request) -> Response:
    """Classifies texts with the task's newest version."""
    return await _inferred(request, caller, task, None)


@router.post("/models/{task}/versions/{version}/infer", **_INFERRED)
async def infer_with_version(task: TaskName, version: VersionNumber, caller: DoorCaller, request: Request) -> Response:
    """Classifies texts with one version of the task."""
    return await _inferred(request, caller, task, version)


def _health(health: ServerHealth) -> Response:
    found = answer(health)
    if not health.live or health.ready is False:
        found.status_code = 503
        found.headers["Retry-After"] = "1"
    return found


async def _model(
    parts: AppParts, caller: Caller, task: str, version: int | None = None
) -> TaskResponse | VersionResponse:
    """A version whose answers are one label.

    Raises:
        ApiError: 409, its answers are several labels, or a number.
    """
    found: TaskResponse | VersionResponse
    if version is None:
        found = await show_task(parts, caller.tenant, task)
    else:
        found = await show_version(parts, caller.tenant, task, version)
    if KINDS[found.kind].answer != "label":
        raise kind_not_served(task)
    return found


async def _metadata(parts: AppParts, caller: Caller, found: TaskResponse | VersionResponse) -> Response:
    page = await list_versions(parts, caller.tenant, found.task, before=None, limit=_MOST_VERSIONS)
    count = len(found.labels)
    return answer(
        ModelMetadata(
            name=found.task,
            versions=[str(each.version) for each in reversed(page.versions)],
            platform="handful",
            inputs=[TensorMetadata(name="text", datatype="BYTES", shape=[-1])],
            outputs=[
                TensorMetadata(name="label", datatype="BYTES", shape=[-1]),
                TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, count]),
                TensorMetadata(name="labels", datatype="BYTES", shape=[count]),
            ],
            labels=sorted(found.labels),
        )
    )


async def _inferred(request: Request, caller: Caller, task: str, version: int | None) -> Response:
    content_type = request.headers.get("content-type", "")
    if content_type and not content_type.lower().startswith(_BINARY):  # Triton's client sends none
        check_media_type(content_type)
    data = await bounded_body(request, parts_of(request).settings.max_body_bytes)
    header, behind = _parts_of_body(request, data)
    asked = parsed(InferRequest, header)
    queries = _queries(asked.inputs, texts_of(asked.inputs, behind))
    wanted = _wanted(asked)
    try:
        found = await predicted(request, caller.tenant, task, queries, version)
    except InvalidContent as error:
        if error.code not in _PAIR_ADVICE:
            raise
        raise InvalidContent(error.code, [Fault(("inputs",), _PAIR_ADVICE[error.code])]) from None
    tensors = {each.name: each for each in _tensors(found.response.predictions, tuple(asked.inputs[0].shape))}
    written = [_output(tensors, each).written(binary=bool(each.parameters.get("binary_data"))) for each in wanted]
    content = {
        "model_name": task,
        "model_version": str(found.response.version),
        "id": request.state.request_id if asked.id is None else asked.id,
        "outputs": [tensor for tensor, _ in written],
    }
    if not any("parameters" in tensor for tensor, _ in written):
        return answer(content, found.headers)
    encoded = json.dumps(content).encode()
    return Response(
        b"".join([encoded, *(elements for _, elements in written)]),
        media_type=_BINARY,
        headers={**found.headers, HEADER_LENGTH: str(len(encoded))},
    )


def _parts_of_body(request: Request, data: bytes) -> tuple[bytes, bytes]:
    """The JSON of a body, and the bytes behind it."""
    given = request.headers.get(HEADER_LENGTH)
    if given is None:
        return data, b""
    if not given.isdecimal() or len(given) > 18 or int(given) > len(data):
        detail = f"the header is the number of bytes of the JSON, and the body has {len(data)}"
        raise invalid_content([FieldError(f"header/{HEADER_LENGTH}", detail)])
    return data[: int(given)], data[int(given) :]


def _queries(tensors: Sequence[InputTensor], texts: Sequence[list[str]]) -> Sequence[Query]:
    """The texts of one tensor, or the pairs of two."""
    if len(tensors) == 1:
        return texts[0]
    by_name = {tensor.name: each for tensor, each in zip(tensors, texts, strict=True)}
    if set(by_name) != {"text", "text_pair"}:
        raise InvalidContent("invalid_request", [Fault(("inputs",), "two tensors are named text and text_pair")])
    if len(texts[0]) != len(texts[1]):
        detail = "text and text_pair have a text each for a pair: give as many of the one as of the other"
        raise InvalidContent("invalid_request", [Fault(("inputs", 1, "shape"), detail)])
    pairs = zip(by_name["text"], by_name["text_pair"], strict=True)
    return [TextPair(text=text, text_pair=text_pair) for text, text_pair in pairs]


_OUTPUTS = ("label", "probabilities", "labels")


def _wanted(asked: InferRequest) -> list[RequestedOutput]:
    """The tensors of the answer, each with whether its elements stand behind the JSON."""
    everywhere = {"binary_data": bool(asked.parameters.get("binary_data_output"))}
    if asked.outputs is None:
        return [RequestedOutput(name=name, parameters=everywhere) for name in _OUTPUTS]
    for i, each in enumerate(asked.outputs):
        if each.name not in _OUTPUTS:
            detail = f"there is no such tensor: the outputs are {', '.join(_OUTPUTS)}"
            raise InvalidContent("invalid_request", [Fault(("outputs", i, "name"), detail)])
        count = each.parameters.get("classification")
        if count is not None and (each.name != "probabilities" or type(count) is not int or count < 1):
            detail = "classification is a number of classes, 1 or more, and one of the tensor probabilities"
            raise InvalidContent("invalid_request", [Fault(("outputs", i, "parameters", "classification"), detail)])
    return [RequestedOutput(name=each.name, parameters={**everywhere, **each.parameters}) for each in asked.outputs]


def _tensors(predictions: Sequence[Prediction], shape: tuple[int, ...]) -> list[OutputTensor]:
    labels = sorted(predictions[0].scores)
    best = [max(each.scores, key=each.scores.__getitem__) for each in predictions]
    probabilities = [each.scores[label] for each in predictions for label in labels]
    return [
        OutputTensor("label", shape, best),
        OutputTensor("probabilities", (len(predictions), len(labels)), probabilities),
        OutputTensor("labels", (len(labels),), labels),
    ]


def _output(tensors: dict[str, OutputTensor], wanted: RequestedOutput) -> OutputTensor:
    """A tensor as it is asked for."""
    found, count = tensors[wanted.name], wanted.parameters.get("classification")
    if count is None:
        return found
    rows, classes = found.shape
    labels = tensors["labels"].data
    data: list[str] = []
    for row in range(rows):
        values = found.data[row * classes : (row + 1) * classes]
        order = sorted(range(classes), key=lambda i: values[i], reverse=True)[:count]
        data += [f"{values[i]:f}:{i}:{labels[i]}" for i in order]
    return OutputTensor(found.name, (rows, min(count, classes)), data)
