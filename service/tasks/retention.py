"""The removal of versions that a task does not keep any longer, by the settings."""

import logging
import time

from model_store.errors import StoreUnavailable
from service.tasks.app_parts import Parts

log = logging.getLogger("handful")

_PAGE = 100


async def remove_old_versions(parts: Parts, tenant: str, task: str) -> None:
    """Removes the versions that the settings do not keep; the newest one is always kept.

    The commit before it stands whatever comes of this: while the store is away nothing is removed, and the next commit
    tries again.
    """
    if not (parts.settings.keep_versions or parts.settings.keep_versions_seconds):
        return
    try:
        old = await _old_versions(parts, tenant, task)
        if old:
            store = parts.access.store
            await parts.access.call(store.delete_versions, tenant, task, old, keep_answers=True)
    except StoreUnavailable as error:
        log.warning("old versions could not be removed: %s", error)


async def _old_versions(parts: Parts, tenant: str, task: str) -> list[int]:
    most = parts.settings.keep_versions or float("inf")
    kept_s = parts.settings.keep_versions_seconds or float("inf")
    seen, replaced_at, before, old = 0, time.time(), None, []
    while True:
        page = await parts.access.call(parts.access.store.versions, tenant, task, before=before, limit=_PAGE)
        for version in page:
            # The newest one was replaced by none
            if seen >= most or (seen and time.time() - replaced_at > kept_s):
                old.append(version.version)
            seen, replaced_at = seen + 1, version.created_at
        if len(page) < _PAGE:
            return old
        before = page[-1].version
