"""Predictions with the examples behind them."""

from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import TEXTS, adapt, parts_of


def predict(client: httpx.Client, queries: list[Any], **fields: Any) -> list[dict[str, Any]]:
    """Predictions with explanations."""
    response = client.post("/v1/tasks/bank/predict", json={"queries": queries, "explain": True, **fields})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def check(predictions: list[dict[str, Any]], support: list[dict[str, str]] = SUPPORT) -> None:
    """Checks that each prediction has examples of its label, and then of its rival."""
    texts = {(example["text"], example["label"]) for example in support}
    for prediction in predictions:
        ranked = list(prediction["scores"])
        assert [near["label"] for near in prediction["nearest"]] == [ranked[0]] * 2 + [ranked[1]] * 2
        assert {(near["text"], near["label"]) for near in prediction["nearest"]} <= texts
        for first, second in (prediction["nearest"][:2], prediction["nearest"][2:]):
            assert 1.001 >= first["similarity"] >= second["similarity"] >= -1.001


def test_the_nearest_examples_are_of_the_label_and_of_its_rival(service: httpx.Client) -> None:
    adapt(service)
    found = predict(service, TEXTS)
    check(found)
    for text, prediction in zip(TEXTS, found, strict=True):
        same = [near for near in prediction["nearest"] if near["text"] == text]
        assert same == [] or same[0]["similarity"] == pytest.approx(1, abs=1e-3)
    plain = service.post("/v1/tasks/bank/predict", json={"queries": TEXTS}).json()["predictions"]
    assert plain == [{name: value for name, value in each.items() if name != "nearest"} for each in found]


def test_examples_are_read_and_encoded_once(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    adapt(service)
    first = predict(service, TEXTS[:1])
    monkeypatch.setattr(parts_of(service).access.store, "load_support", None)
    assert predict(service, TEXTS[:1]) == first
    adapt(service, support=SUPPORT[:4])
    assert service.delete("/v1/tasks/bank").status_code == 200
    assert not parts_of(service).examples._known, "a deleted task leaves no texts"


def test_an_erased_example_explains_nothing(service: httpx.Client) -> None:
    adapt(service)
    gone = predict(service, TEXTS[:1])[0]["nearest"][0]
    service.delete(f"/v1/tasks/bank/examples/{gone['id']}").raise_for_status()
    assert not parts_of(service).examples._known
    left = predict(service, [gone["text"]])[0]["nearest"]
    assert left
    assert gone["text"] not in {near["text"] for near in left}


def test_classify_explains_by_the_examples_of_the_request(service: httpx.Client) -> None:
    body = {"support": SUPPORT, "queries": TEXTS, "explain": True}
    check(service.post("/v1/classify", json=body).json()["predictions"])
    described = {"cheap": "costs little money", "dear": "costs much money"}
    alone = service.post("/v1/classify", json={"labels": described, "queries": ["a bargain"], "explain": True}).json()
    assert alone["predictions"][0]["nearest"] == []


def test_a_version_of_its_own_has_its_own_examples(service: httpx.Client) -> None:
    other = [{"text": f"{example['text']} now", "label": example["label"]} for example in SUPPORT]
    adapt(service)
    check(predict(service, TEXTS))
    adapt(service, support=other)
    check(predict(service, TEXTS), other)
    check(predict(service, TEXTS, version=1))


def test_without_kept_examples_the_answer_names_the_remedy(service: httpx.Client) -> None:
    adapt(service, keep_support=False)
    response = service.post("/v1/tasks/bank/predict", json={"queries": TEXTS, "explain": True})
    assert (response.status_code, response.json()["code"]) == (409, "support_not_kept")
    assert service.post("/v1/tasks/bank/predict", json={"queries": TEXTS}).status_code == 200


def test_examples_in_memory_are_bounded(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tasks.examples_in_memory._MAX_BYTES", 10_000)
    service = start_service()
    for task in ("one", "two", "three"):
        adapt(service, task)
        service.post(f"/v1/tasks/{task}/predict", json={"queries": TEXTS, "explain": True}).raise_for_status()
    known = parts_of(service).examples
    assert [key.task for key in known._known] == ["three"]
    assert known._bytes == sum(each.size_bytes for each in known._known.values()) <= 10_000
