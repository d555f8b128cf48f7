"""Tasks that start from descriptions of their labels, without an example."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from model_store.codec import decode_support
from tests.conftest import SUPPORT, StartService
from tests.handful.cli.test_cli import Handful
from tests.service.conftest import TEXTS, adapt, predict, store_of

LABELS = {
    "card_arrival": "asks where the card is",
    "extra_charge_on_statement": "wonders about a fee",
    "getting_virtual_card": "wants a virtual card",
}


def test_two_described_classes_make_a_task(stored_service: httpx.Client) -> None:
    two = dict(list(LABELS.items())[:2])
    made = adapt(stored_service, support=[], labels=two, steps=3)
    assert made["labels"] == sorted(two)
    assert (made["n_support"], made["support_accuracy"], made["steps"], len(made["losses"])) == (0, None, 3, 4)
    assert all(isinstance(loss, float) for loss in made["losses"])
    for prediction in predict(stored_service)["predictions"]:
        assert prediction["scores"].keys() == two.keys()
        assert sum(prediction["scores"].values()) == pytest.approx(1, abs=1e-5)
    # The text of a label is the nearest to itself
    found = predict(stored_service, queries=list(two.values()))["predictions"]
    assert [prediction["label"] for prediction in found] == list(two)


def test_what_is_stored_of_it_comes_back(stored_service: httpx.Client) -> None:
    made = adapt(stored_service, support=[], labels=LABELS)
    kept = store_of(stored_service).load_support("default", "bank", 1)
    assert kept is not None
    assert decode_support(kept).examples == ()
    assert dict(decode_support(kept).descriptions) == LABELS
    shown = stored_service.get("/v1/tasks/bank").json()
    assert "support_accuracy" in shown
    assert (shown["support_accuracy"], shown["n_support"], shown["support_kept"]) == (None, 0, True)
    before = predict(stored_service)["predictions"]
    # Examples in a later version, and back
    later = adapt(stored_service, support=SUPPORT, labels=LABELS)
    assert (later["version"], later["n_support"], later["labels"]) == (2, 6, made["labels"])
    assert 0 <= later["support_accuracy"] <= 1
    response = stored_service.post("/v1/tasks/bank/rollback", json={"version": 1})
    assert response.status_code == 200
    versions = stored_service.get("/v1/tasks/bank/versions").json()["versions"]
    assert [version["support_accuracy"] for version in versions] == [None, later["support_accuracy"], None]
    assert predict(stored_service)["predictions"] == before


def test_a_class_without_examples_stands_beside_those_that_have_some(service: httpx.Client) -> None:
    made = adapt(service, support=SUPPORT[:2], labels=LABELS)
    assert (made["n_support"], len(made["labels"])) == (2, 3)
    assert 0 <= made["support_accuracy"] <= 1, "of the examples alone"


def test_classifying_from_descriptions_stores_nothing(service: httpx.Client) -> None:
    answer = service.post("/v1/classify", json={"support": [], "labels": LABELS, "queries": TEXTS})
    assert answer.status_code == 200, answer.text
    assert answer.json()["support_accuracy"] is None
    adapt(service, support=[], labels=LABELS)
    for one, other in zip(answer.json()["predictions"], predict(service)["predictions"], strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-5)


@pytest.mark.parametrize("learner", ["maml", "matching", "prototypical", "ridge"])
def test_other_learners_start_from_descriptions_too(service: httpx.Client, learner: str) -> None:
    assert adapt(service, support=[], labels=LABELS, learner=learner)["support_accuracy"] is None
    assert len(predict(service)["predictions"]) == len(TEXTS)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "empty_support", "#/support"),
        ({"labels": {}}, "empty_support", "#/support"),
        ({"labels": {"refund": "asks for money back"}}, "empty_support", "#/support"),
        ({"labels": LABELS, "use_label_text": False}, "class_without_examples", "#/labels/card_arrival"),
        ({"labels": {**LABELS, "c": "\u200b"}}, "class_without_examples", "#/labels/c"),
        ({"labels": {**LABELS, "refund": " "}}, "empty_description", "#/labels/refund"),
    ],
)
def test_where_nothing_stands_in_for_examples_they_are_asked_for(
    service: httpx.Client, body: dict[str, Any], code: str, pointer: str
) -> None:
    for path, more in (("/v1/tasks/bank/adapt", {}), ("/v1/classify", {"queries": TEXTS})):
        response = service.post(path, json={"support": [], **body, **more})
        assert response.status_code == 422, response.text
        assert response.json()["code"] == code
        assert [error["pointer"] for error in response.json()["errors"]] == [pointer]
    assert service.get("/v1/tasks/bank").status_code == 404


def test_the_command_shows_and_asks_a_task_without_examples(
    start_service: StartService, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    store = f"sqlite:{tmp_path / 'described.db'}"
    adapt(start_service(store=store), support=[], labels=LABELS)
    local = {"HANDFUL_CHECKPOINT": str(tiny_checkpoint), "HANDFUL_STORE": store, "HANDFUL_THREADS": "1"}
    handful = Handful(tmp_path, {**local, "COLUMNS": "200"})
    for words in (("tasks", "show", "bank"), ("tasks", "versions", "bank")):
        assert '"support_accuracy":null' in handful(*words, "--local", "--json").replace(" ", "")
        assert handful(*words, "--local").strip()
    assert len(handful("predict", "bank", "--local", stdin="\n".join(TEXTS)).splitlines()) == len(TEXTS)
    assert "0 rows read" in handful.fails("adapt", "bank", "--local", "--support", "-", stdin="")
