"""Access of the event loop to the store: in threads, timed and counted."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from model_store.errors import StoreAbsent, StoreFull, StoreUnavailable, VersionConflict
from model_store.records import CurrentVersion, StoreMarker
from model_store.sqlite_store import SqliteStore
from model_store.store import AnswersAtOnce, TaskName, TaskStore, VersionName
from service.coalescing import Coalescer
from service.metrics import Metrics
from service.settings import Settings
from service.store_state import StoreState
from service.timings import add_to_current

log = logging.getLogger("handful")

_THREADS = 16
_LEAST_WAIT_S = 2.0
"""Seconds that a call may wait for a connection at least, however short the store's timeout is."""
_MOST_RECORDS = 256
_MOST_ADAPTERS = 16
"""Most items of one round trip. A record has a few bytes, an adapter up to megabytes."""
_CHANGES = frozenset({"commit", "delete", "delete_versions"})
_MAY_FIND_NOTHING = frozenset({"all_tasks", "task", "tasks", "version", "versions", "load_support",
                               "idempotent_answer", "has_keys", "needs_keys"})  # fmt: skip
"""Methods that may find nothing. Before that counts, the store's marker has to show that the store has its data."""
_LISTS = frozenset({"tasks", "versions"})
_LOOK_EVERY_S, _LOOK_AGAIN_AFTER_S = 5.0, 0.5
"""Seconds between checks of the marker, without and with trouble."""

_Parameters = ParamSpec("_Parameters")
_Key = TypeVar("_Key")
_Result = TypeVar("_Result")


@contextmanager
def _on_the_clock() -> Iterator[None]:
    """Adds the time in the context to the store's phase of the current request."""
    began = time.perf_counter()
    try:
        yield
    finally:
        add_to_current("store", time.perf_counter() - began)


def open_store(settings: Settings, *, create: bool = True) -> TaskStore:
    """Opens the store that the settings name.

    Args:
        settings: The settings of the server.
        create: Whether to make the file of an embedded store where there is none.

    Raises:
        StoreAbsent: There is none, and none is to be made.
        StoreUnavailable: It cannot be opened.
    """
    if settings.sqlite_path is not None:
        _refuse_former_meaning(settings)
        store = SqliteStore(settings.sqlite_path, create=create)
        if store.is_new:
            log.info("made a new store: %s", store.path)
        return store
    from model_store.redis_store import RedisStore  # its client takes half a second to import

    return RedisStore(settings.store.get_secret_value(), timeout_s=settings.store_timeout_s, max_connections=_THREADS)


def store_name(settings: Settings) -> str:
    """The store's name as ``--store`` takes it, without user and password."""
    if settings.sqlite_path is not None:
        return f"sqlite:{settings.sqlite_path.absolute()}"
    parts = urlsplit(settings.store.get_secret_value())
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _refuse_former_meaning(settings: Settings) -> None:
    """Refuses ``sqlite:///data/x.db`` where ``/data/x.db``, its meaning in old releases, still holds a store."""
    url, path = settings.store.get_secret_value(), settings.sqlite_path
    if path is None or path.is_absolute() or not url.startswith("sqlite:///") or path.exists():
        return
    former = Path("/", path)
    if former.exists():
        raise StoreAbsent(
            f"{url} means {path.absolute()}, where there is no store; there is one at {former}: write sqlite:{former} "
            f"for it, or sqlite:{path} for a new one"
        )


class StoreAccess:
    """Runs a store's blocking methods in its own threads.

    The thread of a cancelled request finishes its call, so that no connection is left with the reply to another call.

    Nothing is answered as absent, and nothing is written, unless the store's marker shows that it is the known store.

    Attributes:
        store: The store, whose bound methods ``call`` takes.
        state: Whether the store answers, and is the known one.
    """

    def __init__(
        self, store: TaskStore, metrics: Metrics, *, store_id: str | None = None, timeout_s: float = 0.0
    ) -> None:
        """Starts the threads.

        Args:
            store: The store.
            metrics: The metrics of the app.
            store_id: The marker of the known store; None takes that of the first that answers.
            timeout_s: Seconds that the store may take for a reply; a call waits as long for a connection, or longer.
        """
        self.store = store
        self._max_wait_s = max(_LEAST_WAIT_S, timeout_s)
        self.state = StoreState(store_id, metrics.store_emptied)
        self._at_once = store if isinstance(store, AnswersAtOnce) else None
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
        self._markers: Coalescer[None, StoreMarker | None] = Coalescer(self._read_marker, most=_MOST_RECORDS)

    async def current(self, tenant: str, task: str) -> CurrentVersion | None:
        """Calls ``TaskStore.current``; simultaneous calls have one round trip, where the store needs one."""
        with _on_the_clock():
            self.state.raise_if_emptied()
            found = await self._current(tenant, task)
            if found is None:
                await self.confirm()
            return found

    async def _current(self, tenant: str, task: str) -> CurrentVersion | None:
        if self._at_once is not None:
            with suppress(StoreUnavailable), self._timed("current"):
                return self._at_once.current_at_once(tenant, task)
        return await self._currents.get((tenant, task))

    async def tenant_of_key(self, digest: str) -> str | None:
        """The tenant of a key; simultaneous calls have one round trip."""
        with _on_the_clock():
            self.state.raise_if_emptied()
            found = await self._tenant_of_key(digest)
            if found is None:
                await self.confirm()
            return found

    async def _tenant_of_key(self, digest: str) -> str | None:
        if self._at_once is not None:
            with suppress(StoreUnavailable), self._timed("tenants_of_keys"):
                return self._at_once.tenant_of_key_at_once(digest)
        return await self._tenants.get(digest)

    def _timed(self, op: str) -> AbstractContextManager[object]:
        """Times a call on the event loop itself, where a hand-over to a thread would take many times as long."""
        return self._metrics.store_duration.labels(self.store.kind, op).time()

    async def load_adapter(self, tenant: str, task: str, version: int) -> bytes | None:
        """Calls ``TaskStore.load_adapter``; simultaneous calls have one round trip."""
        with _on_the_clock():
            self.state.raise_if_emptied()
            found = await self._adapters.get((tenant, task, version))
            if found is None:
                await self.confirm()
            return found

    async def confirm(self) -> None:
        """Checks that the store is the known one; simultaneous calls have one round trip.

        Raises:
            StoreEmptied: The store has lost its data, or is another one.
            StoreUnavailable: The store does not answer.
        """
        with _on_the_clock():
            self.state.judge(await self._markers.get(None))

    async def watch(self) -> None:
        """Checks the store's marker now and then, so that trouble and its end are seen without requests, too."""
        while True:
            try:
                await self.confirm()
            except StoreUnavailable:
                pass
            except Exception:  # the watch must not end, since nothing else would see that the store is back
                log.exception("store: its marker could not be looked at")
            if self.state.trouble is not None:
                await asyncio.sleep(_LOOK_AGAIN_AFTER_S)
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.state.troubled.wait(), _LOOK_EVERY_S)

    async def call(
        self, method: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        """Awaits a method of the store.

        Raises:
            StoreEmptied: The store has lost its data, or is another one, and the method would find nothing, or write.
            StoreUnavailable: The store does not answer.
        """
        op = method.__name__
        guarded = op in _CHANGES or op in _MAY_FIND_NOTHING
        if guarded:
            self.state.raise_if_emptied()
        if op in _CHANGES:
            await self.confirm()
        try:
            result = await self._call(op, method, *args, **kwargs)
        except VersionConflict:
            await self.confirm()
            raise
        except StoreUnavailable as error:
            error.may_be_done = op in _CHANGES and not isinstance(error, StoreFull)
            raise
        # Checked after a change, too, since a write to another store must not be acknowledged
        if op in _CHANGES or op in _LISTS or (guarded and not result):
            await self.confirm()
        return result

    async def _call(
        self, op: str, method: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result:
        began = time.perf_counter()

        def run() -> _Result:
            # While the store is away each call takes its timeout, and the timeouts of queued calls must not add up
            if time.perf_counter() - began > self._max_wait_s:
                raise StoreUnavailable(f"{op} waited {self._max_wait_s:g} s for a connection")
            return method(*args, **kwargs)

        try:
            result = await asyncio.get_running_loop().run_in_executor(self._threads, run)
        except StoreUnavailable as error:
            self._metrics.store_errors.labels(self.store.kind, op).inc()
            self.state.failed(error)
            raise
        else:
            self.state.answered()
            return result
        finally:
            took = time.perf_counter() - began
            self._metrics.store_duration.labels(self.store.kind, op).observe(took)
            add_to_current("store", took)

    async def _call_for_all(
        self, method: Callable[[Sequence[_Key]], Sequence[_Result | StoreUnavailable]], keys: Sequence[_Key]
    ) -> Sequence[_Result | StoreUnavailable]:
        found = await self._call(method.__name__, method, keys)
        failed = sum(isinstance(each, StoreUnavailable) for each in found)
        self._metrics.store_errors.labels(self.store.kind, method.__name__).inc(failed)
        return found

    async def _read_marker(self, asked: Sequence[None]) -> Sequence[StoreMarker | None]:
        """Reads the marker, once for several callers; makes it where this server knows no store yet."""
        marker = await self._call("marker", self.store.marker)
        if marker is None and self.state.known_id is None:
            marker = await self._call("mark", self.store.mark)
        return [marker] * len(asked)

    def close(self) -> None:
        """Waits for the running calls and closes the store."""
        self._threads.shutdown(cancel_futures=True)
        self.store.close()
