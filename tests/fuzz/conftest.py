"""Fixtures of the fuzz tests: a service with small limits and a task that nothing may change."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.conftest import SUPPORT, running_service
from tests.socket_server import socket_server


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leaves out what is slow where slow tests are: schemathesis alone takes seconds to import."""
    if collection_path.name == "test_schemathesis.py" and "not slow" in config.option.markexpr:
        return True
    return None


LIMITS = {
    "max_body_bytes": 200_000,
    "max_support_examples": 20,
    "max_classes": 5,
    "max_queries": 10,
    "max_text_chars": 1000,
    "max_label_chars": 64,
    "max_description_chars": 100,
    "max_steps": 30,
}


@pytest.fixture(scope="module")
def limited_service(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with small limits that has one task, ``bank``, of one version."""
    store = tmp_path_factory.mktemp("limited") / "service.db"
    settings = Settings(
        checkpoint=str(tiny_checkpoint),
        store=SecretStr(f"sqlite:{store}"),
        device="cpu",
        threads=1,
        store_timeout_s=5,
        **LIMITS,  # type: ignore[arg-type]
    )
    with running_service(settings) as client:
        assert client.post("/v1/tasks/bank/adapt", json={"support": SUPPORT}).status_code == 200
        yield client


@pytest.fixture(scope="module")
def limited_server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server in a thread of this process, with the same limits on bodies."""
    store = f"sqlite:{tmp_path_factory.mktemp('limited-server') / 'handful.db'}"
    with socket_server(tiny_checkpoint, store, max_body_bytes=LIMITS["max_body_bytes"]) as server:
        yield server.url
