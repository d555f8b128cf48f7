"""Stores of earlier releases: their tasks come over by readapt from the support sets that were kept.

The files in ``stores`` have the schema of release 0.1.0 and that of 0.2.0. Earlier code wrote them with its default
checkpoint: `handful adapt kept` and `handful adapt unkept --no-keep-support`, both on SUPPORT.
"""

import gzip
from pathlib import Path

import pytest

from tests.conftest import StartService
from tests.service.conftest import TEXTS, adapt, predict

STORES = sorted((Path(__file__).parent / "stores").glob("*.db.gz"))

SUPPORT = [
    {"text": "I am still waiting on my card?", "label": "card_arrival"},
    {"text": "my card has not come", "label": "card_arrival"},
    {"text": "Why was I charged an extra fee?", "label": "fee"},
    {"text": "There is a fee on my statement that I don't recognise", "label": "fee"},
]


@pytest.mark.parametrize("packed", STORES, ids=lambda path: path.name.removesuffix(".db.gz"))
def test_tasks_of_an_earlier_release_come_over_and_nothing_is_lost(
    start_service: StartService, tmp_path: Path, packed: Path
) -> None:
    path = tmp_path / "earlier.db"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    service = start_service(store=f"sqlite:{path}", readapt_on_first_use=False)
    for task in ("kept", "unkept"):
        answer = service.post(f"/v1/tasks/{task}/predict", json={"queries": TEXTS})
        assert (answer.status_code, answer.json()["code"]) == (409, "stale_adapter")

    made = service.post("/v1/tasks/kept/readapt").json()
    assert (made["version"], made["labels"], made["n_support"]) == (2, ["card_arrival", "fee"], 4)
    adapt(service, "fresh", support=SUPPORT)
    assert predict(service, "kept")["predictions"] == predict(service, "fresh")["predictions"]

    refused = service.post("/v1/tasks/unkept/readapt")
    assert (refused.status_code, refused.json()["code"]) == (409, "support_not_kept")
    assert "was not kept: call adapt with the examples" in refused.json()["detail"]
    for task, numbers in (("kept", [2, 1]), ("unkept", [1])):
        versions = service.get(f"/v1/tasks/{task}/versions").json()["versions"]
        assert [version["version"] for version in versions] == numbers
        assert versions[-1]["labels"] == ["card_arrival", "fee"]


@pytest.mark.parametrize("packed", STORES, ids=lambda path: path.name.removesuffix(".db.gz"))
def test_a_task_of_an_earlier_release_answers_at_its_first_use(
    start_service: StartService, tmp_path: Path, packed: Path
) -> None:
    path = tmp_path / "earlier.db"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    service = start_service(store=f"sqlite:{path}")
    assert predict(service, "kept")["version"] == 2
    adapt(service, "fresh", support=SUPPORT)
    assert predict(service, "kept")["predictions"] == predict(service, "fresh")["predictions"]
    refused = service.post("/v1/tasks/unkept/predict", json={"queries": TEXTS})
    assert (refused.status_code, refused.json()["code"]) == (409, "stale_adapter")
    assert "call adapt with the examples" in refused.json()["detail"]


def test_there_is_a_store_of_each_schema() -> None:
    assert [path.name for path in STORES] == ["schema-1.db.gz", "schema-2.db.gz"]
