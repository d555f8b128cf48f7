"""Fixtures of the service's tests: tenants with keys, and access to the app's parts."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from model_store.store import TaskStore
from service.auth import new_key
from service.settings import Settings
from service.tasks.app_parts import Parts
from tests.conftest import SUPPORT, StartService, running_service

TEXTS = [example["text"] for example in SUPPORT]

OTHER_SUPPORT = [
    {"text": "The train leaves at nine", "label": "travel"},
    {"text": "Book me a flight to Lisbon", "label": "travel"},
    {"text": "Boil the pasta for ten minutes", "label": "cooking"},
    {"text": "Chop the onions and fry them", "label": "cooking"},
]
"""A support set with no text or label of SUPPORT."""


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
    """Adapts, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/adapt", json={"support": support, **fields}, headers=dict(headers))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def predict(
    client: httpx.Client, task: str = "bank", queries: object = TEXTS, headers: Mapping[str, str] = {}, **fields: Any
) -> dict[str, Any]:
    """Predicts, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/predict", json={"queries": queries, **fields}, headers=dict(headers))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


@pytest.fixture(scope="module")
def shared_service(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service for the tests of a module that do not depend on existing tasks or counts."""
    store = SecretStr(f"sqlite:{tmp_path_factory.mktemp('shared') / 'service.db'}")
    settings = Settings(checkpoint=str(tiny_checkpoint), store=store, device="cpu", threads=1, store_timeout_s=5)
    with running_service(settings) as client:
        yield client


@pytest.fixture
def stored_service(start_service: StartService, store_url: str) -> Iterator[httpx.Client]:
    """A service on each kind of store in turn."""
    yield start_service(store=store_url)


Sender = Callable[[], httpx.Response]
