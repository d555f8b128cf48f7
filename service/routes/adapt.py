"""``adapt``: a support set in, a stored version out. ``classify``: the same, storing nothing."""

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from handful.wire import AdaptRequest, AdaptResponse, ClassifyRequest, ClassifyResponse, SupportWarning
from metalearn.encoder.tokenizing import TokenizedText
from model_store.codec import encode_support
from model_store.records import Version
from service.commit import VersionDraft, commit_next
from service.conversion import Abstention, CheckedSupport, to_predictions, to_queries, to_support_set
from service.engine.adaptation import Adaptation, AdaptOptions
from service.engine.engine import Predictions
from service.idempotency import IdempotentRequest, replayed
from service.request_context import Timings
from service.routes.request import (
    PROBLEMS,
    AppParts,
    Parts,
    RequestTimings,
    TaskName,
    Tenant,
    json_body,
    json_response,
    request_body,
    unless_disconnected,
)
from service.support_warnings import count_truncated, support_warnings

router = APIRouter(prefix="/v1", responses=PROBLEMS)

_FEWER_EXAMPLES = (
    "adapt needs the whole support set in one request: send fewer examples, or raise HANDFUL_MAX_BODY_BYTES"
)


@router.post(
    "/tasks/{task}/adapt",
    response_model=AdaptResponse,
    openapi_extra=request_body(AdaptRequest, idempotent=True),
    tags=["adapt"],
)
async def adapt(
    task: TaskName,
    tenant: Tenant,
    parts: AppParts,
    timings: RequestTimings,
    request: Request,
    body: Annotated[AdaptRequest, Depends(json_body(AdaptRequest, too_large=_FEWER_EXAMPLES))],
) -> Response:
    """Adapts a task on exactly this support set and commits the result as its newest version."""
    began = time.perf_counter()
    idempotent = IdempotentRequest.of(request, body)
    former = await replayed(parts.access, tenant, idempotent)
    if former is not None:
        return former
    return await adapt_and_commit(
        parts,
        tenant,
        task,
        body,
        to_support_set(body, parts.settings),
        timings=timings,
        began=began,
        ttl_s=body.ttl_seconds,
        idempotent=idempotent,
    )


async def adapt_and_commit(
    parts: Parts,
    tenant: str,
    task: str,
    body: AdaptRequest,
    checked: CheckedSupport,
    *,
    timings: Timings,
    began: float,
    ttl_s: int | None,
    idempotent: IdempotentRequest | None,
    source: Literal["adapt", "readapt"] = "adapt",
    builds_on: Version | None = None,
) -> Response:
    """Adapts on a support set and commits the result as the task's newest version.

    Args:
        parts: The app's parts.
        tenant: Whose task.
        task: Which task.
        body: How to adapt.
        checked: The support set.
        timings: Of the request.
        began: When the request began, by ``time.perf_counter``.
        ttl_s: The task ends after this time.
        idempotent: Whether the answer is kept for a repeated request.
        source: The call that makes the version.
        builds_on: The newest version, where the new one is only right on top of it.
    """
    support = checked.support
    adaptation = await parts.engine.adapt(tenant, support, _options(body))
    _note(timings, adaptation)
    warnings = await _warnings(parts, checked, adaptation)
    draft = VersionDraft(
        labels=support.labels,
        n_support=len(support.examples),
        learner=adaptation.adapter.learner,
        steps=adaptation.steps,
        learning_rate=body.learning_rate,
        use_label_text=body.use_label_text,
        support_accuracy=adaptation.support_accuracy,
        source=source,
        leave_one_out_accuracy=adaptation.leave_one_out_accuracy,
        steps_asked=body.steps,
        learner_asked=body.learner,
        seed=body.seed,
    )

    def answer(version: Version) -> AdaptResponse:
        return AdaptResponse(
            task=task,
            version=version.version,
            labels=list(version.labels),
            n_support=version.n_support,
            steps=version.steps,
            losses=adaptation.losses,
            support_accuracy=version.support_accuracy,
            leave_one_out_accuracy=version.leave_one_out_accuracy,
            checkpoint=version.checkpoint,
            bytes=version.size_bytes,
            elapsed_ms=(time.perf_counter() - began) * 1000,
            truncated=count_truncated(checked, adaptation),
            warnings=warnings,
        )

    return await commit_next(
        parts,
        tenant,
        task,
        adapter=adaptation.adapter,
        draft=draft,
        # Compressing megabytes takes long enough to be felt by others
        support=await asyncio.to_thread(encode_support, support) if body.keep_support else None,
        ttl_s=ttl_s,
        answer=answer,
        idempotent=idempotent,
        builds_on=builds_on,
    )


@router.post(
    "/classify", response_model=ClassifyResponse, openapi_extra=request_body(ClassifyRequest), tags=["predict"]
)
async def classify(
    tenant: Tenant,
    parts: AppParts,
    timings: RequestTimings,
    request: Request,
    body: Annotated[ClassifyRequest, Depends(json_body(ClassifyRequest, too_large=_FEWER_EXAMPLES))],
) -> Response:
    """Adapts on the support set and classifies the queries, storing nothing."""
    checked = to_support_set(body, parts.settings)
    support, queries = checked.support, to_queries(body, parts.settings)
    queries.check_pairs(support.pairs)
    default = parts.engine.checkpoint.manifest.hyperparameters.abstain_threshold

    async def work() -> tuple[Adaptation, Predictions, list[TokenizedText]]:
        adaptation = await parts.engine.adapt(tenant, support, _options(body))
        tokenized = parts.engine.tokenize(queries.inputs)
        return adaptation, await parts.engine.predict(tenant, adaptation.adapter, tokenized), await tokenized

    adaptation, predictions, texts = await unless_disconnected(request, work())
    _note(timings, adaptation)
    timings.add("queue", predictions.queue_s)
    timings.add("encode", predictions.encode_s)
    classified = to_predictions(
        support.labels,
        predictions.probabilities,
        queries,
        texts,
        top_k=body.top_k,
        abstention=Abstention.asked(body.abstain, default),
    )
    answer = ClassifyResponse(
        labels=list(support.labels),
        predictions=classified,
        losses=adaptation.losses,
        support_accuracy=adaptation.support_accuracy,
        leave_one_out_accuracy=adaptation.leave_one_out_accuracy,
        truncated=count_truncated(checked, adaptation) + sum(prediction.truncated for prediction in classified),
        warnings=await _warnings(parts, checked, adaptation),
    )
    parts.metrics.abstentions.inc(sum(prediction.abstained for prediction in answer.predictions))
    return json_response(answer)


def _options(body: AdaptRequest | ClassifyRequest) -> AdaptOptions:
    return AdaptOptions(body.steps, body.learning_rate, body.learner, body.use_label_text, body.seed)


async def _warnings(parts: Parts, checked: CheckedSupport, adaptation: Adaptation) -> list[SupportWarning]:
    # Comparing megabytes of texts takes long enough to be felt by others
    return await asyncio.to_thread(
        support_warnings,
        checked,
        adaptation,
        max_tokens=parts.engine.checkpoint.encoder.max_tokens,
        max_chars=parts.settings.max_text_chars,
    )


def _note(timings: Timings, adaptation: Adaptation) -> None:
    timings.add("queue", adaptation.queue_s)
    timings.add("encode", adaptation.encode_s)
    timings.add("adapt", adaptation.inner_s)
