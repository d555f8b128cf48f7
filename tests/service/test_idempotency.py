"""Idempotency-Key: the same request again gives the same answer and counts once."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.conftest import SUPPORT
from tests.service.conftest import OTHER_SUPPORT, adapt, predict

ADAPT, ROLLBACK = "/v1/tasks/bank/adapt", "/v1/tasks/bank/rollback"


def versions(client: httpx.Client, task: str = "bank") -> list[int]:
    """Numbers of a task's versions, newest first."""
    return [version["version"] for version in client.get(f"/v1/tasks/{task}/versions").json()["versions"]]


def test_the_same_request_again_gives_the_same_bytes_and_no_version(stored_service: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = stored_service.post(ADAPT, json={"support": SUPPORT}, headers=headers)
    again = stored_service.post(ADAPT, json={"support": SUPPORT}, headers=headers)
    assert first.status_code == again.status_code == 200
    assert again.content == first.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert versions(stored_service) == [1]


def test_the_answer_stays_the_same_after_other_versions(stored_service: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = stored_service.post(ADAPT, json={"support": SUPPORT}, headers=headers)
    adapt(stored_service)
    again = stored_service.post(ADAPT, json={"support": SUPPORT}, headers=headers)
    assert again.content == first.content
    assert versions(stored_service) == [2, 1]


def test_the_same_request_in_other_words_is_the_same(stored_service: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1", "Content-Type": "application/json"}
    first = stored_service.post(ADAPT, content=json.dumps({"support": SUPPORT, "steps": 3}), headers=headers)
    other_words = json.dumps({"steps": 3, "support": SUPPORT}, indent=2)
    again = stored_service.post(ADAPT, content=other_words, headers=headers)
    assert again.content == first.content
    assert versions(stored_service) == [1]


def test_another_body_task_or_route_under_the_key_is_refused(stored_service: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    adapt(stored_service, headers=headers)
    others = {
        ADAPT: {"support": OTHER_SUPPORT},
        "/v1/tasks/other/adapt": {"support": SUPPORT},
        ROLLBACK: {"version": 1},
    }
    for path, body in others.items():
        refused = stored_service.post(path, json=body, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["code"] == "idempotency_key_reused"
        assert refused.json()["errors"][0]["pointer"] == "header/Idempotency-Key"
    assert versions(stored_service) == [1]
    assert stored_service.get("/v1/tasks/other").status_code == 404


def test_a_refused_request_does_not_use_its_key_up(stored_service: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert stored_service.post(ADAPT, json={"support": []}, headers=headers).status_code == 422
    assert adapt(stored_service, headers=headers)["version"] == 1


def test_without_a_key_every_request_counts(stored_service: httpx.Client) -> None:
    assert [adapt(stored_service)["version"] for _ in range(3)] == [1, 2, 3]


def test_the_same_request_many_times_at_once_makes_one_version(stored_service: httpx.Client) -> None:
    def send(_: int) -> httpx.Response:
        return stored_service.post(ADAPT, json={"support": SUPPORT}, headers={"Idempotency-Key": "k1"})

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(send, range(12)))
    assert [answer.status_code for answer in answers] == [200] * 12
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert versions(stored_service) == [1]


def test_two_bodies_under_one_key_at_once_make_one_version(stored_service: httpx.Client) -> None:
    def send(steps: int) -> httpx.Response:
        body = {"support": SUPPORT, "steps": steps}
        return stored_service.post(ADAPT, json=body, headers={"Idempotency-Key": "k1"})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 7
    assert versions(stored_service) == [1]
    (winner,) = [answer for answer in answers if answer.status_code == 200]
    assert stored_service.get("/v1/tasks/bank").json()["steps"] == winner.json()["steps"]


def test_adapts_of_one_task_at_once_all_succeed_without_gaps(stored_service: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: adapt(stored_service, steps=1), range(16)))
    assert sorted(answer["version"] for answer in answers) == list(range(1, 17))
    assert versions(stored_service) == list(range(16, 0, -1))


def test_a_rollback_counts_once_too(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    adapt(stored_service, support=OTHER_SUPPORT)
    headers = {"Idempotency-Key": "k2"}
    first = stored_service.post(ROLLBACK, json={"version": 1}, headers=headers)
    again = stored_service.post(ROLLBACK, json={"version": 1}, headers=headers)
    assert first.status_code == 200
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert versions(stored_service) == [3, 2, 1]
    other = stored_service.post(ROLLBACK, json={"version": 2}, headers=headers)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"


def test_the_same_rollback_many_times_at_once_makes_one_version(stored_service: httpx.Client) -> None:
    adapt(stored_service)

    def send(_: int) -> httpx.Response:
        return stored_service.post(ROLLBACK, json={"version": 1}, headers={"Idempotency-Key": "k3"})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(8)))
    assert len({answer.content for answer in answers}) == 1
    assert versions(stored_service) == [2, 1]
    assert predict(stored_service)["version"] == 2


def test_the_clients_key_itself_is_not_stored(stored_service: httpx.Client) -> None:
    # It may be anything, a card number too; any key makes a safe name in the store
    key = "card 4111-1111-1111-1111 {x}:*"
    adapt(stored_service, headers={"Idempotency-Key": key})
    again = stored_service.post(ADAPT, json={"support": SUPPORT}, headers={"Idempotency-Key": key})
    assert again.headers["idempotent-replayed"] == "true"
