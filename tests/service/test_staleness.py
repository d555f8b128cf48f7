"""Two servers on one store: the time for which one serves a version that the other has replaced."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, adapt, parts_of, predict

LONG_MS = 60_000


@contextmanager
def counted_reads(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Counts the store's reads of the newest version."""
    reads: list[int] = []
    access = parts_of(client).access
    original = access.current

    async def counted(tenant: str, task: str) -> object:
        reads.append(1)
        return await original(tenant, task)

    with monkeypatch.context() as patch:
        patch.setattr(access, "current", counted)
        yield reads


def test_by_default_every_prediction_asks_the_store(
    start_service: StartService, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = start_service(store=store_url), start_service(store=store_url)
    adapt(one)
    assert predict(other)["version"] == 1
    adapt(one, support=OTHER_SUPPORT)
    assert predict(other)["version"] == 2
    with counted_reads(other, monkeypatch) as reads:
        predict(other)
        predict(other)
    assert len(reads) == 2


def test_a_version_may_be_reused_for_as_long_as_the_settings_allow(
    start_service: StartService, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = start_service(store=store_url), start_service(store=store_url, max_staleness_ms=LONG_MS)
    adapt(one)
    before = predict(other)
    adapt(one, support=OTHER_SUPPORT)
    with counted_reads(other, monkeypatch) as reads:
        assert predict(other) == before
    assert not reads
    # A version that is asked for by number is not a question of which is the newest
    assert predict(other, version=2)["version"] == 2

    adapters = parts_of(other).adapters
    monkeypatch.setattr(adapters, "_recent", {key: (seen, 0.0) for key, (seen, _) in adapters._recent.items()})
    assert predict(other)["version"] == 2, "once the time is over the store is asked again"


def test_a_servers_own_commits_and_deletions_are_seen_at_once(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url, max_staleness_ms=LONG_MS)
    adapt(client)
    assert predict(client)["version"] == 1
    adapt(client, support=OTHER_SUPPORT)
    assert predict(client)["version"] == 2
    assert client.post("/v1/tasks/bank/rollback", json={"version": 1}).json()["version"] == 3
    assert predict(client)["version"] == 3
    assert client.delete("/v1/tasks/bank").status_code == 200
    assert client.post("/v1/tasks/bank/predict", json={"queries": ["a"]}).status_code == 404


def test_a_task_that_was_made_anew_elsewhere_is_found_where_its_old_version_is_not_in_memory(
    start_service: StartService, store_url: str
) -> None:
    one = start_service(store=store_url)
    other = start_service(store=store_url, max_staleness_ms=LONG_MS, cache_max_bytes=0)
    adapt(one)
    predict(other)
    assert one.delete("/v1/tasks/bank").status_code == 200
    adapt(one, support=OTHER_SUPPORT)
    assert predict(other)["predictions"] == predict(one)["predictions"]
    assert one.delete("/v1/tasks/bank").status_code == 200
    assert other.post("/v1/tasks/bank/predict", json={"queries": [SUPPORT[0]["text"]]}).status_code == 404


def test_the_number_of_reused_versions_has_a_bound(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url, max_staleness_ms=LONG_MS, cache_max_adapters=3)
    for number in range(6):
        adapt(client, f"task-{number}")
        predict(client, f"task-{number}")
    assert list(parts_of(client).adapters._recent) == [("default", f"task-{number}") for number in (3, 4, 5)]
