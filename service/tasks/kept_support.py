"""The support set that is stored with a version."""

import asyncio

from metalearn.types import SupportSet
from model_store.codec import decode_support
from model_store.errors import AdapterCorrupt, VersionConflict
from model_store.records import Version
from service.tasks.app_parts import Parts
from service.tasks.errors import SupportNotKept


async def kept_support(parts: Parts, version: Version) -> SupportSet:
    """The support set of a version.

    Raises:
        SupportNotKept: It was not kept.
        VersionConflict: The version was deleted meanwhile.
        AdapterCorrupt: It is damaged.
        StoreUnavailable: The store does not answer.
    """
    if not version.support_kept:
        raise SupportNotKept(version.task, version.version)
    store, call = parts.access.store, parts.access.call
    kept = await call(store.load_support, version.tenant, version.task, version.version)
    # Deleted and made anew between the reads, the task has another version under the same number
    if await call(store.version, version.tenant, version.task, version.version) != version:
        raise VersionConflict(0)
    if kept is None:
        raise AdapterCorrupt(f"the support set of version {version.version} is missing")
    # In a thread, since reading megabytes would delay other requests
    return await asyncio.to_thread(decode_support, kept)
