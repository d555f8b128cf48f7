"""Texts with nothing to read: examples and queries are refused, label texts are left out."""

from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT
from tests.service.conftest import OTHER_SUPPORT, adapt, predict

UNREADABLE = ["\u200b", "\u200b\u200d\ufeff", "\x00", "\x01\x02\x7f", " \u200b ", "\u2028\u200e", "\ue000"]
"""Zero-width, control and unassigned characters; white space is refused before anything is tokenized."""

BLANK = ["\u2060", "\u00ad", "\u3164", "\u115f\u1160", "\uffa0", "\u2800", "\ufe0f", "\U000e0041"]
"""More characters that show nothing, and that a tokenizer may take for something."""

PAIRS = [{**example, "text_pair": "and so on"} for example in SUPPORT]


def refused(client: httpx.Client, path: str, body: dict[str, Any]) -> list[str]:
    """The pointers of a refusal."""
    response = client.post(path, json=body)
    assert response.status_code == 422, response.text
    assert response.json()["code"] == "empty_text"
    assert all("empty" in error["detail"] for error in response.json()["errors"])
    return [error["pointer"] for error in response.json()["errors"]]


@pytest.mark.parametrize("text", [*UNREADABLE, "", " ", "\u3000\t"], ids=ascii)
def test_a_text_that_holds_nothing_is_refused_where_it_stands(service: httpx.Client, text: str) -> None:
    adapt(service)
    support = [*SUPPORT, {"text": text, "label": "card_arrival"}]
    assert refused(service, "/v1/tasks/bank/adapt", {"support": support}) == ["#/support/6/text"]
    assert refused(service, "/v1/classify", {"support": support, "queries": ["card"]}) == ["#/support/6/text"]
    queries = ["card", text, "fee"]
    assert refused(service, "/v1/tasks/bank/predict", {"queries": queries}) == ["#/queries/1"]
    assert refused(service, "/v1/classify", {"support": SUPPORT, "queries": queries}) == ["#/queries/1"]
    assert service.get("/v1/tasks/bank").json()["version"] == 1


def test_a_text_that_shows_nothing_is_refused_whatever_the_tokenizer_makes_of_it(service: httpx.Client) -> None:
    adapt(service)
    assert refused(service, "/v1/tasks/bank/predict", {"queries": BLANK}) == [
        f"#/queries/{i}" for i in range(len(BLANK))
    ]
    support = [*SUPPORT, *({"text": text, "label": "card_arrival"} for text in BLANK)]
    pointers = [f"#/support/{6 + i}/text" for i in range(len(BLANK))]
    assert refused(service, "/v1/tasks/bank/adapt", {"support": support}) == pointers


def test_all_of_them_are_named(service: httpx.Client) -> None:
    adapt(service)
    support = [{"text": "\u200b", "label": str(i % 2)} for i in range(3)] + OTHER_SUPPORT
    assert refused(service, "/v1/tasks/bank/adapt", {"support": support}) == [f"#/support/{i}/text" for i in range(3)]
    queries = ["\u200b", "fine", {"text": "\u200b"}]
    pointers = refused(service, "/v1/tasks/bank/predict", {"queries": queries})
    assert pointers == ["#/queries/0", "#/queries/2/text"]
    adapt(service, "pairs", PAIRS)
    queries = [{"text": "\u200b", "text_pair": "\x00"}, {"text": "a", "text_pair": "b"}]
    assert refused(service, "/v1/tasks/pairs/predict", {"queries": queries}) == ["#/queries/0"]


def test_one_text_of_a_pair_is_enough_to_read(service: httpx.Client) -> None:
    support = [*PAIRS, {"text": "\u200b", "text_pair": "where is my card", "label": "card_arrival"}]
    assert adapt(service, support=support)["n_support"] == 7
    assert predict(service, queries=[{"text": "where is my card", "text_pair": "\u200b"}])["version"] == 1


def test_a_character_that_is_merely_unknown_is_read(service: httpx.Client) -> None:
    adapt(service, support=[*SUPPORT, {"text": "\U00013000", "label": "card_arrival"}])
    assert len(predict(service, queries=["\U00013000", "🙂", "日本", ".", "[UNK]"])["predictions"]) == 5


def test_a_description_that_holds_nothing_is_left_out(service: httpx.Client) -> None:
    opaque = [{**example, "label": f"c{ord(example['label'][0])}"} for example in SUPPORT]
    label = opaque[0]["label"]
    without = adapt(service, "without", opaque)
    described = adapt(service, "described", opaque, labels={label: "\u200b"})
    assert described["losses"] == without["losses"]
    assert described["support_accuracy"] == without["support_accuracy"]
    assert described["n_support"] == 6


def test_a_class_that_stands_on_nothing_else_is_refused(service: httpx.Client) -> None:
    response = service.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, "labels": {"a/b": "\u200b"}})
    assert response.status_code == 422
    assert response.json()["code"] == "class_without_examples"
    assert response.json()["errors"][0]["pointer"] == "#/labels/a~1b"
    assert service.get("/v1/tasks/bank").status_code == 404
