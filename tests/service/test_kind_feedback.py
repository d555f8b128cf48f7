"""Feedback on tasks of several labels, of scores and of ordered classes."""

from typing import Any

import httpx
import pytest

from tests.service.conftest import TEXTS, adapt, predict
from tests.service.test_examples import assert_same_bits, listed, newest
from tests.service.test_feedback import give
from tests.service.test_kinds import BY_REGRESSION, OF_KIND

TEXT = "hello there my friend"
RIGHT: dict[str, dict[str, Any]] = {
    "multi_label": {"labels": ["fraud", "card"]},
    "regression": {"score": 40.0},
    "ordinal": {"label": "good"},
}
IN_WORDS = {"multi_label": "card, fraud", "regression": "40", "ordinal": "good"}


@pytest.fixture
def client(shared_service: httpx.Client) -> httpx.Client:
    """A service whose task ``bank`` is the test's own."""
    shared_service.delete("/v1/tasks/bank")
    return shared_service


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_a_correction_joins_and_gives_the_bits_of_adapting_on_all(stored_service: httpx.Client, kind: str) -> None:
    body, client = OF_KIND[kind], stored_service
    adapt(client, **body)
    found = give(client, text=TEXT, force=True, **RIGHT[kind])
    assert (found["outcome"], found["version"], found["label"]) == ("joined", 2, IN_WORDS[kind])
    assert found["check"] is None
    (example,) = listed(client, source="feedback")
    given = {key: sorted(value) if isinstance(value, list) else value for key, value in RIGHT[kind].items()}
    assert {**given, "id": found["id"]}.items() <= example.items()
    adapt(client, "at-once", **{**body, "support": [*body["support"], {"text": TEXT, **RIGHT[kind]}]})
    assert_same_bits(newest(client), newest(client, "at-once"))
    assert give(client, text=TEXT, **RIGHT[kind])["outcome"] == "known"


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_a_newer_answer_outweighs_the_older(client: httpx.Client, kind: str) -> None:
    body = OF_KIND[kind]
    adapt(client, **body)
    first = body["support"][0]
    found = give(client, text=first["text"].upper(), force=True, **RIGHT[kind])
    (old,) = found["outweighed"]
    assert old["reason"] == "contradicts"
    (row,) = listed(client, state="outweighed")
    assert (row["id"], row["text"]) == (old["id"], first["text"])


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_the_check_compares_figures_of_left_out_examples(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    check = give(client, text=TEXT, **RIGHT[kind])["check"]
    measure = "micro F1" if kind == "multi_label" else "share of the mean's error that is avoided"
    assert (check["measure"], check["asked"]) == (measure, len(OF_KIND[kind]["support"]))
    assert check["passed"] == (
        (check["accuracy_without"] - check["accuracy_with"]) * check["asked"]
        <= max(check["tolerance"] * check["asked"], 0.5)
    )


def test_a_score_that_harms_the_others_waits(client: httpx.Client) -> None:
    adapt(client, **OF_KIND["regression"])
    found = give(client, text="very very good", score=-1000.0)
    assert (found["outcome"], found["check"]["passed"]) == ("pending", False)
    assert found["check"]["accuracy_with"] < found["check"]["accuracy_without"]
    assert [each["id"] for each in listed(client, state="pending")] == [found["id"]]
    assert give(client, text="very very good", score=-1000.0, force=True)["outcome"] == "joined"


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_an_answer_by_its_id_is_corrected(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    (found,) = predict(client, queries=TEXTS[:1], ids=True)["predictions"]
    given = give(client, id=found["id"], force=True, **RIGHT[kind])
    assert given["confidence"] == pytest.approx(found["confidence"])
    assert TEXTS[0] in {each["text"] for each in listed(client, source="feedback")}
    if kind == "multi_label":
        assert given["answered"] == (", ".join(sorted(found["labels"])) or "no label")


def test_the_last_example_of_a_label_stays(client: httpx.Client) -> None:
    support = [*OF_KIND["multi_label"]["support"], {"text": "A loan, please", "labels": ["loan"]}]
    adapt(client, support=support)
    found = give(client, text="a loan, please", labels=["fee"], force=True)
    assert found["outweighed"] == []
    assert "loan" in client.get("/v1/tasks/bank").json()["labels"]
    assert give(client, text="a loan, please", labels=["fee", "loan"], force=True)["outweighed"]


@pytest.mark.parametrize(
    ("kind", "answer", "pointer"),
    [
        ("multi_label", {"label": "card"}, "#/label"),
        ("multi_label", {}, "#/labels"),
        ("multi_label", {"labels": ["card", "debit"]}, "#/labels/1"),
        ("multi_label", {"labels": ["card", "card "]}, "#/labels/1"),
        ("regression", {"label": "2"}, "#/label"),
        ("regression", {"score": 1.0, "labels": []}, "#/score"),
        ("ordinal", {"labels": ["good"]}, "#/labels"),
        ("ordinal", {"label": "superb"}, "#/label"),
        ("ordinal", {"score": 3.0}, "#/score"),
    ],
)
def test_an_answer_of_another_kind_is_refused(
    client: httpx.Client, kind: str, answer: dict[str, Any], pointer: str
) -> None:
    adapt(client, **OF_KIND[kind])
    response = client.post("/v1/tasks/bank/feedback", json={"text": TEXT, **answer})
    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer
    assert client.get("/v1/tasks/bank").json()["version"] == 1


def test_all_scores_share_one_cap(start_service: Any) -> None:
    client = start_service(feedback_per_label=2)
    adapt(client, **OF_KIND["regression"])
    for i in range(3):
        found = give(client, text=f"news {i}", score=float(i), force=True)
    assert [each["reason"] for each in found["outweighed"]] == ["over_cap"]


def test_a_score_inside_the_interval_is_confirmed(client: httpx.Client) -> None:
    adapt(client, **OF_KIND["regression"])
    (found,) = predict(client, queries=[TEXT])["predictions"]
    assert give(client, text=TEXT, score=found["interval"][1], force=True)["outcome"] == "confirmed"
