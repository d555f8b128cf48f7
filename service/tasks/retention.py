"""The removal of versions that a task does not keep any longer."""

import logging
import math
import time

from model_store.errors import StoreUnavailable
from model_store.records import Version
from service.caller import Caller, current_caller, removal_by
from service.tasks.app_parts import Parts

log = logging.getLogger("handful")

_PAGE = 100


async def remove_old_versions(parts: Parts, newest: Version) -> None:
    """Removes the versions that a task does not keep: as it was asked for, or else by the settings.

    The newest one is always kept, and where a readapt made it, beside it the version of each other checkpoint on the
    same examples: servers with that checkpoint answer by it until they are replaced. The commit before it stands
    whatever comes of this: while the store is away nothing is removed, and the next commit tries again.

    Args:
        parts: The app's parts.
        newest: The version that was just committed.
    """
    tenant, task, terms = newest.tenant, newest.task, newest.terms
    most = _first_given(terms.keep_versions, parts.settings.keep_versions)
    kept_s = _first_given(terms.keep_versions_seconds, parts.settings.keep_versions_seconds)
    if not (most or kept_s):
        return
    try:
        old = await _old_versions(parts, newest, most=most or math.inf, kept_s=kept_s or math.inf)
        if old:
            store = parts.access.store
            removal = removal_by(Caller(request_id=current_caller().request_id), "retention")
            await parts.access.call(store.delete_versions, tenant, task, old, keep_answers=True, removal=removal)
    except StoreUnavailable as error:
        log.warning("old versions could not be removed: %s", error)


def _first_given(asked: float | None, setting: float) -> float:
    return setting if asked is None else asked


async def _old_versions(parts: Parts, newest: Version, *, most: float, kept_s: float) -> list[int]:
    store, seen, replaced_at, before, old = parts.access.store, 0, time.time(), None, []
    checkpoints = {newest.checkpoint}
    while True:
        page = await parts.access.call(store.versions, newest.tenant, newest.task, before=before, limit=_PAGE)
        for version in page:
            moved = newest.source == "readapt" and version.same_support(newest)
            if moved and version.checkpoint not in checkpoints:
                checkpoints.add(version.checkpoint)
                replaced_at = version.created_at
                continue
            # The newest one was replaced by none
            if seen >= most or (seen and time.time() - replaced_at > kept_s):
                old.append(version.version)
            seen, replaced_at = seen + 1, version.created_at
        if len(page) < _PAGE:
            return old
        before = page[-1].version
