"""Token classification through HTTP: adapt, predict, classify, examples; and mistakes, each with its place."""

from typing import Any

import httpx
import pytest

from tests.service.conftest import adapt

_CITIES = ["Paris", "Rome", "Oslo", "Berlin"]
_TOKENS = [
    {"tokens": ["book", "a", "flight", "to", city, "now"], "tags": ["O", "O", "O", "O", "B-city", "O"]}
    for city in _CITIES
]
_SPANS = [
    {"text": f"book a flight to {city} now", "spans": [{"start": 17, "end": 17 + len(city), "label": "city"}]}
    for city in _CITIES
]


def _predict(client: httpx.Client, task: str, queries: list[object], **fields: Any) -> list[dict[str, Any]]:
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": queries, **fields})
    assert response.status_code == 200, response.text
    predictions: list[dict[str, Any]] = response.json()["predictions"]
    return predictions


def test_tokens_are_tagged(service: httpx.Client) -> None:
    answer = adapt(service, "slots", _TOKENS)
    assert answer["kind"] == "tokens" and answer["labels"] == ["O", "city"]
    (found,) = _predict(service, "slots", [{"tokens": ["book", "a", "flight", "to", "Rome", "now"]}])
    assert found["tags"] == ["O", "O", "O", "O", "B-city", "O"]
    (span,) = found["spans"]
    assert (span["start"], span["end"], span["text"], span["label"]) == (17, 21, "Rome", "city")
    assert 0 < span["confidence"] <= 1 and found["label"] is None


def test_texts_have_spans_and_give_the_same_answers_as_tokens(service: httpx.Client) -> None:
    adapt(service, "a", _TOKENS)
    adapt(service, "b", _SPANS)
    query = "book a flight to Oslo now"
    assert _predict(service, "a", [query]) == _predict(service, "b", [query])
    (found,) = _predict(service, "b", [query])
    assert [query[s["start"] : s["end"]] for s in found["spans"]] == ["Oslo"] and "tags" not in found


def test_classify_answers_as_a_stored_task_does(service: httpx.Client) -> None:
    adapt(service, "slots", _SPANS)
    queries = ["book a flight to Rome now", "hi"]
    response = service.post("/v1/classify", json={"support": _SPANS, "queries": queries})
    assert response.status_code == 200, response.text
    assert response.json()["predictions"] == _predict(service, "slots", queries)


def test_a_text_has_the_same_answer_beside_others(service: httpx.Client) -> None:
    adapt(service, "slots", _SPANS)
    queries = [f"book a flight to {city} now" for city in _CITIES] + ["x", "to Rome"]
    assert _predict(service, "slots", queries) == [_predict(service, "slots", [query])[0] for query in queries]


def test_examples_are_added_listed_and_erased(service: httpx.Client) -> None:
    adapt(service, "slots", _TOKENS[:3])
    before = _predict(service, "slots", ["to Rome now"])
    added = service.post("/v1/tasks/slots/examples", json={"examples": [_SPANS[3]]})
    assert added.status_code == 200, added.text
    listed = service.get("/v1/tasks/slots/examples").json()["examples"]
    assert len(listed) == 4 and all(e["spans"][0]["label"] == "city" for e in listed)
    erased = service.delete(f"/v1/tasks/slots/examples/{added.json()['ids'][0]}")
    assert erased.status_code == 200, erased.text
    assert _predict(service, "slots", ["to Rome now"]) == before


@pytest.mark.parametrize(
    ("example", "pointer", "words"),
    [
        ({"tokens": ["to", "Rome"], "tags": ["O"]}, "#/support/0/tags", "2 tokens and 1 tags"),
        ({"tokens": ["", "Rome"], "tags": ["O", "O"]}, "#/support/0/tokens/0", "empty"),
        (
            {"text": "to Rome", "spans": [{"start": 3, "end": 9, "label": "city"}]},
            "#/support/0/spans/0/end",
            "outside the text",
        ),
        (
            {"text": "to Rome", "spans": [{"start": 3, "end": 7, "label": "a"}, {"start": 0, "end": 4, "label": "b"}]},
            "#/support/0/spans/0/start",
            "overlaps",
        ),
        (
            {"text": "to", "spans": [{"start": 0, "end": 2, "label": "O"}]},
            "#/support/0/spans/0/label",
            "the tag of words",
        ),
    ],
)
def test_mistakes_have_a_place(service: httpx.Client, example: object, pointer: str, words: str) -> None:
    response = service.post("/v1/tasks/slots/adapt", json={"support": [example, *_SPANS]})
    assert response.status_code == 422, response.text
    assert any(e["pointer"] == pointer and words in e["detail"] for e in response.json()["errors"]), response.text


def test_tokens_are_refused_where_the_task_tags_none(service: httpx.Client) -> None:
    adapt(service, "bank")
    response = service.post("/v1/tasks/bank/predict", json={"queries": [{"tokens": ["a"]}]})
    assert response.status_code == 422 and response.json()["code"] == "tokens_unexpected"
