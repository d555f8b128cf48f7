"""Tables of the SQLite store."""

import contextlib
import sqlite3
from pathlib import Path

from model_store.errors import StoreAbsent, StoreUnavailable
from model_store.sqlite_connections import SqliteConnections
from model_store.sqlite_secrets import TABLE as SECRETS
from model_store.sqlite_secrets import sealed, take_secrets
from model_store.sqlite_versions import without_rows

_VERSION = 3
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
_SINCE_3 = f"""{SECRETS};
CREATE TABLE examples (
    tenant TEXT NOT NULL, task TEXT NOT NULL, number INTEGER NOT NULL, content BLOB NOT NULL, slot INTEGER NOT NULL,
    PRIMARY KEY (tenant, task, number)
) WITHOUT ROWID;
ALTER TABLE versions ADD COLUMN slot INTEGER NOT NULL DEFAULT 0;
ALTER TABLE idempotency ADD COLUMN slot INTEGER NOT NULL DEFAULT 0
"""
"""Since version 3: secrets that seal what is derived from texts, and a row for each example."""
_REMOVED = """
CREATE TABLE IF NOT EXISTS removed_versions (
    tenant TEXT NOT NULL, task TEXT NOT NULL, version INTEGER NOT NULL, removal TEXT NOT NULL,
    PRIMARY KEY (tenant, task, version)
) WITHOUT ROWID
"""
"""Without a version of its own: programs of version 3 may write to such a file, and know nothing of this table."""
_VACUUM_DUE = "vacuum_due"


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
        if found < 2:
            db.execute(_FACTS)
        if found < 3:
            for statement in _SINCE_3.split(";"):
                db.execute(statement)
            _seal_all(db)
            if found:
                db.execute("INSERT INTO facts VALUES (?, '1')", (_VACUUM_DUE,))
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute(_REMOVED)
    return bool(found == 0)


def vacuum_if_due(connections: SqliteConnections) -> None:
    """Rewrites a file whose rows have been sealed, since free space in it has copies that are not.

    It may fail where the disk is full or another process writes; the next one to open the file tries again.
    """
    db = connections.own()
    due = "SELECT 1 FROM facts WHERE name = ?"
    with contextlib.suppress(sqlite3.Error):
        if db.execute(due, (_VACUUM_DUE,)).fetchone():
            db.execute("VACUUM")
            with connections.writing():
                db.execute("DELETE FROM facts WHERE name = ?", (_VACUUM_DUE,))


def _seal_all(db: sqlite3.Connection) -> None:
    """Seals the rows of an older program."""
    for (row,) in db.execute("SELECT rowid FROM versions").fetchall():
        query = "SELECT record, adapter, support FROM versions WHERE rowid = ?"
        record, adapter, support = db.execute(query, (row,)).fetchone()
        ((slot, secret),) = take_secrets(db, 1)
        columns = {"record": record, "adapter": adapter, "support": support and without_rows(support)}
        values = [data and sealed(secret, column, data) for column, data in columns.items()]
        query = "UPDATE versions SET record = ?, adapter = ?, support = ?, slot = ? WHERE rowid = ?"
        db.execute(query, (*values, slot, row))
    for tenant, key, answer in db.execute("SELECT tenant, key, answer FROM idempotency").fetchall():
        ((slot, secret),) = take_secrets(db, 1)
        query = "UPDATE idempotency SET answer = ?, slot = ? WHERE tenant = ? AND key = ?"
        db.execute(query, (sealed(secret, "answer", answer), slot, tenant, key))
