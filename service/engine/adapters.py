"""From (tenant, task, version) to an adapter: the cache, else one read of the store however many wait for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from metalearn.types import Adapter
from model_store.codec import AdapterKey, decode_adapter, encode_adapter
from model_store.errors import AdapterCorrupt
from model_store.records import CurrentVersion
from service.engine.adapter_cache import AdapterCache
from service.engine.models import Models
from service.errors import ApiError
from service.store_access import StoreAccess

_LARGE_BYTES = 2**20
"""A larger adapter takes tens of milliseconds to write or to check: not on the event loop, where all would feel it."""


def task_not_found() -> ApiError:
    """The answer for a task that is absent or another tenant's; nobody can tell which."""
    return ApiError(404, "task_not_found", "there is no such task, or no such version of it")


class Adapters:
    """Adapters of stored versions. Lives on the event loop."""

    def __init__(
        self, store: StoreAccess, cache: AdapterCache, models: Models, *, max_staleness_s: float, max_believed: int
    ) -> None:
        """Prepares it.

        Args:
            store: Where the versions are.
            cache: Keeps adapters in memory.
            models: Of the loaded checkpoint.
            max_staleness_s: How long the store's word on which version is the newest holds; 0 asks it each time.
            max_believed: Of how many tasks.
        """
        self._store = store
        self._max_staleness_s = max_staleness_s
        self._max_believed = max_believed
        self._believed: dict[tuple[str, str], tuple[CurrentVersion, float]] = {}
        self._changes = 0
        self._cache = cache
        self._models = models
        self._loading: dict[AdapterKey, asyncio.Task[Adapter | None]] = {}

    @asynccontextmanager
    async def lease(self, tenant: str, task: str, version: int | None) -> AsyncIterator[tuple[AdapterKey, Adapter]]:
        """The adapter of a version, or of the newest one by the store's own word; in memory for as long as it is used.

        Raises:
            ApiError: 404 where task or version is absent.
            StaleAdapter: Made from another checkpoint.
            AdapterCorrupt: The stored bytes are damaged.
            StoreUnavailable: The store does not answer.
        """
        key, adapter = await self._resolve(tenant, task, version)
        with self._cache.lease(key, adapter):
            yield key, adapter

    def keep(self, key: AdapterKey, adapter: Adapter) -> None:
        """Keeps a version that was just committed."""
        self._doubt(key.tenant, key.task)
        self._cache.put(key, adapter)

    def forget(self, tenant: str, task: str) -> None:
        """Drops a deleted task's versions."""
        self._doubt(tenant, task)
        self._cache.forget(tenant, task)

    async def encode(self, adapter: Adapter, key: AdapterKey) -> bytes:
        """What the store keeps of an adapter."""
        if adapter.size_bytes <= _LARGE_BYTES:
            return encode_adapter(adapter, key)
        return await asyncio.to_thread(encode_adapter, adapter, key)

    async def decode(self, data: bytes, key: AdapterKey) -> Adapter:
        """The adapter in stored bytes, for the loaded checkpoint.

        Raises:
            StaleAdapter: Made from another checkpoint.
            AdapterCorrupt: The bytes are damaged, or not this adapter's.
        """
        if len(data) <= _LARGE_BYTES:
            return self._decode(data, key)
        return await asyncio.to_thread(self._decode, data, key)

    def _decode(self, data: bytes, key: AdapterKey) -> Adapter:
        checkpoint = self._models.checkpoint
        return decode_adapter(
            data,
            key,
            checkpoint=checkpoint.fingerprint,
            shapes=self._models.shapes,
            device=checkpoint.encoder.device,
        )

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
            self._believed.pop((tenant, task), None)
        raise task_not_found()

    async def _key(self, tenant: str, task: str, version: int | None) -> AdapterKey:
        current = await self._current(tenant, task)
        if current is None:
            raise task_not_found()
        if version is None or version == current.version:
            return AdapterKey(tenant, task, current.version, current.adapter_id)
        record = await self._store.call(self._store.store.version, tenant, task, version)
        if record is None:
            raise task_not_found()
        return AdapterKey(tenant, task, version, record.adapter_id)

    async def _current(self, tenant: str, task: str) -> CurrentVersion | None:
        """The newest version by the store's own word, which is believed for as long as the settings say."""
        believed = self._believed.get((tenant, task))
        if believed is not None and time.monotonic() < believed[1]:
            return believed[0]
        asked_at, changes = time.monotonic(), self._changes
        current = await self._store.current(tenant, task)
        if current is None:
            self._believed.pop((tenant, task), None)
        elif self._max_staleness_s and changes == self._changes:  # else it may be from before a commit of our own
            self._believed[tenant, task] = current, asked_at + self._max_staleness_s
            if len(self._believed) > self._max_believed:
                del self._believed[next(iter(self._believed))]
        return current

    def _doubt(self, tenant: str, task: str) -> None:
        self._changes += 1
        self._believed.pop((tenant, task), None)

    async def _load(self, key: AdapterKey) -> Adapter | None:
        loading = self._loading.get(key)
        if loading is None:
            loading = asyncio.ensure_future(self._load_from_store(key))
            self._loading[key] = loading
            loading.add_done_callback(lambda _: self._loading.pop(key, None))
        # Shielded: the one who gives up must not take the others' load along
        return await asyncio.shield(loading)

    async def _load_from_store(self, key: AdapterKey) -> Adapter | None:
        data = await self._store.load_adapter(key.tenant, key.task, key.version)
        if data is None:
            return None
        adapter = await self.decode(data, key)
        # Here, not by those who wait: who comes between the end of this load and their turn must find it
        self._cache.put(key, adapter)
        return adapter
