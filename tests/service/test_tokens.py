"""Token classification through HTTP: adapt, predict, classify, examples; and mistakes, each with its place."""

from typing import Any

import httpx
import pytest

from tests.conftest import StartService
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


def test_a_list_of_tokens_keeps_its_tokens_and_a_text_has_those_that_it_is_cut_into(service: httpx.Client) -> None:
    adapt(service, "slots", _TOKENS)
    tokens = ["fly-to", "New York", ",", "now"]
    (of_tokens,) = _predict(service, "slots", [{"tokens": tokens}])
    assert len(of_tokens["tags"]) == len(tokens)
    text = " ".join(tokens)
    assert all(text[span["start"] : span["end"]] == span["text"] for span in of_tokens["spans"])
    (of_text,) = _predict(service, "slots", [text])
    assert "tags" not in of_text


def test_tags_are_of_the_scheme_and_make_the_spans(service: httpx.Client) -> None:
    support = [{"tokens": ["from", "New", "York", "to", "Rome"], "tags": ["O", "B-city", "I-city", "O", "B-city"]}]
    adapt(service, "slots", [*support, *_TOKENS])
    queries = [{"tokens": [*["to", "New", "York", "from"], city, "York"]} for city in _CITIES]
    for query, found in zip(queries, _predict(service, "slots", queries), strict=True):
        starts, place = {}, 0
        for i, token in enumerate(query["tokens"]):
            starts[place], place = i, place + len(token) + 1
        expected = ["O"] * len(query["tokens"])
        for span in found["spans"]:
            first = starts[span["start"]]
            count = len(span["text"].split())
            expected[first : first + count] = [f"B-{span['label']}"] + [f"I-{span['label']}"] * (count - 1)
        assert found["tags"] == expected


def test_weights_count_and_an_example_of_weight_0_is_as_if_it_were_absent(service: httpx.Client) -> None:
    queries = ["to Rome now", "a b c"]
    adapt(service, "slots", _SPANS)
    before = _predict(service, "slots", queries)
    other = {"tokens": ["a", "b"], "tags": ["B-letter", "O"], "weight": 0}
    assert adapt(service, "slots", [*_SPANS, other])["labels"] == ["O", "city"]
    assert _predict(service, "slots", queries) == before
    twice = [{**_SPANS[0], "weight": 2}, *_SPANS[1:]]
    adapt(service, "slots", twice)
    heavy = _predict(service, "slots", queries)
    assert heavy != before
    adapt(service, "slots", [*_SPANS, _SPANS[0]])
    doubled = _predict(service, "slots", queries)
    assert [each["confidence"] for each in heavy] == pytest.approx([each["confidence"] for each in doubled], abs=2e-3)


def test_an_erased_example_leaves_the_bits_that_would_be_without_it(service: httpx.Client) -> None:
    secret = {"tokens": ["meet", "Ada", "Lovelace"], "tags": ["O", "B-person", "I-person"], "id": "secret"}
    adapt(service, "slots", [*_TOKENS, secret])
    queries = ["to Rome now", {"tokens": ["meet", "Bo"]}]
    answer = service.delete("/v1/tasks/slots/examples/secret").json()
    assert (answer["labels"], answer["removed_versions"]) == (["O", "city"], [1])
    adapt(service, "without", _TOKENS)
    assert _predict(service, "slots", queries) == _predict(service, "without", queries)
    listed = service.get("/v1/tasks/slots/examples").json()["examples"]
    assert {tuple(each["spans"][0].values())[2] for each in listed} == {"city"}


def test_examples_show_tokens_with_tags_where_they_came_as_tokens(service: httpx.Client) -> None:
    odd = {"tokens": ["fly-to", "New York"], "tags": ["O", "S-city"], "id": "odd"}
    adapt(service, "slots", [odd, {**_SPANS[0], "id": "text"}])
    found = {each["id"]: each for each in service.get("/v1/tasks/slots/examples").json()["examples"]}
    assert (found["odd"]["tokens"], found["odd"]["tags"]) == (odd["tokens"], ["O", "B-city"])
    assert "tokens" not in found["text"] and found["text"]["spans"] == _SPANS[0]["spans"]
    assert [each["id"] for each in service.get("/v1/tasks/slots/examples?label=city").json()["examples"]] == [
        "odd",
        "text",
    ]


def test_a_sentence_that_is_cut_has_no_tags_beyond_and_says_so(service: httpx.Client) -> None:
    adapt(service, "slots", _TOKENS)
    (found,) = _predict(service, "slots", [{"tokens": ["Rome"] * 3000}])
    assert found["truncated"] and len(found["tags"]) == 3000
    (found,) = _predict(service, "slots", ["Rome " * 3000])
    assert found["truncated"]
    long = {"tokens": ["Rome"] * 3000, "tags": ["B-city"] * 3000}
    warnings = {each["code"]: each for each in adapt(service, "slots", [*_TOKENS, long])["warnings"]}
    assert warnings["truncated_text"]["pointers"] == ["#/support/4"]


def test_same_texts_with_other_spans_are_warned_of(service: httpx.Client) -> None:
    other = {**_SPANS[0], "spans": [{"start": 0, "end": 4, "label": "verb"}]}
    warnings = {each["code"]: each for each in adapt(service, "slots", [*_SPANS, other, _SPANS[1]])["warnings"]}
    assert warnings["contradicting_examples"]["pointers"] == ["#/support/0", "#/support/4"]
    assert warnings["duplicate_examples"]["pointers"] == ["#/support/5"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"support": [{"tokens": ["a", "b"], "tags": ["B-x", "B-x"]}]}, "class_without_examples"),
        ({"support": [{"tokens": ["a", "b"], "tags": ["O", "O"]}]}, "too_few_classes"),
        ({"support": [{"tokens": ["a", "b"], "tags": ["O", "B-O"]}]}, "label_reserved"),
        ({"support": [{"tokens": [], "tags": []}]}, "empty_text"),
        ({"support": [{"tokens": ["a"], "tags": ["O"], "text": "a"}]}, "invalid_request"),
        ({"support": [{"text": "a", "spans": [{"start": 0, "end": 1}]}]}, "invalid_request"),
        ({"support": _SPANS, "learner": "matching"}, "unsupported_objective"),
        ({"support": _SPANS, "labels": {"city": "a town"}}, "descriptions_unexpected"),
        ({"support": [*_SPANS, {"text": "a", "label": "x"}]}, "mixed_kinds"),
    ],
)
def test_what_tags_nothing_is_refused(service: httpx.Client, body: dict[str, Any], code: str) -> None:
    response = service.post("/v1/tasks/slots/adapt", json=body)
    assert (response.status_code, response.json()["code"]) == (422, code), response.text


def test_a_pair_is_refused_where_words_are_tagged(service: httpx.Client) -> None:
    adapt(service, "slots", _SPANS)
    body = {"queries": [{"text": "a", "text_pair": "b"}]}
    response = service.post("/v1/tasks/slots/predict", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "text_pair_unexpected")
    assert _predict(service, "slots", [{"text": "to Rome"}]) == _predict(service, "slots", ["to Rome"])


def test_a_support_set_of_too_many_tokens_is_refused(start_service: StartService) -> None:
    small = start_service(max_deep_tokens=30)
    response = small.post("/v1/tasks/slots/adapt", json={"support": _SPANS})
    assert (response.status_code, response.json()["code"]) == (422, "too_many_tokens")
    assert "HANDFUL_MAX_DEEP_TOKENS" in response.json()["detail"]
