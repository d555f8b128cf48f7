"""Reports on tasks of several labels, of scores and of ordered classes: counts, figures, suspects."""

from typing import Any

import httpx
import pytest

from handful.report_answers import ReportResponse
from handful.report_page import report_page
from tests.service.conftest import adapt
from tests.service.test_kinds import BY_REGRESSION, OF_KIND, SCORES, TOPICS
from tests.service.test_report import report


@pytest.fixture
def client(shared_service: httpx.Client) -> httpx.Client:
    """A service whose task ``bank`` is the test's own."""
    shared_service.delete("/v1/tasks/bank")
    return shared_service


def figures_of(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of a report by name, each within its interval."""
    for each in found["figures"]:
        low, high = each["interval"]
        assert low <= high
    return {each["name"]: each for each in found["figures"]}


def test_a_report_of_several_labels_counts_rows(client: httpx.Client) -> None:
    adapt(client, support=TOPICS)
    found = report(client)
    assert (found["kind"], found["examples"], found["sampled"]) == ("multi_label", len(TOPICS), len(TOPICS))
    assert (found["accuracy"], found["baselines"]) == (None, None)
    counts = {each["label"]: each for each in found["classes"]}
    for label, each in counts.items():
        assert each["examples"] == each["asked"] == sum(label in topic["labels"] for topic in TOPICS)
        assert each["right"] <= min(each["asked"], each["predicted"])
    right, marked = (
        sum(each["right"] for each in counts.values()),
        sum(each["examples"] + each["predicted"] for each in counts.values()),
    )
    figures = figures_of(found)
    assert figures["micro_f1"]["value"] == pytest.approx(2 * right / marked)
    per_label = [2 * e["right"] / (e["examples"] + e["predicted"]) for e in counts.values()]
    assert figures["macro_f1"]["value"] == pytest.approx(sum(per_label) / len(per_label))
    assert figures["micro_f1"]["baselines"].keys() == {"most_frequent_label", "ridge"}
    # The most frequent label stands in five of twelve texts, which have thirteen labels in all
    assert figures["micro_f1"]["baselines"]["most_frequent_label"] == pytest.approx(2 * 5 / (12 + 13))
    assert any("Micro F1" in sentence for sentence in found["findings"])


def test_a_report_of_scores_has_them_beside_the_mean(client: httpx.Client) -> None:
    made = adapt(client, support=SCORES)
    found = report(client)
    figures = figures_of(found)
    assert figures["mae"]["value"] == pytest.approx(made["leave_one_out"]["mae"])
    assert figures["mae"]["baselines"]["mean"] == pytest.approx(made["leave_one_out"]["mae_of_mean"])
    assert figures["spearman"]["value"] == pytest.approx(made["leave_one_out"]["spearman"])
    errors = [abs(each["score"] - each["predicted"]) for each in found["scores"]]
    assert sum(errors) / len(errors) == pytest.approx(figures["mae"]["value"])
    assert [each["score"] for each in found["scores"]] == [each["score"] for each in SCORES]
    assert (found["labels"], found["classes"]) == ([], [])


def test_a_report_of_ordered_classes_has_the_figures_of_both(client: httpx.Client) -> None:
    adapt(client, **OF_KIND["ordinal"])
    found = report(client)
    assert figures_of(found).keys() == {"spearman", "mae"}
    assert found["accuracy"]["right"] == sum(each["right"] for each in found["classes"])
    assert [each["label"] for each in found["classes"]] == ["bad", "ok", "good"]
    assert sum(sum(pair["counts"]) for pair in found["confusable"]) == 12 - found["accuracy"]["right"]


def test_a_score_far_from_its_kind_is_a_suspect(client: httpx.Client) -> None:
    support = [{"text": f"{'very ' * (n % 8)}good news, number {n}", "score": float(n % 8)} for n in range(32)]
    adapt(client, support=[*support, {"text": f"{'very ' * 7}good news, number 40", "score": -30.0}])
    found = report(client)
    assert found["suspects"][0]["label"] == "-30"
    assert found["suspects"][0]["confidence"] > 0.98
    assert "score may be wrong" in " ".join(found["findings"]) or "scores may be wrong" in " ".join(found["findings"])


def test_a_missing_label_is_a_suspect(client: httpx.Client) -> None:
    support = [
        {"text": f"{topic} {n} {topic} {topic}", "labels": [topic]}
        for topic in ("card", "fee", "loan")
        for n in range(8)
    ]
    adapt(client, support=[*support, {"text": "card 9 card card", "labels": ["fee"], "id": "wrong"}])
    found = report(client)
    first = found["suspects"][0]
    assert (first["id"], first["label"]) == ("wrong", "fee")
    assert first["reads_as"] in {"card, fee", "no label"}, "one label more, or one less"
    assert first["confidence"] == pytest.approx(1 - first["of_label"])


def test_copies_answer_for_nobody_and_contradictions_are_listed(client: httpx.Client) -> None:
    adapt(client, support=SCORES)
    alone = report(client)
    adapt(client, support=[*SCORES, *SCORES])
    found = report(client)
    assert (found["examples"], found["sampled"]) == (2 * len(SCORES), len(SCORES))
    # Two copies of each are one of twice the weight: hardly another regression, and none that knows the answer
    assert figures_of(found)["mae"]["value"] == pytest.approx(figures_of(alone)["mae"]["value"], rel=0.2)
    adapt(client, support=[*SCORES, {"text": SCORES[0]["text"].upper(), "score": 9.0}])
    (group,) = report(client)["contradictions"]
    assert [each["label"] for each in group["examples"]] == ["0", "9"]


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_a_learner_that_leaves_nothing_out_has_a_report_without_figures(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind], learner="ridge")
    found = report(client)
    assert (found["figures"], found["accuracy"], found["n_suspects"]) == ([], None, 0)
    assert "ridge_cv" in found["findings"][0]


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_unlabelled_texts_are_refused(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    response = client.post("/v1/tasks/bank/report", json={"unlabelled": ["Some text"]})
    assert (response.status_code, response.json()["code"]) == (422, "option_unsupported")
    assert kind in response.json()["errors"][0]["detail"]


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_the_page_shows_the_figures_and_escapes_texts(client: httpx.Client, kind: str) -> None:
    body = OF_KIND[kind]
    odd = {**body["support"][0], "text": "<script>alert(1)</script>"}
    adapt(client, **{**body, "support": [*body["support"], odd]})
    page = report_page(ReportResponse.model_validate(report(client)))
    assert "<script>" not in page
    assert ("micro F1" if kind == "multi_label" else "mean absolute error") in page
    assert ("<circle" in page) == (kind != "multi_label")


@pytest.mark.parametrize("kind", BY_REGRESSION)
def test_a_report_changes_nothing_and_is_the_same_again(client: httpx.Client, kind: str) -> None:
    adapt(client, **OF_KIND[kind])
    first, again = ({**report(client), "elapsed_ms": 0} for _ in range(2))
    assert first == again
    assert client.get("/v1/tasks/bank").json()["version"] == 1
