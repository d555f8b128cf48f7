"""Tables of the SQLite store."""

from pathlib import Path

from model_store.errors import StoreAbsent, StoreUnavailable
from model_store.sqlite_connections import SqliteConnections

_VERSION = 2
_TABLES = """
CREATE TABLE tasks (
    tenant TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL, adapter_id TEXT NOT NULL,
    created_at REAL NOT NULL, expires_at REAL,
    PRIMARY KEY (tenant, task)
) WITHOUT ROWID;
CREATE INDEX tasks_by_expiry ON tasks (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE versions (
    tenant TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL,
    record BLOB NOT NULL, adapter BLOB NOT NULL, support BLOB,
    PRIMARY KEY (tenant, task, version)
);
CREATE TABLE idempotency (
    tenant TEXT NOT NULL, key TEXT NOT NULL, task TEXT NOT NULL, answer BLOB NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_by_expiry ON idempotency (expires_at);
CREATE TABLE api_keys (
    digest TEXT PRIMARY KEY, tenant TEXT NOT NULL, hint TEXT NOT NULL, created_at REAL NOT NULL
) WITHOUT ROWID;
"""
_FACTS = "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
"""Since version 2: the store's marker, and whether callers need a key."""


def make_tables(connections: SqliteConnections, path: Path, *, create: bool) -> bool:
    """Makes them where the file is new, and those that a file of an older program lacks; returns whether it was new.

    Raises:
        StoreAbsent: The file is empty, and no store is to be made.
        StoreUnavailable: The file was written by a newer program, or by another one.
    """
    with connections.writing() as db:
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found > _VERSION:
            raise StoreUnavailable(f"{path} was written by a newer version of this program")
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if (found and "tasks" not in tables) or (tables and not found):
            raise StoreUnavailable(f"{path} is the database of another program: name another file")
        if found == 0:
            if not create:
                raise StoreAbsent(f"there is no store at {path}: the file is empty")
            for statement in _TABLES.split(";"):
                db.execute(statement)
        if found < _VERSION:
            db.execute(_FACTS)
            db.execute(f"PRAGMA user_version = {_VERSION}")
    return bool(found == 0)
