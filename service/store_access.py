"""The store as the event loop sees it: off the loop, timed and counted."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import ParamSpec, TypeVar

from model_store.errors import StoreUnavailable
from model_store.records import CurrentVersion
from model_store.redis_store import RedisStore
from model_store.sqlite_store import SqliteStore
from model_store.store import TaskName, TaskStore, TellsAtOnce, VersionName
from service.coalescing import Coalescer
from service.metrics import Metrics
from service.request_context import add_to_current
from service.settings import Settings

_THREADS = 16
_MAX_WAIT_S = 2.0
_MOST_RECORDS = 256
_MOST_ADAPTERS = 16
"""Most of one round trip: a few words each, and up to megabytes each."""

_Parameters = ParamSpec("_Parameters")
_Key = TypeVar("_Key")
_Result = TypeVar("_Result")


@contextmanager
def _on_the_clock() -> Iterator[None]:
    """Counts as the store's for the request that waits, though the call is made for several."""
    began = time.perf_counter()
    try:
        yield
    finally:
        add_to_current("store", time.perf_counter() - began)


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
        self._at_once = store if isinstance(store, TellsAtOnce) else None
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="handful-store")
        self._currents: Coalescer[TaskName, CurrentVersion | None] = Coalescer(
            lambda names: self._call_for_all(store.currents, names), most=_MOST_RECORDS
        )
        self._tenants: Coalescer[str, str | None] = Coalescer(
            lambda digests: self._call_for_all(store.tenants_of_keys, digests), most=_MOST_RECORDS
        )
        self._adapters: Coalescer[VersionName, bytes | None] = Coalescer(
            lambda names: self._call_for_all(store.load_adapters, names), most=_MOST_ADAPTERS
        )

    async def current(self, tenant: str, task: str) -> CurrentVersion | None:
        """``TaskStore.current``; who asks at the same time shares a round trip, where it takes one."""
        with _on_the_clock():
            if self._at_once is not None:
                with suppress(StoreUnavailable), self._timed("current"):
                    return self._at_once.current_at_once(tenant, task)
            return await self._currents.get((tenant, task))

    async def tenant_of_key(self, digest: str) -> str | None:
        """Whom a key lets in; who asks at the same time shares a round trip."""
        with _on_the_clock():
            if self._at_once is not None:
                with suppress(StoreUnavailable), self._timed("tenants_of_keys"):
                    return self._at_once.tenant_of_key_at_once(digest)
            return await self._tenants.get(digest)

    def _timed(self, op: str) -> AbstractContextManager[object]:
        """Of a question that is asked on the loop: handing it to a thread would take many times as long."""
        return self._metrics.store_duration.labels(self.store.kind, op).time()

    async def tenants_of_keys(self, digests: Sequence[str]) -> Sequence[str | StoreUnavailable | None]:
        """``TaskStore.tenants_of_keys``, which no request waits for."""
        return await self._call_for_all(self.store.tenants_of_keys, digests)

    async def load_adapter(self, tenant: str, task: str, version: int) -> bytes | None:
        """``TaskStore.load_adapter``; who asks at the same time shares a round trip."""
        with _on_the_clock():
            return await self._adapters.get((tenant, task, version))

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

    async def _call_for_all(
        self, method: Callable[[Sequence[_Key]], Sequence[_Result | StoreUnavailable]], keys: Sequence[_Key]
    ) -> Sequence[_Result | StoreUnavailable]:
        found = await self.call(method, keys)
        failed = sum(isinstance(each, StoreUnavailable) for each in found)
        self._metrics.store_errors.labels(self.store.kind, method.__name__).inc(failed)
        return found

    def close(self) -> None:
        """Waits for the running calls and closes the store."""
        self._threads.shutdown(cancel_futures=True)
        self.store.close()
