"""Adapters in memory, bounded by bytes; an adapter in use is never evicted."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from metalearn.types import Adapter
from model_store.codec import AdapterKey
from service.metrics import Metrics

_OVERHEAD_BYTES = 6144
"""Bytes of an entry beside its weights: tensors' headers, key, labels, and memory that is lost to fragmentation."""


@dataclass(slots=True)
class _Entry:
    adapter: Adapter
    size_bytes: int
    leases: int = 0


class AdapterCache:
    """A cache that evicts the least recently used adapter. No method may be called from outside the event loop."""

    def __init__(self, metrics: Metrics, *, max_bytes: int, max_adapters: int) -> None:
        self._metrics = metrics
        self._max_bytes = max_bytes
        self._max_adapters = max_adapters
        self._entries: OrderedDict[AdapterKey, _Entry] = OrderedDict()
        self._bytes = 0
        self._bytes_of: Counter[str] = Counter()  # by fingerprint
        self._hits, self._misses, self._evictions = map(metrics.cache_events.labels, ("hit", "miss", "evict"))

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: AdapterKey) -> Adapter | None:
        """The adapter, now the most recently used; None where it is not in the cache."""
        entry = self._entries.get(key)
        (self._misses if entry is None else self._hits).inc()
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.adapter

    def put(self, key: AdapterKey, adapter: Adapter) -> None:
        """Keeps an adapter, and evicts others until the bounds hold again."""
        if key in self._entries:
            return
        labels = sum(len(label.encode()) for label in adapter.labels)
        entry = _Entry(adapter, adapter.size_bytes + labels + _OVERHEAD_BYTES)
        if entry.size_bytes > self._max_bytes:  # it would evict all others and then itself
            return
        self._entries[key] = entry
        self._count(entry, 1)
        self._evict()

    @contextmanager
    def lease(self, key: AdapterKey, adapter: Adapter) -> Iterator[Adapter]:
        """Keeps an adapter in the cache, and counted, for as long as it is in use."""
        self.put(key, adapter)
        entry = self._entries.get(key)
        if entry is None:  # larger than the whole cache: used without being kept
            yield adapter
            return
        entry.leases += 1
        try:
            yield entry.adapter
        finally:
            entry.leases -= 1
            self._evict()

    def forget(self, tenant: str, task: str) -> None:
        """Drops all versions of a deleted task; a lease of one stays valid until its end."""
        for key in [key for key in self._entries if key.tenant == tenant and key.task == task]:
            self._count(self._entries.pop(key), -1)

    def clear(self) -> None:
        """Drops all adapters; a lease of one stays valid until its end."""
        for entry in self._entries.values():
            self._count(entry, -1)
        self._entries.clear()

    def _evict(self) -> None:
        size_bytes, count = self._bytes, len(self._entries)
        victims = []
        for key, entry in self._entries.items():
            if size_bytes <= self._max_bytes and count <= self._max_adapters:
                break
            if entry.leases == 0:
                victims.append(key)
                size_bytes -= entry.size_bytes
                count -= 1
        for key in victims:
            self._count(self._entries.pop(key), -1)
            self._evictions.inc()

    def _count(self, entry: _Entry, sign: Literal[1, -1]) -> None:
        """Adds the bytes of an entry to the amounts in memory, or takes them off."""
        self._bytes += sign * entry.size_bytes
        self._metrics.cache_bytes.set(self._bytes)
        checkpoint = entry.adapter.checkpoint
        self._bytes_of[checkpoint] += sign * entry.size_bytes
        self._metrics.checkpoint_memory(checkpoint, "adapters").set(self._bytes_of[checkpoint])
