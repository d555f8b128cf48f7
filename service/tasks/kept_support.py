"""The support set that is kept with a version."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metalearn.types import SupportSet
from model_store.codec import ExampleRow, decode_rows
from model_store.errors import AdapterCorrupt, VersionConflict
from model_store.records import TaskRecord, Version
from service.tasks.app_parts import Parts
from service.tasks.errors import SupportNotKept, TaskNotFound
from service.tasks.missing_version import version_not_found
from service.tasks.support_set import CheckedSupport


@dataclass(frozen=True, slots=True)
class KeptSupport:
    """A version's examples as they are stored.

    Attributes:
        record: The task when it was read.
        source: The version.
        rows: The version's examples, in order, and those that are set aside.
        descriptions: The version's descriptions of labels.
    """

    record: TaskRecord
    source: Version
    rows: Sequence[ExampleRow]
    descriptions: Mapping[str, str]

    def checked(self) -> CheckedSupport:
        """The examples as a support set to adapt on, without those that are set aside.

        Raises:
            InvalidSupportSet: No learner could adapt on it.
        """
        support = SupportSet(
            tuple(row.example for row in self.rows if row.state == "adapted"),
            self.descriptions,
            self.source.kind,
            self.source.labels if self.source.kind == "ordinal" else (),
        )
        return CheckedSupport(support, frozenset(), {label: label for label in self.descriptions})


async def find_version(parts: Parts, tenant: str, task: str, version: int | None) -> tuple[TaskRecord, Version]:
    """A task, and its version of a number or its newest one.

    Raises:
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        StoreUnavailable: The store does not answer.
    """
    store, call = parts.access.store, parts.access.call
    record = await call(store.task, tenant, task)
    if record is None:
        raise TaskNotFound
    newest = record.current
    found = newest if version is None else await call(store.version, tenant, task, version)
    if found is None:
        raise await version_not_found(parts.access, tenant, task, version or 0, newest.version)
    return record, found


async def load_kept_support(parts: Parts, tenant: str, task: str, version: int | None = None) -> KeptSupport:
    """Reads the support set of a version, or of the newest version.

    Raises:
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        SupportNotKept: The version's support set was not kept.
        VersionConflict: The version was deleted between the reads.
        AdapterCorrupt: The stored support set is damaged.
        StoreUnavailable: The store does not answer.
    """
    record, source = await find_version(parts, tenant, task, version)
    store, call = parts.access.store, parts.access.call
    kept = await call(store.load_support, tenant, task, source.version)
    if kept is None and not source.support_kept:
        raise SupportNotKept(task, source.version)
    if kept is None:
        if await call(store.version, tenant, task, source.version) == source:
            raise AdapterCorrupt(f"the support set of version {source.version} is missing")
        raise VersionConflict(0)  # deleted between the reads
    # In a thread, since reading megabytes would delay other requests
    rows, descriptions = await asyncio.to_thread(decode_rows, kept)
    return KeptSupport(record, source, rows, descriptions)
