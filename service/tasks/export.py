"""The use case export: a version as one file."""

import asyncio
from dataclasses import dataclass

from model_store.errors import AdapterCorrupt, VersionConflict
from model_store.task_file import pack_task
from service.tasks.app_parts import Parts
from service.tasks.kept_support import find_version


@dataclass(frozen=True, slots=True)
class ExportedTask:
    """A version as a file. The server keeps no copy of it.

    Attributes:
        name: A name for the file.
        content: Its bytes.
    """

    name: str
    content: bytes


async def export_task(parts: Parts, tenant: str, task: str, version: int | None) -> ExportedTask:
    """The file of a version, or of the newest version; its checkpoint need not be loaded.

    Raises:
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        VersionConflict: The version was deleted between the reads.
        AdapterCorrupt: The stored version is damaged.
        StoreUnavailable: The store does not answer.
    """
    _, source = await find_version(parts, tenant, task, version)
    store, call = parts.access.store, parts.access.call
    data = await call(store.load_adapter, tenant, task, source.version)
    support = await call(store.load_support, tenant, task, source.version)
    if data is None or (support is None and source.support_kept):
        if await call(store.version, tenant, task, source.version) == source:
            raise AdapterCorrupt(f"a part of version {source.version} is missing")
        raise VersionConflict(0)  # deleted between the reads
    loaded = {each.checkpoint.fingerprint: each.checkpoint.manifest.name for each in parts.engine.checkpoints}
    try:
        # In a thread, since digests of megabytes would delay other requests
        content = await asyncio.to_thread(
            pack_task, source, data, support, checkpoint_name=loaded.get(source.checkpoint)
        )
    except AdapterCorrupt:
        # Deleted and made anew between the reads, the task has another adapter under the same number
        if await call(store.version, tenant, task, source.version) == source:
            raise
        raise VersionConflict(0) from None
    return ExportedTask(f"{task}-{source.version}.handful.zip", content)
