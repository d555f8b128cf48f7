"""Messages on wrong fields name the expected value."""

from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import TEXTS, adapt

FIRST: dict[str, Any] = SUPPORT[0]


def faults(client: httpx.Client, body: dict[str, Any], path: str = "/v1/classify") -> dict[str, str]:
    """The details of a refusal, by pointer."""
    response = client.post(path, json=body)
    assert response.status_code == 422, response.text
    return {error["pointer"]: error["detail"] for error in response.json()["errors"]}


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"support": [{"text": "a", "category": "b"}]}, "#/support/0/category", 'it is called "label" here'),
        ({"support": [{"text": "a", "category": "b"}]}, "#/support/0/label", 'an example needs a "label"'),
        ({"support": [{"Utterance": "a", "label": "b"}]}, "#/support/0/Utterance", 'it is called "text" here'),
        ({"support": [{"Utterance": "a", "label": "b"}]}, "#/support/0/text", 'an example needs a "text"'),
        ({"support": [{**FIRST, "labels": ["b"]}]}, "#/support/0/label", 'an example has one of "label", "labels"'),
        ({"support": [{**FIRST, "score": 1}]}, "#/support/0/label", 'an example has one of "label", "labels"'),
        ({"support": [{**FIRST, "category": "b"}]}, "#/support/0/category", 'it is called "label" here'),
        ({"support": [{**FIRST, "note": "b"}]}, "#/support/0/note", "remove it, or check its spelling"),
        ({"support": [{**FIRST, "label": 1}]}, "#/support/0/label", "a label is a string: write a number"),
        ({"support": [{**FIRST, "label": True}]}, "#/support/0/label", "a boolean in quotes"),
        ({"support": [{**FIRST, "label": ["a"]}]}, "#/support/0/label", "a label is a string"),
        ({"support": [{**FIRST, "text": 5}]}, "#/support/0/text", "a text is a string"),
        ({"support": [{**FIRST, "id": "a b"}]}, "#/support/0/id", "an id has letters"),
        ({"support": {"text": "a", "label": "b"}}, "#/support", "support is a list of examples"),
        ({"queries": "refund"}, "#/queries", 'a list, also for one text: ["'),
        ({"queries": [{"message": "refund"}]}, "#/queries/0/message", 'it is called "text" here'),
        ({"support": [{"text": "a", "labels": "x"}]}, "#/support/0/labels", "a list of its classes"),
        ({"labels": ["refund"]}, "#/labels", "labels is an object of descriptions"),
        ({"labels": {"refund": 5}}, "#/labels/refund", "a description is a string"),
        (
            {"abstain": "yes"},
            "#/abstain",
            "abstain is true, false, a threshold between 0 and 1, or an object of labels with a threshold each",
        ),
        (
            {"abstain": [0.5]},
            "#/abstain",
            "abstain is true, false, a threshold between 0 and 1, or an object of labels with a threshold each",
        ),
        ({"text": ["a"]}, "#/text", "unknown field: remove it, or check its spelling"),
    ],
)
def test_a_wrong_field_is_refused_with_the_allowed_values(
    shared_service: httpx.Client, fields: dict[str, Any], pointer: str, words: str
) -> None:
    found = faults(shared_service, {"support": SUPPORT, "queries": TEXTS, **fields})
    assert words in found[pointer]


@pytest.mark.parametrize(
    ("body", "pointer", "words"),
    [
        ({"support": SUPPORT}, "#/examples", "examples is a list"),
        ({"examples": FIRST}, "#/examples", "examples is a list"),
        ({"examples": [{"text": "a"}]}, "#/examples/0/label", 'an example needs a "label"'),
        ({"examples": [{"text": "a", "intent": "b"}]}, "#/examples/0/intent", 'it is called "label" here'),
    ],
)
def test_wrong_examples_are_refused_as_a_wrong_support_set_is(
    shared_service: httpx.Client, body: dict[str, Any], pointer: str, words: str
) -> None:
    assert words in faults(shared_service, body, "/v1/tasks/bank/examples")[pointer]


def test_half_a_character_is_named(shared_service: httpx.Client) -> None:
    body = b'{"queries": ["a \\ud800 b"]}'
    headers = {"Content-Type": "application/json"}
    answer = shared_service.post("/v1/tasks/bank/predict", content=body, headers=headers)
    assert "half a character" in answer.json()["detail"]


@pytest.mark.parametrize("name", ["my task", "-a", "b\u00e4nk", "a" * 129, "a:b"])
def test_the_rule_for_names_of_tasks_is_in_words(shared_service: httpx.Client, name: str) -> None:
    for verb, rest, body in (("GET", "", None), ("POST", "/predict", {"queries": ["a"]})):
        answer = shared_service.request(verb, f"/v1/tasks/{name}{rest}", json=body)
        (error,) = answer.json()["errors"]
        assert (answer.status_code, error["pointer"]) == (422, "path/task")
        assert "has letters (a to z, A to Z), digits" in error["detail"]
        assert "at most 128 characters" in error["detail"]
        assert "pattern" not in error["detail"]


def test_examples_may_be_left_out_where_descriptions_stand_in(shared_service: httpx.Client) -> None:
    labels = {"refund": "asks for money back", "delivery": "asks where the parcel is"}
    answer = shared_service.post("/v1/tasks/bank/adapt", json={"labels": labels})
    assert answer.status_code == 200, answer.text
    assert answer.json()["labels"] == ["delivery", "refund"]
    assert shared_service.post("/v1/classify", json={"labels": labels, "queries": TEXTS}).status_code == 200
    for body in ({}, {"labels": {"refund": "asks for money back"}}):
        found = faults(shared_service, body, "/v1/tasks/bank/adapt")
        assert "give at least one example per class, or describe at least two classes" in found["#/support"]


def test_a_label_is_measured_before_it_is_composed(shared_service: httpx.Client) -> None:
    # Composing a run of so many combining marks takes minutes
    label = "a" + "\u0301\u0316" * 100_000
    support = [*SUPPORT, {"text": "a", "label": label}]
    found = faults(shared_service, {"support": support, "labels": {label: "words"}, "queries": ["a"]})
    assert "200001 characters" in found["#/support/6/label"]


def test_a_limit_names_the_setting_that_raises_it(start_service: StartService) -> None:
    client = start_service(
        max_classes=3, max_support_examples=10, max_queries=2, max_label_chars=40, max_description_chars=20, max_steps=5
    )
    adapt(client, steps=5)
    more = [*SUPPORT, {"text": "a", "label": "fourth"}]
    for setting, pointer, fields in (
        ("MAX_CLASSES", "#/support", {"support": more}),
        ("MAX_SUPPORT_EXAMPLES", "#/support", {"support": SUPPORT * 2}),
        ("MAX_QUERIES", "#/queries", {"queries": ["a"] * 3}),
        ("MAX_LABEL_CHARS", "#/support/6/label", {"support": [*SUPPORT, {"text": "a", "label": "l" * 41}]}),
        ("MAX_DESCRIPTION_CHARS", "#/labels/card_arrival", {"labels": {"card_arrival": "d" * 21}}),
        ("MAX_STEPS", "#/steps", {"steps": 6}),
    ):
        found = faults(client, {"support": SUPPORT, "queries": ["a"], **fields})
        assert f"HANDFUL_{setting} on the server raises this limit" in found[pointer]


@pytest.mark.parametrize(
    ("method", "path", "name", "detail"),
    [
        ("GET", "/v1/tasks/bank/examples?cursor=5", "cursor", "it has after, "),
        ("GET", "/v1/tasks/bank/examples?aftr=5", "aftr", "did you mean 'after'?"),
        ("GET", "/v1/tasks/bank?version=2", "version", "it has none"),
        ("POST", "/v1/tasks/bank/predict?top_k=1", "top_k", "it has none"),
        ("POST", "/v1/tasks/bank/adapt?seed=1", "seed", "it has none"),
    ],
)
def test_a_parameter_that_the_route_lacks_is_refused(
    service: httpx.Client, method: str, path: str, name: str, detail: str
) -> None:
    adapt(service)
    response = service.request(method, path, json={"queries": ["a"]} if method == "POST" else None)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request"), response.text
    (error,) = response.json()["errors"]
    assert error["pointer"] == f"query/{name}"
    assert detail in error["detail"]
