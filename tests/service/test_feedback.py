"""Feedback: corrections that join the support set, wait, or change nothing; and drift."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from pydantic import SecretStr

from handful.client import Client
from model_store.codec import decode_rows
from service.local import local_service
from service.settings import Settings
from tests.conftest import STORE_TIMEOUT_S, SUPPORT, StartService
from tests.service.conftest import TEXTS, adapt, bearer, make_key, parts_of, predict, store_of
from tests.service.test_examples import add, assert_same_bits, erase, listed, newest
from tests.service.test_readapt import refused

FEEDBACK = "/v1/tasks/bank/feedback"
TEXT = "hello there my friend"
LABELS = sorted({example["label"] for example in SUPPORT})


def give(client: httpx.Client, task: str = "bank", headers: Any = None, **body: Any) -> dict[str, Any]:
    """Gives feedback, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/feedback", json=body, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def answered(client: httpx.Client, text: str = TEXT) -> tuple[str, str]:
    """The label that the task gives to a text, and one that it does not give."""
    label = predict(client, queries=[text])["predictions"][0]["label"]
    return label, next(each for each in LABELS if each != label)


def test_a_correction_joins_and_gives_the_bits_of_adapting_on_all(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    label, other = answered(stored_service)
    found = give(stored_service, text=TEXT, label=f" {other} ", force=True)
    assert (found["outcome"], found["version"], found["n_support"]) == ("joined", 2, 7)
    assert (found["answered"], found["label"], found["check"]) == (label, other, None)
    (example,) = listed(stored_service, source="feedback")
    assert (example["id"], example["text"], example["state"]) == (found["id"], TEXT, "adapted")
    adapt(stored_service, "at-once", [*SUPPORT, {"text": TEXT, "label": other}])
    assert_same_bits(newest(stored_service), newest(stored_service, "at-once"))
    assert stored_service.get("/v1/tasks/bank").json()["source"] == "feedback"


def test_a_right_answer_is_confirmed_and_a_known_example_stays_one(service: httpx.Client) -> None:
    adapt(service)
    label, other = answered(service)
    found = give(service, text=TEXT, label=label, force=True)
    assert (found["outcome"], found["version"], found["n_support"]) == ("confirmed", 2, 7)
    again = give(service, text=TEXT, label=label)
    assert (again["outcome"], again["version"], again["id"]) == ("known", 2, found["id"])
    assert len(listed(service, source="feedback")) == 1
    assert give(service, text=TEXT, label=label, force=True)["id"] == f"{found['id']}-2"
    # One text under two labels is settled, whatever the task answers
    settled = give(service, text=TEXT, label=other, force=True)
    assert [each["reason"] for each in settled["outweighed"]] == ["contradicts"] * 2


def test_a_correction_that_harms_the_others_waits_until_it_is_forced(stored_service: httpx.Client) -> None:
    client = stored_service
    settings = parts_of(client).settings
    adapt(client)
    label, other = answered(client)
    found = give(client, text=TEXT, label=other)
    check = found["check"]
    assert check["tolerance"] == settings.feedback_tolerance
    # The tiny encoder says little of a text, so that one more example costs a third of the accuracy
    assert (found["outcome"], check["passed"], check["asked"]) == ("pending", False, 6)
    assert check["accuracy_with"] < check["accuracy_without"] - 0.1
    assert (found["n_support"], found["version"]) == (6, 2)
    assert [each["id"] for each in listed(client, state="pending")] == [found["id"]]
    first, second = (store_of(client).load_adapter("default", "bank", version) for version in (1, 2))
    assert first is not None
    assert second is not None
    assert answered(client)[0] == label
    again = give(client, text=TEXT, label=other)
    assert (again["outcome"], again["version"], again["id"]) == ("pending", 2, found["id"])
    forced = give(client, text=TEXT, label=other, force=True)
    assert (forced["outcome"], forced["id"], forced["n_support"]) == ("joined", found["id"], 7)
    assert listed(client, state="pending") == []


def test_what_waits_outlasts_other_calls_and_is_erased_with_its_text(stored_service: httpx.Client) -> None:
    client = stored_service
    adapt(client)
    other = answered(client)[1]
    waiting = give(client, text=TEXT, label=other)
    assert waiting["outcome"] == "pending"
    assert add(client, [{"text": "one more", "label": LABELS[0]}])["n_support"] == 7
    assert client.post("/v1/tasks/bank/readapt", json={}).json()["n_support"] == 7
    assert client.post("/v1/tasks/bank/rollback", json={"version": 2}).json()["n_support"] == 6
    assert [each["id"] for each in listed(client, state="pending")] == [waiting["id"]]
    refused(
        client.post("/v1/tasks/bank/examples", json={"examples": [{"text": "x", "label": "a", "id": waiting["id"]}]}),
        422,
        "duplicate_id",
    )
    erased = erase(client, waiting["id"])
    assert erased["removed_versions"] == [2, 3, 4, 5]
    assert listed(client, text=TEXT) == []
    kept = store_of(client).load_support("default", "bank", erased["version"])
    assert kept is not None
    assert [row.text for row in decode_rows(kept)[0]] == TEXTS


def test_the_newer_label_of_a_text_counts_and_the_older_example_is_named(service: httpx.Client) -> None:
    adapt(service)
    text, label = SUPPORT[0]["text"], SUPPORT[0]["label"]
    other = next(each for each in LABELS if each != label)
    (older,) = listed(service, text=text)
    found = give(service, text=text.upper(), label=other, force=True)
    (named,) = found["outweighed"]
    assert (named["id"], named["reason"]) == (older["id"], "contradicts")
    assert f"DELETE /v1/tasks/bank/examples/{older['id']}" in named["detail"]
    assert found["n_support"] == 6
    assert [each["id"] for each in listed(service, state="outweighed")] == [older["id"]]
    difference = service.get("/v1/tasks/bank/versions/2/diff", params={"with": 1}).json()
    assert [each["id"] for each in difference["removed"]] == [older["id"]]
    assert [each["id"] for each in difference["added"]] == [found["id"]]


def test_above_the_cap_the_oldest_feedback_is_outweighed(start_service: StartService) -> None:
    client = start_service(feedback_per_label=2)
    adapt(client)
    ids = [give(client, text=f"text number {i}", label=LABELS[0], force=True) for i in range(3)]
    assert [each["reason"] for each in ids[2]["outweighed"]] == ["over_cap"]
    assert [each["id"] for each in ids[2]["outweighed"]] == [ids[0]["id"]]
    assert ids[2]["n_support"] == 8


def test_an_answer_is_corrected_by_its_id(service: httpx.Client) -> None:
    adapt(service)
    assert "id" not in predict(service, queries=[TEXT])["predictions"][0]
    answers = predict(service, queries=[TEXT, *TEXTS], ids=True)["predictions"]
    assert len({each["id"] for each in answers}) == len(answers)
    other = answered(service)[1]
    assert give(service, id=answers[0]["id"], label=other, force=True)["outcome"] == "joined"
    assert [each["text"] for each in listed(service, source="feedback")] == [TEXT]
    adapt(service, "other")
    refused(service.post("/v1/tasks/other/feedback", json={"id": answers[0]["id"], "label": other}), 422,
            "unknown_answer_id")  # fmt: skip


@pytest.mark.parametrize(
    "body, code, pointer",
    [
        ({"label": LABELS[0]}, "invalid_request", "#"),
        ({"label": LABELS[0], "text": "a", "id": "b"}, "invalid_request", "#"),
        ({"label": LABELS[0], "id": "b", "text_pair": "c"}, "invalid_request", "#/text_pair"),
        ({"label": LABELS[0], "id": "b"}, "unknown_answer_id", "#/id"),
        ({"label": LABELS[0], "text": " "}, "empty_text", "#/text"),
        ({"label": LABELS[0], "text": "\x01"}, "empty_text", "#/text"),
        ({"label": LABELS[0], "text": "a", "text_pair": "b"}, "text_pair_unexpected", "#/text"),
        ({"label": " ", "text": "a"}, "empty_label", "#/label"),
        ({"label": "card arival", "text": "a"}, "unknown_label", "#/label"),
        ({"text": "a"}, "invalid_request", "#/label"),
    ],
)
def test_unusable_feedback_is_refused(shared_service: httpx.Client, body: Any, code: str, pointer: str) -> None:
    adapt(shared_service)
    response = shared_service.post(FEEDBACK, json=body)
    refused(response, 422, code)
    assert response.json()["errors"][0]["pointer"] == pointer
    assert shared_service.get("/v1/tasks/bank").json()["version"] >= 1


def test_tasks_that_are_absent_or_keep_no_support_are_refused(shared_service: httpx.Client) -> None:
    for method, path in (("POST", "feedback"), ("GET", "drift")):
        body = {"json": {"text": "a", "label": "b"}} if method == "POST" else {}
        refused(shared_service.request(method, f"/v1/tasks/absent/{path}", **body), 404, "task_not_found")
    adapt(shared_service, "weights", keep_support=False)
    response = shared_service.post("/v1/tasks/weights/feedback", json={"text": "a", "label": LABELS[0]})
    refused(response, 409, "support_not_kept")
    assert shared_service.get("/v1/tasks/weights/drift").json()["of_queries"] is None


def test_a_repeated_request_counts_once(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    body, headers = {"text": TEXT, "label": answered(stored_service)[1], "force": True}, {"Idempotency-Key": "k"}
    first = stored_service.post(FEEDBACK, json=body, headers=headers)
    second = stored_service.post(FEEDBACK, json=body, headers=headers)
    assert first.content == second.content
    assert second.headers["Idempotent-Replayed"] == "true"
    assert stored_service.get("/v1/tasks/bank").json()["version"] == 2
    refused(stored_service.post(FEEDBACK, json={**body, "text": "b"}, headers=headers), 422, "idempotency_key_reused")


def test_eight_threads_that_correct_lose_nothing(tiny_checkpoint: Path, store_url: str) -> None:
    settings = Settings(checkpoint=str(tiny_checkpoint), device="cpu", precision="float32", threads=1,  # type: ignore[arg-type]
                        store=SecretStr(store_url), store_timeout_s=STORE_TIMEOUT_S)  # fmt: skip
    with local_service(settings) as service, ThreadPoolExecutor(8) as threads:
        client: Client = service.client()
        client.adapt("bank", SUPPORT, steps=1)

        def correct(i: int) -> str | None:
            with service.client() as own:
                return own.feedback("bank", LABELS[i % 3], text=f"the text of thread {i}", force=True).id

        ids = list(threads.map(correct, range(8)))
        assert {each.id: each.text for each in client.examples("bank", source="feedback")} == {
            id_: f"the text of thread {i}" for i, id_ in enumerate(ids)
        }
        assert client.task("bank").version == 9


def test_drift_counts_queries_and_compares_them_with_the_examples(service: httpx.Client) -> None:
    adapt(service)
    empty = service.get("/v1/tasks/bank/drift").json()
    assert (empty["since"], empty["recent"]["queries"], empty["of_queries"]["texts"]) == (None, 0, 0)
    assert empty["of_examples"]["texts"] == 6
    predict(service, queries=TEXTS)
    predict(service, queries=TEXTS, version=1)  # by number: not counted
    found = service.get("/v1/tasks/bank/drift").json()
    assert (found["recent"]["queries"], found["earlier"]["queries"]) == (6, 0)
    # The queries are the examples themselves
    assert 0 < found["of_queries"]["texts"] <= 4
    assert found["of_queries"]["median"] < 0.01
    assert found["of_queries"]["far"] == 0
    for i in range(300):
        predict(service, queries=[f"zzz {i} qqq unheard of"])
    moved = service.get("/v1/tasks/bank/drift").json()
    assert (moved["recent"]["queries"], moved["earlier"]["queries"]) == (200, 106)
    assert moved["of_queries"]["texts"] == 32
    assert moved["of_queries"]["median"] > found["of_queries"]["median"]
    adapt(service)
    assert service.get("/v1/tasks/bank/drift").json()["since"] is None


def test_drift_keeps_no_text_and_is_of_one_tenant(start_service: StartService) -> None:
    client = start_service(drift_tasks=1)
    keys = [bearer(make_key(client, tenant)) for tenant in ("acme", "globex")]
    for key in keys:
        adapt(client, headers=key)
        predict(client, headers=key)
    recent = parts_of(client).recent
    assert recent.get("acme", "bank") is None  # the other task was used later
    counted = recent.get("globex", "bank")
    assert counted is not None
    assert all(isinstance(each, torch.Tensor) for each in counted.sampled)
    assert client.get("/v1/tasks/bank/drift", headers=keys[0]).json()["recent"]["queries"] == 0
    client.delete("/v1/tasks/bank", headers=keys[1])
    assert recent.get("globex", "bank") is None


def test_no_drift_is_counted_where_it_is_turned_off(start_service: StartService) -> None:
    client = start_service(drift_tasks=0)
    adapt(client)
    predict(client)
    assert client.get("/v1/tasks/bank/drift").json()["recent"]["queries"] == 0
