"""Texts that are read in part or not at all: answered, and marked where they stand."""

import json
from collections.abc import Sequence

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalearn.encoder.encoder import Encoder
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import TextInput
from model_store.codec import decode_support
from service.tasks.checks import without_middle
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import adapt, parts_of, predict, store_of

UNKNOWN = "\u0e14\u0e35\u0e21\u0e32\u0e01"
"""Thai, of which the tokenizer of the tests knows no word."""


@pytest.fixture
def marking(shared_service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> httpx.Client:
    """A service whose encoder marks texts in Thai as unreadable, whatever else it knows of them."""
    encoder = parts_of(shared_service).engine.checkpoints.default.checkpoint.encoder
    tokenize = encoder.tokenize

    def marked(inputs: Sequence[TextInput]) -> list[TokenizedText]:
        texts = tokenize(inputs)
        return [
            text._replace(unreadable=text.unreadable or UNKNOWN in each.text)
            for text, each in zip(texts, inputs, strict=True)
        ]

    monkeypatch.setattr(Encoder, "tokenize", lambda _, inputs: marked(inputs))
    return shared_service


def abstentions(client: httpx.Client) -> float:
    """The number of predictions that abstained."""
    line = next(
        line for line in client.get("/metrics").text.splitlines() if line.startswith("handful_abstentions_total")
    )
    return float(line.split()[1])


def test_an_unreadable_query_abstains_and_keeps_its_scores(marking: httpx.Client) -> None:
    adapt(marking)
    before = abstentions(marking)
    queries = ["where is my card", UNKNOWN]
    readable, unreadable = predict(marking, queries=queries)["predictions"]
    assert (readable["unreadable"], readable["abstained"], readable["label"]) == (
        False,
        False,
        next(iter(readable["scores"])),
    )
    assert (unreadable["unreadable"], unreadable["abstained"], unreadable["label"]) == (True, True, None)
    assert len(unreadable["scores"]) == 3
    assert unreadable["confidence"] == max(unreadable["scores"].values())
    assert abstentions(marking) == before + 1
    body = {"support": SUPPORT, "queries": queries}
    assert [each["abstained"] for each in marking.post("/v1/classify", json=body).json()["predictions"]] == [
        False,
        True,
    ]
    assert abstentions(marking) == before + 2


@pytest.mark.parametrize(
    ("abstain", "answered"), [(None, False), (False, True), (True, False), (0, False), (0.0, False), (1.0, False)]
)
def test_an_unreadable_query_is_answered_where_that_is_asked_for(
    marking: httpx.Client, abstain: bool | float | None, answered: bool
) -> None:
    adapt(marking)
    (prediction,) = predict(marking, queries=[UNKNOWN], abstain=abstain)["predictions"]
    assert prediction["unreadable"]
    assert (prediction["label"] is not None) == answered
    assert prediction["abstained"] != answered


def test_unreadable_examples_and_descriptions_are_pointed_at(marking: httpx.Client) -> None:
    support = [*SUPPORT, {"text": UNKNOWN, "label": "card_arrival"}]
    found = adapt(marking, support=support, labels={"extra_charge_on_statement": UNKNOWN})["warnings"]
    (warning,) = [each for each in found if each["code"] == "unreadable_text"]
    assert warning["pointers"] == ["#/support/6/text", "#/labels/extra_charge_on_statement"]
    assert "2 texts cannot be read" in warning["detail"]


def test_a_text_beyond_the_characters_that_are_kept_is_answered_and_marked(start_service: StartService) -> None:
    client = start_service(max_text_chars=100)
    # Fewer tokens than the encoder reads, more characters than are kept
    long = "Where is my card? " + "extraordinarily " * 10 + "I want a refund."
    support = [*SUPPORT, {"text": long, "label": "card_arrival"}]
    answer = adapt(client, support=support)
    assert answer["truncated"] == 1
    (warning,) = [each for each in answer["warnings"] if each["code"] == "truncated_text"]
    assert warning["pointers"] == ["#/support/6/text"]
    assert "100 characters" in warning["detail"]
    kept = store_of(client).load_support("default", "bank", 1)
    assert kept is not None
    text = decode_support(kept).examples[6].input.text
    assert len(text) == 100
    assert text.startswith("Where is my card?")
    assert text.endswith("I want a refund.")
    answer = predict(client, queries=["short", long, {"text": long}])
    assert [prediction["truncated"] for prediction in answer["predictions"]] == [False, True, True]
    assert answer["truncated"] == 2
    body = {"support": support, "queries": [long]}
    assert client.post("/v1/classify", json=body).json()["truncated"] == 2


def test_white_space_around_a_text_is_no_part_of_it(start_service: StartService) -> None:
    client = start_service(max_text_chars=100)
    padded = "\n" * 200 + "where is my card" + " " * 200
    assert adapt(client, support=[*SUPPORT, {"text": padded, "label": "card_arrival"}])["truncated"] == 0
    answer = predict(client, queries=[padded, "where is my card"])
    assert answer["truncated"] == 0
    assert answer["predictions"][0]["scores"] == pytest.approx(answer["predictions"][1]["scores"], abs=1e-5)


def test_both_texts_of_a_pair_may_be_too_long(start_service: StartService) -> None:
    client = start_service(max_text_chars=50)
    pairs = [{**example, "text_pair": "b" * 80} for example in SUPPORT]
    pairs[0] = {**pairs[0], "text_pair": "short"}
    assert adapt(client, support=pairs)["truncated"] == 5
    queries = [
        {"text": "a " * 80, "text_pair": "b"},
        {"text": "a", "text_pair": "b " * 80},
        {"text": "a", "text_pair": "b"},
    ]
    assert [each["truncated"] for each in predict(client, queries=queries)["predictions"]] == [True, True, False]


@given(st.text(max_size=60), st.integers(1, 40))
def test_what_is_kept_has_both_ends_and_fits(text: str, limit: int) -> None:
    kept = without_middle(text, limit)
    assert len(kept) <= limit
    assert without_middle(kept, limit) == kept
    if len(text) <= limit:
        assert kept == text
    elif len(text.strip()) > limit:
        assert kept[0] == text.strip()[0]
        assert limit < 3 or kept[-1] == text.strip()[-1]


def test_a_megabyte_of_text_is_answered(service: httpx.Client) -> None:
    long = "my card has not come. " * 50_000
    adapt(service, support=[*SUPPORT, {"text": long, "label": "card_arrival"}])
    assert predict(service, queries=[long])["truncated"] == 1
    kept = store_of(service).load_support("default", "bank", 1)
    assert kept is not None
    assert len(json.dumps(decode_support(kept).examples[6].input.text)) < 9000
