"""Descriptions on the default checkpoint, since the other tests' checkpoint has random weights."""

from pathlib import Path

import httpx
import pytest

from benchmarks.server import running_server
from tests.conftest import SUPPORT

pytestmark = pytest.mark.slow


def test_a_class_that_has_a_description_alone_is_found(tmp_path: Path) -> None:
    with running_server(tmp_path) as server, httpx.Client(base_url=server.url) as client:
        body = {"support": SUPPORT, "labels": {"refund": "asks for their money back"}}
        assert client.post("/v1/tasks/bank/adapt", json=body).status_code == 200
        queries = ["asks for their money back", "I want my money back please", SUPPORT[0]["text"]]
        found = client.post("/v1/tasks/bank/predict", json={"queries": queries}).json()["predictions"]
    assert [prediction["label"] for prediction in found] == ["refund", "refund", "card_arrival"]
