"""Ways to take a store away from a service, and to empty it."""

import functools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import redis

from model_store.errors import StoreUnavailable
from service.tasks.app_parts import Parts
from tests.model_store.conftest import EVERY_CALL
from tests.waiting import until


def parts_of(client: httpx.Client) -> Parts:
    """The parts of the app behind a client."""
    parts: Parts = client.app.state.parts  # type: ignore[attr-defined]
    return parts


@contextmanager
def away(client: httpx.Client) -> Iterator[None]:
    """No method of the store answers, until the end of the block; then waits until the service has seen that."""
    access = parts_of(client).access
    store = access.store

    def failing(method: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(method)
        def fail(*_: Any, **__: Any) -> object:
            raise StoreUnavailable("away")

        return fail

    with pytest.MonkeyPatch.context() as patch:
        for name in (*EVERY_CALL, "current_at_once", "tenant_of_key_at_once"):
            if hasattr(store, name):
                patch.setattr(store, name, failing(getattr(store, name)))
        yield
    until(lambda: client.get("/readyz").status_code == 200)


def empty(url: str) -> None:
    """Removes all data from a store."""
    if url.startswith("sqlite:"):
        with sqlite3.connect(url.removeprefix("sqlite:")) as db:
            for table in ("tasks", "versions", "examples", "idempotency", "secrets", "api_keys", "facts"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608
        db.close()
    else:
        with redis.Redis.from_url(url) as server:
            server.flushall()


def metric(client: httpx.Client, name: str) -> float:
    """The sum of a metric's series."""
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
