"""A real server process on a shipped checkpoint: adapted tasks outlive the process, bit for bit."""

from pathlib import Path

import httpx
import pytest
import torch

from benchmarks.server import running_server
from model_store.checkpoint import Checkpoint, resolve_checkpoint
from model_store.codec import AdapterKey, decode_adapter
from model_store.learner_models import Models
from model_store.store import TaskStore
from tests.conftest import SUPPORT

CHECKPOINT = "minilm-l6-handful"
QUERIES = ["when will my new card be delivered", "what is this payment on my bill", "how can I get a virtual card"]


@pytest.mark.slow
def test_a_task_survives_a_restart_and_the_same_request_gives_bit_equal_weights_also_in_another_process(
    store: TaskStore, store_url: str, tmp_path: Path
) -> None:
    predictions = []
    for restarted in (False, True):
        options = ("--checkpoint", CHECKPOINT, "--store", store_url, "--store-timeout-s", "30")
        with running_server(tmp_path, *options) as server, httpx.Client(base_url=server.url) as client:
            if restarted:
                predictions.append(client.post("/v1/tasks/bank/predict", json={"queries": QUERIES}).json())
            for _ in range(2):
                answer = client.post("/v1/tasks/bank/adapt", json={"support": SUPPORT})
                assert answer.status_code == 200, answer.text
            if not restarted:
                predictions.append(client.post("/v1/tasks/bank/predict", json={"queries": QUERIES}).json())
        assert server.process.returncode == 0
    before, after = predictions
    assert before["version"] == after["version"] == 2
    for old, new in zip(before["predictions"], after["predictions"], strict=True):
        assert new["label"] == old["label"]
        assert new["scores"] == pytest.approx(old["scores"], abs=1e-5)
    assert [p["label"] for p in after["predictions"]] == [
        "card_arrival",
        "extra_charge_on_statement",
        "getting_virtual_card",
    ]
    models = Models(Checkpoint(resolve_checkpoint(CHECKPOINT), torch.device("cpu")))
    adapters = []
    for number in (1, 2, 3, 4):
        record = store.version("default", "bank", number)
        data = store.load_adapter("default", "bank", number)
        assert record is not None
        assert data is not None
        key = AdapterKey("default", "bank", number, record.adapter_id)
        fingerprint = models.checkpoint.fingerprint
        adapters.append(decode_adapter(data, key, shapes={fingerprint: models.shapes}).fast_weights)
    for other in adapters[1:]:
        for name, weight in adapters[0].items():
            assert torch.equal(weight, other[name])
