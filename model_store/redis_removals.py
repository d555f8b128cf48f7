"""Entries of removed versions in a Redis store: fields of the task's hash."""

from typing import Any

from model_store.removals import Removal

_NUMBERS_AT_ONCE = 1000


def read_removals(redis: Any, key: str, before: int | None) -> list[tuple[int, Removal]]:
    """The entries of a task's removed versions, newest first, those with a number below ``before``."""
    found: list[tuple[int, Removal]] = []
    newest = int(redis.hget(key, "current") or 0)
    for last in range(newest if before is None else min(newest, before - 1), 0, -_NUMBERS_AT_ONCE):
        numbers = range(last, max(0, last - _NUMBERS_AT_ONCE), -1)
        entries = redis.hmget(key, [f"removed:{number}" for number in numbers])
        pairs = zip(numbers, entries, strict=True)
        found += [(number, Removal.from_json(entry)) for number, entry in pairs if entry is not None]
    return found
