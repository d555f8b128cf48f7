"""``predict``: answers a tenant's queries; changes nothing."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from handful.wire import PredictRequest, PredictResponse
from service.conversion import Abstention, to_predictions, to_queries
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

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["predict"])

SEND_IN_PARTS = "send the queries in several requests"


@router.post("/tasks/{task}/predict", response_model=PredictResponse, openapi_extra=request_body(PredictRequest))
async def predict(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    request: Request,
    body: Annotated[PredictRequest, Depends(json_body(PredictRequest, too_large=SEND_IN_PARTS))],
) -> Response:
    """Classifies texts with the task's newest version, or with the one that is asked for."""
    return await answered(request, parts, tenant, task, body)


async def answered(request: Request, parts: Parts, tenant: str, task: str, body: PredictRequest) -> Response:
    """The answer to a checked request; raises what the error handlers make answers of."""
    timings = timings_of(request)
    queries = to_queries(body, parts.settings)
    default = parts.engine.checkpoint.manifest.hyperparameters.abstain_threshold
    tokenized = parts.engine.tokenize(queries.inputs)  # while the store tells the version
    try:
        async with parts.adapters.lease(tenant, task, body.version) as leased:
            key, adapter = leased.key, leased.adapter
            queries.check_pairs(adapter.pairs)
            result = await unless_disconnected(request, parts.engine.predict(tenant, adapter, tokenized))
    finally:
        tokenized.cancel()
    timings.add("queue", result.queue_s)
    timings.add("encode", result.encode_s)
    predictions = to_predictions(
        adapter.labels,
        result.probabilities,
        queries,
        tokenized.result(),
        top_k=body.top_k,
        abstention=Abstention.asked(body.abstain, default),
    )
    answer = PredictResponse(
        task=task,
        version=key.version,
        predictions=predictions,
        truncated=sum(prediction.truncated for prediction in predictions),
    )
    parts.metrics.abstentions.inc(sum(prediction.abstained for prediction in predictions))
    if leased.degraded is None:
        return json_response(answer)
    parts.metrics.degraded_answers.inc()
    return json_response(answer, leased.degraded.header())
