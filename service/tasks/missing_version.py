"""The error of a version that a task does not have: absent, or removed, by whom, when and why."""

from model_store.errors import StoreUnavailable
from service.store_access import StoreAccess
from service.tasks.errors import VersionNotFound


async def version_not_found(access: StoreAccess, tenant: str, task: str, version: int, newest: int) -> VersionNotFound:
    """The error of a version that was not found.

    Args:
        access: The store.
        tenant: The owner of the task.
        task: The task's name.
        version: The version that is asked for.
        newest: The task's newest version.
    """
    removal = None
    if version < newest:
        try:
            removed = await access.call(access.store.removed_versions, tenant, task, before=version + 1)
        except StoreUnavailable:  # it was not found in any case
            removed = ()
        removal = dict(removed).get(version)
    return VersionNotFound(task, version, newest, removal)
