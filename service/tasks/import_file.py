"""The use case import: a new version from a file. Nothing of the file is taken unchecked."""

import asyncio
import math
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import pairwise

from pydantic import ValidationError

from handful.wire import AdaptOptionFields
from handful.wire_examples import EXAMPLE_ID_PATTERN
from handful.wire_moving import ImportResponse
from metalearn.decision import Decision, TaskKind
from metalearn.errors import InvalidSupportSet
from metalearn.kinds import KINDS
from metalearn.objectives import OBJECTIVES
from metalearn.tokens.decode import Transitions
from metalearn.tokens.words import OUTSIDE
from metalearn.types import Adapter, Example, SupportSet
from model_store.codec import AdapterKey, ExampleRow
from model_store.digests import set_aside_digests, support_digests
from model_store.errors import AdapterCorrupt, TaskFileInvalid
from model_store.records import NO_TERMS, Version, VersionDraft
from model_store.task_file import TaskFile, unpack_task
from service.settings import Settings
from service.tasks.adapt import adapt_and_commit
from service.tasks.app_parts import Parts
from service.tasks.checks import LimitChecker, over_limit
from service.tasks.commit import commit_next
from service.tasks.errors import CheckpointNotLoaded
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.kind_answers import kind_fields, kind_of_adapter
from service.tasks.labels import is_blank, normalised
from service.tasks.support_set import CheckedSupport

_EXAMPLE_ID = re.compile(EXAMPLE_ID_PATTERN.strip("^$"))


@dataclass(frozen=True, slots=True)
class _Kept:
    """The support set of a file.

    Attributes:
        rows: The examples as they are stored.
        checked: The same to adapt on.
        digests: See ``model_store.digests.support_digests``.
    """

    rows: Sequence[ExampleRow]
    checked: CheckedSupport
    digests: tuple[str, ...]


async def import_task(
    parts: Parts,
    tenant: str,
    task: str,
    data: bytes,
    *,
    readapt: bool,
    ttl_s: int | None,
    idempotent: IdempotentRequest | None,
) -> Committed:
    """Commits the version in a file as the task's newest version, with the file's weights and support set.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name, whatever its name was where it was exported.
        data: The file.
        readapt: Whether to adapt on the file's examples, from the default checkpoint, where the file's checkpoint is
            not loaded.
        ttl_s: The task's time to live.
        idempotent: Set for a request that may be repeated.

    Raises:
        TaskFileInvalid: The file is altered, of an unknown layout, or its parts do not fit together.
        InvalidContent: A limit of this server is passed.
        CheckpointNotLoaded: The checkpoint is not loaded, and adapting again was not asked for or is not possible.
        IdempotencyKeyReused: The key came with another request.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    # In threads, since megabytes would delay other requests
    file = await asyncio.to_thread(unpack_task, data)
    kept = await asyncio.to_thread(_checked, file, parts.settings)
    if file.checkpoint.fingerprint not in parts.engine.checkpoints:
        if kept is None or not readapt:
            raise _not_loaded(parts, file, kept)
        return await adapt_and_commit(
            parts,
            tenant,
            task,
            file.record.options,
            kept.checked,
            rows=kept.rows,
            checkpoint=None,
            terms=NO_TERMS,
            began=began,
            ttl_s=ttl_s,
            idempotent=idempotent,
            source="import",
            response=partial(ImportResponse, readapted=True),
        )
    adapter = await _adapter(parts, tenant, task, file)

    def answer(version: Version) -> ImportResponse:
        return ImportResponse(
            task=task,
            version=version.version,
            labels=list(version.labels),
            n_support=version.n_support,
            steps=version.steps,
            losses=[],
            support_accuracy=version.support_accuracy,
            leave_one_out_accuracy=version.leave_one_out_accuracy,
            checkpoint=version.checkpoint,
            bytes=version.size_bytes,
            elapsed_ms=(time.perf_counter() - began) * 1000,
            truncated=0,
            readapted=False,
            **kind_fields(version.kind, version.labels, version.decision, version.figures),
        )

    return await commit_next(
        parts,
        tenant,
        task,
        adapter=adapter,
        draft=_draft(file.record, kept),
        support=file.support,
        ttl_s=ttl_s,
        answer=answer,
        idempotent=idempotent,
    )


def _draft(record: Version, kept: _Kept | None) -> VersionDraft:
    draft = {field.name: getattr(record, field.name) for field in fields(VersionDraft)}
    draft |= {"source": "import", "copied_from": None, "terms": NO_TERMS}
    if kept is not None:  # erasing finds versions by their digests, so that they are the examples' own
        draft |= {"support_digests": kept.digests, "set_aside_digests": set_aside_digests(kept.rows)}
    return VersionDraft(**draft)


async def _adapter(parts: Parts, tenant: str, task: str, file: TaskFile) -> Adapter:
    """The adapter in a file, checked as one from the store is: shapes, type, finite numbers."""
    record, key = file.record, AdapterKey(tenant, task, file.record.version, "")
    try:
        adapter = await parts.adapters.decode(file.stored_adapter(key), key)
    except AdapterCorrupt as error:
        raise TaskFileInvalid(f"the weights in the file cannot be used: {error}") from error
    if (adapter.labels, adapter.learner, adapter.checkpoint) != (record.labels, record.learner, record.checkpoint):
        raise TaskFileInvalid("the weights in the file are not those of its record")
    if OBJECTIVES[adapter.objective].has_classes and len(adapter.labels) < 2:
        raise TaskFileInvalid("the weights in the file have fewer than two classes")
    if adapter.decision != record.decision or kind_of_adapter(adapter) != record.kind:
        raise TaskFileInvalid("the weights in the file are of another kind of task than its record")
    return adapter


def _checked(file: TaskFile, settings: Settings) -> _Kept | None:
    """The support set of a file, checked as that of a request is; None where the file has none.

    Raises:
        TaskFileInvalid: The parts of the file do not fit together.
        InvalidContent: A limit of this server is passed.
    """
    record, check = file.record, LimitChecker(settings)
    _check_record(record)
    check.limit("too_many_steps", record.options.steps or 0, "max_steps", "inner steps", "steps")
    check.limit("too_many_classes", len(record.labels), "max_classes", "classes", "labels")
    check.raise_faults()
    for i, label in enumerate(record.labels):
        check.label(label, "labels", i)
    check.raise_faults()
    if any(label != normalised(label) for label in record.labels) or len(set(record.labels)) < len(record.labels):
        raise TaskFileInvalid("the labels in the file are not those of a stored task")
    if file.examples is None:
        return None
    rows, descriptions = file.examples
    check.limit("too_many_examples", len(rows), "max_support_examples", "examples", "examples")
    check.raise_faults()
    examples = tuple(row.example for row in rows)
    for i, example in enumerate(examples):
        _check_example(i, example, check, settings)
        _check_answer(i, example, record.kind)
    for label, description in descriptions.items():
        check.description(description, "labels", label)
    check.raise_faults()
    adapted = tuple(row.example for row in rows if row.state == "adapted")
    try:
        order = record.labels if record.kind == "ordinal" else ()
        support = SupportSet(adapted, descriptions, record.kind, order)
    except InvalidSupportSet as error:
        raise TaskFileInvalid(f"the examples in the file are no support set: {error}") from error
    if (support.labels, len(adapted)) != (record.labels, record.n_support) or (adapted and support.pairs is None):
        raise TaskFileInvalid("the examples in the file are not those of its record")
    checked = CheckedSupport(support, frozenset(), {key: key for key in descriptions}, added_field="examples")
    return _Kept(rows, checked, support_digests(support))


def _check_record(record: Version) -> None:
    try:
        AdaptOptionFields.model_validate(asdict(record.options))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise TaskFileInvalid(f"the options in the file are out of range: {place}") from error
    shares = [each for each in (record.support_accuracy, record.leave_one_out_accuracy) if each is not None]
    if not all(0 <= share <= 1 for share in shares) or min(record.steps, record.n_support) < 0:
        raise TaskFileInvalid("the record in the file has numbers out of range")
    decision = record.decision or Decision()
    ranges = (
        all(0 <= threshold <= 1 for threshold in decision.thresholds),
        len(decision.thresholds) in {0, len(record.labels)},
        decision.spread > 0,
        (decision.half_width or 0.0) >= 0,
        len(decision.transitions) == (len(Transitions._fields) if record.kind == "tokens" else 0),
        all(map(math.isfinite, decision.transitions)),
        record.kind != "tokens" or OUTSIDE in record.labels,
    )
    if not all(ranges):
        raise TaskFileInvalid("the record in the file has thresholds, widths or transitions out of range")


def _check_example(index: int, example: Example, check: LimitChecker, settings: Settings) -> None:
    check.input(example.input.text, example.input.text_pair, "examples", index)
    if not _EXAMPLE_ID.fullmatch(example.id):
        raise TaskFileInvalid(f"example {index} in the file has no id, or one that cannot name an example")
    longest = max(len(example.input.text), len(example.input.text_pair or ""))
    if longest > settings.max_text_chars:
        limit = over_limit(longest, settings.max_text_chars, "characters of a text", "max_text_chars")
        raise TaskFileInvalid(f"example {index} in the file is longer than this server reads: {limit}")


def _check_answer(index: int, example: Example, kind: TaskKind) -> None:
    """Refuses an example without the form of its task's kind."""
    given = {"labels": example.labels, "score": example.score, "spans": example.spans}
    answer = next((name for name, value in given.items() if value is not None), "label")
    if example.spans is not None:
        _check_spans(index, example)
    in_scope = kind in {"single_label", "tokens"} or example.label is not None
    if answer != KINDS[kind].answer or not in_scope or not math.isfinite(example.score or 0.0):
        raise TaskFileInvalid(f"example {index} in the file is none of a {kind} task")


def _check_spans(index: int, example: Example) -> None:
    """Refuses words and spans that do not follow one another within the text, and labels that no example has."""
    spans, end = example.spans or (), len(example.input.text)
    for parts in (example.input.words or (), [span[:2] for span in spans]):
        edges = [0, *(edge for part in parts for edge in part), end]
        ordered = all(before <= after for before, after in pairwise(edges))
        if not ordered or any(first == after for first, after in parts):
            raise TaskFileInvalid(f"example {index} in the file has words or spans outside its text, or two at once")
    if any(is_blank(each) or each == OUTSIDE or each != normalised(each) for _, _, each in spans):
        raise TaskFileInvalid(f"example {index} in the file has a span with a label that no stored example has")


def _not_loaded(parts: Parts, file: TaskFile, kept: _Kept | None) -> CheckpointNotLoaded:
    loaded = ", ".join(
        f"{each.checkpoint.manifest.name!r} ({each.checkpoint.fingerprint[:12]})" for each in parts.engine.checkpoints
    )
    name = "" if file.checkpoint.name is None else f"{file.checkpoint.name!r} "
    made = f"the file was made from the checkpoint {name}({file.checkpoint.fingerprint[:12]}), and loaded is {loaded}"
    if kept is None:
        return CheckpointNotLoaded(
            f"{made}. It has no examples to adapt on again: start this server with that checkpoint, or call adapt with "
            "the examples"
        )
    return CheckpointNotLoaded(
        f"{made}. Start this server with that checkpoint, too; or import with readapt=true, which adapts on the "
        f"{len(kept.rows)} examples in the file from the default checkpoint"
    )
