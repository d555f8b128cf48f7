"""The configuration of a Redis server, as far as tenants' data is at risk by it."""

import time
from typing import Any

from model_store.risks import StoreRisk

_LARGEST_SKEW_S = 5.0
"""Seconds between two clocks from which on times of versions are worth a warning; a round trip takes far less."""


def risks_of(redis: Any) -> list[StoreRisk]:
    """The risks to tenants' data in a server's configuration."""
    found = []
    policy = redis.info("memory").get("maxmemory_policy", "unknown")
    if policy.startswith(("allkeys", "volatile")):
        lost = "tenants' tasks silently" if policy.startswith("allkeys") else "tasks that have a ttl before their time"
        found.append(
            StoreRisk(
                "eviction",
                f"maxmemory-policy is {policy}: Redis deletes {lost} when memory runs out",
                "set it to noeviction: CONFIG SET maxmemory-policy noeviction, and in redis.conf",
            )
        )
    if not redis.info("persistence").get("aof_enabled"):
        found.append(
            StoreRisk(
                "persistence",
                "the append-only file is off: a restart of Redis loses what came after its last snapshot",
                "set appendonly to yes: CONFIG SET appendonly yes, and in redis.conf",
            )
        )
    ahead_s = _seconds_ahead(redis)
    if abs(ahead_s) > _LARGEST_SKEW_S:
        found.append(
            StoreRisk(
                "clock",
                f"the clock of Redis is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's: "
                "the times of versions are wrong, and HANDFUL_KEEP_VERSIONS_SECONDS removes versions too early or too "
                "late",
                "let both follow the same time server (chrony, systemd-timesyncd)",
            )
        )
    return found


def _seconds_ahead(redis: Any) -> float:
    """The seconds by which the clock of the server is ahead of this machine's."""
    began = time.time()
    seconds, microseconds = redis.time()
    return float(seconds + microseconds / 1e6 - (began + time.time()) / 2)
