"""A store that has lost its data is not taken for one that never had any."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import redis

from model_store.records import StoreMarker
from service.auth import new_key
from tests.conftest import SUPPORT, StartService
from tests.faults.conftest import ADAPT, PREDICT, TEXTS, problem
from tests.faults.stores import empty, metric, parts_of
from tests.waiting import until

QUERIES = {"queries": TEXTS}


@pytest.fixture
def client(start_service: StartService, store_url: str) -> httpx.Client:
    """A service on each kind of store, with one warm task."""
    started = start_service(store=store_url)
    assert started.post(ADAPT, json={"support": SUPPORT}).status_code == 200
    assert started.post(PREDICT, json=QUERIES).status_code == 200
    return started


def marker(client: httpx.Client) -> StoreMarker:
    """The marker in the store."""
    found = parts_of(client).access.store.marker()
    assert found is not None
    return found


def known_id(client: httpx.Client) -> str:
    """The id of the store that the service uses."""
    found = parts_of(client).access.state.known_id
    assert found is not None
    return found


def refuses(client: httpx.Client) -> None:
    """Checks that calls that would find nothing, or write, are refused."""
    for method, path, body in (
        ("POST", "/v1/tasks/absent/predict", QUERIES),
        ("POST", PREDICT, {**QUERIES, "version": 7}),
        ("POST", ADAPT, {"support": SUPPORT}),
        ("POST", "/v1/tasks/new/adapt", {"support": SUPPORT}),
        ("POST", "/v1/tasks/bank/rollback", {"version": 1}),
        ("GET", "/v1/tasks", None),
        ("GET", "/v1/tasks/bank", None),
        ("GET", "/v1/tasks/bank/versions", None),
        ("DELETE", "/v1/tasks/bank", None),
    ):
        problem(client.request(method, path, json=body), 503, "store_emptied")


def test_nothing_is_absent_until_an_operator_accepts_the_loss(client: httpx.Client, store_url: str) -> None:
    lost = known_id(client)
    assert marker(client).store_id == lost
    ready = client.get("/readyz").json()
    empty(store_url)
    refuses(client)
    answer = client.post(PREDICT, json=QUERIES)
    assert answer.status_code == 200, "a warm task goes on from memory"
    assert answer.headers["Handful-Degraded"].startswith("store_emptied;age=")
    unready = client.get("/readyz")
    assert unready.status_code == 503
    assert unready.json()["checks"] == {**ready["checks"], "store_not_emptied": False}
    assert metric(client, "handful_store_emptied") == 1
    assert parts_of(client).access.store.marker() is None, "nothing was written"

    parts_of(client).access.store.accept(lost)
    until(lambda: client.get("/readyz").status_code == 200)
    assert known_id(client) == marker(client).store_id != lost
    assert metric(client, "handful_store_emptied") == 0
    problem(client.post(PREDICT, json=QUERIES), 404, "task_not_found")
    problem(client.get("/v1/tasks/bank"), 404, "task_not_found")
    assert client.post(ADAPT, json={"support": SUPPORT}).json()["version"] == 1


def test_data_that_come_back_end_it(client: httpx.Client, store_url: str) -> None:
    expected = client.post(PREDICT, json=QUERIES).json()
    if store_url.startswith("sqlite:"):
        path = Path(store_url.removeprefix("sqlite:"))
        elsewhere = path.with_name("elsewhere.db")
        path.rename(elsewhere)
        restore: Callable[[], object] = lambda: elsewhere.rename(path)  # noqa: E731
    else:
        server = redis.Redis.from_url(store_url)
        kept = [(key, server.dump(key)) for key in server.keys("*")]
        server.flushall()
        restore = lambda: [server.restore(key, 0, data) for key, data in kept]  # type: ignore[arg-type] # noqa: E731
    # A file that was removed can still be read: the marker is what shows it
    until(lambda: client.get("/readyz").json()["checks"].get("store_not_emptied") is False)
    refuses(client)
    restore()
    until(lambda: client.get("/readyz").status_code == 200)
    answer = client.post(PREDICT, json=QUERIES)
    assert answer.json() == expected
    assert "Handful-Degraded" not in answer.headers
    assert client.post(ADAPT, json={"support": SUPPORT}).json()["version"] == 2


def test_a_loss_under_a_write_is_not_acknowledged(
    client: httpx.Client, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = parts_of(client).access.store
    for name, ask in (
        ("delete", lambda: client.delete("/v1/tasks/bank")),
        ("commit", lambda: client.post(ADAPT, json={"support": SUPPORT})),
    ):
        lost = known_id(client)
        original = getattr(store, name)

        def emptied_first(*args: object, original: Callable[..., object] = original, **kwargs: object) -> object:
            empty(store_url)
            return original(*args, **kwargs)

        emptied_first.__name__ = name
        with monkeypatch.context() as patch:
            patch.setattr(store, name, emptied_first)
            problem(ask(), 503, "store_emptied")
        store.accept(lost)
        until(lambda: client.get("/readyz").status_code == 200)
        if name == "delete":
            assert client.post(ADAPT, json={"support": SUPPORT}).status_code == 200


def test_a_server_that_starts_on_the_emptied_store_does_not_speak_for_the_others(
    client: httpx.Client, start_service: StartService, store_url: str
) -> None:
    lost = known_id(client)
    empty(store_url)
    newcomer = start_service(store=store_url)
    assert newcomer.get("/v1/tasks").json()["tasks"] == []
    assert newcomer.post(ADAPT, json={"support": SUPPORT, "steps": 1}).json()["version"] == 1
    until(lambda: client.get("/readyz").status_code == 503)
    refuses(client)
    parts_of(client).access.store.accept(lost)
    until(lambda: client.get("/readyz").status_code == 200)
    assert known_id(client) == known_id(newcomer)
    answers = [each.post(PREDICT, json=QUERIES).json() for each in (client, newcomer)]
    assert answers[0] == answers[1]


def test_a_server_may_be_given_the_only_store_to_use(
    client: httpx.Client, start_service: StartService, store_url: str
) -> None:
    mine = known_id(client)
    assert start_service(store=store_url, store_id=mine).get("/v1/tasks/bank").status_code == 200
    stranger = start_service(store=store_url, store_id="f" * 32)
    assert stranger.get("/readyz").status_code == 503
    refuses(stranger)
    problem(stranger.post(PREDICT, json=QUERIES), 503, "store_emptied")
    empty(store_url)
    again = start_service(store=store_url, store_id=mine)
    refuses(again)
    assert parts_of(again).access.store.marker() is None, "it makes no marker of its own"
    parts_of(again).access.store.accept(mine)
    until(lambda: again.get("/readyz").status_code == 200)
    problem(again.get("/v1/tasks/bank"), 404, "task_not_found")


def test_keys_that_are_gone_with_the_data_are_not_unknown_and_stay_needed(
    start_service: StartService, store_url: str
) -> None:
    client = start_service(store=store_url)
    key, record = new_key("acme")
    store = parts_of(client).access.store
    store.add_key(record)
    headers = {"Authorization": f"Bearer {key}"}
    assert client.post(ADAPT, json={"support": SUPPORT}, headers=headers).status_code == 200
    lost = known_id(client)
    empty(store_url)
    assert client.post(PREDICT, json=QUERIES, headers=headers).status_code == 200, "from memory"
    problem(client.get("/v1/tasks", headers=headers), 503, "store_emptied")
    problem(client.get("/v1/tasks", headers={"Authorization": "Bearer handful_other"}), 503, "store_emptied")
    problem(client.get("/v1/tasks"), 401, "unauthorized")
    store.accept(lost)
    until(lambda: client.get("/readyz").status_code == 200)
    problem(client.post(PREDICT, json=QUERIES, headers=headers), 401, "unauthorized")
    until(store.needs_keys)
    problem(start_service(store=store_url).get("/v1/tasks"), 401, "unauthorized")


def test_a_store_that_was_in_use_before_it_had_a_marker_gets_one(
    start_service: StartService, store_url: str, client: httpx.Client
) -> None:
    if store_url.startswith("sqlite:"):
        with sqlite3.connect(store_url.removeprefix("sqlite:")) as db:
            db.execute("DELETE FROM facts")
        db.close()
    else:
        with redis.Redis.from_url(store_url) as server:
            server.delete("handful:store")
    newcomer = start_service(store=store_url)
    assert newcomer.post(PREDICT, json=QUERIES).json()["version"] == 1
    until(lambda: newcomer.get("/readyz").status_code == 200)
    assert marker(newcomer).store_id == known_id(newcomer)
