"""Fixtures of the doors' tests: a server on a socket, since real clients bring their own transport."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.auth import new_key
from tests.conftest import SUPPORT
from tests.service.conftest import OTHER_SUPPORT
from tests.socket_server import SocketServer, socket_server

LABELS = sorted({example["label"] for example in SUPPORT})
TEXT = "where is my card"


@dataclass(frozen=True)
class Door:
    """A server with two tenants: one with the tasks bank and other, and one with the task bank alone.

    Attributes:
        url: Its address.
        key: The key of the tenant with two tasks.
        lone_key: The key of the tenant with one task.
        app: The app.
    """

    url: str
    key: str
    lone_key: str
    app: Any

    def client(self, key: str | None = None, **headers: str) -> httpx.Client:
        """A client of the routes; by default of the tenant with two tasks."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {key or self.key}", **headers})

    def scores(self, text: str | dict[str, str] = TEXT, task: str = "bank") -> dict[str, float]:
        """The probabilities that our own route gives."""
        with self.client() as client:
            answer = client.post(f"/v1/tasks/{task}/predict", json={"queries": [text]})
        found: dict[str, float] = answer.json()["predictions"][0]["scores"]
        return found


def make_key(server: SocketServer, tenant: str) -> str:
    """A key for a tenant, straight into the server's store."""
    key, record = new_key(tenant)
    server.app.state.parts.access.store.add_key(record)
    return key


@pytest.fixture(scope="package")
def door(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The server; a test that writes takes a task of its own."""
    store = f"sqlite:{tmp_path_factory.mktemp('doors') / 'handful.db'}"
    with socket_server(tiny_checkpoint, store, auth_cache_s=0) as server:
        found = Door(server.url, make_key(server, "acme"), make_key(server, "globex"), server.app)
        for key, task, support in (
            (found.key, "bank", SUPPORT),
            (found.key, "other", OTHER_SUPPORT),
            (found.lone_key, "bank", SUPPORT),
        ):
            with found.client(key) as client:
                answer = client.post(f"/v1/tasks/{task}/adapt", json={"support": support})
                assert answer.status_code == 200, answer.text
        yield found


@pytest.fixture(scope="package")
def open_door(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """A server without any key, with the one task bank."""
    store = f"sqlite:{tmp_path_factory.mktemp('open-doors') / 'handful.db'}"
    with socket_server(tiny_checkpoint, store) as server:
        answer = httpx.post(f"{server.url}/v1/tasks/bank/adapt", json={"support": SUPPORT})
        assert answer.status_code == 200, answer.text
        yield Door(server.url, "none", "none", server.app)
