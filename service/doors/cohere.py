"""The door of Cohere: ``POST /v1/classify`` with ``inputs``, and with ``examples`` or a task."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Request
from pydantic import FailFast, Field
from starlette.responses import Response

from handful.wire import AnyExample, ClassifyRequest, LabelledText, Prediction
from service.doors.door import (
    Caller,
    Content,
    DoorAnswer,
    DoorRequest,
    answer,
    checkpoint_of,
    notes,
    parsed,
    predicted,
    refuse_truncated,
    task_of,
)
from service.errors import ApiError
from service.routes.disconnecting import unless_disconnected
from service.routes.request import parts_of
from service.tasks.classify import classify as classify_at_once
from service.tasks.errors import Fault, InvalidContent


class CohereExample(DoorRequest):
    """A labelled text."""

    text: str
    label: str


class CohereClassifyRequest(DoorRequest):
    """Texts, and examples to adapt on for this one request, or the task that answers."""

    inputs: Annotated[list[str], FailFast()] = Field(description="Texts to classify.")
    examples: list[CohereExample] | None = Field(
        None, description="Examples to adapt on; nothing is stored. Where it is missing, a task answers."
    )
    model: str | None = Field(
        None, description="Without examples, the task. With examples, a loaded checkpoint; another name is not used."
    )
    preset: str | None = Field(None, description="There are none here: refused.")
    truncate: Literal["NONE", "START", "END"] = Field(
        "END",
        description="NONE refuses texts that are longer than the encoder reads; else their middle is left out.",
    )


class CohereLabel(DoorAnswer):
    """The probability of a label."""

    confidence: float


class CohereClassification(DoorAnswer):
    """The prediction for one text."""

    id: str
    input: str
    prediction: str
    predictions: list[str]
    confidence: float
    confidences: list[float]
    labels: dict[str, CohereLabel]
    classification_type: Literal["single-label"] = "single-label"


class CohereMeta(DoorAnswer):
    """The version of the API, and warnings."""

    api_version: dict[str, str] = Field(default_factory=lambda: {"version": "1"})
    warnings: list[str] = Field(default_factory=list)


class CohereClassifyAnswer(DoorAnswer):
    """Predictions as Cohere gives them."""

    id: str
    classifications: list[CohereClassification]
    meta: CohereMeta


FIELDS = {"#/queries": "#/inputs", "#/support": "#/examples", "#/checkpoint": "#/model"}


def error_content(error: ApiError) -> Content:
    """An error as Cohere's client reads it, with our own code beside it."""
    return {"message": error.detail, "code": error.code}


async def classify(request: Request, caller: Caller, data: bytes) -> Response:
    """Predictions for a body with ``inputs``."""
    asked = parsed(CohereClassifyRequest, data)
    if asked.preset is not None:
        detail = "presets are not known here: send examples, or the name of a task as model"
        raise InvalidContent("invalid_request", [Fault(("preset",), detail)])
    parts = parts_of(request)
    warnings: list[str] = []
    if asked.examples is None:
        task = await task_of(parts, caller, asked.model)
        found = await predicted(request, caller.tenant, task, asked.inputs)
        predictions, headers = found.response.predictions, found.headers
    else:
        checkpoint, warning = checkpoint_of(parts, asked.model)
        support: list[AnyExample] = [LabelledText(text=each.text, label=each.label) for each in asked.examples]
        ours = ClassifyRequest(support=support, queries=list(asked.inputs), abstain=False, checkpoint=checkpoint)
        classified = await unless_disconnected(request, classify_at_once(parts, caller.tenant, ours))
        predictions = classified.predictions
        headers = notes(predictions)
        warnings += [warning] if warning else []
        warnings += [each.detail for each in classified.warnings]
    if asked.truncate == "NONE":
        refuse_truncated(predictions, "leave truncate out")
    warnings += _warnings(predictions)
    if warnings:
        headers = {**headers, "X-API-Warning": "see meta.warnings"}
    classifications = [
        _classification(f"{request.state.request_id}-{i}", text, each)
        for i, (text, each) in enumerate(zip(asked.inputs, predictions, strict=True))
    ]
    meta = CohereMeta(warnings=warnings)
    return answer(
        CohereClassifyAnswer(id=request.state.request_id, classifications=classifications, meta=meta), headers
    )


def _classification(name: str, text: str, prediction: Prediction) -> CohereClassification:
    label, confidence = max(prediction.scores.items(), key=lambda item: item[1])
    return CohereClassification(
        id=name,
        input=text,
        prediction=label,
        predictions=[label],
        confidence=confidence,
        confidences=[confidence],
        labels={each: CohereLabel(confidence=score) for each, score in prediction.scores.items()},
    )


def _warnings(predictions: Sequence[Prediction]) -> list[str]:
    counts: dict[str, Any] = {
        "were longer than the encoder reads: their middle was left out": sum(each.truncated for each in predictions),
        "could not be read, so that their labels mean little": sum(each.unreadable for each in predictions),
    }
    return [f"{count} of the inputs {what}" for what, count in counts.items() if count]
