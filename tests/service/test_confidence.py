"""Weights of examples, out-of-scope examples, the labels that may be answered, and thresholds by label."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from service.tasks.only_labels import shares
from tests.conftest import SUPPORT
from tests.service.conftest import TEXTS, adapt, predict
from tests.service.test_examples import add, assert_same_bits, erase, id_of, listed, newest

OUTSIDE = [{"text": text, "label": None} for text in ("Sing me a song", "How tall is the moon", "Paint it blue")]


@pytest.fixture(scope="module")
def client(shared_service: httpx.Client) -> Iterator[httpx.Client]:
    """A service of which each test takes its tasks for itself."""
    yield shared_service


@pytest.fixture(autouse=True)
def no_task_before(client: httpx.Client) -> None:
    """Removes the tasks of the test before."""
    for task in ("bank", "other"):
        client.delete(f"/v1/tasks/{task}")


def weighed(*weights: float) -> list[dict[str, Any]]:
    """SUPPORT with these weights of its first examples."""
    return [{**e, "weight": w} for e, w in zip(SUPPORT, weights, strict=False)] + SUPPORT[len(weights) :]


def predictions(client: httpx.Client, task: str = "bank", **fields: Any) -> list[dict[str, Any]]:
    """Predictions of the texts that were adapted on."""
    found: list[dict[str, Any]] = predict(client, task, **fields)["predictions"]
    return found


def refused(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, list[dict[str, str]]]:
    """The code and the faults of a request that is refused for its content."""
    response = client.post(path, json=body)
    assert response.status_code == 422, response.text
    return response.json()["code"], response.json()["errors"]


def test_weights_of_one_change_no_bit(client: httpx.Client) -> None:
    adapt(client)
    adapt(client, "other", support=weighed(*[1] * len(SUPPORT)))
    assert_same_bits(newest(client), newest(client, "other"))
    assert listed(client) == listed(client, "other")


def test_an_example_of_weight_0_is_kept_without_effect(client: httpx.Client) -> None:
    first = adapt(client, support=[*SUPPORT, {"text": "A stray", "label": "stray", "weight": 0}], use_label_text=False)
    plain = adapt(client, "other", use_label_text=False)
    assert first["labels"] == plain["labels"]
    assert (first["n_support"], plain["n_support"]) == (len(SUPPORT) + 1, len(SUPPORT))
    for name in ("losses", "support_accuracy", "leave_one_out_accuracy", "warnings"):
        assert first[name] == plain[name], name
    assert_same_bits(newest(client), newest(client, "other"))
    (stray,) = listed(client, label="stray")
    assert stray["weight"] == 0
    assert client.post("/v1/tasks/bank/readapt").json()["n_support"] == len(SUPPORT) + 1
    assert_same_bits(newest(client), newest(client, "other"))
    report = client.get("/v1/tasks/bank/report").json()
    assert (report["examples"], report["without_effect"]) == (len(SUPPORT), 1)
    (near,) = predictions(client, queries=["A stray"], explain=True)
    assert "A stray" not in {example["text"] for example in near["nearest"]}


def test_a_weight_of_2_does_what_the_example_twice_does(client: httpx.Client) -> None:
    adapt(client, support=weighed(2))
    adapt(client, "other", support=[SUPPORT[0], *SUPPORT])
    one, other = newest(client).fast_weights, newest(client, "other").fast_weights
    for name, weight in one.items():
        # Exact but for the order of sums, and for the half precision in which weights are stored
        assert torch.allclose(weight, other[name], rtol=2e-3, atol=2e-3), name
    adapt(client, "other")
    plain = newest(client, "other").fast_weights
    assert any(not torch.equal(weight, plain[name]) for name, weight in one.items())


def test_weights_stay_through_append_readapt_and_erase(client: httpx.Client) -> None:
    adapt(client, support=weighed(3, 0.5))
    add(client, [{"text": "One more of it", "label": SUPPORT[0]["label"], "weight": 2.5}])
    whole = [*weighed(3, 0.5), {"text": "One more of it", "label": SUPPORT[0]["label"], "weight": 2.5}]
    adapt(client, "other", support=whole)
    assert_same_bits(newest(client), newest(client, "other"))
    client.post("/v1/tasks/bank/readapt").raise_for_status()
    assert_same_bits(newest(client), newest(client, "other"))
    erase(client, id_of(client, SUPPORT[1]["text"]))
    adapt(client, "other", support=[e for e in whole if e["text"] != SUPPORT[1]["text"]])
    assert_same_bits(newest(client), newest(client, "other"))
    assert {e["text"]: e.get("weight", 1) for e in listed(client)}["One more of it"] == 2.5


@pytest.mark.parametrize("label", [SUPPORT[0]["label"], "unheard of", None])
@pytest.mark.parametrize("weight", [0, 0.25, 1])
def test_an_erased_text_leaves_no_version_that_had_it(client: httpx.Client, label: str | None, weight: float) -> None:
    adapt(client, support=[*SUPPORT, {"text": "To be gone", "label": label, "weight": weight}])
    add(client, [{"text": "To be gone", "label": SUPPORT[-1]["label"], "id": "gone"}])
    adapt(client)
    kept = adapt(client, support=[*SUPPORT, {"text": "To be gone", "label": SUPPORT[0]["label"], "id": "gone"}])
    removed = erase(client, "gone")["removed_versions"]
    assert removed == [1, 2, kept["version"]]


@pytest.mark.parametrize("weight", [-0.1, 10.1, "1", None, True])
def test_weights_outside_0_to_10_are_refused(client: httpx.Client, weight: object) -> None:
    body = {"support": [*SUPPORT, {"text": "x", "label": "y", "weight": weight}]}
    code, errors = refused(client, "/v1/tasks/bank/adapt", body)
    assert code == "invalid_request"
    assert errors[0]["pointer"] == f"#/support/{len(SUPPORT)}/weight"


def test_a_task_of_weights_0_alone_is_refused_in_words(client: httpx.Client) -> None:
    code, errors = refused(client, "/v1/tasks/bank/adapt", {"support": weighed(*[0] * len(SUPPORT))})
    assert code == "too_few_classes"
    assert "weight above 0" in errors[0]["detail"]
    code, errors = refused(client, "/v1/tasks/bank/adapt", {"support": OUTSIDE})
    assert code == "too_few_classes"
    assert "no example has a label" in errors[0]["detail"]


def test_out_of_scope_examples_take_probability_from_all_labels(client: httpx.Client) -> None:
    labels = adapt(client, support=[*SUPPORT, *OUTSIDE])["labels"]
    assert labels == adapt(client, "other")["labels"], "out of scope is no label"
    texts = [example["text"] for example in OUTSIDE]
    for prediction in predictions(client, queries=texts, abstain=0.0):
        assert sum(prediction["scores"].values()) < 0.5
        assert (prediction["label"], prediction["abstained"]) == (None, True)
    for abstain in (None, False):
        for prediction in predictions(client, queries=texts, abstain=abstain):
            assert (prediction["label"], prediction["abstained"]) == (next(iter(prediction["scores"])), False)
    inside = zip(predictions(client), predictions(client, "other"), strict=True)
    assert sum(one["label"] == other["label"] for one, other in inside) >= len(TEXTS) - 1


def test_out_of_scope_examples_stay_through_append_readapt_and_erase(client: httpx.Client) -> None:
    adapt(client)
    ids = add(client, OUTSIDE)["ids"]
    assert [e["label"] for e in listed(client) if e["id"] in ids] == [None] * 3
    adapt(client, "other", support=[*SUPPORT, *OUTSIDE])
    assert_same_bits(newest(client), newest(client, "other"))
    client.post("/v1/tasks/bank/readapt").raise_for_status()
    assert_same_bits(newest(client), newest(client, "other"))
    for example in ids:
        erase(client, example)
    adapt(client, "other")
    assert_same_bits(newest(client), newest(client, "other"))
    assert newest(client).out_of_scope is False


def test_a_report_and_an_explanation_are_about_labels(client: httpx.Client) -> None:
    adapt(client, support=[*OUTSIDE, *SUPPORT])
    report = client.get("/v1/tasks/bank/report").json()
    assert (report["examples"], report["sampled"], report["out_of_scope"]) == (len(SUPPORT), len(SUPPORT), 3)
    answers = predictions(client, explain=True)
    body = {"support": [*OUTSIDE, *SUPPORT], "queries": TEXTS, "explain": True}
    assert client.post("/v1/classify", json=body).json()["predictions"] == answers
    for prediction in answers:
        first, second = list(prediction["scores"])[:2]
        assert [near["label"] for near in prediction["nearest"]] == [first] * 2 + [second] * 2


def test_only_labels_answers_a_subset_renormalised(client: httpx.Client) -> None:
    labels = adapt(client)["labels"]
    complete = predictions(client)
    for only in ([labels[0]], labels[1:], [*reversed(labels)], [labels[0], f" {labels[0]} "]):
        kept = {label.strip() for label in only}
        for one, whole in zip(predictions(client, only_labels=only), complete, strict=True):
            total = sum(whole["scores"][label] for label in kept)
            expected = {label: share / total for label, share in whole["scores"].items() if label in kept}
            assert one["scores"] == pytest.approx(expected)
            assert list(one["scores"]) == list(expected)
            assert one["label"] == next(iter(expected))
            assert one["confidence"] == one["scores"][one["label"]]
    assert predictions(client, only_labels=labels) == complete


def test_only_labels_goes_with_top_k_abstain_and_explain(client: httpx.Client) -> None:
    labels = adapt(client)["labels"]
    some = labels[:2]
    plain = predictions(client, only_labels=some)
    threshold = sorted(each["confidence"] for each in plain)[len(plain) // 2]
    cut = predictions(client, only_labels=some, top_k=1, abstain=threshold, explain=True)
    for one, whole in zip(cut, plain, strict=True):
        assert list(one["scores"]) == list(whole["scores"])[:1]
        assert one["abstained"] is (whole["confidence"] < threshold)
        assert {near["label"] for near in one["nearest"]} == set(some)
    (alone,) = predictions(client, queries=TEXTS[:1], only_labels=labels[2:3], explain=True)
    assert (alone["label"], alone["confidence"]) == (labels[2], 1.0)
    assert {near["label"] for near in alone["nearest"]} == {labels[2]}
    body = {"support": SUPPORT, "queries": TEXTS, "only_labels": some}
    assert client.post("/v1/classify", json=body).json()["predictions"] == plain


def test_labels_that_the_task_does_not_have_are_refused(client: httpx.Client) -> None:
    labels = adapt(client)["labels"]
    for path, body in (("/v1/tasks/bank/predict", {}), ("/v1/classify", {"support": SUPPORT})):
        asked = {**body, "queries": TEXTS, "only_labels": [labels[0], "nonsense"]}
        code, errors = refused(client, path, asked)
        assert (code, errors[0]["pointer"]) == ("unknown_label", "#/only_labels/1")
        assert labels[0] in errors[0]["detail"]
        code, errors = refused(client, path, {**body, "queries": TEXTS, "abstain": {"nonsense": 0.5}})
        assert (code, errors[0]["pointer"]) == ("unknown_label", "#/abstain/nonsense")
        twice = {labels[0]: 0.5, f"{labels[0]} ": 0.6}
        code, errors = refused(client, path, {**body, "queries": TEXTS, "abstain": twice})
        assert code == "duplicate_threshold"
        assert refused(client, path, {**body, "queries": TEXTS, "only_labels": []})[0] == "invalid_request"
        code, errors = refused(client, path, {**body, "queries": TEXTS, "abstain": {labels[0]: 1.5}})
        assert (code, errors[0]["pointer"]) == ("invalid_request", f"#/abstain/{labels[0]}")


def test_a_label_has_a_threshold_of_its_own(client: httpx.Client) -> None:
    labels = adapt(client, steps=0)["labels"]
    plain, default = predictions(client), predictions(client, abstain=True)
    for thresholds in ({}, {labels[0]: 0.0}, {labels[0]: 1.0, labels[1]: 0.0}):
        for one, whole, usual in zip(predictions(client, abstain=thresholds), plain, default, strict=True):
            under = thresholds.get(whole["label"])
            expected = usual["abstained"] if under is None else whole["confidence"] < under
            assert one["abstained"] is expected
            assert one["scores"] == whole["scores"]


def test_out_of_scope_keeps_its_share_beside_a_subset(client: httpx.Client) -> None:
    labels = adapt(client, support=[*SUPPORT, *OUTSIDE])["labels"]
    queries = [OUTSIDE[0]["text"]]
    (whole,), (one,) = (
        predictions(client, queries=queries),
        predictions(client, queries=queries, only_labels=labels[:1]),
    )
    outside = 1 - sum(whole["scores"].values())
    assert one["confidence"] == pytest.approx(whole["scores"][labels[0]] / (whole["scores"][labels[0]] + outside), 1e-3)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.data())
def test_shares_are_a_distribution(row: list[float], data: st.DataObject) -> None:
    n_labels = data.draw(st.integers(1, len(row)))
    classes = data.draw(st.lists(st.integers(0, n_labels - 1), min_size=1, unique=True))
    found, outside = shares(row, classes, n_labels)
    assert sorted(found) == sorted(classes)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    if len(classes) == n_labels:
        assert found == {i: row[i] for i in classes}
    else:
        assert sum(found.values()) + outside == pytest.approx(1)
