"""Multi-label, regression and ordinal tasks through the same calls as tasks with one label a text."""

import re
from collections.abc import Iterator
from typing import Any, get_args

import httpx
import pytest

from handful import wire_kinds
from metalearn import decision
from metalearn.kinds import KINDS
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import TEXTS, adapt, predict
from tests.service.test_examples import add, erase, id_of, listed

TOPICS: list[dict[str, Any]] = [
    {"text": "Where is my new card", "labels": ["card"]},
    {"text": "My card was stolen", "labels": ["card", "fraud"]},
    {"text": "Somebody paid with my card", "labels": ["fraud", "card"]},
    {"text": "I was charged a fee", "labels": ["fee"]},
    {"text": "Why is there a fee for my card", "labels": ["fee", "card"]},
    {"text": "The fee looks like fraud", "labels": ["fee", "fraud"]},
    {"text": "Good morning to you", "labels": []},
    {"text": "Thanks, that is all", "labels": []},
    {"text": "The card has not arrived", "labels": ["card"]},
    {"text": "An extra fee again", "labels": ["fee"]},
    {"text": "This payment is fraud", "labels": ["fraud"]},
    {"text": "Hello there", "labels": []},
]
SCORES: list[dict[str, Any]] = [{"text": f"{'very ' * n}good news", "score": n / 2} for n in range(10)]
STARS: list[dict[str, Any]] = [
    {"text": f"{'very ' * n}good", "label": label} for n, label in enumerate(["bad", "ok", "good"] * 4)
]
CITIES: list[dict[str, Any]] = [
    {"text": "Good morning to you", "spans": []},
    *(
        {"text": f"a card from {city} now", "spans": [{"start": 12, "end": 12 + len(city), "label": "city"}]}
        for city in ("Paris", "Rome", "Oslo", "Berlin", "Lima")
    ),
]
OF_KIND = {
    "multi_label": {"support": TOPICS},
    "regression": {"support": SCORES},
    "ordinal": {"support": STARS, "kind": "ordinal", "order": ["bad", "ok", "good"]},
    "tokens": {"support": CITIES},
}


@pytest.fixture(scope="module")
def client(shared_service: httpx.Client) -> Iterator[httpx.Client]:
    """A service of which each test takes the task ``bank`` for itself."""
    yield shared_service


@pytest.fixture(autouse=True)
def no_task_before(request: pytest.FixtureRequest) -> None:
    """Removes the task of the test before."""
    if "client" in request.fixturenames:
        request.getfixturevalue("client").delete("/v1/tasks/bank")


def refused(client: httpx.Client, path: str, body: object, code: str, pointer: str) -> str:
    """The detail of a refusal, whose code and first pointer have to be these."""
    response = client.post(path, json=body)
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, code), response.text
    assert problem["errors"][0]["pointer"] == pointer
    detail: str = problem["errors"][0]["detail"]
    return detail


def test_the_kind_follows_from_the_form_of_the_examples(client: httpx.Client) -> None:
    assert adapt(client)["kind"] == "single_label"
    assert adapt(client, support=TOPICS)["kind"] == "multi_label"
    assert adapt(client, support=CITIES)["kind"] == "tokens"
    assert adapt(client, support=SCORES)["kind"] == "regression"
    shown = client.get("/v1/tasks/bank").json()
    assert (shown["kind"], shown["labels"], shown["leave_one_out"].keys()) == (
        "regression",
        [],
        {"mae", "mae_of_mean", "spearman"},
    )
    kinds = [version["kind"] for version in client.get("/v1/tasks/bank/versions").json()["versions"]]
    assert kinds == ["regression", "tokens", "multi_label", "single_label"]


def test_a_prediction_of_one_label_has_the_fields_that_it_had(client: httpx.Client) -> None:
    adapt(client)
    (found,) = predict(client, queries=TEXTS[:1])["predictions"]
    assert list(found) == ["label", "confidence", "scores", "abstained", "truncated", "unreadable"]


def test_multi_label_answers_are_the_labels_above_their_thresholds(client: httpx.Client) -> None:
    made = adapt(client, support=TOPICS)
    assert made["labels"] == ["card", "fee", "fraud"]
    assert (made["thresholds"].keys(), made["thresholds_from"]) == ({"card", "fee", "fraud"}, "leave_one_out")
    assert made["leave_one_out"].keys() == {"micro_f1", "macro_f1"}
    for found in predict(client, queries=[each["text"] for each in TOPICS])["predictions"]:
        above = {label for label, score in found["scores"].items() if score >= made["thresholds"][label]}
        assert set(found["labels"]) == above
        assert found["labels"] == sorted(found["labels"], key=lambda label: -found["scores"][label])
        assert found["label"] == (found["labels"][0] if above else None)
        assert found["confidence"] == max(found["scores"].values())


def test_few_examples_have_thresholds_of_one_half(client: httpx.Client) -> None:
    made = adapt(client, support=TOPICS[:5])
    assert (made["thresholds_from"], set(made["thresholds"].values())) == ("default", {0.5})


def test_regressions_answer_a_score_with_an_interval(client: httpx.Client) -> None:
    adapt(client, support=SCORES)
    for found in predict(client, queries=[each["text"] for each in SCORES])["predictions"]:
        low, high = found["interval"]
        assert low < found["score"] < high
        assert (found["label"], found["scores"], found["confidence"]) == (None, {}, 0.9)
    adapt(client, support=SCORES[:4])
    (found,) = predict(client, queries=["good"])["predictions"]
    assert "interval" not in found and found["confidence"] == 0.0, "four left-out errors say nothing of nine in ten"


def test_ordinal_answers_are_classes_in_their_order(client: httpx.Client) -> None:
    made = adapt(client, **OF_KIND["ordinal"])
    assert (made["kind"], made["labels"]) == ("ordinal", ["bad", "ok", "good"])
    for found in predict(client, queries=[each["text"] for each in STARS])["predictions"]:
        assert sum(found["scores"].values()) == pytest.approx(1)
        assert found["label"] == max(found["scores"], key=found["scores"].__getitem__)
        places = {"bad": 0, "ok": 1, "good": 2}
        expected = sum(places[label] * score for label, score in found["scores"].items())
        assert found["score"] == pytest.approx(expected)


def test_numbers_are_in_their_order_without_being_told(client: httpx.Client) -> None:
    support = [{"text": f"{'very ' * n}good", "score": (10, 2, 1)[n % 3]} for n in range(6)]
    assert adapt(client, support=support, kind="ordinal")["labels"] == ["1", "2", "10"]
    (found,) = predict(client, queries=["good"])["predictions"]
    assert found["score"] == pytest.approx(sum(float(label) * p for label, p in found["scores"].items()))


@pytest.mark.parametrize("kind", OF_KIND)
def test_each_kind_lives_as_a_classification_does(stored_service: httpx.Client, kind: str) -> None:
    client, body = stored_service, OF_KIND[kind]
    first = adapt(client, **body)
    before = predict(client)["predictions"]
    added = add(client, [{**body["support"][0], "text": "One more text"}])
    assert (added["kind"], added["n_support"]) == (kind, first["n_support"] + 1)
    changed = client.get("/v1/tasks/bank/versions/2/diff", params={"with": 1}).json()
    assert [each["text"] for each in changed["added"]] == ["One more text"] and changed["removed"] == []
    erased = erase(client, id_of(client, "One more text"))
    assert (erased["kind"], erased["removed_versions"]) == (kind, [2])
    assert predict(client)["predictions"] == before, "as if the text had never been there"
    again = client.post("/v1/tasks/bank/readapt", json={}).json()
    assert again["kind"] == kind
    assert predict(client)["predictions"] == before
    client.post("/v1/tasks/bank/rollback", json={"version": 1})
    assert predict(client)["predictions"] == before
    shown = client.get("/v1/tasks/bank").json()
    assert {name: shown.get(name) for name in ("kind", "labels", "thresholds", "leave_one_out")} == {
        name: first.get(name) for name in ("kind", "labels", "thresholds", "leave_one_out")
    }
    answer = next(key for key in ("labels", "score", "spans", "label") if key in body["support"][0])
    given = {each["text"]: each[answer] for each in body["support"]}
    found = {each["text"]: each[answer] for each in listed(client)}
    assert {text: sorted(value) if answer == "labels" else value for text, value in given.items()} == found


@pytest.mark.parametrize("kind", OF_KIND)
def test_classify_answers_as_a_stored_task_does(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    stored = predict(client)["predictions"]
    response = client.post("/v1/classify", json={**OF_KIND[kind], "queries": TEXTS})
    assert (response.json()["kind"], response.json()["predictions"]) == (kind, stored)


@pytest.mark.parametrize("kind", OF_KIND)
def test_a_restart_changes_no_answer(start_service: StartService, store_url: str, kind: str) -> None:
    client = start_service(store=store_url)
    adapt(client, **OF_KIND[kind])
    before = predict(client)["predictions"]
    assert predict(start_service(store=store_url))["predictions"] == before


def test_mixed_forms_are_refused(client: httpx.Client) -> None:
    mixed = [*TOPICS, {"text": "Which is it", "label": "card"}]
    path = f"#/support/{len(TOPICS)}/label"
    detail = refused(client, "/v1/tasks/bank/adapt", {"support": mixed}, "mixed_kinds", path)
    assert '"label", one class, where most examples have "labels", a list of classes' in detail
    body = {"support": SCORES, "kind": "multi_label"}
    detail = refused(client, "/v1/tasks/bank/adapt", body, "mixed_kinds", "#/support/0/score")
    assert "an example of a multi_label task has" in detail


@pytest.mark.parametrize("kind", OF_KIND)
def test_an_example_of_another_form_is_not_appended(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    other = {"text": "Which is it", **({"score": 1.0} if kind == "multi_label" else {"labels": ["ok"]})}
    pointer = f"#/examples/0/{'score' if kind == 'multi_label' else 'labels'}"
    refused(client, "/v1/tasks/bank/examples", {"examples": [other]}, "mixed_kinds", pointer)
    assert client.get("/v1/tasks/bank").json()["version"] == 1


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"support": [*TOPICS, {"text": "a", "labels": ["fee", "fee "]}]}, "duplicate_label", "#/support/12/labels/1"),
        ({"support": [*TOPICS, {"text": "a", "labels": [" "]}]}, "empty_label", "#/support/12/labels/0"),
        ({"support": [{"text": "a", "labels": []}]}, "too_few_classes", "#/support"),
        ({"support": [{"text": "a", "score": 1}, {"text": "b", "score": 1}]}, "too_few_scores", "#/support"),
        ({"support": TOPICS, "labels": {"fee": "money"}}, "descriptions_unexpected", "#/labels"),
        ({"support": TOPICS, "order": ["a", "b"]}, "order_unexpected", "#/order"),
        ({"support": STARS, "kind": "ordinal"}, "order_missing", "#/order"),
        ({"support": STARS, "kind": "ordinal", "order": ["bad", "good"]}, "label_not_in_order", "#/support/1/label"),
        ({"support": STARS, "kind": "ordinal", "order": ["ok", "ok"]}, "duplicate_label", "#/order/1"),
        ({"support": TOPICS, "kind": "several"}, "invalid_request", "#/kind"),
        ({"support": [{"text": "a", "labels": "x"}]}, "invalid_request", "#/support/0/labels"),
        ({"support": [{"text": "a", "score": "1"}]}, "invalid_request", "#/support/0/score"),
        ({"support": [{"text": "a", "label": "b", "score": 1}]}, "invalid_request", "#/support/0/label"),
        ({"support": SCORES, "learner": "prototypical"}, "unsupported_objective", "#/learner"),
    ],
)
def test_what_a_kind_cannot_use_is_refused(client: httpx.Client, body: object, code: str, pointer: str) -> None:
    detail = refused(client, "/v1/tasks/bank/adapt", body, code, pointer)
    assert re.search(r"[a-z]{3}", detail)


def test_an_ordinal_task_takes_no_label_that_its_order_lacks(client: httpx.Client) -> None:
    adapt(client, **OF_KIND["ordinal"])
    body = {"examples": [{"text": "Superb", "label": "superb"}]}
    detail = refused(client, "/v1/tasks/bank/examples", body, "label_not_in_order", "#/examples/0/label")
    assert "'bad', 'ok', 'good'" in detail


@pytest.mark.parametrize("kind", OF_KIND)
@pytest.mark.parametrize(
    "option",
    [{"abstain": True}, {"abstain": 0.4}, {"abstain": {"ok": 0.4}}, {"only_labels": ["ok"]}, {"explain": True}],
)
def test_options_without_a_meaning_are_refused(client: httpx.Client, kind: str, option: dict[str, Any]) -> None:
    adapt(client, **OF_KIND[kind])
    (name,) = option
    body = {"queries": ["a card"], **option}
    assert kind in refused(client, "/v1/tasks/bank/predict", body, "option_unsupported", f"#/{name}")
    assert kind in refused(client, "/v1/classify", {**OF_KIND[kind], **body}, "option_unsupported", f"#/{name}")


@pytest.mark.parametrize("kind", [kind for kind in OF_KIND if kind != "tokens"])
def test_kinds_without_weights_and_out_of_scope_say_so(client: httpx.Client, kind: str) -> None:
    body = OF_KIND[kind]
    weighted = {**body, "support": [*body["support"], {**body["support"][0], "weight": 2}]}
    pointer = f"#/support/{len(body['support'])}/weight"
    assert kind in refused(client, "/v1/tasks/bank/adapt", weighted, "option_unsupported", pointer)
    adapt(client, **{**body, "support": [{**each, "weight": 1} for each in body["support"]]})
    outside = {"examples": [{"text": "Out of scope", "label": None}]}
    assert kind in refused(client, "/v1/tasks/bank/examples", outside, "option_unsupported", "#/examples/0/label")
    assert client.get("/v1/tasks/bank").json()["version"] == 1


@pytest.mark.parametrize("kind", OF_KIND)
@pytest.mark.parametrize("force", [False, True])
def test_a_kind_without_feedback_says_so(client: httpx.Client, kind: str, force: bool) -> None:
    adapt(client, **OF_KIND[kind])
    (found,) = predict(client, queries=TEXTS[:1], ids=True)["predictions"]
    for named in ({"text": TEXTS[0]}, {"id": found["id"]}):
        response = client.post("/v1/tasks/bank/feedback", json={**named, "label": "ok", "force": force})
        assert (response.status_code, response.json()["code"]) == (409, "kind_not_corrected")
        assert kind in response.json()["detail"]
    assert client.get("/v1/tasks/bank").json()["version"] == 1


@pytest.mark.parametrize("kind", [kind for kind in OF_KIND if kind != "tokens"])
def test_drift_of_a_kind_without_abstention_is_of_its_distances(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    predict(client)
    response = client.get("/v1/tasks/bank/drift")
    assert response.status_code == 200, response.text
    assert (response.json()["recent"]["queries"], response.json()["recent"]["abstained"]) == (len(TEXTS), 0)
    assert response.json()["of_queries"]["texts"] > 0


@pytest.mark.parametrize("kind", OF_KIND)
def test_other_apis_answer_what_has_one_label_alone(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    response = client.post("/classify", json={"inputs": TEXTS[0]}, headers={"X-Handful-Task": "bank"})
    if kind == "ordinal":
        assert {each["label"] for each in response.json()} == {"bad", "ok", "good"}
    else:
        assert (response.status_code, response.json()["code"]) == (409, "kind_not_served"), response.text


@pytest.mark.parametrize("kind", OF_KIND)
def test_auto_names_why_it_takes_the_first_checkpoint(client: httpx.Client, kind: str) -> None:
    choice = adapt(client, **OF_KIND[kind], checkpoint="auto")["checkpoint_choice"]
    assert choice["candidates"][0]["leave_one_out_accuracy"] is None and choice["reason"]


def test_examples_are_listed_by_text_and_source_without_a_label(client: httpx.Client) -> None:
    adapt(client, support=TOPICS)
    add(client, [{"text": "One more FEE", "labels": ["fee"]}])
    assert [each["text"] for each in listed(client, text="one more")] == ["One more FEE"]
    assert [each["text"] for each in listed(client, source="examples")] == ["One more FEE"]
    assert len(listed(client, source="adapt")) == len(TOPICS)


def test_the_kinds_of_the_wire_are_those_of_the_learning_core() -> None:
    assert get_args(wire_kinds.TaskKind) == get_args(decision.TaskKind) == tuple(KINDS)
    assert {rules.answer for rules in KINDS.values()} == {"label", *wire_kinds.SHAPES} - {"tokens"}


@pytest.mark.parametrize("kind", OF_KIND)
def test_a_kind_without_a_report_says_so(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    response = client.get("/v1/tasks/bank/report")
    assert (response.status_code, response.json()["code"]) == (409, "kind_not_reported")
    assert kind in response.json()["detail"]


def test_copies_and_contradictions_are_warned_of(client: httpx.Client) -> None:
    twice = [*TOPICS, TOPICS[1], {"text": "hello there", "labels": ["fee"]}]
    found = {warning["code"]: warning for warning in adapt(client, support=twice)["warnings"]}
    assert found["duplicate_examples"]["pointers"] == ["#/support/12"]
    assert "under 'fee' and no label" in found["contradicting_examples"]["detail"]
    found = {warning["code"]: warning for warning in adapt(client, support=[*SCORES, SCORES[1]])["warnings"]}
    assert found["duplicate_examples"]["pointers"] == ["#/support/10"]


def test_examples_are_listed_by_each_of_their_labels(client: httpx.Client) -> None:
    adapt(client, support=TOPICS)
    of_fraud = {each["text"] for each in listed(client, label="fraud")}
    assert of_fraud == {each["text"] for each in TOPICS if "fraud" in each["labels"]}
    assert all("label" not in each for each in listed(client))


def test_erasing_removes_all_versions_with_the_text_whatever_its_labels(client: httpx.Client) -> None:
    adapt(client, support=TOPICS)
    adapt(client, support=[{**TOPICS[0], "labels": ["fee"]}, *TOPICS[1:]])
    adapt(client, support=TOPICS[1:])
    add(client, [TOPICS[0]])
    assert erase(client, id_of(client, TOPICS[0]["text"]))["removed_versions"] == [1, 2, 4]


def test_a_single_label_task_is_stored_as_before(client: httpx.Client) -> None:
    adapt(client)
    assert [set(each) for each in listed(client)] == [{"id", "label", "text", "text_pair", "source", "state"}] * len(
        SUPPORT
    )
