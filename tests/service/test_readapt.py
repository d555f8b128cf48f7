"""``readapt``: a task of another checkpoint answers again, from its stored support set and options."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from metalearn.options import AdaptOptions
from model_store.records import NewVersion, StoredSupport, Version
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, predict, store_of

READAPT = "/v1/tasks/bank/readapt"


def readapt(client: httpx.Client, task: str = "bank", **body: Any) -> dict[str, Any]:
    """Readapts, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/readapt", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refused(response: httpx.Response, status: int, code: str) -> str:
    """The detail of a refusal, which has to be this one."""
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    detail: str = response.json()["detail"]
    return detail


def test_a_stale_task_is_refused_with_what_to_do_and_answers_once_that_is_done(
    start_service: StartService, store_url: str, other_checkpoint: Path
) -> None:
    options: dict[str, Any] = {
        "steps": 3,
        "learning_rate": 0.5,
        "use_label_text": False,
        "labels": {"card_arrival": "a card that is late"},
    }
    adapt(start_service(store=store_url), ttl_seconds=3600, **options)
    new = start_service(store=store_url, checkpoint=str(other_checkpoint), readapt_on_first_use=False)
    fingerprint = new.get("/v1/checkpoint").json()["fingerprint"]
    detail = refused(new.post("/v1/tasks/bank/predict", json={"queries": TEXTS}), 409, "stale_adapter")
    assert "HANDFUL_READAPT_ON_FIRST_USE" in detail
    assert "POST /v1/tasks/bank/readapt makes a new version of its support set" in detail
    before = new.get("/v1/tasks/bank").json()

    made = readapt(new, version=1)
    assert (made["version"], made["steps"], made["n_support"]) == (2, 3, 6)
    assert made["checkpoint"] == fingerprint
    shown = new.get("/v1/tasks/bank").json()
    assert (shown["version"], shown["source"], shown["support_kept"]) == (2, "readapt", True)
    assert (shown["learning_rate"], shown["use_label_text"]) == (0.5, False)
    ends = [datetime.fromisoformat(record["expires_at"]).timestamp() for record in (before, shown)]
    assert abs(ends[0] - ends[1]) < 5, "the time to live goes on"
    # The same as an adapt with the same fields on the new checkpoint
    adapt(new, "fresh", **options)
    assert predict(new)["predictions"] == predict(new, "fresh")["predictions"]
    # What was asked for is remembered from version to version
    assert readapt(new)["steps"] == 3


def test_the_body_may_be_empty(service: httpx.Client) -> None:
    adapt(service)
    assert service.post(READAPT).json()["version"] == 2
    assert service.post(READAPT, content=b"", headers={"Content-Type": "application/json"}).json()["version"] == 3
    assert service.post(READAPT, json={}).json()["version"] == 4
    assert service.post(READAPT, content=b"{", headers={"Content-Type": "application/json"}).status_code == 422
    assert service.post(READAPT, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 415
    assert service.post(READAPT, json={"support": []}).status_code == 422
    assert service.get("/v1/tasks/bank").json()["version"] == 4


def test_the_learner_and_the_seed_that_were_asked_for_are_kept(service: httpx.Client) -> None:
    adapt(service, learner="ridge", seed=7)
    readapt(service)
    version = store_of(service).version("default", "bank", 2)
    assert version is not None
    assert version.learner == "ridge"
    assert version.options == AdaptOptions(learner="ridge", seed=7)


def test_a_version_from_before_requests_were_recorded_gets_the_checkpoints_own_choices(service: httpx.Client) -> None:
    adapt(service, steps=2, seed=7)
    store = store_of(service)
    old = store.version("default", "bank", 1)
    assert old is not None
    stored = {**json.loads(old.to_json()), "version": 2, "adapter_id": "old"}
    for name in ("steps_asked", "learner_asked", "seed", "support_digests"):
        del stored[name]
    record = Version.from_json(json.dumps(stored).encode())
    store.commit(NewVersion(record, b"an old adapter", store.load_support("default", "bank", 1)), expected_version=1)
    assert readapt(service)["steps"] == service.get("/v1/checkpoint").json()["steps"]


def test_the_support_set_of_a_rollback_is_the_one_that_it_brought_back(stored_service: httpx.Client) -> None:
    adapt(stored_service, steps=4)
    first = predict(stored_service)["predictions"]
    adapt(stored_service, support=OTHER_SUPPORT)
    assert stored_service.post("/v1/tasks/bank/rollback", json={"version": 1}).json()["version"] == 3
    made = readapt(stored_service)
    assert (made["version"], made["n_support"], made["steps"]) == (4, len(SUPPORT), 4)
    assert predict(stored_service)["predictions"] == first
    # The support set of an older version
    assert readapt(stored_service, version=2)["labels"] == ["cooking", "travel"]


def test_without_a_support_set_there_is_nothing_to_adapt_on(stored_service: httpx.Client) -> None:
    adapt(stored_service, keep_support=False)
    detail = refused(stored_service.post(READAPT, json={}), 409, "support_not_kept")
    assert "call adapt" in detail
    assert stored_service.get("/v1/tasks/bank").json()["version"] == 1


def test_an_absent_version_is_distinguished_from_an_absent_task(service: httpx.Client) -> None:
    adapt(service)
    detail = refused(service.post(READAPT, json={"version": 99}), 404, "version_not_found")
    assert detail.startswith("task 'bank' has no version 99; its newest is 1")
    refused(service.post("/v1/tasks/absent/readapt", json={}), 404, "task_not_found")


def test_the_checkpoint_has_to_be_the_loaded_one(service: httpx.Client) -> None:
    adapt(service)
    loaded = service.get("/v1/checkpoint").json()
    for name in (loaded["name"], loaded["fingerprint"], loaded["fingerprint"][:12], "auto"):
        assert readapt(service, checkpoint=name)["checkpoint"] == loaded["fingerprint"]
    for name in ("another", "", loaded["fingerprint"][:4], "f" * 64):
        response = service.post(READAPT, json={"checkpoint": name})
        refused(response, 422, "unknown_checkpoint")
        assert response.json()["errors"][0]["pointer"] == "#/checkpoint"


def test_the_same_idempotency_key_makes_one_version(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    headers = {"Idempotency-Key": "once"}
    answers = [stored_service.post(READAPT, json={}, headers=headers) for _ in range(2)]
    assert [answer.json()["version"] for answer in answers] == [2, 2]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    refused(stored_service.post(READAPT, json={"version": 1}, headers=headers), 422, "idempotency_key_reused")
    assert stored_service.get("/v1/tasks/bank").json()["version"] == 2


def test_what_was_adapted_meanwhile_is_not_hidden(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt(service)
    store = store_of(service)
    load_support = store.load_support

    def meanwhile(tenant: str, task: str, version: int) -> StoredSupport | None:
        current = store.current(tenant, task)
        newest = None if current is None else store.version(tenant, task, current.version)
        assert newest is not None
        newer = replace(newest, version=newest.version + 1, adapter_id="newer")
        store.commit(NewVersion(newer, b"newer", None), expected_version=newest.version)
        return load_support(tenant, task, version)

    meanwhile.__name__ = "load_support"
    with monkeypatch.context() as patch:
        patch.setattr(store, "load_support", meanwhile)
        refused(service.post(READAPT, json={}), 409, "version_conflict")
    assert service.get("/v1/tasks/bank").json()["version"] == 2


def test_tenants_readapt_their_own(start_service: StartService) -> None:
    client = start_service()
    one, other = (bearer(make_key(client, tenant)) for tenant in ("acme", "globex"))
    adapt(client, headers=one)
    adapt(client, headers=other, support=OTHER_SUPPORT)
    made = client.post(READAPT, headers=other)
    assert (made.json()["version"], made.json()["labels"]) == (2, ["cooking", "travel"])
    assert client.get("/v1/tasks/bank", headers=one).json()["version"] == 1
