"""Versions that a task does not keep any longer are removed when it gets a new one."""

from functools import partial
from types import SimpleNamespace

import httpx
import pytest

from model_store.errors import StoreUnavailable
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, adapt, predict, store_of


def numbers(client: httpx.Client) -> list[int]:
    """The versions of the task, newest first."""
    return [version["version"] for version in client.get("/v1/tasks/bank/versions").json()["versions"]]


def test_a_number_of_versions_is_kept(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url, keep_versions=2)
    secret = {"text": "a secret", "label": "refund"}
    headers = {"Idempotency-Key": "once"}
    adapt(client, support=[*SUPPORT, secret], headers=headers)
    adapt(client)
    assert numbers(client) == [2, 1]
    adapt(client, support=OTHER_SUPPORT)
    assert numbers(client) == [3, 2]
    assert client.post("/v1/tasks/bank/rollback", json={"version": 2}).json()["version"] == 4
    assert numbers(client) == [4, 3]
    assert predict(client)["version"] == 4
    assert store_of(client).load_support("default", "bank", 1) is None
    repeated = adapt(client, support=[*SUPPORT, secret], headers=headers)
    assert repeated["version"] == 1, "a repeated request gets its answer, as long as answers last"


def test_replaced_versions_are_kept_for_a_time(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start_service(keep_versions_seconds=3600)
    for _ in range(3):
        adapt(client)
    assert numbers(client) == [3, 2, 1]
    replaced_at = {}
    for number in (1, 2):
        newer = store_of(client).version("default", "bank", number + 1)
        assert newer is not None
        replaced_at[number] = newer.created_at
    for later, kept in ((replaced_at[1] + 3599, [4, 3, 2, 1]), (replaced_at[2] + 3600.0001, [5, 4, 3])):
        monkeypatch.setattr("service.tasks.retention.time", SimpleNamespace(time=partial(float, later)))
        adapt(client)
        assert numbers(client) == kept


def test_a_commit_stands_where_old_versions_cannot_be_removed(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start_service(keep_versions=1)
    adapt(client)

    def delete_versions(*_: object, **__: object) -> int:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(store_of(client), "delete_versions", delete_versions)
        assert adapt(client)["version"] == 2
    assert numbers(client) == [2, 1]
    adapt(client)
    assert numbers(client) == [3]


def test_a_task_has_its_own_number_of_versions_until_it_is_adapted_anew(
    start_service: StartService, store_url: str
) -> None:
    client = start_service(store=store_url, keep_versions=3)
    adapt(client, keep_versions=2)
    for _ in range(2):
        assert client.post("/v1/tasks/bank/readapt").status_code == 200
    assert numbers(client) == [3, 2], "it is handed on"
    client.post("/v1/tasks/bank/examples", json={"examples": OTHER_SUPPORT})
    assert numbers(client) == [4, 3]
    assert client.get("/v1/tasks/bank").json()["keep_versions"] == 2
    adapt(client)
    assert numbers(client) == [5, 4, 3], "the server's number"
    adapt(client, keep_versions=0)
    assert numbers(client) == [6, 5, 4, 3], "all"
    # A rollback brings weights back, not how long versions are kept
    assert client.post("/v1/tasks/bank/rollback", json={"version": 4}).json()["keep_versions"] == 0
    assert numbers(client) == [7, 6, 5, 4, 3]
    adapt(client, keep_versions=1)
    assert numbers(client) == [8]


def test_a_task_has_its_own_time_for_replaced_versions(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start_service(keep_versions_seconds=3600)
    for _ in range(2):
        adapt(client, keep_versions_seconds=7200)
    newest = store_of(client).version("default", "bank", 2)
    assert newest is not None
    monkeypatch.setattr("service.tasks.retention.time", SimpleNamespace(time=partial(float, newest.created_at + 7199)))
    adapt(client, keep_versions_seconds=7200)
    assert numbers(client) == [3, 2, 1]
    adapt(client)
    assert numbers(client) == [4], "by the server's time"


@pytest.mark.parametrize("fields", [{"keep_versions": -1}, {"keep_versions": 1.5}, {"keep_versions_seconds": -0.1}])
def test_a_number_that_is_none_is_refused(service: httpx.Client, fields: dict[str, float]) -> None:
    response = service.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, **fields})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, f"#/{next(iter(fields))}")
