"""The protocol of stores. One test suite checks all of them."""

from collections.abc import Collection, Sequence
from typing import Protocol, runtime_checkable

from model_store.errors import StoreUnavailable
from model_store.records import (
    ApiKeyRecord,
    CurrentVersion,
    IdempotentAnswer,
    NewVersion,
    StoredSupport,
    StoredTasks,
    StoreMarker,
    TaskRecord,
    Version,
)
from model_store.removals import Removal
from model_store.risks import StoreRisk

TaskName = tuple[str, str]
"""Tenant and task."""

VersionName = tuple[str, str, int]
"""Tenant, task and version."""


class TaskStore(Protocol):
    """Tasks, their versions, and API keys. Methods may be called from any thread and may block.

    Every method raises ``StoreUnavailable`` when the store does not answer in its bounded time. A read after a commit
    that returned sees that commit. A task whose time to live has passed is absent.
    """

    kind: str
    """``sqlite`` or ``redis``: the label of this store's metrics."""

    def commit(
        self,
        new: NewVersion,
        *,
        expected_version: int,
        expected_adapter_id: str | None = None,
        ttl_s: int | None = None,
        idempotent: IdempotentAnswer | None = None,
        erased: Collection[int] = (),
        removal: Removal | None = None,
    ) -> None:
        """Writes a version durably, all of it or nothing, and makes it the newest.

        Args:
            new: Its number is ``expected_version + 1``.
            expected_version: The newest version that the caller knows; 0 for a new task.
            expected_adapter_id: The newest version's unique id, where the number alone is not enough: a task that was
                deleted and made anew has the same numbers.
            ttl_s: The task ends after this time; None takes a former limit away.
            idempotent: Committed in the same act.
            erased: Earlier versions that are deleted in the same act, see ``delete_versions``.
            removal: The entry that is left of each of them.

        Raises:
            VersionConflict: The newest version is another one.
            IdempotencyReplay: The idempotency key is taken.
        """

    def current(self, tenant: str, task: str) -> CurrentVersion | None:
        """The newest version; None where the task is absent."""

    def currents(self, tasks: Sequence[TaskName]) -> Sequence[CurrentVersion | StoreUnavailable | None]:
        """``current`` of several tasks, of any tenants, in one round trip; the error of those that cannot be read."""

    def load_adapter(self, tenant: str, task: str, version: int) -> bytes | None:
        """The encoded adapter of a version; None where it is absent."""

    def load_adapters(self, versions: Sequence[VersionName]) -> Sequence[bytes | StoreUnavailable | None]:
        """``load_adapter`` of several versions, of any tenants, in one round trip; the error where one has failed."""

    def load_support(self, tenant: str, task: str, version: int) -> StoredSupport | None:
        """The support set of a version; None where it is absent or was not to be kept."""

    def task(self, tenant: str, task: str) -> TaskRecord | None:
        """A task as it stands; None where it is absent."""

    def tasks(self, tenant: str, *, after: str = "", limit: int = 100) -> Sequence[TaskRecord]:
        """A tenant's tasks by name, those whose name sorts behind ``after``, at most ``limit``."""

    def all_tasks(self, *, after: str = "", limit: int = 100) -> StoredTasks:
        """A page of all tasks, of all tenants, in no promised order; cheap enough to be walked while others write.

        A task that is there from the first page to the last is found. One that is made or deleted meanwhile may be, and
        Redis may name a task twice.

        Args:
            after: ``next`` of the page before.
            limit: About how many.
        """

    def version(self, tenant: str, task: str, version: int) -> Version | None:
        """The record of one version; None where it is absent."""

    def versions(self, tenant: str, task: str, *, before: int | None = None, limit: int = 100) -> Sequence[Version]:
        """A task's versions, newest first, those with a number below ``before``, at most ``limit``."""

    def delete(self, tenant: str, task: str) -> bool:
        """Removes a task with all its versions and support sets; False where it was absent."""

    def delete_versions(
        self,
        tenant: str,
        task: str,
        versions: Collection[int],
        *,
        keep_answers: bool = False,
        removal: Removal | None = None,
    ) -> int:
        """Removes versions with the examples that no other version has; returns how many of them there were.

        The newest version stays. No byte of what was removed is left in the store.

        Args:
            tenant: The owner of the task.
            task: The task's name.
            versions: Their numbers.
            keep_answers: Whether the answers under idempotency keys of the task's earlier requests stay. They have
                digests of the requests.
            removal: The entry that is left of each of them.
        """

    def removed_versions(self, tenant: str, task: str, *, before: int | None = None) -> Sequence[tuple[int, Removal]]:
        """A task's removed versions, newest first, those with a number below ``before``; see ``MOST_ENTRIES``."""

    def idempotent_answer(self, tenant: str, key: str) -> bytes | None:
        """The answer that was committed under an idempotency key, while it lasts."""

    def add_key(self, key: ApiKeyRecord) -> None:
        """Lets a key in."""

    def tenants_of_keys(self, digests: Sequence[str]) -> Sequence[str | StoreUnavailable | None]:
        """The tenant that each key lets in, or None, in one round trip; the error of those that cannot be read."""

    def keys(self) -> Sequence[ApiKeyRecord]:
        """All keys, oldest first."""

    def has_keys(self) -> bool:
        """Whether there is any key."""

    def remove_key(self, digest: str) -> bool:
        """Shuts a key out; False where it was unknown."""

    def needs_keys(self) -> bool:
        """Whether callers need a key: since the first one was added, also after the last one was removed."""

    def set_needs_keys(self, needed: bool) -> None:
        """Notes that callers need a key although there is none, or takes that back; keys that exist stay needed."""

    def marker(self) -> StoreMarker | None:
        """The store's marker; None where it was never used, or has lost its data."""

    def mark(self) -> StoreMarker:
        """Writes a marker where there is none, and returns the one that stands: many who call at once get the same."""

    def accept(self, lost_id: str) -> StoreMarker:
        """Lets this store stand in for a lost one: notes that in its marker, which is made where there is none."""

    def purge_expired(self) -> None:
        """Erases what has outlived its time, where the store does not do so by itself."""

    def ping(self) -> None:
        """Returns when the store answers."""

    def risks(self) -> Sequence[StoreRisk]:
        """The risks to tenants' data in the store's configuration."""

    def close(self) -> None:
        """Gives back files and connections."""


@runtime_checkable
class AnswersAtOnce(Protocol):
    """A store in reach of this process, which may be asked where nothing may block."""

    def current_at_once(self, tenant: str, task: str) -> CurrentVersion | None:
        """``TaskStore.current``, without waiting for whoever is in the way. For one thread only.

        Raises:
            StoreUnavailable: No answer at once; ``current`` may have one.
        """

    def tenant_of_key_at_once(self, digest: str) -> str | None:
        """The tenant that a key lets in, without waiting. For one thread only.

        Raises:
            StoreUnavailable: No answer at once; ``tenants_of_keys`` may have one.
        """
