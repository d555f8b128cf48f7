"""Multi-label, regression and ordinal tasks through the same calls as tasks with one label a text."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import httpx
import pytest
import torch

from handful import wire_kinds
from metalearn import decision
from metalearn.kinds import KINDS
from metalearn.model_spec import ModelSpec
from model_store.records import Version
from service.settings import Settings
from service.tasks.readapt_comparison import Comparison
from tests.conftest import SUPPORT, MakeCheckpoint, StartService
from tests.service.conftest import TEXTS, adapt, predict
from tests.service.test_examples import add, erase, id_of, listed, newest

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
BY_REGRESSION = [kind for kind in OF_KIND if kind != "tokens"]


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
        ({"support": [{"text": "a", "score": 1e9}, {"text": "b", "score": 1e9 + 1}]}, "too_few_scores", "#/support"),
        ({"support": [*SCORES, {"text": "a", "score": 1e300}]}, "invalid_request", "#/support/10/score"),
        ({"support": SCORES, "labels": {"fee": "money"}}, "descriptions_unexpected", "#/labels"),
        ({"support": [], "kind": "multi_label", "labels": {"a": "one", "b": "two"}}, "too_few_classes", "#/support"),
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


@pytest.mark.parametrize("kind", BY_REGRESSION)
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


@pytest.mark.parametrize("kind", ["regression", "ordinal"])
def test_kinds_without_out_of_scope_say_so(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    outside = {"examples": [{"text": "Out of scope", "label": None}]}
    detail = refused(client, "/v1/tasks/bank/examples", outside, "option_unsupported", "#/examples/0/label")
    assert kind in detail
    assert client.get("/v1/tasks/bank").json()["version"] == 1


def weighed(kind: str, *weights: float) -> dict[str, Any]:
    """The body of a kind with these weights of its first examples."""
    body = OF_KIND[kind]
    support = [{**e, "weight": w} for e, w in zip(body["support"], weights, strict=False)]
    return {**body, "support": support + body["support"][len(weights) :]}


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_a_weight_of_2_does_what_the_example_twice_does(client: httpx.Client, kind: str) -> None:
    body = OF_KIND[kind]
    heavy, twice = weighed(kind, 2), {**body, "support": [body["support"][0], *body["support"]]}
    adapt(client, **heavy, learner="ridge")
    once = newest(client).fast_weights
    adapt(client, **twice, learner="ridge")
    for name, weight in newest(client).fast_weights.items():
        # Exact but for the order of sums, and for the half precision in which weights are stored
        assert torch.allclose(weight, once[name], rtol=2e-3, atol=2e-3), name
    adapt(client, **body, learner="ridge")
    assert any(not torch.equal(weight, once[name]) for name, weight in newest(client).fast_weights.items())


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_an_example_of_weight_0_is_kept_without_effect(client: httpx.Client, kind: str) -> None:
    plain = adapt(client, **OF_KIND[kind])
    before = predict(client)["predictions"]
    body = OF_KIND[kind]
    answer = {"multi_label": {"labels": ["unheard of"]}, "regression": {"score": 99.0}, "ordinal": {"label": "ok"}}[
        kind
    ]
    found = adapt(client, **{**body, "support": [*body["support"], {"text": "A stray", **answer, "weight": 0}]})
    for name in ("labels", "thresholds", "leave_one_out", "support_accuracy", "losses"):
        assert found.get(name) == plain.get(name), name
    assert predict(client)["predictions"] == before
    assert (found["n_support"], plain["n_support"]) == (len(body["support"]) + 1, len(body["support"]))
    (stray,) = listed(client, text="stray")
    assert stray["weight"] == 0
    again = client.post("/v1/tasks/bank/readapt", json={}).json()
    assert again["leave_one_out"] == plain["leave_one_out"]
    report = client.get("/v1/tasks/bank/report").json()
    assert (report["examples"], report["without_effect"]) == (len(body["support"]), 1)


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_a_task_of_examples_without_weight_is_refused(client: httpx.Client, kind: str) -> None:
    body = weighed(kind, *[0.0] * len(OF_KIND[kind]["support"]))
    response = client.post("/v1/tasks/bank/adapt", json=body)
    assert response.status_code == 422, response.text
    assert "weight" in response.json()["detail"] + str(response.json().get("errors"))


def test_weights_stay_through_append_erase_and_moving(client: httpx.Client) -> None:
    adapt(client, **weighed("regression", 3, 0.5))
    before = predict(client)["predictions"]
    add(client, [{"text": "One more text", "score": 2.0, "weight": 4}])
    assert {each["text"]: each.get("weight", 1) for each in listed(client)}["One more text"] == 4
    erase(client, id_of(client, "One more text"))
    assert predict(client)["predictions"] == before
    file = client.get("/v1/tasks/bank/export").content
    client.post("/v1/tasks/moved/import", content=file, headers={"Content-Type": "application/zip"}).raise_for_status()
    assert predict(client, "moved")["predictions"] == before
    client.delete("/v1/tasks/moved").raise_for_status()


def test_a_class_of_the_order_may_have_no_example(client: httpx.Client) -> None:
    order = ["very bad", "bad", "ok", "good", "very good", "very_good"]
    made = adapt(client, support=STARS, kind="ordinal", order=order)
    assert made["labels"] == order
    found = {warning["code"]: warning for warning in made["warnings"]}
    assert found["labels_look_alike"]["pointers"] == ["#/order/4", "#/order/5"]
    assert set(client.get("/v1/tasks/bank/report").json()["few_examples"]) >= {"very bad", "very good"}


def test_a_label_of_a_description_alone_is_one_of_the_labels(client: httpx.Client) -> None:
    made = adapt(client, support=TOPICS, labels={"loan": "a loan from the bank", "fee": "what it costs"})
    assert made["labels"] == ["card", "fee", "fraud", "loan"]
    with_texts = predict(client, queries=["a loan from the bank"])["predictions"][0]["scores"]
    assert with_texts.keys() == set(made["labels"])
    again = adapt(client, support=TOPICS, labels={"loan": "a loan from the bank"}, use_label_text=False)
    without = predict(client, queries=["a loan from the bank"])["predictions"][0]["scores"]
    assert again["labels"] == made["labels"] and with_texts != without
    assert client.get("/v1/tasks/bank/report").json()["few_examples"][-1] == "loan"


def test_a_score_of_minus_one_is_a_score(client: httpx.Client) -> None:
    below = [{**each, "score": each["score"] - 1} for each in SCORES]
    adapt(client, support=SCORES)
    first = [found["score"] for found in predict(client)["predictions"]]
    adapt(client, support=below)
    moved = [found["score"] for found in predict(client)["predictions"]]
    assert moved == pytest.approx([score - 1 for score in first], abs=2e-3)


@pytest.mark.parametrize("kind", BY_REGRESSION)
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
def test_auto_takes_the_checkpoint_with_the_best_left_out_answers(
    start_service: StartService, make_checkpoint: MakeCheckpoint, kind: str
) -> None:
    folders = [make_checkpoint(ModelSpec("protomaml")), make_checkpoint(ModelSpec("matching"))]
    client = start_service(checkpoint=list(map(str, folders)))
    choice = adapt(client, **OF_KIND[kind], checkpoint="auto")["checkpoint_choice"]
    figures = [each["leave_one_out"] for each in choice["candidates"]]
    assert all(found == figures[0] and found for found in figures), "two checkpoints of one encoder"
    assert "2 checkpoints have the best leave-one-out" in choice["reason"]


@pytest.mark.parametrize("kind", OF_KIND)
def test_a_readapt_compares_left_out_answers(
    start_service: StartService, tiny_checkpoint: Path, other_checkpoint: Path, kind: str
) -> None:
    client = start_service(checkpoint=[str(tiny_checkpoint), str(other_checkpoint)])
    second = client.get("/v1/checkpoints").json()["checkpoints"][1]["fingerprint"]
    made = adapt(client, **OF_KIND[kind])
    found = client.get("/v1/tasks/bank/readapt", params={"checkpoint": second}).json()
    assert found["former_leave_one_out"] == made["leave_one_out"]
    assert found["leave_one_out"].keys() == made["leave_one_out"].keys()
    assert (found["agreement"] is None) == (kind in {"regression", "tokens"})
    done = client.post("/v1/tasks/bank/readapt", json={"checkpoint": second}).json()
    assert (done["leave_one_out"], done["agreement"]) == (found["leave_one_out"], found["agreement"])


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ({"micro_f1": 0.5, "macro_f1": 0.2}, {"micro_f1": 0.35, "macro_f1": 0.3}, "micro F1 would fall"),
        ({"micro_f1": 0.5, "macro_f1": 0.2}, {"micro_f1": 0.45, "macro_f1": 0.1}, None),
        ({"mae": 0.5, "mae_of_mean": 1.0}, {"mae": 0.7, "mae_of_mean": 1.0}, "would fall from 0.500 to 0.300"),
        ({"mae": 0.5, "mae_of_mean": 1.0}, {"mae": 0.4, "mae_of_mean": 1.0}, None),
        ({"mae": 0.5, "mae_of_mean": 1.0}, None, None),
    ],
)
def test_a_readapt_with_worse_figures_is_refused(
    before: dict[str, float], after: dict[str, float] | None, why: str | None
) -> None:
    former = cast(Version, SimpleNamespace(leave_one_out_accuracy=None, figures=before))
    found = Comparison(former, None, 40, None, after).worse(Settings())
    assert found is None if why is None else why in (found or "")


def test_examples_are_listed_by_text_and_source_without_a_label(client: httpx.Client) -> None:
    adapt(client, support=TOPICS)
    add(client, [{"text": "One more FEE", "labels": ["fee"]}])
    assert [each["text"] for each in listed(client, text="one more")] == ["One more FEE"]
    assert [each["text"] for each in listed(client, source="examples")] == ["One more FEE"]
    assert len(listed(client, source="adapt")) == len(TOPICS)


def test_the_kinds_of_the_wire_are_those_of_the_learning_core() -> None:
    assert get_args(wire_kinds.TaskKind) == get_args(decision.TaskKind) == tuple(KINDS)
    assert {rules.answer for rules in KINDS.values()} == {"label", *wire_kinds.SHAPES} - {"tokens"}


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
