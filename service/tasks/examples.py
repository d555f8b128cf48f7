"""The use cases of a task's examples: add, list and erase."""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from handful.wire_examples import AddExamplesRequest, AddExamplesResponse, EraseResponse, ExampleList
from metalearn.errors import InvalidSupportSet
from metalearn.kinds import KINDS
from metalearn.types import TextInput
from model_store.codec import ExampleRow, decode_rows, rows_of
from model_store.digests import example_digest, half_digest, text_digest
from model_store.errors import AdapterCorrupt
from model_store.records import Version
from service.engine.errors import SupportTooLarge, TextEmpty
from service.tasks.adapt import adapt_and_commit
from service.tasks.app_parts import Parts
from service.tasks.commit import remaining_ttl_s
from service.tasks.errors import ExampleNeeded, ExampleNotFound, Fault, InvalidContent
from service.tasks.idempotency import Committed, IdempotentRequest, former_answer
from service.tasks.kept_support import load_kept_support
from service.tasks.support_set import to_grown_support
from service.tasks.token_examples import stored_example

_PAGE = 100


async def add_examples(
    parts: Parts, tenant: str, task: str, asked: AddExamplesRequest, idempotent: IdempotentRequest | None
) -> Committed:
    """Appends examples to the newest version's support set and commits a new version that is adapted on all of them.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The examples.
        idempotent: Set for a request that may be repeated.

    Raises:
        InvalidContent: A limit is passed, or an example is unusable.
        IdempotencyKeyReused: The key came with another request.
        TaskNotFound: The task is absent.
        SupportNotKept: The newest version's support set was not kept.
        VersionConflict: Another commit, or a deletion, came first.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    former = await former_answer(parts.access, tenant, idempotent)
    if former is not None:
        return former
    kept = await load_kept_support(parts, tenant, task)
    set_aside = [row.id for row in kept.rows if row.state != "adapted"]
    checked = to_grown_support(asked.examples, kept.checked().support, parts.settings, set_aside)
    added = rows_of(checked.added, "examples")
    try:
        return await adapt_and_commit(
            parts,
            tenant,
            task,
            kept.source.options,
            checked,
            rows=[*kept.rows, *added],
            checkpoint=_same_checkpoint(parts, kept.source),
            terms=kept.source.terms,
            began=began,
            ttl_s=remaining_ttl_s(kept.record),
            idempotent=idempotent,
            source="examples",
            builds_on=kept.source,
            response=partial(AddExamplesResponse, ids=[row.id for row in added]),
        )
    except TextEmpty as error:
        new = [i - checked.stored for i in error.indices if i >= checked.stored]
        if not new:
            raise
        raise InvalidContent("empty_text", [Fault(("examples", i, "text"), str(error)) for i in new]) from None
    except SupportTooLarge as error:
        raise InvalidContent(error.code, [Fault(("examples",), str(error))]) from None


async def list_examples(
    parts: Parts,
    tenant: str,
    task: str,
    *,
    label: str | None,
    source: str | None,
    state: str | None = None,
    text: str | None,
    after: str | None,
    limit: int,
) -> ExampleList:
    """A page of the newest version's examples, by id.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        label: The class of the examples; None for all.
        source: The call that brought them; None for all.
        state: Whether the version was adapted on them, or why not; None for all.
        text: A part of their text or second text, whatever its case; None for all.
        after: The id behind which the page begins; None for the first page.
        limit: How many at most.

    Raises:
        TaskNotFound: The task is absent.
        SupportNotKept: The newest version's support set was not kept.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    kept = await load_kept_support(parts, tenant, task)
    wanted = None if text is None else text.casefold()

    def matching() -> list[ExampleRow]:
        found = (
            row
            for row in kept.rows
            if (label is None or label in row.example.classes)
            and source in {None, row.source}
            and state in {None, row.state}
            and (wanted is None or any(wanted in each.casefold() for each in (row.text, row.text_pair or "")))
        )
        return sorted(found, key=lambda row: row.id)

    # In a thread, since searching megabytes would delay other requests
    found = await asyncio.to_thread(matching)
    rest = [row for row in found if after is None or row.id > after]
    page = [stored_example(row) for row in rest[:limit]]
    return ExampleList(
        task=task,
        version=kept.source.version,
        total=len(found),
        examples=page,
        next=page[-1].id if len(rest) > limit else None,
    )


async def erase_example(parts: Parts, tenant: str, task: str, example_id: str) -> Committed:
    """Commits a new version that is adapted without one example, and removes all that was derived from that example.

    Removed are the versions that were adapted on the same text, under whatever label or id, their adapters in memory,
    the text's features in memory, and the answers under idempotency keys of the task's earlier requests.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        example_id: The id of the example.

    Raises:
        TaskNotFound: The task is absent.
        SupportNotKept: The newest version's support set was not kept.
        ExampleNotFound: The newest version does not have the example.
        ExampleNeeded: No support set to adapt on would be left; nothing was changed.
        VersionConflict: Another commit, or a deletion, came first.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    kept = await load_kept_support(parts, tenant, task)
    erased = next((row.example for row in kept.rows if row.id == example_id), None)
    if erased is None:
        raise ExampleNotFound(task, kept.source.version)
    left = replace(kept, rows=[row for row in kept.rows if row.id != example_id])
    removed = await _derived_from(parts, tenant, task, erased.input)
    try:
        committed = await adapt_and_commit(
            parts,
            tenant,
            task,
            kept.source.options,
            left.checked(),
            rows=left.rows,
            checkpoint=_same_checkpoint(parts, kept.source),
            terms=kept.source.terms,
            began=began,
            ttl_s=remaining_ttl_s(kept.record),
            idempotent=None,
            source="erase",
            builds_on=kept.source,
            erased=removed,
            response=partial(EraseResponse, erased=example_id, removed_versions=sorted(removed)),
        )
    except InvalidSupportSet as error:
        raise ExampleNeeded(task, str(error)) from None
    parts.recent.forget(tenant, task)
    await parts.engine.forget(tenant, [erased.input])
    return committed


def _same_checkpoint(parts: Parts, version: Version) -> str | None:
    """The checkpoint of a version, or the default one where that is not loaded."""
    return version.checkpoint if version.checkpoint in parts.engine.checkpoints else None


async def _derived_from(parts: Parts, tenant: str, task: str, text: TextInput) -> list[int]:
    """The numbers of the versions that were adapted on a text, and of those of which that is not known."""
    store, before, derived = parts.access.store, None, []
    while True:
        page = await parts.access.call(store.versions, tenant, task, before=before, limit=_PAGE)
        for version in page:
            digests = version.support_digests
            if digests is None:  # of a release that recorded none
                texts = await _texts_of(parts, version)
                found = texts is None or text in texts
            else:
                known = {digest.partition("*")[0] for digest in digests}
                of_text = {text_digest(text), *(example_digest(text, label) for label in (*version.labels, None))}
                found = not of_text.isdisjoint(known | set(version.set_aside_digests))
                if KINDS[version.kind].answer != "label":
                    found = found or any(digest.startswith(half_digest(text)) for digest in digests)
            derived += [version.version] if found else []
        if len(page) < _PAGE:
            return derived
        before = page[-1].version


async def _texts_of(parts: Parts, version: Version) -> Iterable[TextInput] | None:
    """The texts that are kept with a version; None where there are none, or where they are damaged."""
    kept = await parts.access.call(parts.access.store.load_support, version.tenant, version.task, version.version)
    if kept is None:
        return None
    try:
        rows, _ = await asyncio.to_thread(decode_rows, kept)
    except AdapterCorrupt:
        return None
    return [row.example.input for row in rows]
