"""What the tests of the service share: tenants with keys, and a look behind the routes."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from metalearn.encoder.stages import encoder_stages
from metalearn.model_spec import ModelSpec
from model_store.checkpoint import UNTRAINED, write_checkpoint
from model_store.store import TaskStore
from service.auth import new_key
from service.routes.request import Parts
from service.settings import Settings
from tests.conftest import SUPPORT, StartService, running_service

TEXTS = [example["text"] for example in SUPPORT]

OTHER_SUPPORT = [
    {"text": "The train leaves at nine", "label": "travel"},
    {"text": "Book me a flight to Lisbon", "label": "travel"},
    {"text": "Boil the pasta for ten minutes", "label": "cooking"},
    {"text": "Chop the onions and fry them", "label": "cooking"},
]
"""Nothing of it is in SUPPORT: no text, no label."""


def parts_of(client: httpx.Client) -> Parts:
    """The parts of the app behind a client."""
    parts: Parts = client.app.state.parts  # type: ignore[attr-defined]
    return parts


def store_of(client: httpx.Client) -> TaskStore:
    """The store of the app behind a client."""
    return parts_of(client).access.store


def make_key(client: httpx.Client, tenant: str) -> str:
    """A key for a tenant, straight into the store."""
    key, record = new_key(tenant)
    store_of(client).add_key(record)
    return key


def bearer(key: str) -> dict[str, str]:
    """Headers with a key."""
    return {"Authorization": f"Bearer {key}"}


def adapt(
    client: httpx.Client, task: str = "bank", support: object = SUPPORT, headers: Mapping[str, str] = {}, **fields: Any
) -> dict[str, Any]:
    """Adapts; has to succeed."""
    response = client.post(f"/v1/tasks/{task}/adapt", json={"support": support, **fields}, headers=dict(headers))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def predict(
    client: httpx.Client, task: str = "bank", queries: object = TEXTS, headers: Mapping[str, str] = {}, **fields: Any
) -> dict[str, Any]:
    """Predicts; has to succeed."""
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": queries, **fields}, headers=dict(headers))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture(scope="module")
def shared_service(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service for all tests of a module that mind neither tasks that are there nor what was counted."""
    store = SecretStr(f"sqlite:{tmp_path_factory.mktemp('shared') / 'service.db'}")
    settings = Settings(checkpoint=str(tiny_checkpoint), store=store, device="cpu", threads=1, store_timeout_s=5)
    with running_service(settings) as client:
        yield client


@pytest.fixture(scope="session")
def other_checkpoint(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder on the tiny encoder with another fingerprint than ``tiny_checkpoint``."""
    folder = tmp_path_factory.mktemp("other-checkpoint") / "other"
    write_checkpoint(
        folder,
        name="other",
        spec=ModelSpec(),
        hyperparameters=UNTRAINED,
        encoder_source=str(tiny_encoder),
        encoder_licence="none",
        card="# other\n",
        stages=encoder_stages(max_tokens=32),
    )
    return folder


@pytest.fixture
def stored_service(start_service: StartService, store_url: str) -> Iterator[httpx.Client]:
    """A service on each kind of store in turn."""
    yield start_service(store=store_url)


Sender = Callable[[], httpx.Response]
