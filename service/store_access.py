"""The store as the event loop sees it: off the loop, timed and counted."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from model_store.errors import StoreUnavailable
from model_store.redis_store import RedisStore
from model_store.sqlite_store import SqliteStore
from model_store.store import TaskStore
from service.metrics import Metrics
from service.request_context import add_to_current
from service.settings import Settings

_THREADS = 16
_MAX_WAIT_S = 2.0

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def open_store(settings: Settings) -> TaskStore:
    """The store that the settings name.

    Raises:
        StoreUnavailable: It cannot be opened.
    """
    if settings.sqlite_path is not None:
        return SqliteStore(settings.sqlite_path)
    return RedisStore(settings.store.get_secret_value(), timeout_s=settings.store_timeout_s, max_connections=_THREADS)


class StoreAccess:
    """Runs a store's blocking methods in threads of its own.

    A cancelled request leaves its thread to finish the call, so that no connection is left with a reply that belongs
    to somebody else.

    Attributes:
        store: The store; give its bound methods to ``call``.
    """

    def __init__(self, store: TaskStore, metrics: Metrics) -> None:
        self.store = store
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="handful-store")

    async def call(
        self, method: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Awaits a method of the store."""
        op = method.__name__
        began = time.perf_counter()

        def run() -> _Result:
            # While the store is away each call takes its timeout: those behind must not add theirs up
            if time.perf_counter() - began > _MAX_WAIT_S:
                raise StoreUnavailable(f"{op} waited {_MAX_WAIT_S} s for a connection")
            return method(*args, **kwargs)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except StoreUnavailable:
            self._metrics.store_errors.labels(self.store.kind, op).inc()
            raise
        finally:
            took = time.perf_counter() - began
            self._metrics.store_duration.labels(self.store.kind, op).observe(took)
            add_to_current("store", took)

    def close(self) -> None:
        """Waits for the running calls and closes the store."""
        self._threads.shutdown(cancel_futures=True)
        self.store.close()
