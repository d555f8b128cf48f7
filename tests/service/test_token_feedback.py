"""Feedback on tasks that tag words."""

from typing import Any

import httpx
import pytest

from handful import calls
from tests.service.conftest import adapt, predict
from tests.service.test_examples import assert_same_bits, listed, newest
from tests.service.test_feedback import give
from tests.service.test_kinds import refused

PATH = "/v1/tasks/bank/feedback"
SENTENCES: list[dict[str, Any]] = [
    {"tokens": ["to", city, "by", way], "tags": ["O", "B-city", "O", "B-way"]}
    for city, way in (("Paris", "bus"), ("Rome", "train"), ("Oslo", "car"), ("Bonn", "foot"))
]
TEXT = "Lima by boat"
SPANS = [{"start": 0, "end": 4, "label": "city"}, {"start": 8, "end": 12, "label": "way"}]


@pytest.fixture
def client(shared_service: httpx.Client) -> httpx.Client:
    """A service whose task ``bank`` is the test's own."""
    shared_service.delete("/v1/tasks/bank")
    return shared_service


@pytest.mark.parametrize(
    "given", [{"text": TEXT, "spans": SPANS}, {"tokens": TEXT.split(), "tags": ["B-city", "O", "B-way"]}]
)
def test_a_correction_joins_and_gives_the_bits_of_adapting_on_all(
    stored_service: httpx.Client, given: dict[str, Any]
) -> None:
    client = stored_service
    adapt(client, support=SENTENCES)
    found = give(client, force=True, **given)
    assert (found["outcome"], found["version"], found["label"]) == ("joined", 2, "city 'Lima', way 'boat'")
    (example,) = listed(client, source="feedback")
    assert (example["id"], example["text"], example["spans"]) == (found["id"], TEXT, SPANS)
    adapt(client, "at-once", support=[*SENTENCES, given])
    assert_same_bits(newest(client), newest(client, "at-once"))
    assert give(client, **given)["outcome"] == "known"


def test_the_check_compares_entities_in_sentences_that_were_left_out(client: httpx.Client) -> None:
    adapt(client, support=SENTENCES)
    check = give(client, text=TEXT, spans=SPANS)["check"]
    assert (check["measure"], check["asked"]) == ("micro F1", len(SENTENCES))
    # The figure without the correction is that of the report, whose folds are the same
    (figure, _) = client.get("/v1/tasks/bank/report", params={"version": 1}).json()["figures"]
    assert check["accuracy_without"] == pytest.approx(figure["value"])


def test_a_right_answer_is_confirmed(client: httpx.Client) -> None:
    adapt(client, support=SENTENCES)
    (answer,) = predict(client, queries=[TEXT], ids=True)["predictions"]
    spans = [{key: span[key] for key in ("start", "end", "label")} for span in answer["spans"]]
    found = give(client, id=answer["id"], spans=spans, force=True)
    assert (found["outcome"], found["label"]) == ("confirmed", found["answered"])
    assert found["confidence"] == pytest.approx(answer["confidence"], abs=1e-6)


def test_a_newer_answer_outweighs_the_older(client: httpx.Client) -> None:
    adapt(client, support=SENTENCES)
    found = give(client, tokens=SENTENCES[0]["tokens"], tags=["O", "B-way", "O", "O"], force=True)
    (old,) = found["outweighed"]
    assert (old["reason"], old["label"]) == ("contradicts", "city 'Paris', way 'bus'")


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"text": TEXT, "label": "city"}, "invalid_request", "#/label"),
        ({"text": TEXT}, "invalid_request", "#/spans"),
        ({"text": TEXT, "tags": ["O", "O", "O"]}, "invalid_request", "#/tags"),
        ({"tokens": TEXT.split(), "spans": SPANS}, "invalid_request", "#/tokens"),
        ({"tokens": TEXT.split(), "tags": ["O"]}, "tags_unequal", "#/tags"),
        ({"text": TEXT, "spans": [{"start": 0, "end": 99, "label": "city"}]}, "span_outside", "#/spans/0/end"),
        ({"text": TEXT, "spans": [{"start": 0, "end": 4, "label": "town"}]}, "unknown_label", "#/spans"),
        ({"text": TEXT, "tokens": ["a"], "tags": ["O"]}, "invalid_request", "#"),
    ],
)
def test_what_cannot_be_used_is_refused(client: httpx.Client, body: dict[str, Any], code: str, pointer: str) -> None:
    adapt(client, support=SENTENCES)
    refused(client, PATH, body, code, pointer)


@pytest.mark.parametrize(
    ("right", "query", "label"),
    [
        ({"spans": SPANS}, TEXT, "city 'Lima', way 'boat'"),
        ({"spans": []}, TEXT, "no entity"),
        ({"tags": ["O", "B-city"]}, {"tokens": ["to", "Kyiv"]}, "city 'Kyiv'"),
    ],
)
def test_the_client_sends_spans_and_tags(client: httpx.Client, right: Any, query: Any, label: str) -> None:
    adapt(client, support=SENTENCES)
    call = calls.feedback("bank", right, query, None, force=True)
    response = client.request(call.method, call.path, content=call.content, headers=call.headers)
    assert response.status_code == 200, response.text
    assert response.json()["label"] == label
