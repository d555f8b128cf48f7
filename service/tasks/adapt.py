"""Adapt: from a support set to a stored version."""

import asyncio
import time
from typing import Literal

from handful.wire import AdaptationFields, AdaptRequest, AdaptResponse, SupportWarning
from model_store.codec import encode_support
from model_store.records import Version
from service.engine.adaptation import Adaptation, AdaptOptions
from service.tasks.app_parts import Parts
from service.tasks.commit import VersionDraft, commit_next
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.support_set import CheckedSupport, to_support_set
from service.tasks.support_warnings import count_truncated, support_warnings
from service.timings import add_to_current


async def adapt(
    parts: Parts, tenant: str, task: str, asked: AdaptRequest, idempotent: IdempotentRequest | None
) -> Committed:
    """Adapts a task on exactly the given support set and commits the result as its newest version.

    Args:
        parts: The app's parts.
        tenant: Whose task.
        task: Which task.
        asked: The support set, and how to adapt.
        idempotent: Set for a request that may be repeated.

    Raises:
        InvalidContent: A limit is passed, or a text or label is unusable.
        IdempotencyKeyReused: The key came with another request.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    checked = to_support_set(asked, parts.settings)
    return await adapt_and_commit(
        parts, tenant, task, asked, checked, began=began, ttl_s=asked.ttl_seconds, idempotent=idempotent
    )


async def adapt_and_commit(
    parts: Parts,
    tenant: str,
    task: str,
    asked: AdaptRequest,
    checked: CheckedSupport,
    *,
    began: float,
    ttl_s: int | None,
    idempotent: IdempotentRequest | None,
    source: Literal["adapt", "readapt"] = "adapt",
    builds_on: Version | None = None,
) -> Committed:
    """Adapts on a checked support set and commits the result as the task's newest version.

    Args:
        parts: The app's parts.
        tenant: Whose task.
        task: Which task.
        asked: How to adapt.
        checked: The support set.
        began: When the request began, by ``time.perf_counter``.
        ttl_s: The task ends after this time.
        idempotent: Set for a request that may be repeated.
        source: The call that makes the version.
        builds_on: The newest version, where the new one is only right on top of it.
    """
    support = checked.support
    adaptation = await adapted(parts, tenant, checked, asked)
    warnings = await warnings_of(parts, checked, adaptation)
    draft = VersionDraft(
        labels=support.labels,
        n_support=len(support.examples),
        learner=adaptation.adapter.learner,
        steps=adaptation.steps,
        learning_rate=asked.learning_rate,
        use_label_text=asked.use_label_text,
        support_accuracy=adaptation.support_accuracy,
        source=source,
        leave_one_out_accuracy=adaptation.leave_one_out_accuracy,
        steps_asked=asked.steps,
        learner_asked=asked.learner,
        seed=asked.seed,
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
        support=await asyncio.to_thread(encode_support, support) if asked.keep_support else None,
        ttl_s=ttl_s,
        answer=answer,
        idempotent=idempotent,
        builds_on=builds_on,
    )


async def adapted(parts: Parts, tenant: str, checked: CheckedSupport, asked: AdaptationFields) -> Adaptation:
    """The result of an adaptation on the compute thread, its time noted for the request."""
    options = AdaptOptions(asked.steps, asked.learning_rate, asked.learner, asked.use_label_text, asked.seed)
    adaptation = await parts.engine.adapt(tenant, checked.support, options)
    add_to_current("queue", adaptation.queue_s)
    add_to_current("encode", adaptation.encode_s)
    add_to_current("adapt", adaptation.inner_s)
    return adaptation


async def warnings_of(parts: Parts, checked: CheckedSupport, adaptation: Adaptation) -> list[SupportWarning]:
    """Warnings about a support set that was adapted on."""
    # Comparing megabytes of texts takes long enough to be felt by others
    return await asyncio.to_thread(
        support_warnings,
        checked,
        adaptation,
        max_tokens=parts.engine.checkpoint.encoder.settings.max_tokens,
        max_chars=parts.settings.max_text_chars,
    )
