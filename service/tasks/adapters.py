"""Adapters of stored versions, from the cache, or by one read of the store for all who wait."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from metalearn.types import Adapter
from model_store.codec import AdapterKey, decode_adapter, encode_adapter
from model_store.errors import AdapterCorrupt, StoreEmptied, StoreUnavailable
from model_store.loaded_checkpoints import LoadedCheckpoints
from model_store.records import CurrentVersion, Version
from service.engine.adapter_cache import AdapterCache
from service.store_access import StoreAccess
from service.tasks.confirmations import Confirmations, Write
from service.tasks.errors import TaskNotFound, VersionNotFound
from service.tasks.missing_version import version_not_found

_LARGE_BYTES = 2**20
"""Largest adapter that is coded on the event loop. A larger one takes tens of milliseconds, and has a thread."""


@dataclass(frozen=True, slots=True)
class Degraded:
    """The reason and the extent of an answer's lag behind the store.

    Attributes:
        reason: The code of the error that the answer would have been without the cache.
        age_s: Seconds since the store confirmed the version.
    """

    reason: str
    age_s: float


@dataclass(frozen=True, slots=True)
class LeasedAdapter:
    """An adapter that stays in memory while it is used.

    Attributes:
        key: The version's key.
        adapter: The version's weights.
        degraded: Set where the store could not be asked.
    """

    key: AdapterKey
    adapter: Adapter
    degraded: Degraded | None = None


class Adapters:
    """Adapters of stored versions. Lives on the event loop."""

    def __init__(
        self,
        store: StoreAccess,
        cache: AdapterCache,
        checkpoints: LoadedCheckpoints,
        *,
        max_staleness_s: float,
        max_recent: int,
        stale_if_error_s: float = 0,
    ) -> None:
        """Prepares the adapters.

        Args:
            store: The store of the versions.
            cache: The adapters in memory.
            checkpoints: The loaded checkpoints.
            max_staleness_s: Seconds for which the store's answer on the newest version is reused; 0 asks it each time.
            max_recent: The most tasks of which such an answer is kept.
            stale_if_error_s: Most seconds since the store confirmed a version that is served from the cache while the
                store is away; 0 serves none.
        """
        self._store = store
        self._max_staleness_s = max_staleness_s
        self._max_recent = max_recent
        self._recent: dict[tuple[str, str], tuple[CurrentVersion, float]] = {}
        self._confirmed = Confirmations(keep_s=stale_if_error_s, most=max_recent)
        self._stale_if_error_s = stale_if_error_s
        self._stand_ins: dict[tuple[str, str], tuple[str, int]] = {}
        self._changes = 0
        self._cache = cache
        self._checkpoints = checkpoints
        self._loading: dict[AdapterKey, asyncio.Task[Adapter | None]] = {}

    @asynccontextmanager
    async def lease(self, tenant: str, task: str, version: int | None) -> AsyncIterator[LeasedAdapter]:
        """Leases the adapter of a version, or of the newest version; it stays in memory until the lease ends.

        While the store is away, a cached version that it confirmed not too long ago is taken, and marked as degraded.

        Raises:
            TaskNotFound: The task is absent.
            VersionNotFound: The task does not have the version.
            StaleAdapter: Made from a checkpoint that is not loaded.
            AdapterCorrupt: The stored bytes are damaged.
            StoreUnavailable: The store does not answer.
        """
        leased = await self._resolve_or_degrade(tenant, task, version)
        with self._cache.lease(leased.key, leased.adapter):
            yield leased

    def let_stand_in(self, newest: Version, older: Version) -> None:
        """Lets an older version answer for the task as long as its newest version is this one."""
        self._stand_ins[newest.tenant, newest.task] = newest.adapter_id, older.version
        if len(self._stand_ins) > self._max_recent:
            del self._stand_ins[next(iter(self._stand_ins))]

    @contextmanager
    def writing(self, tenant: str, task: str) -> Iterator[Write]:
        """Encloses a commit or a deletion of a task, so that no older version is served after it.

        A failed write may have been carried out all the same (its reply was lost, its request cancelled). The task's
        known versions are forgotten then, unless the error rules that out.
        """
        with self._confirmed.writing((tenant, task)) as write:
            try:
                yield write
            except BaseException as error:
                if not isinstance(error, StoreUnavailable) or error.may_be_done:
                    self._invalidate(tenant, task)
                raise

    def keep(self, key: AdapterKey, adapter: Adapter, write: Write | None = None) -> None:
        """Keeps a version that was just committed by a write."""
        self._invalidate(key.tenant, key.task, versions=False)
        if write is None or write.overlapped:
            self._confirmed.drop((key.tenant, key.task))
        else:
            self._confirmed.note((key.tenant, key.task), CurrentVersion(key.version, key.adapter_id), write.began_at)
        self._cache.put(key, adapter)

    def forget(self, tenant: str, task: str) -> None:
        """Drops a deleted task's versions."""
        self._invalidate(tenant, task)
        self._cache.forget(tenant, task)

    def forget_all(self) -> None:
        """Drops all versions and adapters, which belong to a former store."""
        self._changes += 1
        self._recent.clear()
        self._confirmed.clear()
        self._cache.clear()

    async def encode(self, adapter: Adapter, key: AdapterKey) -> bytes:
        """The bytes of an adapter for the store."""
        if adapter.size_bytes <= _LARGE_BYTES:
            return encode_adapter(adapter, key)
        return await asyncio.to_thread(encode_adapter, adapter, key)

    async def decode(self, data: bytes, key: AdapterKey) -> Adapter:
        """The adapter in stored bytes, for the loaded checkpoint that made it.

        Raises:
            StaleAdapter: Made from a checkpoint that is not loaded.
            AdapterCorrupt: The bytes are damaged, or not this adapter's.
        """
        if len(data) <= _LARGE_BYTES:
            return self._decode(data, key)
        return await asyncio.to_thread(self._decode, data, key)

    def _decode(self, data: bytes, key: AdapterKey) -> Adapter:
        return decode_adapter(data, key, shapes=self._checkpoints.shapes, device=self._checkpoints.device)

    def _store_trouble(self) -> StoreUnavailable | None:
        return self._store.state.trouble if self._stale_if_error_s else None

    async def _resolve_or_degrade(self, tenant: str, task: str, version: int | None) -> LeasedAdapter:
        trouble = self._store_trouble()
        if trouble is not None and not self._is_recent(tenant, task):
            # A call would take the store's timeout once more, and the watch of the store sees when it is back
            degraded = self._degraded(tenant, task, version, trouble)
            if degraded is not None:
                return degraded
        try:
            return LeasedAdapter(*await self._resolve(tenant, task, version))
        except StoreUnavailable as error:
            degraded = self._degraded(tenant, task, version, error)
            if degraded is None:
                raise
            return degraded

    def _degraded(self, tenant: str, task: str, version: int | None, error: StoreUnavailable) -> LeasedAdapter | None:
        found = self._confirmed.find(tenant, task, version)
        if found is None:
            return None
        key, age_s = found
        newest_id, older = self._stand_ins.get((tenant, task), (None, None))
        if version is None and newest_id == key.adapter_id:
            return self._degraded(tenant, task, older, error)
        adapter = self._cache.get(key)
        reason = "store_emptied" if isinstance(error, StoreEmptied) else "store_unavailable"
        return None if adapter is None else LeasedAdapter(key, adapter, Degraded(reason, age_s))

    async def _resolve(self, tenant: str, task: str, version: int | None) -> tuple[AdapterKey, Adapter]:
        for attempt in (1, 2):
            key = await self._key(tenant, task, version)
            try:
                adapter = self._cache.get(key) or await self._load(key)
            except AdapterCorrupt:
                # Deleted and made anew between the two reads, the task has another adapter under the same number
                if attempt == 2:
                    raise
                adapter = None
            if adapter is not None:
                return key, adapter
            self._recent.pop((tenant, task), None)
        raise TaskNotFound

    async def _key(self, tenant: str, task: str, version: int | None) -> AdapterKey:
        current = await self._current(tenant, task)
        if current is None:
            raise TaskNotFound
        if version is None:
            newest_id, older = self._stand_ins.get((tenant, task), (None, None))
            if newest_id == current.adapter_id:
                try:
                    return await self._key_of(current, tenant, task, older)
                except VersionNotFound:  # removed meanwhile
                    del self._stand_ins[tenant, task]
        return await self._key_of(current, tenant, task, version)

    async def _key_of(self, current: CurrentVersion, tenant: str, task: str, version: int | None) -> AdapterKey:
        if version is None or version == current.version:
            return AdapterKey(tenant, task, current.version, current.adapter_id)
        asked_at, changes = time.monotonic(), self._changes
        record = await self._store.call(self._store.store.version, tenant, task, version)
        if record is None:
            raise await version_not_found(self._store, tenant, task, version, current.version)
        key = AdapterKey(tenant, task, version, record.adapter_id)
        if changes == self._changes:
            self._confirmed.note_version(key, asked_at)
        return key

    async def _current(self, tenant: str, task: str) -> CurrentVersion | None:
        """The newest version by the store's last answer, which is reused for as long as the settings allow."""
        if self._is_recent(tenant, task):
            return self._recent[tenant, task][0]
        asked_at, changes = time.monotonic(), self._changes
        current = await self._store.current(tenant, task)
        if current is None:
            self._recent.pop((tenant, task), None)
            self._confirmed.drop((tenant, task))
        elif changes == self._changes:  # else it may be from before a commit of our own
            self._confirmed.note((tenant, task), current, asked_at)
            if self._max_staleness_s:
                self._recent[tenant, task] = current, asked_at + self._max_staleness_s
                if len(self._recent) > self._max_recent:
                    del self._recent[next(iter(self._recent))]
        return current

    def _is_recent(self, tenant: str, task: str) -> bool:
        found = self._recent.get((tenant, task))
        return found is not None and time.monotonic() < found[1]

    def _invalidate(self, tenant: str, task: str, *, versions: bool = True) -> None:
        self._changes += 1
        self._recent.pop((tenant, task), None)
        if versions:
            self._confirmed.drop((tenant, task))

    async def _load(self, key: AdapterKey) -> Adapter | None:
        loading = self._loading.get(key)
        if loading is None:
            loading = asyncio.ensure_future(self._load_from_store(key))
            self._loading[key] = loading
            loading.add_done_callback(lambda _: self._loading.pop(key, None))
        # Shielded, so that a cancelled request does not cancel the load for the others
        return await asyncio.shield(loading)

    async def _load_from_store(self, key: AdapterKey) -> Adapter | None:
        data = await self._store.load_adapter(key.tenant, key.task, key.version)
        if data is None:
            return None
        adapter = await self.decode(data, key)
        # Put here, and not by the waiting requests: a request that comes before their turn must find the adapter
        self._cache.put(key, adapter)
        return adapter
