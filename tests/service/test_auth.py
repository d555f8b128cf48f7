"""Keys: when they are needed, refusals, and stored digests."""

import asyncio
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from model_store.errors import StoreUnavailable
from service.auth import Authenticator, Unauthorized, key_digest
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import adapt, bearer, make_key, predict, store_of

CLOSED_ROUTES = {
    ("POST", "/v1/tasks/bank/adapt"): {"support": SUPPORT},
    ("POST", "/v1/tasks/bank/predict"): {"queries": ["where is it"]},
    ("POST", "/v1/classify"): {"support": SUPPORT, "queries": ["where is it"]},
    ("GET", "/v1/tasks"): None,
    ("GET", "/v1/tasks/bank"): None,
    ("DELETE", "/v1/tasks/bank"): None,
    ("GET", "/v1/tasks/bank/versions"): None,
    ("POST", "/v1/tasks/bank/rollback"): {"version": 1},
    ("GET", "/v1/checkpoint"): None,
}
OPEN_ROUTES = ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json")


def refused(response: httpx.Response) -> None:
    """Checks that an answer is the documented 401."""
    assert response.status_code == 401, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"] == "Bearer"
    problem = response.json()
    assert problem["code"] == "unauthorized"
    assert "Authorization" in problem["detail"] or "keys create" in problem["detail"]


def test_without_keys_everybody_on_loopback_is_the_default_tenant(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    assert [record.current.tenant for record in store_of(stored_service).tasks("default")] == ["default"]
    assert predict(stored_service, headers={"Authorization": "Basic YTpi"})["version"] == 1, "a proxy's, not ours"


@pytest.mark.parametrize("key", ["handful_nonsense", ""])
def test_a_key_that_nobody_made_is_refused_also_where_none_is_needed(stored_service: httpx.Client, key: str) -> None:
    answer = stored_service.get("/v1/tasks", headers=bearer(key))
    refused(answer)
    assert stored_service.get("/v1/tasks").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1"])
def test_loopback_hosts_are_open(start_service: StartService, host: str) -> None:
    assert start_service(host=host).get("/v1/tasks").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "10.0.0.1", "example.org", ""])  # noqa: S104
def test_other_hosts_are_closed_even_without_keys(start_service: StartService, host: str) -> None:
    client = start_service(host=host)
    for (method, path), body in CLOSED_ROUTES.items():
        refused(client.request(method, path, json=body))
    refused(client.get("/v1/tasks", headers=bearer("handful_nonsense")))


def test_other_hosts_are_open_where_that_is_asked_for_until_a_key_exists(start_service: StartService) -> None:
    client = start_service(host="0.0.0.0", allow_open=True)  # noqa: S104
    adapt(client)
    make_key(client, "acme")
    refused(client.get("/v1/tasks"))


def test_once_a_key_exists_every_route_needs_one(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    key = make_key(stored_service, "default")
    for (method, path), body in CLOSED_ROUTES.items():
        refused(stored_service.request(method, path, json=body))
    for path in OPEN_ROUTES:
        assert stored_service.get(path).status_code == 200, path
    # Nothing was done on the way to the 401
    assert predict(stored_service, headers=bearer(key))["version"] == 1


def test_keys_that_vanish_from_the_store_do_not_open_it_again(stored_service: httpx.Client) -> None:
    key = make_key(stored_service, "acme")
    assert stored_service.get("/v1/tasks", headers=bearer(key)).status_code == 200
    assert store_of(stored_service).remove_key(key_digest(key))
    assert not store_of(stored_service).has_keys()
    refused(stored_service.get("/v1/tasks"))
    refused(stored_service.get("/v1/tasks", headers=bearer(key)))


def test_a_server_whose_keys_were_all_revoked_stays_closed_also_after_a_restart(
    start_service: StartService, store_url: str
) -> None:
    client = start_service(store=store_url)
    key = make_key(client, "acme")
    store_of(client).remove_key(key_digest(key))
    for each in (client, start_service(store=store_url)):
        answer = each.get("/v1/tasks")
        refused(answer)
        assert "keys create TENANT --store " in answer.json()["detail"]
    store_of(client).set_needs_keys(False)
    assert start_service(store=store_url).get("/v1/tasks").status_code == 200


def test_a_server_without_any_key_names_the_command_that_makes_one(start_service: StartService, tmp_path: Path) -> None:
    client = start_service(host="0.0.0.0")  # noqa: S104
    for headers in ({}, bearer("handful_nonsense")):
        answer = client.get("/v1/tasks", headers=headers)
        refused(answer)
        assert f"`handful keys create TENANT --store sqlite:{tmp_path / 'service.db'}`" in answer.json()["detail"]
    key = make_key(client, "acme")
    assert client.get("/v1/tasks", headers=bearer(key)).status_code == 200


def test_a_key_that_exists_closes_an_open_server(stored_service: httpx.Client) -> None:
    assert stored_service.get("/v1/tasks").status_code == 200
    key = make_key(stored_service, "acme")
    assert stored_service.get("/v1/tasks", headers=bearer(key)).status_code == 200
    refused(stored_service.get("/v1/tasks"))


def test_a_wrong_or_malformed_header_is_refused(stored_service: httpx.Client) -> None:
    key = make_key(stored_service, "acme")
    assert stored_service.get("/v1/tasks", headers=bearer(key)).status_code == 200
    wrong = [
        "",
        " ",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        key,
        f"Basic {key}",
        f"Token {key}",
        f"Bearer{key}",
        f"Bearer {key}x",
        f"Bearer {key[:-1]}",
        f"Bearer {key.upper()}",
        f"Bearer {key} {key}",
        f"Bearer {key},Bearer {key}",
        f"Bearer {key_digest(key)}",
        "Bearer handful_" + "x" * 43,
        "Bearer " + "x" * 100_000,
        "Bearer null",
        "Bearer ' OR 1=1 --",
        "Bearer \xff\xfe",
    ]
    for value in wrong:
        response = stored_service.get("/v1/tasks", headers=[(b"Authorization", value.encode("latin-1"))])
        refused(response)
        assert len(response.content) < 2000
        assert key not in response.text
    assert stored_service.get("/v1/tasks", headers={"Authorization": f"bearer {key}"}).status_code == 200


def test_a_request_without_a_key_is_refused_before_its_body_is_looked_at(stored_service: httpx.Client) -> None:
    make_key(stored_service, "acme")
    for content in (b"not json", b"x" * (9 * 2**20)):
        refused(stored_service.post("/v1/classify", content=content, headers={"Content-Type": "application/json"}))
    refused(stored_service.get("/v1/tasks?limit=0"))
    refused(stored_service.get("/v1/tasks/%2e%2e"))


def test_a_key_lets_its_own_tenant_in(stored_service: httpx.Client) -> None:
    first, second = make_key(stored_service, "acme"), make_key(stored_service, "acme")
    other = make_key(stored_service, "globex")
    adapt(stored_service, headers=bearer(first))
    assert predict(stored_service, headers=bearer(second))["version"] == 1
    assert stored_service.get("/v1/tasks/bank", headers=bearer(other)).status_code == 404


def test_a_revoked_key_is_refused_and_others_are_not(stored_service: httpx.Client) -> None:
    revoked, kept = make_key(stored_service, "acme"), make_key(stored_service, "acme")
    assert stored_service.get("/v1/tasks", headers=bearer(revoked)).status_code == 200
    store_of(stored_service).remove_key(key_digest(revoked))
    refused(stored_service.get("/v1/tasks", headers=bearer(revoked)))
    assert stored_service.get("/v1/tasks", headers=bearer(kept)).status_code == 200


def test_a_revoked_key_works_no_longer_than_the_setting_allows(start_service: StartService) -> None:
    client = start_service(auth_cache_s=0.5)
    revoked, kept = make_key(client, "acme"), make_key(client, "globex")
    assert client.get("/v1/tasks", headers=bearer(revoked)).status_code == 200
    store_of(client).remove_key(key_digest(revoked))
    time.sleep(0.6)
    refused(client.get("/v1/tasks", headers=bearer(revoked)))
    assert client.get("/v1/tasks", headers=bearer(kept)).status_code == 200


def test_no_key_is_stored_as_it_is(service: httpx.Client, tmp_path: Path) -> None:
    key = make_key(service, "acme")
    assert service.get("/v1/tasks", headers=bearer(key)).status_code == 200
    with sqlite3.connect(tmp_path / "service.db") as db:
        rows = db.execute("SELECT * FROM api_keys").fetchall()
        db.execute("PRAGMA wal_checkpoint(FULL)")
    assert len(rows) == 1
    assert key_digest(key) in rows[0]
    secret = key.removeprefix("handful_")
    for file in tmp_path.glob("service.db*"):
        data = file.read_bytes()
        assert secret.encode() not in data, file.name
        # The hint distinguishes keys; the rest has to be as hard to guess as before
        assert secret[5:].encode() not in data, file.name
    assert len(secret) >= 40


def test_two_keys_are_never_the_same(service: httpx.Client) -> None:
    keys = {make_key(service, "acme") for _ in range(50)}
    assert len(keys) == 50
    assert all(key.startswith("handful_") for key in keys)


class _Keys:
    """Some keys in place of a store; notes which ones were looked up."""

    def __init__(self, keys: str) -> None:
        self.tenants = {key_digest(key): f"tenant {key}" for key in keys}
        self.asked: list[str] = []
        self.away = False
        self.state = SimpleNamespace(trouble=None)

    async def tenant_of_key(self, digest: str) -> str | None:
        self.asked.append(digest)
        if self.away:
            raise StoreUnavailable("away")
        return self.tenants.get(digest)


class _Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    clock = _Clock()
    monkeypatch.setattr("service.auth.time", clock)
    return clock


async def _ask(authenticator: Authenticator, keys: str) -> None:
    for key in keys:
        assert await authenticator.tenant(f"Bearer {key}") == f"tenant {key}"


def _authenticator(keys: _Keys, cache_s: float, stale_if_error_s: float = 0) -> Authenticator:
    return Authenticator(
        keys,  # type: ignore[arg-type]
        may_be_open=False,
        trusted=False,
        cache_s=cache_s,
        stale_if_error_s=stale_if_error_s,
    )


def test_a_key_is_looked_up_again_after_a_while(clock: _Clock) -> None:
    async def walk() -> None:
        keys = _Keys("ab")
        authenticator = _authenticator(keys, cache_s=8)
        await _ask(authenticator, "ab")
        clock.now += 7
        await _ask(authenticator, "ab")
        assert len(keys.asked) == 2, "both are remembered"
        clock.now += 1
        await _ask(authenticator, "a")
        assert len(keys.asked) == 3
        del keys.tenants[key_digest("b")]
        for _ in range(2):
            with pytest.raises(Unauthorized):
                await authenticator.tenant("Bearer b")
        keys.away = True
        clock.now += 8
        with pytest.raises(StoreUnavailable):
            await authenticator.tenant("Bearer a")

    asyncio.run(walk())


def test_keys_that_were_found_not_too_long_ago_work_while_the_store_is_away(clock: _Clock) -> None:
    async def walk() -> None:
        keys = _Keys("ab")
        authenticator = _authenticator(keys, cache_s=8, stale_if_error_s=100)
        await _ask(authenticator, "ab")
        for _ in range(8):
            clock.now += 7
            await _ask(authenticator, "a")
        del keys.tenants[key_digest("a")]
        keys.away = True
        clock.now += 40
        await _ask(authenticator, "ab")
        with pytest.raises(StoreUnavailable):
            await authenticator.tenant("Bearer c")
        clock.now += 34  # b was looked up 100 s ago or more, a was not
        with pytest.raises(StoreUnavailable):
            await authenticator.tenant("Bearer b")
        await _ask(authenticator, "a")
        clock.now += 30
        with pytest.raises(StoreUnavailable):
            await authenticator.tenant("Bearer a")
        keys.away = False
        await _ask(authenticator, "b")
        with pytest.raises(Unauthorized):
            await authenticator.tenant("Bearer a")
        keys.away = True
        with pytest.raises(StoreUnavailable):
            await authenticator.tenant("Bearer a")

    asyncio.run(walk())


def test_remembered_keys_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.auth._MOST_KNOWN", 2)
    keys = _Keys("abc")
    authenticator = _authenticator(keys, cache_s=60)

    async def ask(some: str) -> int:
        before = len(keys.asked)
        await _ask(authenticator, some)
        return len(keys.asked) - before

    assert asyncio.run(ask("abab")) == 2, "both are remembered"
    assert asyncio.run(ask("cbcb")) == 1, "the oldest one made room"
    assert asyncio.run(ask("a")) == 1
