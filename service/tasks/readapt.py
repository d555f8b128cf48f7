"""The use case readapt: a new version from a stored support set, made by a loaded checkpoint."""

import time
from dataclasses import dataclass, replace
from functools import partial

from handful.checkpoint_answers import CheckpointChoice
from handful.wire_readapt import ReadaptPreview, ReadaptRequest, ReadaptResponse
from model_store.errors import UnknownCheckpoint, VersionConflict
from model_store.records import TaskTerms, Version
from service.engine.adapt_slices import Adaptation
from service.tasks.adapt import commit_adaptation
from service.tasks.app_parts import Parts
from service.tasks.checkpoint_choice import AUTO, adapted
from service.tasks.commit import remaining_ttl_s
from service.tasks.errors import ReadaptRefused
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.kept_support import KeptSupport, load_kept_support
from service.tasks.readapt_comparison import Comparison, compared
from service.tasks.support_set import CheckedSupport


async def readapt(
    parts: Parts, tenant: str, task: str, asked: ReadaptRequest, idempotent: IdempotentRequest | None
) -> Committed:
    """Commits a new version, made from a version's stored support set with the options of that version.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The version and the checkpoint.
        idempotent: Set for a request that may be repeated.

    Raises:
        IdempotencyKeyReused: The key came with another request.
        UnknownCheckpoint: No loaded checkpoint has the name.
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        SupportNotKept: The version's support set was not kept.
        ReadaptRefused: The new version would be worse, and the request does not want it then.
        VersionConflict: Another commit, or a deletion, came first.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    began = time.perf_counter()
    kept = await load_kept_support(parts, tenant, task, asked.version)
    made = await _made(parts, tenant, kept, asked.checkpoint)
    return await _committed(
        parts,
        kept,
        made,
        terms=replace(kept.record.current.terms, checkpoint=asked.checkpoint),
        began=began,
        unless_worse=asked.unless_worse,
        idempotent=idempotent,
    )


async def preview(
    parts: Parts, tenant: str, task: str, *, version: int | None, checkpoint: str | None
) -> ReadaptPreview:
    """The version that a readapt would make, beside the one with the support set; changes nothing.

    Raises:
        UnknownCheckpoint: No loaded checkpoint has the name.
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        SupportNotKept: The version's support set was not kept.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    kept = await load_kept_support(parts, tenant, task, version)
    made = await _made(parts, tenant, kept, checkpoint)
    return ReadaptPreview(
        task=task,
        version=kept.source.version,
        checkpoint=made.adaptation.adapter.checkpoint,
        leave_one_out_accuracy=made.comparison.accuracy,
        worse=made.comparison.worse(parts.settings),
        **made.comparison.fields(),
    )


async def readapt_newest(parts: Parts, newest: Version, checkpoint: str | None, *, background: bool = False) -> None:
    """Adapts a task again without being asked, unless the new version would be worse than the settings allow.

    Args:
        parts: The app's parts.
        newest: The task's newest version, of another checkpoint.
        checkpoint: The checkpoint to adapt from, or ``auto``; None for the default one.
        background: Whether no request waits for it.

    Raises:
        TaskNotFound: The task is absent by now.
        SupportNotKept: The version's support set was not kept.
        ReadaptRefused: The new version would be worse.
        VersionConflict: Another commit, or a deletion, came first.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    kept = await load_kept_support(parts, newest.tenant, newest.task)
    if kept.source.adapter_id != newest.adapter_id:
        raise VersionConflict(kept.source.version)
    made = await _made(parts, newest.tenant, kept, checkpoint, only_to_decide=True, background=background)
    await _committed(parts, kept, made, terms=newest.terms, began=began, unless_worse=True, idempotent=None)


def checkpoint_of_terms(parts: Parts, version: Version) -> str | None:
    """The checkpoint that a task was asked for with, if it is loaded; else None, for the default one."""
    asked, checkpoints = version.terms.checkpoint, parts.engine.checkpoints
    if asked == AUTO:
        return asked
    try:
        return checkpoints.named(asked).checkpoint.fingerprint if asked is not None else None
    except UnknownCheckpoint:
        return None


@dataclass(frozen=True, slots=True)
class _Made:
    """An adaptation on a kept support set, and how it compares with the version that has the support set."""

    checked: CheckedSupport
    adaptation: Adaptation
    choice: CheckpointChoice | None
    comparison: Comparison


async def _made(
    parts: Parts,
    tenant: str,
    kept: KeptSupport,
    checkpoint: str | None,
    *,
    only_to_decide: bool = False,
    background: bool = False,
) -> _Made:
    checked = kept.checked()
    adaptation, choice = await adapted(parts, tenant, checked, kept.source.options, checkpoint, background=background)
    comparison = await compared(
        parts, tenant, kept, checked, adaptation, only_to_decide=only_to_decide, background=background
    )
    return _Made(checked, adaptation, choice, comparison)


async def _committed(
    parts: Parts,
    kept: KeptSupport,
    made: _Made,
    *,
    terms: TaskTerms,
    began: float,
    unless_worse: bool,
    idempotent: IdempotentRequest | None,
) -> Committed:
    newest = kept.record.current
    why = made.comparison.worse(parts.settings) if unless_worse else None
    if why is not None:
        raise ReadaptRefused(newest.task, why)
    return await commit_adaptation(
        parts,
        newest.tenant,
        newest.task,
        kept.source.options,
        made.checked,
        made.adaptation,
        made.choice,
        rows=kept.rows,
        terms=terms,
        began=began,
        ttl_s=remaining_ttl_s(kept.record),
        idempotent=idempotent,
        source="readapt",
        # An older support set must neither hide a version that was made meanwhile, nor bring a deleted task back
        builds_on=newest,
        response=partial(ReadaptResponse, **made.comparison.fields()),
    )
