"""The doors of text-embeddings-inference, Hugging Face and gateways: ``POST /predict`` and ``POST /classify``."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NoReturn

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field, ValidationError, WithJsonSchema
from starlette.responses import Response

from handful.wire import Prediction
from handful.wire_query import Query, TextPair
from service.doors import openai
from service.doors.door import (
    REFUSALS,
    Content,
    DoorAnswer,
    DoorCaller,
    DoorRequest,
    answer,
    body_bytes,
    documented,
    door_route,
    in_shape,
    keys_of,
    parsed,
    predicted,
    refuse_truncated,
    task_of,
)
from service.errors import ApiError
from service.routes.request import AppParts
from service.tasks.errors import Fault, InvalidContent
from service.tasks.versions import show_task

_TEXT_SCHEMA = {"type": "string"}
_ITEM_SCHEMA = {
    "anyOf": [
        _TEXT_SCHEMA,
        {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1, "maxItems": 2},
        {"type": "object", "properties": {"text": _TEXT_SCHEMA, "text_pair": _TEXT_SCHEMA}, "required": ["text"]},
    ]
}
Inputs = Annotated[
    Any, WithJsonSchema({"anyOf": [*_ITEM_SCHEMA["anyOf"], {"type": "array", "items": _ITEM_SCHEMA, "minItems": 1}]})
]


class HuggingFaceParameters(DoorRequest):
    """The parameters of a text-classification pipeline."""

    top_k: int | None = Field(
        None, ge=1, validation_alias=AliasChoices("top_k", "topK"), description="How many labels; all where missing."
    )
    function_to_apply: Literal["softmax", "sigmoid", "none"] | None = Field(
        None,
        validation_alias=AliasChoices("function_to_apply", "functionToApply"),
        description="softmax is the only one here.",
    )


class TextClassificationRequest(DoorRequest):
    """Texts of text-embeddings-inference, of a Hugging Face pipeline, or of a gateway."""

    inputs: Inputs = Field(description="A text, a pair of texts, or a list of texts or pairs.")
    parameters: HuggingFaceParameters | None = Field(
        None, description="Where it is present, also empty, the answer is Hugging Face's: a list for each text."
    )
    options: dict[str, Any] | None = Field(None, description="Hugging Face's, which change nothing here.")
    raw_scores: bool = Field(False, description="Scores are probabilities here: true is refused.")
    truncate: bool | None = Field(
        None, description="false refuses texts that are longer than the encoder reads; else their middle is left out."
    )
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        None, description="Changes nothing: the middle of a text is left out."
    )


class LabelScore(DoorAnswer):
    """A label and its probability."""

    label: str
    score: float


Scores = list[LabelScore] | list[list[LabelScore]]


class ClassifierInfo(DoorAnswer):
    """The classes of a task, by their index."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelInfo(DoorAnswer):
    """The state of a task as text-embeddings-inference describes a model."""

    model_id: str
    model_sha: str
    model_type: dict[Literal["classifier"], ClassifierInfo]
    max_input_length: int
    max_client_batch_size: int
    version: str


_EMPTY = {"empty_text", "no_queries"}


def error_content(error: ApiError) -> Content:
    """An error as text-embeddings-inference has it, with our own code beside it."""
    if error.status == 503:
        kind = "overloaded" if error.code == "server_busy" else "unhealthy"
    elif error.status >= 500:
        kind = "backend"
    else:
        kind = "empty" if error.code in _EMPTY else "validation"
    return {"error": error.detail, "error_type": kind, "code": error.code}


FIELDS = {"#/queries": "#/inputs"}
router = APIRouter(route_class=door_route(error_content, FIELDS), responses=REFUSALS, tags=["doors"])


@router.post("/predict", response_model=Scores, openapi_extra=documented(TextClassificationRequest))
async def door_predict(caller: DoorCaller, parts: AppParts, request: Request) -> Response:
    """Classifies texts as text-embeddings-inference and Hugging Face do, with the task that header or key names."""
    asked = parsed(TextClassificationRequest, await body_bytes(request))
    flat_pair = asked.parameters is None  # text-embeddings-inference reads two texts as a pair
    return await _scores(request, caller, parts, asked, flat_pair=flat_pair)


@router.post(
    "/classify",
    response_model=Scores | openai.ClassifyAnswer,
    openapi_extra=documented(TextClassificationRequest, openai.ClassifyInput),
)
async def door_classify(caller: DoorCaller, parts: AppParts, request: Request) -> Response:
    """Classifies a text as gateways ask for it: every label once. Takes vLLM's ``{"model", "input"}``, too."""
    data = await body_bytes(request)
    try:
        asked = TextClassificationRequest.model_validate_json(data)
    except ValidationError:
        keys = keys_of(data)
        if keys & {"support", "queries"}:
            _refuse("support and queries are fields of POST /v1/classify: send them there")
        if "input" in keys:
            return await in_shape(request, openai.classify(request, caller, data), openai.error_content, openai.FIELDS)
        asked = parsed(TextClassificationRequest, data)
    return await _scores(request, caller, parts, asked, flat_pair=False)


@router.get("/info", response_model=ModelInfo)
async def door_info(caller: DoorCaller, parts: AppParts, request: Request) -> Response:
    """The task that header or key names, as text-embeddings-inference describes a model."""
    task = await task_of(parts, caller)
    shown = await show_task(parts, caller.tenant, task)
    checkpoints = parts.engine.checkpoints
    models = checkpoints.named(shown.checkpoint) if shown.checkpoint in checkpoints else checkpoints.default
    classifier = ClassifierInfo(
        id2label={str(i): label for i, label in enumerate(shown.labels)},
        label2id={label: i for i, label in enumerate(shown.labels)},
    )
    return answer(
        ModelInfo(
            model_id=task,
            model_sha=f"{task}@{shown.version}",
            model_type={"classifier": classifier},
            max_input_length=models.checkpoint.encoder.max_tokens,
            max_client_batch_size=parts.settings.max_queries,
            version=request.app.version,
        )
    )


async def _scores(
    request: Request, caller: DoorCaller, parts: AppParts, asked: TextClassificationRequest, *, flat_pair: bool
) -> Response:
    _check_options(asked)
    queries, is_batch = _queries(asked.inputs, flat_pair=flat_pair)
    task = await task_of(parts, caller)
    try:
        found = await predicted(request, caller.tenant, task, queries)
    except InvalidContent as error:
        if error.code == "text_pair_unexpected" and flat_pair and isinstance(asked.inputs, list):
            _refuse(
                'two texts in a list are a pair here, and the task has single texts: send [["…"], ["…"]] for two '
                'texts, or add "parameters": {}',
                "inputs",
                code=error.code,
            )
        raise
    if asked.truncate is False:
        refuse_truncated(found.response.predictions, "leave truncate out")
    top_k = asked.parameters.top_k if asked.parameters else None
    lists = [_label_scores(each, top_k) for each in found.response.predictions]
    return answer(lists if is_batch or asked.parameters is not None else lists[0], found.headers)


def _label_scores(prediction: Prediction, top_k: int | None) -> list[Content]:
    return [{"label": label, "score": score} for label, score in list(prediction.scores.items())[:top_k]]


def _check_options(asked: TextClassificationRequest) -> None:
    if asked.raw_scores:
        _refuse("scores are probabilities here: leave raw_scores out", "raw_scores")
    if asked.parameters and asked.parameters.function_to_apply not in {None, "softmax"}:
        _refuse("scores are probabilities by softmax here: leave it out", "parameters", "function_to_apply")


def _queries(inputs: Any, *, flat_pair: bool) -> tuple[Sequence[Query], bool]:
    """The queries of a request, and whether they are a batch."""
    if not isinstance(inputs, list):
        return [_query(inputs, "inputs")], False
    if not inputs:
        _refuse("there is no text: give at least one", "inputs", code="no_queries")
    if flat_pair and all(isinstance(each, str) for each in inputs):
        if len(inputs) > 2:
            _refuse(
                f"{len(inputs)} texts in a list are neither a text nor a pair: send a batch as "
                '[["…"], ["…"], ["…"]], or add "parameters": {}',
                "inputs",
            )
        return [_query(inputs, "inputs")], False
    return [_query(each, "inputs", i) for i, each in enumerate(inputs)], True


def _query(given: Any, *path: str | int) -> Query:
    """A text, a list of a text and its pair, or an object of both, as a query."""
    if isinstance(given, str):
        return given
    texts: list[Any] = []
    if isinstance(given, dict) and set(given) <= {"text", "text_pair"}:
        texts = [given.get("text"), *([] if given.get("text_pair") is None else [given["text_pair"]])]
    elif isinstance(given, list):
        texts = given
    if len(texts) not in {1, 2} or not all(isinstance(text, str) for text in texts):
        _refuse('a text is a string, [text], a pair [text, text], or {"text": …, "text_pair": …}', *path)
    return TextPair(text=texts[0], text_pair=texts[1]) if len(texts) == 2 else str(texts[0])


def _refuse(detail: str, *path: str | int, code: str = "invalid_request") -> NoReturn:
    raise InvalidContent(code, [Fault(path, detail)])
