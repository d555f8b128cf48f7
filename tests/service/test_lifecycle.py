"""The life of a task: adapt replaces, versions stay, rollback brings back, delete forgets."""

from datetime import datetime

import httpx

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, predict
from tests.waiting import until


def test_adapt_replaces_what_was_there(stored_service: httpx.Client) -> None:
    first = adapt(stored_service)
    second = adapt(stored_service, support=OTHER_SUPPORT)
    assert (first["version"], first["n_support"], len(first["labels"])) == (1, 6, 3)
    assert (second["version"], second["n_support"], second["labels"]) == (2, 4, ["cooking", "travel"])
    answer = predict(stored_service)
    assert answer["version"] == 2
    assert all(set(p["scores"]) == {"cooking", "travel"} for p in answer["predictions"])
    shown = stored_service.get("/v1/tasks/bank").json()
    assert (shown["version"], shown["n_support"], shown["labels"]) == (2, 4, ["cooking", "travel"])


def test_adapt_does_not_depend_on_what_was_there(stored_service: httpx.Client) -> None:
    adapt(stored_service, "fresh")
    expected = predict(stored_service, "fresh")["predictions"]
    adapt(stored_service, "used", support=OTHER_SUPPORT)
    adapt(stored_service, "used")
    assert predict(stored_service, "used")["predictions"] == expected


def test_every_version_answers_as_it_did_when_it_was_new(stored_service: httpx.Client) -> None:
    answers = {}
    for steps in (0, 1, 5, 20):
        version = adapt(stored_service, steps=steps)["version"]
        answers[version] = predict(stored_service)["predictions"]
    assert len({str(answer) for answer in answers.values()}) == len(answers)
    for version, expected in answers.items():
        answer = predict(stored_service, version=version)
        assert answer["version"] == version
        assert answer["predictions"] == expected


def test_an_absent_version_is_not_found(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    response = stored_service.post("/v1/tasks/bank/predict", json={"queries": TEXTS, "version": 99})
    assert response.status_code == 404
    assert response.json()["code"] == "version_not_found"
    assert response.json()["detail"].startswith("task 'bank' has no version 99; its newest is 1")


def test_versions_are_listed_newest_first_page_by_page(stored_service: httpx.Client) -> None:
    made = [adapt(stored_service, steps=steps) for steps in range(5)]
    listed = stored_service.get("/v1/tasks/bank/versions").json()
    assert listed["next"] is None
    assert [v["version"] for v in listed["versions"]] == [5, 4, 3, 2, 1]
    assert [v["steps"] for v in listed["versions"]] == [4, 3, 2, 1, 0]
    assert [v["bytes"] for v in listed["versions"]] == [answer["bytes"] for answer in reversed(made)]
    pages, before = [], None
    while True:
        query = {"limit": 2} if before is None else {"limit": 2, "before": before}
        page = stored_service.get("/v1/tasks/bank/versions", params=query).json()
        pages.append([v["version"] for v in page["versions"]])
        before = page["next"]
        if before is None:
            break
    assert pages == [[5, 4], [3, 2], [1]]
    exact = stored_service.get("/v1/tasks/bank/versions?limit=5").json()
    assert exact["next"] is None
    past = stored_service.get("/v1/tasks/bank/versions?before=1").json()
    assert past == {"versions": [], "removed": [], "next": None}


def test_tasks_are_listed_by_name_page_by_page(stored_service: httpx.Client) -> None:
    names = ["b", "a", "C", "a-1", "0", "a.b"]
    for name in names:
        adapt(stored_service, name, steps=0)
    pages, after = [], None
    while True:
        query: dict[str, str | int] = {"limit": 4} if after is None else {"limit": 4, "after": after}
        page = stored_service.get("/v1/tasks", params=query).json()
        pages.append([task["task"] for task in page["tasks"]])
        after = page["next"]
        if after is None:
            break
    assert [len(page) for page in pages] == [4, 2]
    assert [name for page in pages for name in page] == sorted(names)


def test_a_rollback_is_a_new_version_with_the_old_ones_bits(stored_service: httpx.Client) -> None:
    adapt(stored_service, steps=7)
    old = predict(stored_service)["predictions"]
    adapt(stored_service, support=OTHER_SUPPORT)
    rolled = stored_service.post("/v1/tasks/bank/rollback", json={"version": 1})
    assert rolled.status_code == 200, rolled.text
    record = rolled.json()
    assert (record["version"], record["source"], record["copied_from"]) == (3, "rollback", 1)
    assert (record["steps"], record["n_support"], len(record["labels"])) == (7, 6, 3)
    answer = predict(stored_service)
    assert answer["version"] == 3
    assert answer["predictions"] == old
    assert [v["version"] for v in stored_service.get("/v1/tasks/bank/versions").json()["versions"]] == [3, 2, 1]
    # History stays as it was, and a rollback can be rolled back
    assert set(predict(stored_service, version=2)["predictions"][0]["scores"]) == {"cooking", "travel"}
    assert stored_service.post("/v1/tasks/bank/rollback", json={"version": 2}).json()["version"] == 4
    assert set(predict(stored_service)["predictions"][0]["scores"]) == {"cooking", "travel"}


def test_a_rolled_back_version_answers_the_same_from_the_store(start_service: StartService, store_url: str) -> None:
    first = start_service(store=store_url)
    adapt(first)
    expected = predict(first)["predictions"]
    adapt(first, support=OTHER_SUPPORT)
    assert first.post("/v1/tasks/bank/rollback", json={"version": 1}).status_code == 200
    # Another process has nothing in memory
    assert predict(start_service(store=store_url))["predictions"] == expected


def test_a_rollback_to_what_is_absent_is_not_found(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    for path, version, code in (
        ("bank", 2, "version_not_found"),
        ("bank", 1000, "version_not_found"),
        ("absent", 1, "task_not_found"),
    ):
        response = stored_service.post(f"/v1/tasks/{path}/rollback", json={"version": version})
        assert response.status_code == 404
        assert response.json()["code"] == code
    assert stored_service.get("/v1/tasks/bank").json()["version"] == 1
    assert stored_service.get("/v1/tasks/absent").status_code == 404


def test_a_task_made_anew_is_not_served_from_memory(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    predict(stored_service)
    predict(stored_service, version=1)
    assert stored_service.delete("/v1/tasks/bank").json() == {"task": "bank", "deleted": True}
    for fields in ({}, {"version": 1}):
        gone = stored_service.post("/v1/tasks/bank/predict", json={"queries": TEXTS, **fields})
        assert gone.status_code == 404
    assert stored_service.get("/v1/tasks/bank/versions").status_code == 404
    assert stored_service.delete("/v1/tasks/bank").status_code == 404
    assert adapt(stored_service, support=OTHER_SUPPORT)["version"] == 1
    for fields in ({}, {"version": 1}):
        answer = predict(stored_service, **fields)
        assert answer["version"] == 1
        assert set(answer["predictions"][0]["scores"]) == {"cooking", "travel"}
    assert [v["version"] for v in stored_service.get("/v1/tasks/bank/versions").json()["versions"]] == [1]


def test_two_processes_on_one_store_never_answer_with_what_was_replaced(
    start_service: StartService, store_url: str
) -> None:
    writer, reader = start_service(store=store_url), start_service(store=store_url)
    adapt(writer)
    assert predict(reader)["version"] == 1
    adapt(writer, support=OTHER_SUPPORT)
    answer = predict(reader)
    assert answer["version"] == 2
    assert set(answer["predictions"][0]["scores"]) == {"cooking", "travel"}
    writer.delete("/v1/tasks/bank")
    assert reader.post("/v1/tasks/bank/predict", json={"queries": TEXTS}).status_code == 404
    # The same number, other weights
    adapt(writer, support=OTHER_SUPPORT)
    answer = predict(reader)
    assert answer["version"] == 1
    assert set(answer["predictions"][0]["scores"]) == {"cooking", "travel"}


def test_a_task_ends_after_its_time_to_live(stored_service: httpx.Client) -> None:
    adapt(stored_service, "long", ttl_seconds=3600)
    adapt(stored_service, "kept")
    adapt(stored_service, "renewed", ttl_seconds=3600)
    adapt(stored_service, "renewed")  # takes the limit away
    assert stored_service.get("/v1/tasks/renewed").json()["expires_at"] is None
    adapt(stored_service, "rolled", ttl_seconds=3600)
    limit = stored_service.get("/v1/tasks/rolled").json()["expires_at"]
    assert stored_service.post("/v1/tasks/rolled/rollback", json={"version": 1}).status_code == 200
    kept_limit = stored_service.get("/v1/tasks/rolled").json()["expires_at"]
    apart = datetime.fromisoformat(kept_limit) - datetime.fromisoformat(limit)
    assert abs(apart.total_seconds()) < 60
    adapt(stored_service, "short", ttl_seconds=3600)
    assert predict(stored_service, "short")["version"] == 1
    adapt(stored_service, "short", ttl_seconds=1)
    shown = stored_service.get("/v1/tasks/long").json()
    lasts = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
    assert 3590 < lasts.total_seconds() < 3610
    assert stored_service.get("/v1/tasks/kept").json()["expires_at"] is None
    until(lambda: stored_service.get("/v1/tasks/short").status_code == 404)
    for method, path, body in (
        ("GET", "/v1/tasks/short", None),
        ("GET", "/v1/tasks/short/versions", None),
        ("POST", "/v1/tasks/short/predict", {"queries": TEXTS}),
        ("POST", "/v1/tasks/short/predict", {"queries": TEXTS, "version": 1}),
        ("POST", "/v1/tasks/short/rollback", {"version": 1}),
        ("DELETE", "/v1/tasks/short", None),
    ):
        assert stored_service.request(method, path, json=body).status_code == 404, (method, path)
    names = [task["task"] for task in stored_service.get("/v1/tasks").json()["tasks"]]
    assert names == ["kept", "long", "renewed", "rolled"]
    assert adapt(stored_service, "short", OTHER_SUPPORT)["version"] == 1
    assert set(predict(stored_service, "short")["predictions"][0]["scores"]) == {"cooking", "travel"}


def test_the_same_request_gives_the_same_numbers(stored_service: httpx.Client) -> None:
    answers = [adapt(stored_service, task) for task in ("one", "two")]
    assert answers[0]["losses"] == answers[1]["losses"]
    assert predict(stored_service, "one")["predictions"] == predict(stored_service, "two")["predictions"]


def test_every_allowed_name_works_in_every_route(stored_service: httpx.Client) -> None:
    for task in ("a", "A.b_c-1", "0", "a" * 128, "a..b", "con", "a-", "adapt", "versions"):
        assert adapt(stored_service, task, steps=0)["task"] == task
        assert predict(stored_service, task, TEXTS[:1])["task"] == task
        assert stored_service.get(f"/v1/tasks/{task}").json()["task"] == task
        assert stored_service.post(f"/v1/tasks/{task}/rollback", json={"version": 1}).json()["version"] == 2
        assert stored_service.delete(f"/v1/tasks/{task}").status_code == 200


def test_an_adapt_answers_what_it_did(stored_service: httpx.Client) -> None:
    answer = adapt(stored_service, steps=4, learning_rate=0.5)
    shown = stored_service.get("/v1/tasks/bank").json()
    for name in ("task", "version", "labels", "n_support", "steps", "checkpoint", "bytes"):
        assert answer[name] == shown[name], name
    for name in ("support_accuracy", "leave_one_out_accuracy"):
        assert answer[name] == shown[name], name
        assert 0 <= answer[name] <= 1, name
    assert shown["learning_rate"] == 0.5
    assert (answer["steps"], len(answer["losses"])) == (4, 5)
    assert answer["checkpoint"] == stored_service.get("/v1/checkpoint").json()["fingerprint"]
    assert answer["elapsed_ms"] > 0
    assert answer["n_support"] == len(SUPPORT)
