"""While the store is away predictions go on from memory, for a bounded time and never behind this server's own acts."""

import httpx
import pytest

from service.auth import key_digest, new_key
from tests.conftest import SUPPORT, StartService
from tests.faults.conftest import ADAPT, PREDICT, TEXTS, problem
from tests.faults.stores import away, metric, parts_of

DEGRADED = "Handful-Degraded"
QUERIES = {"queries": TEXTS}


@pytest.fixture
def client(start_service: StartService, store_url: str) -> httpx.Client:
    """A service on each kind of store, with one task at version 1."""
    started = start_service(store=store_url)
    adapt(started)
    return started


def adapt(client: httpx.Client, **more: object) -> int:
    """Adapts, which has to succeed; returns the version."""
    answer = client.post(ADAPT, json={"support": SUPPORT, **more})
    assert answer.status_code == 200, answer.text
    version: int = answer.json()["version"]
    return version


def degraded(answer: httpx.Response, version: int = 1) -> None:
    """Checks that an answer comes from memory, and is marked so."""
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == version
    reason, _, age = answer.headers[DEGRADED].partition(";age=")
    assert reason == "store_unavailable"
    assert 0 <= int(age) <= 300


def test_a_warm_task_is_answered_and_all_else_is_unavailable(client: httpx.Client) -> None:
    expected = client.post(PREDICT, json=QUERIES)
    assert DEGRADED not in expected.headers
    before = metric(client, "handful_degraded_answers_total")
    with away(client):
        for _ in range(2):
            answer = client.post(PREDICT, json=QUERIES)
            degraded(answer)
            assert answer.json() == expected.json()
            degraded(client.post(PREDICT, json={**QUERIES, "version": 1}))
            for method, path, body in (
                ("POST", "/v1/tasks/absent/predict", QUERIES),
                ("POST", PREDICT, {**QUERIES, "version": 7}),
                ("POST", ADAPT, {"support": SUPPORT}),
                ("POST", "/v1/tasks/bank/rollback", {"version": 1}),
                ("GET", "/v1/tasks", None),
                ("GET", "/v1/tasks/bank", None),
                ("GET", "/v1/tasks/bank/versions", None),
                ("DELETE", "/v1/tasks/bank", None),
            ):
                problem(client.request(method, path, json=body), 503, "store_unavailable")
        assert metric(client, "handful_degraded_answers_total") == before + 4
        assert client.get("/readyz").json()["checks"]["store"] is False
        assert client.get("/readyz?without=store").status_code == 200
    after = client.post(PREDICT, json=QUERIES)
    assert DEGRADED not in after.headers
    assert after.json() == expected.json()
    assert adapt(client) == 2


def test_a_warm_task_does_not_wait_for_a_store_that_is_known_to_be_away(client: httpx.Client) -> None:
    client.post(PREDICT, json=QUERIES)
    with away(client):
        degraded(client.post(PREDICT, json=QUERIES))
        asked = reads(client)
        for _ in range(20):
            degraded(client.post(PREDICT, json=QUERIES))
        assert reads(client) == asked


def reads(client: httpx.Client) -> dict[str, float]:
    """The number of calls for newest versions; a server also looks for keys and counts tasks meanwhile."""
    lines = client.get("/metrics").text.splitlines()
    counts = [line.rsplit(" ", 1) for line in lines if line.startswith("handful_store_duration_seconds_count")]
    found = {name: float(count) for name, count in counts if 'op="current' in name}
    assert found
    return found


@pytest.mark.parametrize("act", ["adapt", "rollback"])
def test_what_this_server_has_committed_is_served_without_a_read_in_between(client: httpx.Client, act: str) -> None:
    client.post(PREDICT, json=QUERIES)
    if act == "adapt":
        assert adapt(client) == 2
    else:
        assert client.post("/v1/tasks/bank/rollback", json={"version": 1}).json()["version"] == 2
    with away(client):
        degraded(client.post(PREDICT, json=QUERIES), version=2)
        degraded(client.post(PREDICT, json={**QUERIES, "version": 1}), version=1)
        degraded(client.post(PREDICT, json=QUERIES), version=2)


def test_what_this_server_has_deleted_is_not_served(client: httpx.Client) -> None:
    client.post(PREDICT, json=QUERIES)
    client.post(PREDICT, json={**QUERIES, "version": 1})
    assert client.delete("/v1/tasks/bank").status_code == 200
    with away(client):
        problem(client.post(PREDICT, json=QUERIES), 503, "store_unavailable")
        problem(client.post(PREDICT, json={**QUERIES, "version": 1}), 503, "store_unavailable")
    assert client.post(PREDICT, json=QUERIES).status_code == 404
    adapt(client, steps=1)
    expected = client.post(PREDICT, json=QUERIES).json()
    with away(client):
        for body in (QUERIES, {**QUERIES, "version": 1}):
            answer = client.post(PREDICT, json=body)
            degraded(answer)
            assert answer.json() == expected, "the task that was made anew, not the one that was deleted"


def test_what_was_seen_to_be_deleted_elsewhere_is_not_served(
    client: httpx.Client, start_service: StartService, store_url: str
) -> None:
    other = start_service(store=store_url)
    for each in (client, other):
        each.post(PREDICT, json=QUERIES)
    assert other.delete("/v1/tasks/bank").status_code == 200
    assert client.post(PREDICT, json=QUERIES).status_code == 404
    with away(client):
        problem(client.post(PREDICT, json=QUERIES), 503, "store_unavailable")


def test_nothing_is_served_that_is_not_cached_or_was_not_confirmed_in_time(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.post(PREDICT, json=QUERIES)
    adapters = parts_of(client).adapters
    with away(client), monkeypatch.context() as patch:
        degraded(client.post(PREDICT, json=QUERIES))
        patch.setattr(adapters._confirmed, "_keep_s", 0)
        problem(client.post(PREDICT, json=QUERIES), 503, "store_unavailable")
    with away(client):
        degraded(client.post(PREDICT, json=QUERIES))
        adapters._cache.clear()
        problem(client.post(PREDICT, json=QUERIES), 503, "store_unavailable")


def test_0_seconds_serve_nothing(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url, stale_if_error_s=0)
    adapt(client)
    client.post(PREDICT, json=QUERIES)
    with away(client):
        problem(client.post(PREDICT, json=QUERIES), 503, "store_unavailable")
        assert len(parts_of(client).adapters._confirmed) == 0


def test_a_version_that_may_lag_anyway_is_no_degraded_answer(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url, max_staleness_ms=60_000, auth_cache_s=60)
    adapt(client)
    client.post(PREDICT, json=QUERIES)
    with away(client):
        problem(client.post(ADAPT, json={"support": SUPPORT}), 503, "store_unavailable")
        answer = client.post(PREDICT, json=QUERIES)
        assert answer.status_code == 200
        assert DEGRADED not in answer.headers


def test_a_key_that_was_known_works_and_an_unknown_one_is_not_called_unknown(
    start_service: StartService, store_url: str
) -> None:
    client = start_service(store=store_url)
    store = parts_of(client).access.store
    headers = []
    for tenant in ("acme", "acme", "globex"):
        key, record = new_key(tenant)
        store.add_key(record)
        headers.append({"Authorization": f"Bearer {key}"})
    known, unseen, revoked = headers
    assert client.post(ADAPT, json={"support": SUPPORT}, headers=known).status_code == 200
    assert client.post(ADAPT, json={"support": SUPPORT}, headers=revoked).status_code == 200
    store.remove_key(key_digest(revoked["Authorization"].removeprefix("Bearer ")))
    assert client.get("/v1/tasks", headers=revoked).status_code == 401
    with away(client):
        for _ in range(2):
            degraded(client.post(PREDICT, json=QUERIES, headers=known))
            for other in (unseen, revoked, {"Authorization": "Bearer handful_nonsense"}):
                problem(client.post(PREDICT, json=QUERIES, headers=other), 503, "store_unavailable")
            problem(client.post(PREDICT, json=QUERIES), 401, "unauthorized")


def test_a_server_that_has_not_looked_for_keys_does_not_open(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url)
    with away(client):
        for _ in range(2):
            problem(client.get("/v1/tasks"), 503, "store_unavailable")
            problem(client.post("/v1/classify", json={"support": SUPPORT, **QUERIES}), 503, "store_unavailable")
    assert client.get("/v1/tasks").status_code == 200
    with away(client):
        assert client.post("/v1/classify", json={"support": SUPPORT, **QUERIES}).status_code == 200
        problem(client.get("/v1/tasks", headers={"Authorization": "Bearer nonsense"}), 503, "store_unavailable")
