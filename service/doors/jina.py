"""The door of Jina's classifier: ``/v1/train``, ``/v1/classify`` with ``classifier_id`` or ``labels``, the list."""

import json
import uuid
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import FailFast, Field
from starlette.responses import Response

from handful.wire import TASK_PATTERN, AdaptRequest, AnyExample, ClassifyRequest, LabelledText, Prediction
from handful.wire_examples import AddExamplesRequest
from service.doors.door import (
    REFUSALS,
    Caller,
    Content,
    DoorAnswer,
    DoorCaller,
    DoorRequest,
    answer,
    body_bytes,
    check_task_name,
    checkpoint_of,
    documented,
    door_route,
    notes,
    parsed,
    predicted,
)
from service.errors import ApiError
from service.routes.disconnecting import unless_disconnected
from service.routes.request import SEND_FEWER_EXAMPLES, AppParts, TaskName, idempotent_request, parts_of
from service.routes.versions import PageLimit
from service.tasks.adapt import adapt
from service.tasks.classify import classify as classify_at_once
from service.tasks.errors import Fault, InvalidContent
from service.tasks.examples import add_examples
from service.tasks.versions import delete_task, list_tasks

WARNING_HEADER = "Handful-Warning"


class JinaExample(DoorRequest):
    """A labelled text."""

    text: str
    label: str


class JinaText(DoorRequest):
    """A text."""

    text: str


class JinaTrainRequest(DoorRequest):
    """Examples for a new classifier, or for one that is there."""

    classifier_id: str | None = Field(None, description="The task to add the examples to; a new one where missing.")
    model: str | None = Field(
        None, description="For a new one, the loaded checkpoint to adapt from; another name takes the default one."
    )
    access: Literal["private", "public"] | None = Field(None, description="Tasks are private: public is refused.")
    num_iters: int | None = Field(None, ge=1, description="Changes nothing: the checkpoint decides.")
    input: Annotated[list[JinaExample], FailFast()]


class JinaUsage(DoorAnswer):
    """The tokens of a request, which are not counted here."""

    total_tokens: Literal[0] = 0


class JinaTrainAnswer(DoorAnswer):
    """The classifier, which is a task."""

    classifier_id: str
    num_samples: int
    usage: JinaUsage = JinaUsage()


class JinaClassifyRequest(DoorRequest):
    """Texts for a classifier, or labels to classify by their names alone."""

    classifier_id: str | None = Field(None, description="The task.")
    model: str | None = Field(None, description="With labels, a loaded checkpoint; another name takes the default one.")
    labels: list[str] | None = Field(None, description="Labels whose names are all that is known of them.")
    input: Annotated[list[str | JinaText], FailFast()]


class JinaPrediction(DoorAnswer):
    """A label and its probability."""

    label: str
    score: float


class JinaClassification(DoorAnswer):
    """The prediction for one text."""

    object: Literal["classification"] = "classification"
    index: int
    prediction: str
    score: float
    predictions: list[JinaPrediction]


class JinaClassifyAnswer(DoorAnswer):
    """Predictions as Jina gives them."""

    usage: JinaUsage = JinaUsage()
    data: list[JinaClassification]


class JinaClassifier(DoorAnswer):
    """A task as a classifier."""

    classifier_id: str
    model_name: str = Field(description="Fingerprint of the checkpoint.")
    labels: list[str]
    access: Literal["private"] = "private"
    updated_number: int = Field(description="The newest version.")
    used_number: None = None
    created_at: datetime
    updated_at: datetime
    used_at: None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class JinaClassifiers(DoorAnswer):
    """A page of the tenant's tasks as classifiers, by name."""

    classifiers: list[JinaClassifier]
    next: str | None


class JinaDeleted(DoorAnswer):
    """A classifier that was deleted."""

    classifier_id: str
    message: str


FIELDS = {"#/queries": "#/input", "#/support": "#/input", "#/examples": "#/input", "#/checkpoint": "#/model"}


def error_content(error: ApiError) -> Content:
    """An error as Jina has it, with our own code beside it."""
    return {"detail": error.detail, "code": error.code}


router = APIRouter(prefix="/v1", route_class=door_route(error_content, FIELDS), responses=REFUSALS, tags=["doors"])


@router.post("/train", response_model=JinaTrainAnswer, openapi_extra=documented(JinaTrainRequest))
async def door_train(caller: DoorCaller, parts: AppParts, request: Request) -> Response:
    """Makes a task, or adds examples to one, as Jina trains a classifier."""
    asked = parsed(JinaTrainRequest, await body_bytes(request, too_large=SEND_FEWER_EXAMPLES))
    if (asked.classifier_id is None) == (asked.model is None):
        _refuse("give model for a new classifier, or classifier_id to add examples to one", "classifier_id")
    if asked.access == "public":
        _refuse("a task is its tenant's alone: leave access out", "access")
    examples: list[AnyExample] = [LabelledText(text=each.text, label=each.label) for each in asked.input]
    idempotent = idempotent_request(request, asked)
    headers = {}
    if asked.classifier_id is not None:
        check_task_name(asked.classifier_id, "#/classifier_id")
        added = AddExamplesRequest(examples=examples)
        committed = await add_examples(parts, caller.tenant, asked.classifier_id, added, idempotent)
    else:
        checkpoint, warning = checkpoint_of(parts, asked.model)
        headers = {WARNING_HEADER: warning} if warning else {}
        adapted = AdaptRequest(support=examples, checkpoint=checkpoint)
        committed = await adapt(parts, caller.tenant, str(uuid.uuid4()), adapted, idempotent)
    task = json.loads(committed.json)["task"]
    return answer(JinaTrainAnswer(classifier_id=task, num_samples=len(examples)), headers)


@router.get("/classifiers", response_model=JinaClassifiers)
async def list_classifiers(
    caller: DoorCaller,
    parts: AppParts,
    limit: PageLimit = 1000,
    after: Annotated[str | None, Query(pattern=TASK_PATTERN, description="`next` of the page before.")] = None,
) -> Response:
    """The tenant's tasks as Jina lists classifiers."""
    page = await list_tasks(parts, caller.tenant, after=after, limit=limit)
    found = [
        JinaClassifier(
            classifier_id=task.task,
            model_name=task.checkpoint,
            labels=task.labels,
            updated_number=task.version,
            created_at=task.task_created_at,
            updated_at=task.created_at,
        )
        for task in page.tasks
    ]
    return answer(JinaClassifiers(classifiers=found, next=page.next))


@router.delete("/classifiers/{task}", response_model=JinaDeleted)
async def delete_classifier(task: TaskName, caller: DoorCaller, parts: AppParts) -> Response:
    """Removes a task with all its versions and texts."""
    await delete_task(parts, caller.tenant, task)
    return answer(JinaDeleted(classifier_id=task, message="deleted"))


async def classify(request: Request, caller: Caller, data: bytes) -> Response:
    """Predictions for a body with ``input``, and ``classifier_id`` or ``labels``."""
    asked = parsed(JinaClassifyRequest, data)
    parts = parts_of(request)
    texts = [each if isinstance(each, str) else each.text for each in asked.input]
    if (asked.classifier_id is None) == (asked.labels is None):
        _refuse("give classifier_id, or labels to classify by their names alone", "classifier_id")
    if asked.classifier_id is not None:
        check_task_name(asked.classifier_id, "#/classifier_id")
        found = await predicted(request, caller.tenant, asked.classifier_id, texts)
        return answer(_answer(found.response.predictions), found.headers)
    checkpoint, warning = checkpoint_of(parts, asked.model)
    labels = {label: label for label in asked.labels or ()}
    ours = ClassifyRequest(labels=labels, queries=list(texts), abstain=False, checkpoint=checkpoint)
    classified = await unless_disconnected(request, classify_at_once(parts, caller.tenant, ours))
    headers = notes(classified.predictions) | ({WARNING_HEADER: warning} if warning else {})
    return answer(_answer(classified.predictions), headers)


def _answer(predictions: list[Prediction]) -> JinaClassifyAnswer:
    data = []
    for i, each in enumerate(predictions):
        scores = [JinaPrediction(label=label, score=score) for label, score in each.scores.items()]
        top = max(scores, key=lambda found: found.score)
        data.append(JinaClassification(index=i, prediction=top.label, score=top.score, predictions=scores))
    return JinaClassifyAnswer(data=data)


def _refuse(detail: str, field: str) -> None:
    raise InvalidContent("invalid_request", [Fault((field,), detail)])
