"""The configuration of a Redis server, as far as tenants' data is at risk by it."""

from typing import Any


def warnings_of(redis: Any) -> list[str]:
    """The risks to tenants' data in a server's configuration, a sentence each."""
    found = []
    memory = redis.info("memory")
    policy = memory.get("maxmemory_policy", "unknown")
    if policy.startswith("allkeys"):
        found.append(
            f"maxmemory-policy is {policy}: Redis deletes tenants' tasks silently when memory runs out; "
            "set it to noeviction"
        )
    elif policy.startswith("volatile"):
        found.append(
            f"maxmemory-policy is {policy}: Redis deletes tasks that have a ttl before their time when memory "
            "runs out; set it to noeviction"
        )
    if not redis.info("persistence").get("aof_enabled"):
        found.append(
            "the append-only file is off: a restart of Redis loses what came after its last snapshot; "
            "set appendonly to yes"
        )
    return found
