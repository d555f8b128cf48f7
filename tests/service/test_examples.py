"""Examples of a task: appended, listed and erased, each by adapting again."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import torch

from metalearn.types import Adapter, TextInput
from model_store.codec import AdapterKey, decode_adapter, decode_rows
from model_store.records import NewVersion
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, parts_of, predict, store_of
from tests.service.test_readapt import refused

EXAMPLES = "/v1/tasks/bank/examples"


@pytest.fixture(scope="module")
def client(shared_service: httpx.Client) -> Iterator[httpx.Client]:
    """A service of which each test takes the task ``bank`` for itself."""
    yield shared_service


@pytest.fixture(autouse=True)
def no_task_before(request: pytest.FixtureRequest) -> None:
    """Removes the task of the test before."""
    if "client" in request.fixturenames:
        request.getfixturevalue("client").delete("/v1/tasks/bank")


def add(client: httpx.Client, examples: object, task: str = "bank", headers: Any = None) -> dict[str, Any]:
    """Appends examples, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/examples", json={"examples": examples}, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def listed(client: httpx.Client, task: str = "bank", **query: Any) -> list[dict[str, Any]]:
    """The examples of a task."""
    response = client.get(f"/v1/tasks/{task}/examples", params=query)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["examples"]
    return found


def erase(client: httpx.Client, example: str, task: str = "bank") -> dict[str, Any]:
    """Erases an example, which has to succeed."""
    response = client.delete(f"/v1/tasks/{task}/examples/{example}")
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def id_of(client: httpx.Client, text: str, task: str = "bank") -> str:
    """The id of the example with a text."""
    (found,) = (example["id"] for example in listed(client, task) if example["text"] == text)
    return str(found)


def newest(client: httpx.Client, task: str = "bank", tenant: str = "default") -> Adapter:
    """The stored adapter of a task's newest version."""
    store, models = store_of(client), parts_of(client).engine.checkpoints.default
    current = store.current(tenant, task)
    assert current is not None
    data = store.load_adapter(tenant, task, current.version)
    assert data is not None
    key = AdapterKey(tenant, task, current.version, current.adapter_id)
    return decode_adapter(data, key, shapes={models.checkpoint.fingerprint: models.shapes})


def assert_same_bits(one: Adapter, other: Adapter) -> None:
    """Compares two adapters."""
    assert (one.labels, one.learner, one.pairs) == (other.labels, other.learner, other.pairs)
    assert one.fast_weights.keys() == other.fast_weights.keys()
    for name, weight in one.fast_weights.items():
        assert torch.equal(weight, other.fast_weights[name]), name


# ---- add -----------------------------------------------------------------------------------------------------------


def test_examples_are_appended_and_adapted_on_with_the_options_that_were_asked_for(
    stored_service: httpx.Client,
) -> None:
    options: dict[str, Any] = {"steps": 3, "learning_rate": 0.5, "labels": {"card_arrival": "a card that is late"}}
    adapt(stored_service, **options)
    answer = add(stored_service, OTHER_SUPPORT)
    assert (answer["version"], answer["n_support"], answer["steps"]) == (2, 10, 3)
    assert answer["labels"] == sorted({example["label"] for example in SUPPORT + OTHER_SUPPORT})
    assert answer["ids"] == [id_of(stored_service, example["text"]) for example in OTHER_SUPPORT]
    adapt(stored_service, "at-once", SUPPORT + OTHER_SUPPORT, **options)
    assert_same_bits(newest(stored_service), newest(stored_service, "at-once"))
    shown = stored_service.get("/v1/tasks/bank").json()
    assert (shown["source"], shown["support_kept"], shown["learning_rate"]) == ("examples", True, 0.5)
    assert answer["leave_one_out_accuracy"] == shown["leave_one_out_accuracy"]
    assert predict(stored_service, version=1)["version"] == 1


def test_the_time_to_live_goes_on(client: httpx.Client) -> None:
    adapt(client, ttl_seconds=3600)
    before = client.get("/v1/tasks/bank").json()["expires_at"]
    assert before is not None
    add(client, OTHER_SUPPORT)
    assert client.get("/v1/tasks/bank").json()["expires_at"] is not None


def test_ids_are_given_or_made_and_name_one_example_each(client: httpx.Client) -> None:
    adapt(client, support=[*SUPPORT, {"text": "mine", "label": "a", "id": "own:1"}])
    same = SUPPORT[0]
    (first,) = add(client, [same])["ids"]
    (second, own) = add(client, [same, {"text": "mine", "label": "a", "id": "own:2"}])["ids"]
    original = first.removesuffix("-2")
    assert (first, second, own) == (f"{original}-2", f"{original}-3", "own:2")
    assert {example["id"] for example in listed(client) if example["text"] == same["text"]} == {
        original,
        first,
        second,
    }
    for given, pointer in (
        ([{**same, "id": "own:1"}], "#/examples/0/id"),
        ([{**same, "id": "x"}, {**same, "id": "x"}], "#/examples/1/id"),
        ([{**same, "id": original}], "#/examples/0/id"),
    ):
        response = client.post(EXAMPLES, json={"examples": given})
        refused(response, 422, "duplicate_id")
        assert response.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    "examples, code, pointer",
    [
        ([], "no_examples", "#/examples"),
        ([{"text": " ", "label": "a"}], "empty_text", "#/examples/0/text"),
        ([{"text": "x", "label": "a"}, {"text": "x", "label": ""}], "empty_label", "#/examples/1/label"),
        ([{"text": "x", "label": "a", "text_pair": "y"}], "text_pair_unexpected", "#/examples/0"),
        ([{"text": "x", "label": "a", "weight": 11}], "invalid_request", "#/examples/0/weight"),
        ([{"text": "\u200d\x01a\x02"[:1], "label": "a"}], "empty_text", "#/examples/0/text"),
        ([{"text": str(i), "label": f"l{i}"} for i in range(148)], "too_many_classes", "#/examples"),
        ([{"text": str(i), "label": "a"} for i in range(7495)], "too_many_examples", "#/examples"),
    ],
)
def test_what_cannot_be_appended_is_refused_where_it_stands(
    client: httpx.Client, examples: list[Any], code: str, pointer: str
) -> None:
    adapt(client)
    response = client.post(EXAMPLES, json={"examples": examples})
    refused(response, 422, code)
    assert response.json()["errors"][0]["pointer"] == pointer
    assert client.get("/v1/tasks/bank").json()["version"] == 1


def test_a_task_of_pairs_takes_pairs(client: httpx.Client) -> None:
    adapt(client, support=[{**example, "text_pair": "my bank"} for example in SUPPORT])
    refused(client.post(EXAMPLES, json={"examples": OTHER_SUPPORT}), 422, "text_pair_missing")
    add(client, [{**OTHER_SUPPORT[0], "text_pair": "a journey"}])
    assert listed(client, label="travel")[0]["text_pair"] == "a journey"


def test_descriptions_alone_may_get_examples(client: httpx.Client) -> None:
    described = {"refund": "asks for money back", "delivery": "asks for a parcel"}
    adapt(client, support=[], labels=described)
    mixed = [{"text": "a", "label": "refund"}, {"text": "b", "label": "delivery", "text_pair": "c"}]
    refused(client.post(EXAMPLES, json={"examples": mixed}), 422, "text_pair_missing")
    add(client, [{"text": "give me my money", "label": "refund"}])
    adapt(client, "at-once", [{"text": "give me my money", "label": "refund"}], labels=described)
    assert_same_bits(newest(client), newest(client, "at-once"))


def test_warnings_point_at_the_request_or_at_the_stored_examples(client: httpx.Client) -> None:
    adapt(client)
    answer = add(client, [{"text": "new", "label": "refund"}, {**SUPPORT[0], "label": "refund"}])
    found = {warning["code"]: warning["pointers"] for warning in answer["warnings"]}
    assert found["contradicting_examples"] == ["#/support/0", "#/examples/1"]
    assert "#/examples/0/label" in found["few_examples"]


def test_a_repeated_request_appends_once(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    headers = {"Idempotency-Key": "once"}
    assert add(stored_service, OTHER_SUPPORT, headers=headers) == add(stored_service, OTHER_SUPPORT, headers=headers)
    assert len(listed(stored_service)) == 10
    other = stored_service.post(EXAMPLES, json={"examples": SUPPORT}, headers=headers)
    refused(other, 422, "idempotency_key_reused")


@pytest.mark.parametrize("act", ["add", "erase"])
def test_who_comes_second_is_told(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    adapt(client)
    example = id_of(client, TEXTS[0])
    store = store_of(client)
    load_support = store.load_support

    def meanwhile(tenant: str, task: str, version: int) -> Any:
        found = load_support(tenant, task, version)
        current = store.version(tenant, task, version)
        assert current is not None
        newer = NewVersion(replace(current, version=version + 1, adapter_id="newer"), b"newer", found)
        store.commit(newer, expected_version=version)
        return found

    meanwhile.__name__ = "load_support"
    with monkeypatch.context() as patch:
        patch.setattr(store, "load_support", meanwhile)
        if act == "add":
            refused(client.post(EXAMPLES, json={"examples": OTHER_SUPPORT}), 409, "version_conflict")
        else:
            refused(client.delete(f"{EXAMPLES}/{example}"), 409, "version_conflict")
    assert [version["version"] for version in client.get("/v1/tasks/bank/versions").json()["versions"]] == [2, 1]
    assert len(listed(client)) == len(SUPPORT)


# ---- list ----------------------------------------------------------------------------------------------------------


def test_examples_are_listed_by_id_page_by_page(client: httpx.Client) -> None:
    adapt(client, support=[{**example, "id": f"e{i}"} for i, example in enumerate(SUPPORT)])
    add(client, [{**OTHER_SUPPORT[0], "id": "a"}])
    first = client.get(EXAMPLES, params={"limit": 3}).json()
    assert (first["task"], first["version"], first["total"], first["next"]) == ("bank", 2, 7, "e1")
    rest = client.get(EXAMPLES, params={"limit": 4, "after": "e1"}).json()
    assert [example["id"] for example in first["examples"] + rest["examples"]] == ["a", *(f"e{i}" for i in range(6))]
    assert (rest["total"], rest["next"]) == (7, None)
    assert first["examples"][1] == {**SUPPORT[0], "id": "e0", "text_pair": None, "source": "adapt", "state": "adapted"}


def test_filters_narrow_the_list(client: httpx.Client) -> None:
    adapt(client)
    add(client, [{"text": "Wo bleibt meine KARTE? ÄRGER", "label": "card_arrival"}])
    assert len(listed(client, label="card_arrival")) == 3
    assert listed(client, label="absent") == []
    assert [example["label"] for example in listed(client, source="examples")] == ["card_arrival"]
    assert len(listed(client, source="adapt")) == 6
    assert len(listed(client, text="karte? ärger")) == 1
    assert len(listed(client, text="CARD", label="getting_virtual_card")) == 2
    for query in ({"source": "other"}, {"limit": 0}, {"after": "/"}):
        assert client.get(EXAMPLES, params=query).status_code == 422, query


# ---- erase ---------------------------------------------------------------------------------------------------------


def test_an_erased_example_is_as_if_it_had_never_been(stored_service: httpx.Client) -> None:
    adapt(stored_service, support=OTHER_SUPPORT)
    adapt(stored_service, steps=3)
    add(stored_service, [{"text": "a secret", "label": "card_arrival", "id": "gone"}])
    add(stored_service, [{"text": "later", "label": "later"}])
    answer = erase(stored_service, "gone")
    assert (answer["version"], answer["n_support"], answer["erased"]) == (5, 7, "gone")
    assert answer["removed_versions"] == [3, 4]
    adapt(stored_service, "at-once", [*SUPPORT, {"text": "later", "label": "later"}], steps=3)
    assert_same_bits(newest(stored_service), newest(stored_service, "at-once"))
    assert predict(stored_service)["predictions"] == predict(stored_service, "at-once")["predictions"]
    versions = stored_service.get("/v1/tasks/bank/versions").json()["versions"]
    assert [(version["version"], version["source"]) for version in versions] == [
        (5, "erase"),
        (2, "adapt"),
        (1, "adapt"),
    ]
    assert "gone" not in {example["id"] for example in listed(stored_service)}
    for version in (3, 4):
        response = stored_service.post("/v1/tasks/bank/predict", json={"queries": TEXTS, "version": version})
        refused(response, 404, "version_not_found")
        refused(stored_service.post("/v1/tasks/bank/rollback", json={"version": version}), 404, "version_not_found")
    page = stored_service.get("/v1/tasks/bank/versions?limit=2").json()
    assert [version["version"] for version in page["versions"]] == [5, 2]
    assert page["next"] == 2
    refused(stored_service.delete(f"{EXAMPLES}/gone"), 404, "example_not_found")


def test_every_version_with_the_text_goes_whatever_its_label_or_id(stored_service: httpx.Client) -> None:
    secret = {"text": "a secret", "label": "refund"}
    adapt(stored_service, support=[*SUPPORT, {**secret, "label": "other"}])
    adapt(stored_service, support=[*SUPPORT, secret], keep_support=False)
    adapt(stored_service)
    adapt(stored_service, support=[*SUPPORT, {**secret, "id": "mine"}])
    assert erase(stored_service, "mine")["removed_versions"] == [1, 2, 4]
    assert stored_service.post("/v1/tasks/bank/rollback", json={"version": 3}).json()["version"] == 6


def test_nothing_of_an_erased_text_is_answered_from_memory(stored_service: httpx.Client) -> None:
    adapt(stored_service, support=[*SUPPORT, {"text": "a secret", "label": "refund", "id": "gone"}])
    headers = {"Idempotency-Key": "once"}
    add(stored_service, OTHER_SUPPORT, headers=headers)
    predict(stored_service, version=1)
    parts = parts_of(stored_service)
    features = next(iter(parts.engine._support_batches.values()))._cache
    texts = stored_service.portal.call(  # type: ignore[attr-defined]
        parts.engine.tokenize, parts.engine.checkpoints.default, [TextInput("a secret"), TextInput(TEXTS[0])]
    )
    assert all(found is not None for found in features.get("default", texts))
    erase(stored_service, "gone")
    secret, other = features.get("default", texts)
    assert secret is None
    assert other is not None
    assert {key.version for key in parts.adapters._cache._entries} == {3}
    # The answer that was given under the key is gone: the request is carried out again
    assert add(stored_service, OTHER_SUPPORT, headers=headers)["version"] == 4


def test_another_text_that_is_left_with_the_same_content_stays(client: httpx.Client) -> None:
    adapt(client, support=[*SUPPORT, {**SUPPORT[0], "id": "twin"}])
    answer = erase(client, "twin")
    assert (answer["n_support"], answer["removed_versions"]) == (6, [1])
    assert [warning["code"] for warning in answer["warnings"]] == ["few_examples"]
    assert len(listed(client, text=TEXTS[0])) == 1


@pytest.mark.parametrize(
    "support, erased",
    [
        ([{"text": "a", "label": "x", "id": "1"}, {"text": "b", "label": "y", "id": "2"}], "1"),
        ([*OTHER_SUPPORT[:2], {"text": "b", "label": "y", "id": "1"}], "1"),
    ],
)
def test_an_example_without_which_nothing_could_be_adapted_stays(
    stored_service: httpx.Client, support: list[Any], erased: str
) -> None:
    adapt(stored_service, support=support)
    before = newest(stored_service)
    detail = refused(stored_service.delete(f"{EXAMPLES}/{erased}"), 409, "example_needed")
    assert "Nothing was erased" in detail
    assert "delete the task" in detail
    assert [version["version"] for version in stored_service.get("/v1/tasks/bank/versions").json()["versions"]] == [1]
    assert_same_bits(newest(stored_service), before)
    assert len(listed(stored_service)) == len(support)


def test_an_example_that_its_class_cannot_do_without_stays(client: httpx.Client) -> None:
    support = [*OTHER_SUPPORT, {"text": "a", "label": "described", "id": "1"}]
    adapt(client, support=support, labels={"described": "in words that are not used"}, use_label_text=False)
    refused(client.delete(f"{EXAMPLES}/1"), 409, "example_needed")
    assert client.get("/v1/tasks/bank").json()["version"] == 1


def test_a_stale_task_can_be_appended_to_and_erased_from(
    start_service: StartService, store_url: str, other_checkpoint: Any
) -> None:
    adapt(start_service(store=store_url), support=[*SUPPORT, {"text": "a secret", "label": "refund", "id": "gone"}])
    moved = start_service(store=store_url, checkpoint=str(other_checkpoint))
    loaded = moved.get("/v1/checkpoint").json()["fingerprint"]
    assert erase(moved, "gone")["checkpoint"] == loaded
    adapt(moved, "fresh")
    assert_same_bits(newest(moved), newest(moved, "fresh"))


def test_a_version_keeps_the_checkpoint_that_it_was_made_from(
    start_service: StartService, tiny_checkpoint: Any, other_checkpoint: Any
) -> None:
    both = start_service(checkpoint=f"{other_checkpoint},{tiny_checkpoint}")
    default, second = (each["fingerprint"] for each in both.get("/v1/checkpoints").json()["checkpoints"])
    adapt(both, checkpoint=second)
    (example,) = add(both, [{"text": "more", "label": "refund"}])["ids"]
    assert both.get("/v1/tasks/bank").json()["checkpoint"] == second != default
    assert erase(both, example)["checkpoint"] == second


# ---- what is not there ---------------------------------------------------------------------------------------------


def test_without_kept_texts_examples_cannot_be_listed_or_changed(client: httpx.Client) -> None:
    adapt(client, keep_support=False)
    for response in (
        client.get(EXAMPLES),
        client.post(EXAMPLES, json={"examples": OTHER_SUPPORT}),
        client.delete(f"{EXAMPLES}/any"),
    ):
        assert "call adapt with the examples" in refused(response, 409, "support_not_kept")
    assert client.get("/v1/tasks/bank").json()["version"] == 1


def test_absent_tasks_and_those_of_others_are_not_found(start_service: StartService) -> None:
    client = start_service()
    one, other = (bearer(make_key(client, tenant)) for tenant in ("acme", "globex"))
    adapt(client, headers=one)
    for task in ("bank", "absent"):
        for method, path, body in (
            ("GET", "examples", None),
            ("POST", "examples", {"examples": OTHER_SUPPORT}),
            ("DELETE", "examples/any", None),
            ("DELETE", "versions/1", None),
        ):
            response = client.request(method, f"/v1/tasks/{task}/{path}", json=body, headers=other)
            refused(response, 404, "task_not_found")


def test_other_methods_are_refused_with_those_that_are_allowed(client: httpx.Client) -> None:
    assert client.put(EXAMPLES).headers["Allow"] == "GET, POST, HEAD, OPTIONS"
    assert client.get(f"{EXAMPLES}/any").headers["Allow"] == "DELETE, OPTIONS"
    assert client.put("/v1/tasks/bank/versions/1").headers["Allow"] == "GET, DELETE, HEAD, OPTIONS"


# ---- versions ------------------------------------------------------------------------------------------------------


def test_a_version_is_removed_with_what_it_alone_has(stored_service: httpx.Client) -> None:
    adapt(stored_service, support=[*SUPPORT, {"text": "a secret", "label": "refund"}])
    adapt(stored_service)
    predict(stored_service, version=1)
    detail = refused(stored_service.delete("/v1/tasks/bank/versions/2"), 409, "newest_version")
    assert "roll back first" in detail
    refused(stored_service.delete("/v1/tasks/bank/versions/3"), 404, "version_not_found")
    removed = stored_service.delete("/v1/tasks/bank/versions/1")
    assert removed.json() == {"task": "bank", "version": 1, "deleted": True}
    refused(stored_service.delete("/v1/tasks/bank/versions/1"), 404, "version_not_found")
    response = stored_service.post("/v1/tasks/bank/predict", json={"queries": TEXTS, "version": 1})
    refused(response, 404, "version_not_found")
    assert len(listed(stored_service)) == len(SUPPORT)
    assert add(stored_service, OTHER_SUPPORT)["version"] == 3
    assert stored_service.post("/v1/tasks/bank/readapt", json={}).json()["version"] == 4
    for path in ("0", "x", str(2**63)):
        assert stored_service.delete(f"/v1/tasks/bank/versions/{path}").status_code == 422


def test_a_rollback_to_an_examples_version_brings_its_rows_back(stored_service: httpx.Client) -> None:
    adapt(stored_service)
    add(stored_service, OTHER_SUPPORT)
    before = listed(stored_service)
    adapt(stored_service, support=OTHER_SUPPORT)
    assert stored_service.post("/v1/tasks/bank/rollback", json={"version": 2}).status_code == 200
    assert listed(stored_service) == before
    stored = store_of(stored_service).load_support("default", "bank", 4)
    assert stored is not None
    assert {row.source for row in decode_rows(stored)[0]} == {"adapt", "examples"}


def test_a_rollback_to_what_is_removed_meanwhile_makes_no_version_without_examples(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapt(client)
    adapt(client, support=OTHER_SUPPORT)
    store = store_of(client)
    load_support = store.load_support

    def meanwhile(tenant: str, task: str, version: int) -> Any:
        assert store.delete_versions(tenant, task, [version]) == 1
        return load_support(tenant, task, version)

    meanwhile.__name__ = "load_support"
    with monkeypatch.context() as patch:
        patch.setattr(store, "load_support", meanwhile)
        refused(client.post("/v1/tasks/bank/rollback", json={"version": 1}), 409, "version_conflict")
    assert [version["version"] for version in client.get("/v1/tasks/bank/versions").json()["versions"]] == [2]


def test_versions_are_compared_by_their_examples(client: httpx.Client) -> None:
    adapt(client)
    add(client, [OTHER_SUPPORT[0], {**SUPPORT[0], "id": "twin"}])
    erase(client, id_of(client, TEXTS[1]))
    adapt(client, keep_support=False)
    add_again = client.post("/v1/tasks/bank/rollback", json={"version": 3})
    assert add_again.status_code == 200
    adapt(client, support=SUPPORT)
    url = "/v1/tasks/bank/versions/5/diff"
    found = client.get(url, params={"with": 6}).json()
    assert (found["task"], found["version"], found["other"]) == ("bank", 5, 6)
    assert [(example["text"], example["source"]) for example in found["added"]] == [
        (OTHER_SUPPORT[0]["text"], "examples"),
        (TEXTS[0], "examples"),
    ]
    assert [example["text"] for example in found["removed"]] == [TEXTS[1]]
    assert (found["labels_added"], found["labels_removed"]) == (["travel"], [])
    versions = {each["version"]: each for each in client.get("/v1/tasks/bank/versions").json()["versions"]}
    for name, number in (("leave_one_out_accuracy", 5), ("other_leave_one_out_accuracy", 6)):
        assert found[name] == versions[number]["leave_one_out_accuracy"]
    same = client.get(url, params={"with": 5}).json()
    assert same["added"] == same["removed"] == same["labels_added"] == []
    refused(client.get(url, params={"with": 9}), 404, "version_not_found")
    refused(client.get("/v1/tasks/bank/versions/9/diff", params={"with": 5}), 404, "version_not_found")
    assert client.get(url).status_code == 422
