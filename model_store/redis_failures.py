"""Failures of Redis as this package's errors."""

from redis.exceptions import OutOfMemoryError, RedisError

from model_store.errors import StoreFull, StoreUnavailable
from model_store.failures import failing_as


def unavailable(error: Exception) -> StoreUnavailable:
    """The error for a failure of the client library."""
    return (StoreFull if isinstance(error, OutOfMemoryError) else StoreUnavailable)(f"Redis: {error}")


bounded = failing_as(lambda _, error: unavailable(error), RedisError, OSError)
"""A decorator for methods that ask Redis."""
