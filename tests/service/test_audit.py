"""The record of each version: who asked for it, when, for what, and on which examples."""

import json
import time
from datetime import datetime
from typing import Any

import httpx

from metalearn.types import Example, SupportSet, TextInput
from model_store.digests import support_digests
from model_store.records import NewVersion, Version
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, adapt, bearer, make_key, store_of

SECRET = {"text": "my number is 4711", "label": "refund"}


def trail(client: httpx.Client, headers: dict[str, str]) -> list[tuple[Any, ...]]:
    """Number, call, asker and request id of each version, oldest first."""
    listed = client.get("/v1/tasks/bank/versions", headers=headers).json()["versions"]
    return [(each["version"], each["source"], each["asked_by"], each["request_id"]) for each in reversed(listed)]


def test_each_version_shows_who_asked_for_it_when_and_for_what(stored_service: httpx.Client) -> None:
    client = stored_service
    keys = [make_key(client, "acme") for _ in range(2)]
    first, second = ({**bearer(key), "X-Request-Id": f"call-{i}"} for i, key in enumerate(keys))
    began = time.time()
    adapt(client, headers=first, steps=3, checkpoint="auto", keep_versions=10)
    client.post("/v1/tasks/bank/examples", json={"examples": OTHER_SUPPORT}, headers=second)
    client.post("/v1/tasks/bank/readapt", headers=first)
    client.post("/v1/tasks/bank/rollback", json={"version": 1}, headers=second)
    hints = [key[:12] for key in keys]
    assert trail(client, first) == [
        (1, "adapt", hints[0], "call-0"),
        (2, "examples", hints[1], "call-1"),
        (3, "readapt", hints[0], "call-0"),
        (4, "rollback", hints[1], "call-1"),
    ]
    for number, checkpoint, support in (
        (1, "auto", SUPPORT),
        (2, "auto", [*SUPPORT, *OTHER_SUPPORT]),
        (4, None, SUPPORT),
    ):
        version = client.get(f"/v1/tasks/bank/versions/{number}", headers=first).json()
        examples = tuple(Example(TextInput(each["text"]), each["label"]) for each in support)
        assert version["support_digests"] == list(support_digests(SupportSet(examples)))
        assert (version["asked"]["steps"], version["checkpoint_asked"]) == (3, checkpoint)
        assert version["keep_versions"] == 10
        assert began <= datetime.fromisoformat(version["created_at"]).timestamp() <= time.time()
    for number, code in ((99, "version_not_found"), (0, "invalid_request")):
        answer = client.get(f"/v1/tasks/bank/versions/{number}", headers=first)
        assert answer.json()["code"] == code
    assert client.get("/v1/tasks/absent/versions/1", headers=first).json()["code"] == "task_not_found"


def test_without_a_key_it_is_the_tenant(service: httpx.Client) -> None:
    adapt(service)
    (version,) = service.get("/v1/tasks/bank/versions").json()["versions"]
    assert version["asked_by"] == "default"
    assert version["request_id"]


def test_an_erased_example_leaves_neither_text_nor_digest_in_the_trail(stored_service: httpx.Client) -> None:
    adapt(stored_service, support=[*SUPPORT, SECRET, {"text": "give me my money", "label": "refund"}])
    erased = stored_service.get("/v1/tasks/bank/versions/1").json()["support_digests"]
    (found,) = stored_service.get("/v1/tasks/bank/examples", params={"text": "4711"}).json()["examples"]
    assert stored_service.delete(f"/v1/tasks/bank/examples/{found['id']}").status_code == 200
    shown = stored_service.get("/v1/tasks/bank/versions").text + stored_service.get("/v1/tasks/bank/versions/2").text
    (gone,) = set(erased) - set(stored_service.get("/v1/tasks/bank/versions/2").json()["support_digests"])
    assert "4711" not in shown
    assert gone not in shown


def test_records_of_earlier_releases_are_read(service: httpx.Client) -> None:
    adapt(service)
    store = store_of(service)
    version = store.version("default", "bank", 1)
    assert version is not None
    stored = {**json.loads(version.to_json()), "version": 2, "adapter_id": "old"}
    for name in ("asked_by", "request_id", "terms"):
        del stored[name]
    store.commit(NewVersion(Version.from_json(json.dumps(stored).encode()), b"old", None), expected_version=1)
    newest = service.get("/v1/tasks/bank/versions/2").json()
    names = ("asked_by", "request_id", "checkpoint_asked", "keep_versions", "keep_versions_seconds")
    assert [newest[name] for name in names] == [None] * 5


def test_a_removed_version_leaves_an_entry_without_content(start_service: StartService, store_url: str) -> None:
    client = start_service(store=store_url)
    key = make_key(client, "acme")
    headers = {**bearer(key), "X-Request-Id": "removal"}
    adapt(client, support=[*SUPPORT, SECRET], headers=headers)
    for support in (OTHER_SUPPORT, [*SUPPORT, SECRET, {"text": "give me my money", "label": "refund"}]):
        adapt(client, support=support, headers=headers)
    params = {"text": "4711"}
    (found,) = client.get("/v1/tasks/bank/examples", params=params, headers=headers).json()["examples"]
    client.delete(f"/v1/tasks/bank/examples/{found['id']}", headers=headers)
    client.delete("/v1/tasks/bank/versions/2", headers=headers)
    adapt(client, keep_versions=1, headers=headers)
    listed = client.get("/v1/tasks/bank/versions", headers=headers).json()
    assert [each["version"] for each in listed["versions"]] == [5]
    removed = [(each["version"], each["reason"], each["removed_by"]) for each in listed["removed"]]
    assert removed == [
        (4, "retention", "server"),
        (3, "erase", key[:12]),
        (2, "delete", key[:12]),
        (1, "erase", key[:12]),
    ]
    assert {each["request_id"] for each in listed["removed"]} == {"removal"}
    why = {
        1: "an example was erased that it had been adapted on",
        2: "its removal was asked for",
        4: "no more versions are to be kept, or none that old",
    }
    for number, reason in why.items():
        for answer in (
            client.get(f"/v1/tasks/bank/versions/{number}", headers=headers),
            client.post("/v1/tasks/bank/predict", json={"queries": ["x"], "version": number}, headers=headers),
            client.post("/v1/tasks/bank/rollback", json={"version": number}, headers=headers),
            client.post("/v1/tasks/bank/readapt", json={"version": number}, headers=headers),
            client.delete(f"/v1/tasks/bank/versions/{number}", headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "version_not_found")
            detail = answer.json()["detail"]
            assert f"version {number} of task 'bank' was removed at 20" in detail
            assert f"since {reason}; its newest is 5, and GET /v1/tasks/bank/versions lists all" in detail
    assert set(listed["removed"][0]) == {"version", "removed_at", "removed_by", "request_id", "reason"}


def test_pages_have_the_removed_versions_of_their_numbers(stored_service: httpx.Client) -> None:
    for _ in range(7):
        adapt(stored_service)
    for number in (1, 3, 4, 6):
        stored_service.delete(f"/v1/tasks/bank/versions/{number}")
    pages, before = [], None
    while True:
        params = {"limit": 1, **({} if before is None else {"before": before})}
        page = stored_service.get("/v1/tasks/bank/versions", params=params).json()
        pages.append([[each["version"] for each in page[part]] for part in ("versions", "removed")])
        before = page["next"]
        if before is None:
            break
    assert pages == [[[7], []], [[5], [6]], [[2], [4, 3, 1]]]
