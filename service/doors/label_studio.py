"""The door of Label Studio: a machine-learning backend for a task, under ``/label-studio/{task}``.

Predictions stand beside the texts that wait for a label, and each annotation becomes an example. A task that is absent
starts from the names of the interface's choices.

Source: the requests of Label Studio's connector and webhooks, and the answers of label-studio-ml's own server.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from handful.wire import AdaptRequest, AnyExample, LabelledText, Prediction, PredictRequest
from handful.wire_kinds import MultiLabelText
from model_store.records import Version
from service.doors.door import (
    REFUSALS,
    Caller,
    Content,
    DoorCaller,
    answer,
    body_bytes,
    documented,
    door_route,
    parsed,
    predicted,
)
from service.doors.label_config import ChoicesControl, choices_control
from service.doors.label_studio_bodies import (
    BackendHealth,
    LabelStudioAnnotation,
    LabelStudioPrediction,
    LabelStudioPredictions,
    LabelStudioPredictRequest,
    LabelStudioTask,
    Name,
    SetupAnswer,
    SetupRequest,
    WebhookAnswer,
    WebhookRequest,
)
from service.errors import ApiError
from service.routes.disconnecting import unless_disconnected
from service.routes.request import AppParts, TaskName, parts_of
from service.tasks.adapt import adapt
from service.tasks.app_parts import Parts
from service.tasks.errors import ExampleNotFound, Fault, InvalidContent, TaskNotFound
from service.tasks.examples import erase_example
from service.tasks.idempotency import IdempotentRequest
from service.tasks.kept_support import load_kept_support
from service.tasks.labels import is_blank
from service.tasks.predict import predict
from service.tasks.put_examples import despite_races, put_examples

_NEW = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")
_GONE = {"ANNOTATIONS_DELETED": "annotations", "ANNOTATION_DELETED": "annotation", "TASKS_DELETED": "tasks"}
_TRAINING = "START_TRAINING"
_PREFIX = "label-studio"
"""The first part of the ids of examples; the others are the task's and the annotation's of Label Studio."""

FIELDS = {"#/queries": "#/tasks", "#/examples": "#/annotation"}


def error_content(error: ApiError) -> Content:
    """An error as Label Studio shows it, with our own code beside it."""
    return {"status": "error", "error": error.detail, "code": error.code}


router = APIRouter(
    prefix="/label-studio/{task}",
    route_class=door_route(error_content, FIELDS),
    responses=REFUSALS,
    tags=["doors"],
)


@router.get("", response_model=BackendHealth, name="label_studio_root")
@router.get("/", response_model=BackendHealth, name="label_studio_root_with_slash")
@router.get("/health", response_model=BackendHealth, name="label_studio_health")
async def label_studio_health(task: TaskName, caller: DoorCaller) -> Response:
    """Whether the backend is there and the key is right; the task may still be absent."""
    return answer(BackendHealth())


@router.post("/setup", response_model=SetupAnswer, openapi_extra=documented(SetupRequest))
async def label_studio_setup(task: TaskName, caller: DoorCaller, request: Request) -> Response:
    """Connects a project. An absent task starts from the names of the interface's choices."""
    asked = parsed(SetupRequest, await body_bytes(request))
    control = choices_control(asked.label_config, task, "schema")
    version = await _started(parts_of(request), caller, task, control)
    return answer(SetupAnswer(model_version=_model_version(task, version)))


@router.post("/predict", response_model=LabelStudioPredictions, openapi_extra=documented(LabelStudioPredictRequest))
async def label_studio_predict(task: TaskName, caller: DoorCaller, request: Request) -> Response:
    """Predictions for tasks of a project."""
    asked = parsed(LabelStudioPredictRequest, await body_bytes(request))
    control = choices_control(asked.label_config, task, "label_config")
    texts = [_text(control, each, "tasks", i) for i, each in enumerate(asked.tasks)]
    version = await _started(parts_of(request), caller, task, control)
    there = [i for i, text in enumerate(texts) if not is_blank(text)]
    results = [_prediction(task, version, control, None) for _ in texts]
    headers: Mapping[str, str] = {}
    if there and version is not None:
        found, headers = await _predicted(request, caller, control, version, [texts[i] for i in there])
        for i, prediction in zip(there, found, strict=True):
            results[i] = _prediction(task, version, control, prediction)
    name = _model_version(task, version)
    return answer(LabelStudioPredictions(results=results, model_version=name), headers)


@router.post(
    "/webhook",
    status_code=201,
    response_model=WebhookAnswer,
    responses={200: {"model": WebhookAnswer, "description": "An action that no example follows from"}},
    openapi_extra=documented(WebhookRequest),
)
async def label_studio_webhook(task: TaskName, caller: DoorCaller, parts: AppParts, request: Request) -> Response:
    """Appends, replaces or erases the examples of annotations that were made, changed or deleted."""
    asked = parsed(WebhookRequest, await body_bytes(request))
    if asked.action in _GONE:
        result = await _erased(parts, caller, task, asked)
    elif asked.action in _NEW:
        result = await _put(parts, caller, task, asked)
    elif asked.action == _TRAINING:
        result = {"detail": "every annotation adapts the task when it is made: there is nothing to train"}
    else:
        done = WebhookAnswer(status="ignored", result={"detail": "no example follows from this action"})
        return answer(done)
    response = answer(WebhookAnswer(status="ok", result={"task": task, **result}))
    response.status_code = 201
    return response


async def _started(
    parts: Parts, caller: Caller, task: str, control: ChoicesControl, examples: Sequence[AnyExample] = ()
) -> Version | None:
    """The newest version of the task; of an absent one the first, adapted on the names of its choices.

    A task whose texts have several labels starts from examples alone: None while there are none.
    """
    store, call = parts.access.store, parts.access.call
    record = await call(store.task, caller.tenant, task)
    if record is None:
        if control.multiple and not examples:
            return None
        asked = (
            AdaptRequest(support=list(examples), kind="multi_label")
            if control.multiple
            else AdaptRequest(labels=dict(control.descriptions))
        )
        # The same for all who find no task at once, so that one of them makes it
        key = hashlib.sha256(f"{_PREFIX}\0{task}".encode()).hexdigest()
        await adapt(parts, caller.tenant, task, asked, IdempotentRequest(key, _PREFIX))
        record = await call(store.task, caller.tenant, task)
    if record is None:
        raise TaskNotFound  # deleted meanwhile
    return record.current


async def _predicted(
    request: Request, caller: Caller, control: ChoicesControl, version: Version, texts: list[str]
) -> tuple[list[Prediction], Mapping[str, str]]:
    """Predictions whose labels are choices of the interface."""
    labels = [label for label in version.labels if label in control.choices]
    if not labels:
        detail = (
            f"none of the {len(version.labels)} labels of task {version.task!r} is a choice of the labelling "
            "interface: connect the project to a task with its choices as labels, or to a name that is not used yet"
        )
        raise InvalidContent("invalid_request", [Fault(("label_config",), detail)])
    if version.kind == "multi_label":
        asked = PredictRequest(queries=list(texts), abstain=False)
        several = await unless_disconnected(request, predict(parts_of(request), caller.tenant, version.task, asked))
        return several.response.predictions, {}
    only = labels if len(labels) < len(version.labels) and version.kind == "single_label" else None
    one = await predicted(request, caller.tenant, version.task, texts, only_labels=only)
    return one.response.predictions, one.headers


def _prediction(
    task: str, version: Version | None, control: ChoicesControl, found: Prediction | None
) -> LabelStudioPrediction:
    """A prediction; one without a result where there is nothing to say."""
    model_version = _model_version(task, version)
    if found is None:
        return LabelStudioPrediction(result=[], score=0.0, model_version=model_version)
    labels = found.labels if found.labels is not None else [found.label or ""]
    chosen = [control.choices[label] for label in labels if label in control.choices]
    result = {
        "from_name": control.name,
        "to_name": control.text,
        "type": "choices",
        "value": {"choices": chosen if control.multiple else chosen[:1]},
    }
    return LabelStudioPrediction(result=[result] if chosen else [], score=found.confidence, model_version=model_version)


def _model_version(task: str, version: Version | None) -> str:
    return f"{task}@{0 if version is None else version.version}"


async def _put(parts: Parts, caller: Caller, task: str, asked: WebhookRequest) -> Content:
    """Puts the examples of annotations, and erases those of annotations that have no answer any more."""
    annotations, tasks = _listed(asked.annotation), {each.id: each for each in _listed(asked.task)}
    if not annotations or asked.project is None:
        detail = "there is no annotation, or no project: let the webhook send its payload (Webhooks, Send payload)"
        raise InvalidContent("invalid_request", [Fault(("annotation",), detail)])
    control = choices_control(asked.project.label_config, task, "project/label_config")
    examples: list[AnyExample] = []
    empty: list[Name] = []
    for annotation in annotations:
        of_task = tasks.get(annotation.task) or (next(iter(tasks.values())) if len(tasks) == 1 else None)
        if of_task is None:
            detail = f"the annotation's task {annotation.task} is not in the request"
            raise InvalidContent("invalid_request", [Fault(("task",), detail)])
        labels = [] if annotation.was_cancelled else _chosen(control, annotation)
        if not labels:
            empty.append(annotation.id)
            continue
        text = _text(control, of_task, "task")
        name = f"{_PREFIX}.{of_task.id}.{annotation.id}"
        if control.multiple:
            examples.append(MultiLabelText(text=text, labels=labels, id=name))
        elif len(labels) > 1:
            detail = f"the annotation has {len(labels)} choices of {control.name!r}, which takes one"
            raise InvalidContent("invalid_request", [Fault(("annotation", "result"), detail)])
        else:
            examples.append(LabelledText(text=text, label=labels[0], id=name))
    result: Content = {"examples": len(examples)}
    if examples:
        await _started(parts, caller, task, control, examples)
        committed = await despite_races(partial(put_examples, parts, caller.tenant, task, examples))
        result |= {} if committed is None else _numbers(committed.json)
    if empty:
        result |= await _erase(parts, caller, task, {str(each) for each in empty}, place=2)
    return result


async def _erased(parts: Parts, caller: Caller, task: str, asked: WebhookRequest) -> Content:
    """Erases the examples of annotations, or of whole tasks, that were deleted."""
    kind = _GONE[asked.action]
    gone = _listed(getattr(asked, kind))
    if not gone:
        detail = f"there is no list of {kind}: let the webhook send its payload (Webhooks, Send payload)"
        raise InvalidContent("invalid_request", [Fault((kind,), detail)])
    return await _erase(parts, caller, task, {str(each.id) for each in gone}, place=1 if kind == "tasks" else 2)


async def _erase(parts: Parts, caller: Caller, task: str, names: set[str], *, place: int) -> Content:
    """Erases the examples whose ids have one of some names at a place: that of the task, or of the annotation."""
    try:
        kept = await load_kept_support(parts, caller.tenant, task)
    except TaskNotFound:
        return {"erased": 0}
    result: Content = {"erased": 0}
    for row in kept.rows:
        found = row.id.split(".")
        if len(found) != 3 or found[0] != _PREFIX or found[place] not in names:
            continue
        try:
            committed = await despite_races(partial(erase_example, parts, caller.tenant, task, row.id))
        except ExampleNotFound:  # another copy of the webhook came first
            continue
        result = {**_numbers(committed.json), "erased": result["erased"] + 1}
    return result


def _numbers(committed: str) -> Content:
    made = json.loads(committed)
    return {"version": made["version"], "n_support": made["n_support"]}


def _chosen(control: ChoicesControl, annotation: LabelStudioAnnotation) -> list[str]:
    """The choices of an annotation, each once."""
    found: dict[str, None] = {}
    for each in annotation.result:
        if each.get("from_name") == control.name and each.get("type") == "choices":
            value = each.get("value")
            choices = value.get("choices") if isinstance(value, dict) else None
            found |= dict.fromkeys(map(str, choices if isinstance(choices, list) else []))
    return list(found)


def _text(control: ChoicesControl, task: LabelStudioTask, *path: str | int) -> str:
    """The text of a task; empty where its field is."""
    value = task.data.get(control.field)
    if value is None and control.field in task.data:
        return ""
    if not isinstance(value, str | int | float):
        detail = (
            f"the task's data has no text in the field {control.field!r}, where the labelling interface looks for it"
        )
        raise InvalidContent("invalid_request", [Fault((*path, "data", control.field), detail)])
    return str(value)


def _listed(given: Any) -> list[Any]:
    return given if isinstance(given, list) else [] if given is None else [given]
