"""The content of a store: every byte, and what can be read by whoever has all of it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import redis

from model_store.sqlite_secrets import sealed

SEALED = {
    "versions": ("record", "adapter", "support"),
    "examples": ("content",),
    "idempotency": ("answer",),
}
"""The columns of SQLite that are sealed, by table."""


def bytes_in(store_url: str) -> bytes:
    """Every byte of the files of an SQLite store, or every key and value of Redis."""
    if not store_url.startswith("sqlite:"):
        return b"\n".join(stored_values(store_url))
    path = Path(store_url.removeprefix("sqlite:"))
    return b"\n".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*"))


def stored_values(store_url: str) -> Iterator[bytes]:
    """Every value in a store, opened where it is sealed."""
    values = _in_sqlite(store_url) if store_url.startswith("sqlite:") else _in_redis(store_url)
    return (value if isinstance(value, bytes) else str(value).encode() for value in values)


def _in_sqlite(store_url: str) -> Iterator[object]:
    with sqlite3.connect(store_url.removeprefix("sqlite:")) as db:
        db.row_factory = sqlite3.Row
        secrets = {row["slot"]: row["secret"] for row in db.execute("SELECT slot, secret FROM secrets WHERE used")}
        tables = [row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in db.execute(f"SELECT * FROM {table}"):  # noqa: S608
                secret = secrets.pop(row["slot"]) if table in SEALED else b""
                for column in row.keys():
                    value = row[column]
                    is_sealed = column in SEALED.get(table, ()) and value is not None
                    yield sealed(secret, column, value) if is_sealed else value
        assert not secrets, "each secret belongs to a row"
    db.close()


def _in_redis(store_url: str) -> Iterator[object]:
    with redis.Redis.from_url(store_url) as server:
        for name in server.keys("*"):
            yield name
            kind = server.type(name)
            if kind == b"hash":
                yield from (part for pair in server.hgetall(name).items() for part in pair)
            elif kind == b"string":
                yield server.get(name)
            elif kind == b"zset":
                yield from server.zrange(name, 0, -1)
            elif kind == b"set":
                yield from server.smembers(name)
            else:
                assert kind == b"none", kind  # its time was over meanwhile
