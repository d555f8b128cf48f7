"""The doors of vLLM and SGLang: ``{"model", "input"}``, and the list of models as OpenAI has it."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import Field, WithJsonSchema
from starlette.responses import Response

from handful.wire import TASK_PATTERN, TaskResponse
from service.doors.door import (
    REFUSALS,
    Caller,
    Content,
    DoorAnswer,
    DoorCaller,
    DoorRequest,
    answer,
    door_route,
    parsed,
    predicted,
    task_of,
)
from service.errors import ApiError
from service.routes.request import AppParts, TaskName, parts_of
from service.routes.versions import PageLimit
from service.tasks.errors import Fault, InvalidContent
from service.tasks.versions import list_tasks, show_task

_INPUT_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}


class ClassifyInput(DoorRequest):
    """Texts for a task, as vLLM and SGLang take them."""

    model: str | None = Field(
        None, description="The task; where it is missing, the one that header or key names, or the tenant's only one."
    )
    input: Annotated[Any, WithJsonSchema(_INPUT_SCHEMA)] = Field(description="A text, or a list of texts.")
    user: str | None = Field(None, description="Changes nothing.")
    priority: int | None = Field(None, description="Changes nothing.")
    request_id: str | None = Field(None, description="Changes nothing.")
    add_special_tokens: bool | None = Field(None, description="Changes nothing.")


class ClassifyDatum(DoorAnswer):
    """The answer for one text."""

    index: int
    label: str
    probs: list[float] = Field(description="Probabilities of the task's sorted labels.")
    num_classes: int


class Usage(DoorAnswer):
    """The tokens of a request, which are not counted here."""

    prompt_tokens: Literal[0] = 0
    total_tokens: Literal[0] = 0
    completion_tokens: Literal[0] = 0
    prompt_tokens_details: None = None


class ClassifyAnswer(DoorAnswer):
    """Predictions as vLLM and SGLang give them."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ClassifyDatum]
    usage: Usage = Usage()


class OpenAIModel(DoorAnswer):
    """A task as a model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["handful"] = "handful"
    labels: list[str] = Field(description="The labels, in the order of `probs`.")
    version: int


class OpenAIModelList(DoorAnswer):
    """A page of the tenant's tasks as models, by name."""

    object: Literal["list"] = "list"
    data: list[OpenAIModel]
    has_more: bool


_TYPES: Mapping[int, str] = {401: "AuthenticationError", 404: "NotFoundError", 422: "BadRequestError"}
FIELDS = {"#/queries": "#/input"}


def error_content(error: ApiError) -> Content:
    """An error as OpenAI's clients read it."""
    kind = _TYPES.get(error.status, "InternalServerError" if error.status >= 500 else "BadRequestError")
    param = error.errors[0].pointer if error.errors else None
    return {"error": {"message": error.detail, "type": kind, "param": param, "code": error.code}}


router = APIRouter(
    prefix="/v1/models", route_class=door_route(error_content, FIELDS), responses=REFUSALS, tags=["doors"]
)


@router.get("", response_model=OpenAIModelList)
async def list_models(
    caller: DoorCaller,
    parts: AppParts,
    limit: PageLimit = 1000,
    after: Annotated[str | None, Query(pattern=TASK_PATTERN, description="The last id of the page before.")] = None,
) -> Response:
    """The tenant's tasks as OpenAI lists models."""
    page = await list_tasks(parts, caller.tenant, after=after, limit=limit)
    return answer(OpenAIModelList(data=[_model(task) for task in page.tasks], has_more=page.next is not None))


@router.get("/{task}", response_model=OpenAIModel)
async def show_model(task: TaskName, caller: DoorCaller, parts: AppParts) -> Response:
    """A task as OpenAI shows a model."""
    return answer(_model(await show_task(parts, caller.tenant, task)))


def _model(task: TaskResponse) -> OpenAIModel:
    created = int(task.task_created_at.timestamp())
    return OpenAIModel(id=task.task, created=created, labels=sorted(task.labels), version=task.version)


async def classify(request: Request, caller: Caller, data: bytes) -> Response:
    """Predictions for a body ``{"model", "input"}``."""
    asked = parsed(ClassifyInput, data)
    texts = texts_of(asked.input)
    task = await task_of(parts_of(request), caller, asked.model)
    found = await predicted(request, caller.tenant, task, texts)
    data_of_texts = []
    for i, each in enumerate(found.response.predictions):
        probabilities = [each.scores[label] for label in sorted(each.scores)]
        label = max(each.scores, key=each.scores.__getitem__)
        data_of_texts.append(ClassifyDatum(index=i, label=label, probs=probabilities, num_classes=len(probabilities)))
    content = ClassifyAnswer(
        id=f"classify-{request.state.request_id}", created=int(time.time()), model=task, data=data_of_texts
    )
    return answer(content, found.headers)


def texts_of(given: Any) -> Sequence[str]:
    """The texts of ``input``.

    Raises:
        InvalidContent: It is neither a text nor a list of texts.
    """
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return texts
    detail = "input is a text or a list of texts"
    if isinstance(texts, list) and any(isinstance(each, int | list) for each in texts):
        detail += "; token ids are not read here, since a task's encoder has a tokenizer of its own"
    raise InvalidContent("invalid_request", [Fault(("input",), detail)])
