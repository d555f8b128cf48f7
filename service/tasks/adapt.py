"""The use case adapt: from a support set to a stored version."""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields

from handful.wire import AdaptOptionFields, AdaptRequest, AdaptResponse, SupportWarning
from metalearn.options import AdaptOptions
from model_store.codec import ExampleRow, encode_rows, rows_of, support_digests
from model_store.records import Version, VersionDraft, VersionSource
from service.engine.adapt_slices import Adaptation
from service.tasks.app_parts import Parts
from service.tasks.checkpoint_choice import adapted
from service.tasks.commit import commit_next
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.kind_answers import kind_fields
from service.tasks.support_set import CheckedSupport, to_support_set
from service.tasks.support_warnings import count_truncated, support_warnings


async def adapt(
    parts: Parts, tenant: str, task: str, asked: AdaptRequest, idempotent: IdempotentRequest | None
) -> Committed:
    """Adapts a task on exactly the given support set and commits the result as its newest version.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The support set and the options.
        idempotent: Set for a request that may be repeated.

    Raises:
        InvalidContent: A limit is passed, or a text or label is unusable.
        UnknownCheckpoint: No loaded checkpoint has the name.
        IdempotencyKeyReused: The key came with another request.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    checked = to_support_set(asked, parts.settings)
    return await adapt_and_commit(
        parts,
        tenant,
        task,
        options_of(asked),
        checked,
        rows=rows_of(checked.support.examples) if asked.keep_support else None,
        checkpoint=asked.checkpoint,
        began=began,
        ttl_s=asked.ttl_seconds,
        idempotent=idempotent,
    )


async def adapt_and_commit(
    parts: Parts,
    tenant: str,
    task: str,
    options: AdaptOptions,
    checked: CheckedSupport,
    *,
    rows: Sequence[ExampleRow] | None,
    checkpoint: str | None,
    began: float,
    ttl_s: int | None,
    idempotent: IdempotentRequest | None,
    source: VersionSource = "adapt",
    builds_on: Version | None = None,
    erased: Collection[int] = (),
    response: Callable[..., AdaptResponse] = AdaptResponse,
) -> Committed:
    """Adapts on a checked support set and commits the result as the task's newest version.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        options: The options of the adaptation.
        checked: The support set.
        rows: The examples as they are stored beside the weights; None where they are not to be kept.
        checkpoint: The checkpoint that the request names.
        began: The start of the request, by ``time.perf_counter``.
        ttl_s: The task's time to live.
        idempotent: Set for a request that may be repeated.
        source: The call that makes the version.
        builds_on: The version that has to be the newest one still at the commit; None where any may be.
        erased: Earlier versions that are removed in the same act.
        response: Makes the answer of its fields.
    """
    support = checked.support
    adaptation, choice = await adapted(parts, tenant, checked, options, checkpoint)
    warnings = await warnings_of(parts, checked, adaptation)
    draft = VersionDraft(
        labels=support.labels,
        n_support=len(support.examples),
        learner=adaptation.adapter.learner,
        steps=adaptation.steps,
        options=options,
        support_digests=await asyncio.to_thread(support_digests, support),
        support_accuracy=adaptation.support_accuracy,
        leave_one_out_accuracy=adaptation.leave_one_out_accuracy,
        source=source,
        copied_from=None,
        kind=support.kind,
        decision=adaptation.adapter.decision,
        figures=adaptation.figures,
    )

    def answer(version: Version) -> AdaptResponse:
        return response(
            task=task,
            version=version.version,
            labels=list(version.labels),
            n_support=version.n_support,
            steps=version.steps,
            losses=adaptation.losses,
            support_accuracy=version.support_accuracy,
            leave_one_out_accuracy=version.leave_one_out_accuracy,
            checkpoint=version.checkpoint,
            checkpoint_choice=choice,
            bytes=version.size_bytes,
            elapsed_ms=(time.perf_counter() - began) * 1000,
            truncated=count_truncated(checked, adaptation),
            warnings=warnings,
            **kind_fields(version.kind, version.labels, version.decision, version.figures),
        )

    return await commit_next(
        parts,
        tenant,
        task,
        adapter=adaptation.adapter,
        draft=draft,
        # In a thread, since encoding megabytes would delay other requests
        support=None if rows is None else await asyncio.to_thread(encode_rows, rows, support.descriptions),
        ttl_s=ttl_s,
        answer=answer,
        idempotent=idempotent,
        builds_on=builds_on,
        erased=erased,
    )


def options_of(asked: AdaptOptionFields) -> AdaptOptions:
    """The options of a request, all of which the record declares."""
    return AdaptOptions(**{field.name: getattr(asked, field.name) for field in fields(AdaptOptions)})


async def warnings_of(parts: Parts, checked: CheckedSupport, adaptation: Adaptation) -> list[SupportWarning]:
    """Warnings about a support set that was adapted on."""
    # In a thread, since comparing megabytes of texts would delay other requests
    return await asyncio.to_thread(
        support_warnings,
        checked,
        adaptation,
        max_tokens=parts.engine.checkpoints.of(adaptation.adapter).checkpoint.encoder.max_tokens,
        max_chars=parts.settings.max_text_chars,
    )
