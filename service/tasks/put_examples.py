"""The use case of examples that another system owns: each is added, or takes the place of the one with its id."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from handful.wire import AnyExample
from handful.wire_examples import AddExamplesResponse
from metalearn.errors import InvalidSupportSet
from metalearn.types import SupportSet
from model_store.codec import rows_of
from model_store.errors import VersionConflict
from service.tasks.adapt import adapt_and_commit
from service.tasks.app_parts import Parts
from service.tasks.commit import remaining_ttl_s
from service.tasks.errors import ExampleNeeded
from service.tasks.idempotency import Committed
from service.tasks.kept_support import load_kept_support
from service.tasks.support_set import CheckedSupport, to_grown_support

_RACES = 8
_RACE_PAUSE_S = 0.05

Result = TypeVar("Result")


async def put_examples(parts: Parts, tenant: str, task: str, examples: Sequence[AnyExample]) -> Committed | None:
    """Commits a new version that is adapted on the stored examples and on the given ones.

    An example takes the place of the stored one that has its id, whose text stays with earlier versions.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        examples: The examples, each with an id.

    Returns:
        The answer; None where the newest version has all of them as they are, and nothing was done.

    Raises:
        InvalidContent: A limit is passed, or an example is unusable.
        TaskNotFound: The task is absent.
        SupportNotKept: The newest version's support set was not kept.
        ExampleNeeded: What would be left is nothing to adapt on; nothing was changed.
        VersionConflict: Another commit, or a deletion, came first.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    began = time.perf_counter()
    kept = await load_kept_support(parts, tenant, task)
    ids = [example.id or "" for example in examples]
    nameless = [example.model_copy(update={"id": None}) for example in examples]
    set_aside = [row.id for row in kept.rows if row.state != "adapted"]
    grown = to_grown_support(nameless, kept.checked().support, parts.settings, set_aside)
    named = [replace(example, id=name) for example, name in zip(grown.added, ids, strict=True)]
    added = rows_of(named, "examples")
    content = {row.id: row.example for row in kept.rows if row.state == "adapted"}
    if all(content.get(row.id) == row.example for row in added):
        return None
    rows = [*(row for row in kept.rows if row.id not in set(ids)), *added]
    stored = [row.example for row in rows[: -len(added)] if row.state == "adapted"]
    try:
        support = SupportSet((*stored, *named), grown.support.descriptions, grown.support.kind, grown.support.order)
    except InvalidSupportSet as error:
        raise ExampleNeeded(task, str(error)) from None
    checked = CheckedSupport(
        support,
        frozenset(i - grown.stored + len(stored) for i in grown.shortened),
        grown.description_keys,
        len(stored),
        grown.added_field,
    )
    version = kept.source
    return await adapt_and_commit(
        parts,
        tenant,
        task,
        version.options,
        checked,
        rows=rows,
        checkpoint=version.checkpoint if version.checkpoint in parts.engine.checkpoints else None,
        terms=version.terms,
        began=began,
        ttl_s=remaining_ttl_s(kept.record),
        idempotent=None,
        source="examples",
        builds_on=version,
        response=partial(AddExamplesResponse, ids=ids),
    )


async def despite_races(work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of work that builds on the newest version, done again where another commit came first.

    Raises:
        VersionConflict: Other commits came first each time.
    """
    for _ in range(_RACES - 1):
        try:
            return await work()
        except VersionConflict:
            # So that those who collided part
            await asyncio.sleep(random.uniform(0, _RACE_PAUSE_S))  # noqa: S311
    return await work()
