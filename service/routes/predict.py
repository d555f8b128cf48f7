"""``predict``: answers a tenant's queries; changes nothing."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from service.conversion import abstain_threshold, to_inputs, to_predictions
from service.routes.request import (
    PROBLEMS,
    AppParts,
    Parts,
    TaskName,
    Tenant,
    json_body,
    json_response,
    request_body,
    timings_of,
    unless_disconnected,
)
from service.schemas import PredictRequest, PredictResponse

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["predict"])


@router.post("/tasks/{task}/predict", response_model=PredictResponse, openapi_extra=request_body(PredictRequest))
async def predict(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[PredictRequest, Depends(json_body(PredictRequest))],
) -> Response:
    """Classifies texts with the task's newest version, or with the one that is asked for."""
    return await answered(request, parts, tenant, task, body)


async def answered(request: Request, parts: Parts, tenant: str, task: str, body: PredictRequest) -> Response:
    """The answer to a checked request; raises what the error handlers make answers of."""
    timings = timings_of(request)
    inputs = to_inputs(body, parts.settings)
    threshold = abstain_threshold(body.abstain, parts.engine.checkpoint.manifest.hyperparameters.abstain_threshold)
    queries = parts.engine.tokenize(inputs)  # while the store tells the version
    try:
        async with parts.adapters.lease(tenant, task, body.version) as (key, adapter):
            result = await unless_disconnected(request, parts.engine.predict(tenant, adapter, queries))
    finally:
        queries.cancel()
    timings.add("queue", result.queue_s)
    timings.add("encode", result.encode_s)
    answer = PredictResponse(
        task=task,
        version=key.version,
        predictions=to_predictions(adapter.labels, result.probabilities, top_k=body.top_k, threshold=threshold),
        truncated=result.truncated,
    )
    parts.metrics.abstentions.inc(sum(prediction.abstained for prediction in answer.predictions))
    return json_response(answer)
