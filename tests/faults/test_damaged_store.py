"""Damaged bytes in the store: detected, never served."""

import sqlite3
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import redis
import torch

from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.model_spec import ModelSpec, make_text_model
from model_store.checkpoint import UNTRAINED, write_checkpoint
from service.auth import new_key
from tests.conftest import SUPPORT, StartService
from tests.faults.conftest import TEXTS, problem


class Bytes:
    """Adapters in a store, as bytes that a test may change."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _at(self, tenant: str, task: str, version: int) -> tuple[str, str]:
        return f"handful:{{{tenant}}}:task:{task}", f"adapter:{version}"

    def read(self, tenant: str, task: str, version: int = 1) -> bytes:
        """The stored bytes."""
        if self._url.startswith("sqlite:"):
            with sqlite3.connect(self._url.removeprefix("sqlite:")) as db:
                query = "SELECT adapter FROM versions WHERE tenant = ? AND task = ? AND version = ?"
                (data,) = db.execute(query, (tenant, task, version)).fetchone()
        else:
            with redis.Redis.from_url(self._url) as server:
                data = server.hget(*self._at(tenant, task, version))
        assert isinstance(data, bytes)
        return data

    def write(self, data: bytes, tenant: str, task: str, version: int = 1) -> None:
        """Puts other bytes in place."""
        if self._url.startswith("sqlite:"):
            with sqlite3.connect(self._url.removeprefix("sqlite:")) as db:
                query = "UPDATE versions SET adapter = ? WHERE tenant = ? AND task = ? AND version = ?"
                assert db.execute(query, (data, tenant, task, version)).rowcount == 1
        else:
            with redis.Redis.from_url(self._url) as server:
                server.hset(*self._at(tenant, task, version), data)  # type: ignore[arg-type]


@pytest.fixture
def stored(store_url: str) -> Bytes:
    """The bytes in the store."""
    return Bytes(store_url)


@pytest.fixture
def restart(start_service: StartService, store_url: str) -> Iterator[Callable[[], httpx.Client]]:
    """A new service on the same store, with nothing in memory."""
    yield lambda: start_service(store=store_url)


def flipped(data: bytes, position: int) -> bytes:
    """Bytes of which one bit is flipped."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one-byte": lambda data: data[:1],
    "magic": lambda data: flipped(data, 0),
    "digest": lambda data: flipped(data, 10),
    "header": lambda data: flipped(data, 60),
    "weights": lambda data: flipped(data, len(data) - 40),
    "last-byte": lambda data: flipped(data, len(data) - 1),
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "header-length": lambda data: data[:40] + struct.pack(">I", 2**31) + data[44:],
    "zeros": lambda data: bytes(len(data)),
    "json": lambda data: b"{}" * 100,
}


def test_damaged_bytes_are_a_500_of_their_own_task_alone(restart: Callable[[], httpx.Client], stored: Bytes) -> None:
    client = restart()
    for task in ("damaged", "whole"):
        assert client.post(f"/v1/tasks/{task}/adapt", json={"support": SUPPORT}).status_code == 200
    good = stored.read("default", "damaged")
    expected = client.post("/v1/tasks/whole/predict", json={"queries": TEXTS}).json()["predictions"]
    cold = restart()
    for name, damage in DAMAGE.items():
        stored.write(damage(good), "default", "damaged")
        answer = cold.post("/v1/tasks/damaged/predict", json={"queries": TEXTS})
        assert answer.status_code == 500, name
        problem(answer, 500, "adapter_corrupt")
        rolled = cold.post("/v1/tasks/damaged/rollback", json={"version": 1})
        problem(rolled, 500, "adapter_corrupt")
        assert cold.get("/v1/tasks/damaged/versions").json()["versions"][0]["version"] == 1
    whole = cold.post("/v1/tasks/whole/predict", json={"queries": TEXTS})
    assert whole.json()["predictions"] == expected
    assert cold.get("/readyz").status_code == 200
    # Nothing of the failures was kept: whole bytes are served again, and so is a new version
    stored.write(good, "default", "damaged")
    assert cold.post("/v1/tasks/damaged/predict", json={"queries": TEXTS}).status_code == 200
    stored.write(DAMAGE["cut"](good), "default", "damaged")
    renewed = restart()
    assert renewed.post("/v1/tasks/damaged/adapt", json={"support": SUPPORT}).json()["version"] == 2
    assert renewed.post("/v1/tasks/damaged/predict", json={"queries": TEXTS}).json()["version"] == 2


def test_anothers_adapter_in_place_of_ones_own_is_never_served(
    restart: Callable[[], httpx.Client], stored: Bytes
) -> None:
    client = restart()
    store = client.app.state.parts.access.store  # type: ignore[attr-defined]
    headers = {}
    for tenant in ("acme", "globex"):
        key, record = new_key(tenant)
        store.add_key(record)
        headers[tenant] = {"Authorization": f"Bearer {key}"}
        support = [{**example, "label": f"{tenant}-{example['label']}"} for example in SUPPORT]
        for task in ("bank", "other"):
            for _ in range(2):
                made = client.post(f"/v1/tasks/{task}/adapt", json={"support": support}, headers=headers[tenant])
                assert made.status_code == 200
    own = stored.read("acme", "bank", 2)
    cold = restart()
    for tenant, task, version in (("globex", "bank", 2), ("acme", "other", 2), ("acme", "bank", 1)):
        stored.write(stored.read(tenant, task, version), "acme", "bank", 2)
        answer = cold.post("/v1/tasks/bank/predict", json={"queries": TEXTS}, headers=headers["acme"])
        problem(answer, 500, "adapter_corrupt")
        assert "globex" not in answer.text
        rolled = cold.post("/v1/tasks/bank/rollback", json={"version": 2}, headers=headers["acme"])
        problem(rolled, 500, "adapter_corrupt")
    stored.write(own, "acme", "bank", 2)
    answer = cold.post("/v1/tasks/bank/predict", json={"queries": TEXTS}, headers=headers["acme"])
    assert all(label.startswith("acme-") for label in answer.json()["predictions"][0]["scores"])


def test_an_adapter_of_another_checkpoint_is_stale(
    start_service: StartService, store_url: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other-checkpoint"
    stages = encoder_stages(max_tokens=32)
    slow = make_text_model(ModelSpec(), build_encoder(tiny_encoder, stages, torch.device("cpu"))).initial_slow_weights(
        steps=UNTRAINED.steps
    )
    write_checkpoint(
        other,
        name="other",
        spec=ModelSpec(),
        hyperparameters=UNTRAINED,
        encoder_source=str(tiny_encoder),
        encoder_licence="none",
        slow_weights={**slow, "learner.log_scale": torch.tensor(1.0), "learner.log_head_rate": torch.tensor(0.7)},
        card="# other\n",
        stages=stages,
    )
    old = start_service(store=store_url)
    made = old.post("/v1/tasks/bank/adapt", json={"support": SUPPORT}).json()
    new = start_service(store=store_url, checkpoint=str(other), readapt_on_first_use=False)
    assert new.get("/v1/checkpoint").json()["fingerprint"] != made["checkpoint"]
    for path, body in (
        ("predict", {"queries": TEXTS}),
        ("predict", {"queries": TEXTS, "version": 1}),
        ("rollback", {"version": 1}),
    ):
        problem(new.post(f"/v1/tasks/bank/{path}", json=body), 409, "stale_adapter")
    assert new.get("/v1/tasks/bank").json()["version"] == 1
    # The remedy in the answer works
    assert new.post("/v1/tasks/bank/adapt", json={"support": SUPPORT}).json()["version"] == 2
    assert new.post("/v1/tasks/bank/predict", json={"queries": TEXTS}).json()["version"] == 2
    problem(new.post("/v1/tasks/bank/predict", json={"queries": TEXTS, "version": 1}), 409, "stale_adapter")
    # And the process that still has the old checkpoint refuses the new version, and answers from its own
    problem(old.post("/v1/tasks/bank/predict", json={"queries": TEXTS, "version": 2}), 409, "stale_adapter")
    assert old.post("/v1/tasks/bank/predict", json={"queries": TEXTS}).json()["version"] == 1
