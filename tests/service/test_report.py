"""The report on a task: counts, choices, refusals."""

from collections import Counter
from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT
from tests.service.conftest import adapt, bearer, make_key

CITIES = ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Quito")
SUPPORT_OF_REPORT = [
    *({"text": f"Book me a flight to {city}", "label": "travel", "id": f"t{i}"} for i, city in enumerate(CITIES)),
    *({"text": f"Boil rice for {i} minutes", "label": "cooking", "id": f"c{i}"} for i in range(5, 11)),
    *({"text": f"The rain in {city} ends at noon", "label": "weather", "id": f"w{i}"} for i, city in enumerate(CITIES)),
]
"""Three classes of six examples that even a random encoder separates."""


def report(client: httpx.Client, task: str = "bank", **query: Any) -> dict[str, Any]:
    """A report, which has to succeed."""
    response = client.get(f"/v1/tasks/{task}/report", params=query)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def check_counts(found: dict[str, Any], support: list[dict[str, str]]) -> None:
    """Checks every count of a report against the rows and against each other."""
    per_class = Counter(example["label"] for example in support)
    assert found["labels"] == [each["label"] for each in found["classes"]] == sorted(per_class)
    assert {each["label"]: each["examples"] for each in found["classes"]} == per_class
    assert sum(each["predicted"] for each in found["classes"]) == sum(each["asked"] for each in found["classes"])
    for each in found["classes"]:
        assert each["recall"] == (each["right"] / each["asked"] if each["asked"] else None)
        assert each["precision"] == (each["right"] / each["predicted"] if each["predicted"] else None)
    accuracy, abstention = found["accuracy"], found["abstention"]
    if accuracy is None:
        assert abstention is found["baselines"] is found["twice_the_examples"] is None
        return
    assert accuracy["asked"] == sum(each["asked"] for each in found["classes"]) == abstention["asked"]
    assert accuracy["right"] == sum(each["right"] for each in found["classes"])
    assert 0 <= accuracy["interval"][0] <= accuracy["value"] <= accuracy["interval"][1] <= 1
    if found["n_confusable"] == len(found["confusable"]):
        assert sum(sum(pair["counts"]) for pair in found["confusable"]) == accuracy["asked"] - accuracy["right"]
    texts = {example["text"]: example["label"] for example in support}
    for pair in found["confusable"]:
        assert {shown["label"] for shown in pair["shown"]} <= set(pair["labels"])
    for suspect in found["suspects"]:
        assert texts[suspect["text"]] == suspect["label"] != suspect["reads_as"]
    assert abstention["right"] <= abstention["answered"] <= abstention["asked"]
    assert 0 <= found["baselines"]["ridge"] <= 1
    sizes = [point["examples_per_class"] for point in found["learning_curve"]]
    assert sizes == sorted(set(sizes))


def test_a_report_counts_the_rows_of_the_support_set(service: httpx.Client) -> None:
    adapt(service, support=SUPPORT_OF_REPORT)
    found = report(service)
    check_counts(found, SUPPORT_OF_REPORT)
    assert (found["task"], found["version"], found["examples"], found["sampled"]) == ("bank", 1, 18, 18)
    assert found["accuracy"]["asked"] == 18
    assert found["accuracy"]["folds"] == 6
    assert found["accuracy"]["right"] >= 16, "these classes are easy"
    assert found["baselines"]["majority"] == pytest.approx(1 / 3)
    assert [point["examples_per_class"] for point in found["learning_curve"]] == [2, 3, 5]
    assert found["twice_the_examples"]["accuracy"] >= found["accuracy"]["value"]
    assert found["few_examples"] == found["cut"] == found["unreadable"] == found["next_to_label"] == []
    assert "accuracy on new texts" in found["findings"][0]
    again = report(service)
    assert {**again, "elapsed_ms": 0} == {**found, "elapsed_ms": 0}, "the same support set, the same report"


def test_a_label_that_is_wrong_is_a_suspect(service: httpx.Client) -> None:
    wrong = {"text": "Book me a flight to Athens", "label": "cooking", "id": "odd"}
    adapt(service, support=[*SUPPORT_OF_REPORT, wrong], use_label_text=False)
    found = report(service)
    check_counts(found, [*SUPPORT_OF_REPORT, wrong])
    assert found["n_suspects"] == len(found["suspects"])
    first = found["suspects"][0]
    assert (first["id"], first["label"], first["reads_as"]) == ("odd", "cooking", "travel")
    assert first["confidence"] > first["of_label"]
    pair = next(pair for pair in found["confusable"] if set(pair["labels"]) == {"cooking", "travel"})
    assert pair["counts"][pair["labels"].index("cooking")] >= 1
    assert {shown["label"] for shown in pair["shown"]} == {"cooking", "travel"}
    assert any("may be wrong" in sentence for sentence in found["findings"])


def test_copies_are_left_out_together_and_named(service: httpx.Client) -> None:
    copies = [
        {"text": "BOOK me a flight  to Paris", "label": "travel", "id": "copy"},
        {"text": "Boil rice for 5 minutes", "label": "weather", "id": "other"},
    ]
    adapt(service, support=[*SUPPORT_OF_REPORT, *copies])
    found = report(service)
    check_counts(found, [*SUPPORT_OF_REPORT, *copies])
    assert [example["id"] for example in found["contradictions"][0]["examples"]] == ["c5", "other"]
    named = [[example["id"] for example in pair["examples"]] for pair in found["near_duplicates"]]
    assert ["t0", "copy"] in named
    assert ["c5", "other"] not in named, "a contradiction is named once"


def test_unlabelled_texts_are_ranked(service: httpx.Client) -> None:
    adapt(service, support=SUPPORT_OF_REPORT)
    unlabelled = [
        "Book me a flight to Rome",
        "Quite another matter, and of no class",
        "Quite another matter, and of no class",
    ]
    body = {"unlabelled": [*unlabelled, {"text": "Fry the rain in Oslo"}], "next": 3}
    response = service.post("/v1/tasks/bank/report", json=body)
    assert response.status_code == 200, response.text
    chosen = response.json()["next_to_label"]
    places = [each["index"] for each in chosen]
    assert len(set(places)) == 3
    assert set(places[:2]) in ({1, 3}, {2, 3}), "the known text and the copy of a chosen one come last"
    for each in chosen:
        assert each["probabilities"][0] >= each["probabilities"][1]
        assert each["text"] == [*unlabelled, "Fry the rain in Oslo"][each["index"]]
        assert each["reason"]


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"unlabelled": [" "]}, 422, "empty_text", "#/unlabelled/0"),
        ({"unlabelled": ["\u0007"]}, 422, "empty_text", "#/unlabelled/0"),
        ({"unlabelled": [{"text": "a", "text_pair": "b"}]}, 422, "text_pair_unexpected", "#/unlabelled/0"),
        ({"unlabelled": ["a"] * 1001}, 422, "too_many_queries", "#/unlabelled"),
        ({"unlabelled": [3]}, 422, "invalid_request", "#/unlabelled/0"),
        ({"version": 9}, 404, "version_not_found", None),
    ],
)
def test_what_cannot_be_reported_on_is_refused(
    service: httpx.Client, body: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    adapt(service)
    response = service.post("/v1/tasks/bank/report", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    if pointer is not None:
        assert response.json()["errors"][0]["pointer"] == pointer


def test_without_a_support_set_the_answer_names_the_remedy(service: httpx.Client) -> None:
    adapt(service, keep_support=False)
    response = service.get("/v1/tasks/bank/report")
    assert (response.status_code, response.json()["code"]) == (409, "support_not_kept")
    assert "call adapt with the examples" in response.json()["detail"]
    adapt(service)
    assert report(service)["version"] == 2
    assert service.get("/v1/tasks/bank/report", params={"version": 1}).status_code == 409


def test_an_absent_task_and_another_tenants_look_alike(service: httpx.Client) -> None:
    ours, theirs = bearer(make_key(service, "ours")), bearer(make_key(service, "theirs"))
    adapt(service, headers=ours)
    for task, key in (("bank", theirs), ("absent", ours)):
        response = service.get(f"/v1/tasks/{task}/report", headers=key)
        assert (response.status_code, response.json()["code"]) == (404, "task_not_found")


SMALL = [
    [("a", "one"), ("b", "two")],
    [("a", "one"), ("b", "two"), ("c", "two")],
    [("a", "one"), ("a", "one"), ("b", "two")],
    [("a", "one"), ("a", "two")],
    [("a", "one"), ("b", "one"), ("c", "two"), ("d", "two"), ("e", "three")],
]


@pytest.mark.parametrize("use_label_text", [True, False])
@pytest.mark.parametrize("rows", SMALL)
def test_tiny_support_sets_have_a_report(
    service: httpx.Client, rows: list[tuple[str, str]], use_label_text: bool
) -> None:
    support = [{"text": text, "label": label} for text, label in rows]
    adapt(service, support=support, use_label_text=use_label_text)
    found = report(service)
    check_counts(found, support)
    texts = {label: {text for text, other in rows if other == label} for _, label in rows}
    assert (found["accuracy"] is None) == (max(map(len, texts.values())) == 1)
    for each in found["classes"]:
        if len(texts[each["label"]]) == 1:
            assert each["asked"] == 0 or each["examples"] > 1
    assert found["findings"]


def test_pairs_and_descriptions_alone_have_a_report(service: httpx.Client) -> None:
    pairs = [{**example, "text_pair": "Is it about cards?"} for example in SUPPORT]
    adapt(service, support=pairs)
    found = report(service)
    check_counts(found, pairs)
    described = {"cheap": "costs little money", "dear": "costs much money"}
    adapt(service, support=[], labels=described)
    response = service.post("/v1/tasks/bank/report", json={"unlabelled": ["a price", "a bargain"]})
    assert response.status_code == 200, response.text
    alone = response.json()
    assert (alone["examples"], alone["accuracy"], alone["few_examples"]) == (0, None, ["cheap", "dear"])
    assert len(alone["next_to_label"]) == 2


def test_texts_that_were_cut_or_cannot_be_read_are_named(service: httpx.Client) -> None:
    odd = [
        {"text": "word " * 100, "label": "travel", "id": "long"},
        {"text": "🦄🦄🦄🦄", "label": "travel", "id": "emoji"},
    ]
    adapt(service, support=[*SUPPORT_OF_REPORT, *odd])
    found = report(service)
    assert (found["cut"], found["unreadable"]) == (["long"], ["emoji"])
