"""Features of support texts in memory, so that adding an example to fifty costs the encoding of one text."""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from metalearn.encoder.tokenizing import TokenizedText
from service.metrics import Metrics

_OVERHEAD_BYTES = 512
"""Bytes of an entry beside its numbers: the tensor's header, the key, the dictionary's slot."""


class FeatureCache:
    """A checkpoint's features by tenant and text; the least recently used are evicted. Belongs to the compute thread.

    The tenant is part of the key, since the time of an answer must not reveal which texts another tenant has sent.
    """

    def __init__(self, metrics: Metrics, *, max_bytes: int, checkpoint: str = "") -> None:
        """Prepares an empty cache.

        Args:
            metrics: The metrics of the app.
            max_bytes: The bound.
            checkpoint: The fingerprint of the checkpoint.
        """
        self._metrics = metrics
        self._checkpoint_bytes = metrics.checkpoint_memory(checkpoint, "features")
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Float[Tensor, " dim"]] = OrderedDict()
        self._bytes = 0

    def get(self, tenant: str, texts: Sequence[TokenizedText]) -> list[Float[Tensor, " dim"] | None]:
        """The features of each text, now the most recently used; None where they are not in the cache."""
        found = []
        for text in texts:
            key = _key(tenant, text)
            features = self._entries.get(key)
            if features is not None:
                self._entries.move_to_end(key)
            found.append(features)
        hits = sum(features is not None for features in found)
        self._metrics.feature_cache_events.labels("hit").inc(hits)
        self._metrics.feature_cache_events.labels("miss").inc(len(found) - hits)
        return found

    def put(self, tenant: str, texts: Sequence[TokenizedText], features: Float[Tensor, "texts dim"]) -> None:
        """Keeps features, and evicts others until the bound holds again."""
        before = self._bytes
        for text, row in zip(texts, features, strict=True):
            if _size(row) > self._max_bytes:
                return
            key = _key(tenant, text)
            if key not in self._entries:
                self._bytes += _size(row)
            # A copy of the row, since a tensor view would keep its whole batch in memory
            self._entries[key] = row.detach().clone()
            self._entries.move_to_end(key)
        while self._bytes > self._max_bytes:
            _, oldest = self._entries.popitem(last=False)
            self._bytes -= _size(oldest)
            self._metrics.feature_cache_events.labels("evict").inc()
        self._metrics.feature_cache_bytes.inc(self._bytes - before)
        self._checkpoint_bytes.set(self._bytes)

    def forget(self, tenant: str, texts: Sequence[TokenizedText]) -> None:
        """Drops the features of erased texts."""
        before = self._bytes
        for text in texts:
            features = self._entries.pop(_key(tenant, text), None)
            self._bytes -= 0 if features is None else _size(features)
        self._metrics.feature_cache_bytes.inc(self._bytes - before)
        self._checkpoint_bytes.set(self._bytes)


def _key(tenant: str, text: TokenizedText) -> bytes:
    digest = hashlib.blake2b(tenant.encode(), digest_size=16)
    digest.update(b"\0")  # which no tenant's name holds
    digest.update(array("I", text.ids).tobytes())
    digest.update(bytes(text.type_ids))
    digest.update(b"" if text.second_from is None else text.second_from.to_bytes(4))
    return digest.digest()


def _size(features: Float[Tensor, " dim"]) -> int:
    return features.numel() * features.element_size() + _OVERHEAD_BYTES
