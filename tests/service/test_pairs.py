"""A task has pairs or single texts, and answers queries of the same kind."""

from typing import Any

import httpx
import pytest

from metalearn.types import SupportSet
from tests.conftest import SUPPORT
from tests.service.conftest import adapt, parts_of, predict

PAIRS = [
    {"text": "It rains", "text_pair": "The street is wet", "label": "follows"},
    {"text": "He sings", "text_pair": "He makes a sound", "label": "follows"},
    {"text": "It rains", "text_pair": "The sun shines", "label": "contradicts"},
    {"text": "He sings", "text_pair": "He is silent", "label": "contradicts"},
]

PAIR = {"text": "It rains", "text_pair": "It is wet"}


def refused(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[str, list[str]]:
    """The code and the pointers of a refusal."""
    response = client.post(path, json=body)
    assert response.status_code == 422, response.text
    return response.json()["code"], [error["pointer"] for error in response.json()["errors"]]


@pytest.mark.parametrize(
    ("support", "right", "wrong", "code"),
    [
        (PAIRS, PAIR, ["single", {"text": "single"}, {"text": "single", "text_pair": None}], "text_pair_missing"),
        (SUPPORT, "single", [PAIR, {**PAIR, "text_pair": "b"}], "text_pair_unexpected"),
    ],
)
def test_a_query_of_the_other_kind_is_refused(
    stored_service: httpx.Client, support: list[Any], right: object, wrong: list[object], code: str
) -> None:
    adapt(stored_service, support=support)
    queries = [right, *wrong, right]
    expected = (code, [f"#/queries/{i + 1}" for i in range(len(wrong))])
    assert refused(stored_service, "/v1/tasks/bank/predict", {"queries": queries}) == expected
    assert refused(stored_service, "/v1/classify", {"support": support, "queries": queries}) == expected
    assert len(predict(stored_service, queries=[right, right])["predictions"]) == 2
    # The store knows it too, and so does a version that a rollback brings back
    parts_of(stored_service).adapters.forget("default", "bank")
    assert refused(stored_service, "/v1/tasks/bank/predict", {"queries": queries}) == expected
    assert stored_service.post("/v1/tasks/bank/rollback", json={"version": 1}).json()["version"] == 2
    assert refused(stored_service, "/v1/tasks/bank/predict", {"queries": queries}) == expected


def test_a_support_set_of_both_kinds_is_refused_at_the_odd_ones(service: httpx.Client) -> None:
    single = {"text": "no pair here", "label": "follows"}
    for support, expected in (
        ([*PAIRS, single], ("text_pair_missing", ["#/support/4"])),
        ([single, *PAIRS, single], ("text_pair_missing", ["#/support/0", "#/support/5"])),
        ([PAIRS[0], single], ("text_pair_missing", ["#/support/1"])),
        ([*SUPPORT, PAIRS[0]], ("text_pair_unexpected", ["#/support/6"])),
    ):
        assert refused(service, "/v1/tasks/bank/adapt", {"support": support}) == expected
        assert refused(service, "/v1/classify", {"support": support, "queries": ["a"]}) == expected
    assert service.get("/v1/tasks/bank").status_code == 404


def test_an_empty_second_text_is_named_with_what_to_do(service: httpx.Client) -> None:
    for empty in ("", " "):
        body = {"support": [*PAIRS, {**PAIRS[0], "text_pair": empty}]}
        assert refused(service, "/v1/tasks/bank/adapt", body) == ("empty_text", ["#/support/4/text_pair"])
        body = {"queries": [{"text": "a", "text_pair": empty}]}
        answer = service.post("/v1/tasks/bank/predict", json=body).json()
        assert answer["errors"][0]["pointer"] == "#/queries/0/text_pair"
        assert "leave text_pair out" in answer["detail"]


def test_a_task_of_descriptions_alone_answers_either(service: httpx.Client) -> None:
    adapt(service, support=[], labels={"refund": "asks for money back", "delivery": "asks where the parcel is"})
    assert len(predict(service, queries=["where is it", PAIR])["predictions"]) == 2


def test_a_stored_version_without_the_kind_of_its_texts_answers_either(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SupportSet, "pairs", None)  # as versions were stored before
    adapt(service, support=PAIRS)
    assert len(predict(service, queries=["where is it", PAIR])["predictions"]) == 2
