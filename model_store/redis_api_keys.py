"""API keys in a Redis server."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

from model_store.errors import StoreUnavailable
from model_store.records import ApiKeyRecord
from model_store.redis_failures import bounded

_KEYS = "handful:keys"
_KEYS_NEEDED = "{handful:keys}:needed"


class RedisApiKeys:
    """The part of ``TaskStore`` that keeps API keys; ``redis_keys`` lists its names in Redis."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis

    @bounded
    def add_key(self, key: ApiKeyRecord) -> None:
        """See ``TaskStore.add_key``."""
        pipeline = self._redis.pipeline(transaction=True)
        pipeline.set(_KEYS_NEEDED, "1")
        pipeline.hsetnx(_KEYS, key.digest, json.dumps(asdict(key)))
        pipeline.execute()

    @bounded
    def tenants_of_keys(self, digests: Sequence[str]) -> Sequence[str | StoreUnavailable | None]:
        """See ``TaskStore.tenants_of_keys``."""
        records = self._redis.hmget(_KEYS, list(digests))
        return [None if record is None else _tenant_of(record) for record in records]

    @bounded
    def keys(self) -> Sequence[ApiKeyRecord]:
        """See ``TaskStore.keys``."""
        records = [ApiKeyRecord(**json.loads(record)) for record in self._redis.hvals(_KEYS)]
        return sorted(records, key=lambda record: (record.created_at, record.digest))

    @bounded
    def has_keys(self) -> bool:
        """See ``TaskStore.has_keys``."""
        return bool(self._redis.exists(_KEYS))

    @bounded
    def remove_key(self, digest: str) -> bool:
        """See ``TaskStore.remove_key``."""
        if self._redis.exists(_KEYS):  # the last one may have been added by an older program, which did not note it
            self._redis.set(_KEYS_NEEDED, "1")
        return bool(self._redis.hdel(_KEYS, digest))

    @bounded
    def needs_keys(self) -> bool:
        """See ``TaskStore.needs_keys``."""
        return bool(self._redis.exists(_KEYS, _KEYS_NEEDED))

    @bounded
    def set_needs_keys(self, needed: bool) -> None:
        """See ``TaskStore.set_needs_keys``."""
        if needed:
            self._redis.set(_KEYS_NEEDED, "1")
        else:
            self._redis.delete(_KEYS_NEEDED)


def _tenant_of(record: bytes) -> str | StoreUnavailable:
    try:
        return cast(str, json.loads(record)["tenant"])
    except (ValueError, KeyError, TypeError):
        return StoreUnavailable("Redis: what is kept of a key cannot be read")
