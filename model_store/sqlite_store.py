"""The embedded store: one SQLite file, safe for several processes on one machine."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from model_store.errors import IdempotencyReplay, StoreFull, StoreUnavailable, VersionConflict
from model_store.failures import failing_as
from model_store.records import (
    ApiKeyRecord,
    CurrentVersion,
    IdempotentAnswer,
    NewVersion,
    StoredTask,
    StoredTasks,
    StoreMarker,
    TaskRecord,
    Version,
)
from model_store.sqlite_connections import SqliteConnections
from model_store.sqlite_facts import keys_are_needed, note_keys_needed, read_marker, write_marker
from model_store.sqlite_path import check_place, why_not_writable
from model_store.sqlite_schema import make_tables
from model_store.store import TaskName, VersionName

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_ALIVE = "(t.expires_at IS NULL OR t.expires_at > :now)"


def _translate(store: "SqliteStore", error: Exception) -> StoreUnavailable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    why = why_not_writable(store.path) if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY} else ""
    return (StoreFull if code == sqlite3.SQLITE_FULL else StoreUnavailable)(f"SQLite at {store.path}: {error}{why}")


_bounded = failing_as(_translate, sqlite3.Error)


class SqliteStore:
    """A ``TaskStore`` in one file, with a write-ahead log and an fsync before a commit is acknowledged.

    Attributes:
        path: The file, as an absolute path.
        is_new: Whether opening it has made it.
    """

    kind = "sqlite"

    def __init__(self, path: Path, *, timeout_s: float = 5.0, create: bool = True) -> None:
        """Opens the file, and makes it where it is new and may be made.

        Args:
            path: The database file; its folder has to be there.
            timeout_s: How long to wait for another process's write.
            create: Whether to make the file where there is none.

        Raises:
            StoreAbsent: The file is not there and is not to be made, or its folder is not there.
            StoreUnavailable: The file cannot be opened, is no database or another program's, or was written by a newer
                program.
        """
        self.path = path.absolute()
        check_place(self.path, create=create)
        self._connections = SqliteConnections(self.path, timeout_s=timeout_s)
        self.is_new = self._prepare(create=create)

    @_bounded
    def commit(
        self,
        new: NewVersion,
        *,
        expected_version: int,
        expected_adapter_id: str | None = None,
        ttl_s: int | None = None,
        idempotent: IdempotentAnswer | None = None,
    ) -> None:
        """See ``TaskStore.commit``."""
        version, now = new.version, time.time()
        tenant, task = version.tenant, version.task
        with self._connections.writing() as db:
            self._purge_expired(db, now)
            if idempotent is not None:
                row = db.execute(
                    "SELECT answer FROM idempotency WHERE tenant = ? AND key = ?", (tenant, idempotent.key)
                ).fetchone()
                if row:
                    raise IdempotencyReplay(row[0])
            row = db.execute(
                "SELECT version, adapter_id FROM tasks WHERE tenant = ? AND task = ?", (tenant, task)
            ).fetchone()
            current, adapter_id = row or (0, None)
            if current != expected_version or expected_adapter_id not in {None, adapter_id}:
                raise VersionConflict(current)
            db.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " version = excluded.version, adapter_id = excluded.adapter_id, expires_at = excluded.expires_at",
                (tenant, task, version.version, version.adapter_id, now, None if ttl_s is None else now + ttl_s),
            )
            db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?)",
                (tenant, task, version.version, version.to_json(), new.adapter, new.support),
            )
            if idempotent is not None:
                db.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?)",
                    (tenant, idempotent.key, task, idempotent.answer, now + idempotent.ttl_s),
                )

    @_bounded
    def current(self, tenant: str, task: str) -> CurrentVersion | None:
        """See ``TaskStore.current``."""
        return self._current(tenant, task)

    @_bounded
    def current_at_once(self, tenant: str, task: str) -> CurrentVersion | None:
        """See ``TellsAtOnce``: a row in memory, as a rule, which no writer keeps from being read."""
        return self._current(tenant, task, self._connections.impatient())

    @_bounded
    def currents(self, tasks: Sequence[TaskName]) -> Sequence[CurrentVersion | StoreUnavailable | None]:
        """See ``TaskStore.currents``."""
        return [self._own_damage(self._current, *name) for name in tasks]

    @_bounded
    def load_adapter(self, tenant: str, task: str, version: int) -> bytes | None:
        """See ``TaskStore.load_adapter``."""
        return self._column("adapter", tenant, task, version)

    @_bounded
    def load_adapters(self, versions: Sequence[VersionName]) -> Sequence[bytes | StoreUnavailable | None]:
        """See ``TaskStore.load_adapters``."""
        return [self._own_damage(self._column, "adapter", *version) for version in versions]

    @_bounded
    def load_support(self, tenant: str, task: str, version: int) -> bytes | None:
        """See ``TaskStore.load_support``."""
        return self._column("support", tenant, task, version)

    @_bounded
    def task(self, tenant: str, task: str) -> TaskRecord | None:
        """See ``TaskStore.task``."""
        row = self._one(
            "SELECT v.record, t.created_at, t.expires_at FROM tasks t JOIN versions v USING (tenant, task, version)"
            f" WHERE t.tenant = :tenant AND t.task = :task AND {_ALIVE}",
            tenant=tenant,
            task=task,
        )
        return TaskRecord(Version.from_json(row[0]), row[1], row[2]) if row else None

    @_bounded
    def tasks(self, tenant: str, *, after: str = "", limit: int = 100) -> Sequence[TaskRecord]:
        """See ``TaskStore.tasks``."""
        rows = self._all(
            "SELECT v.record, t.created_at, t.expires_at FROM tasks t JOIN versions v USING (tenant, task, version)"
            f" WHERE t.tenant = :tenant AND t.task > :after AND {_ALIVE} ORDER BY t.task LIMIT :limit",
            tenant=tenant,
            after=after,
            limit=limit,
        )
        return [TaskRecord(Version.from_json(record), created, expires) for record, created, expires in rows]

    @_bounded
    def all_tasks(self, *, after: str = "", limit: int = 100) -> StoredTasks:
        """See ``TaskStore.all_tasks``."""
        tenant, _, task = after.partition("/")
        rows = self._all(
            "SELECT tenant, task, version FROM tasks t WHERE (tenant, task) > (:tenant, :task)"
            f" AND {_ALIVE} ORDER BY tenant, task LIMIT :limit",
            tenant=tenant,
            task=task,
            limit=limit,
        )
        # One by one, since a damaged page is not its neighbours' trouble
        records = [self._own_damage(self._column, "record", *row) for row in rows]
        found = [
            StoredTask.of(tenant, task, None if isinstance(record, StoreUnavailable) else record)
            for (tenant, task, _), record in zip(rows, records, strict=True)
        ]
        return StoredTasks(found, "/".join(rows[-1][:2]) if len(rows) == limit else None)

    @_bounded
    def version(self, tenant: str, task: str, version: int) -> Version | None:
        """See ``TaskStore.version``."""
        record = self._column("record", tenant, task, version)
        return Version.from_json(record) if record else None

    @_bounded
    def versions(self, tenant: str, task: str, *, before: int | None = None, limit: int = 100) -> Sequence[Version]:
        """See ``TaskStore.versions``."""
        rows = self._all(
            "SELECT v.record FROM versions v JOIN tasks t USING (tenant, task) WHERE v.tenant = :tenant"
            f" AND v.task = :task AND (:before IS NULL OR v.version < :before) AND {_ALIVE}"
            " ORDER BY v.version DESC LIMIT :limit",
            tenant=tenant,
            task=task,
            before=before,
            limit=limit,
        )
        return [Version.from_json(record) for (record,) in rows]

    @_bounded
    def delete(self, tenant: str, task: str) -> bool:
        """See ``TaskStore.delete``."""
        with self._connections.writing() as db:
            self._purge_expired(db, time.time())
            db.execute("DELETE FROM versions WHERE tenant = ? AND task = ?", (tenant, task))
            db.execute("DELETE FROM idempotency WHERE tenant = ? AND task = ?", (tenant, task))
            found = db.execute("DELETE FROM tasks WHERE tenant = ? AND task = ?", (tenant, task)).rowcount > 0
            self._connections.log_has_erased_texts |= found
        return found

    @_bounded
    def idempotent_answer(self, tenant: str, key: str) -> bytes | None:
        """See ``TaskStore.idempotent_answer``."""
        row = self._one(
            "SELECT answer FROM idempotency WHERE tenant = :tenant AND key = :key AND expires_at > :now",
            tenant=tenant,
            key=key,
        )
        return row[0] if row else None

    @_bounded
    def add_key(self, key: ApiKeyRecord) -> None:
        """See ``TaskStore.add_key``."""
        with self._connections.writing() as db:
            db.execute(
                "INSERT INTO api_keys VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key.digest, key.tenant, key.hint, key.created_at),
            )
            note_keys_needed(db, needed=True)

    @_bounded
    def tenants_of_keys(self, digests: Sequence[str]) -> Sequence[str | StoreUnavailable | None]:
        """See ``TaskStore.tenants_of_keys``."""
        return [self._own_damage(self._tenant_of_key, digest) for digest in digests]

    @_bounded
    def tenant_of_key_at_once(self, digest: str) -> str | None:
        """See ``TellsAtOnce``."""
        return self._tenant_of_key(digest, self._connections.impatient())

    @_bounded
    def keys(self) -> Sequence[ApiKeyRecord]:
        """See ``TaskStore.keys``."""
        rows = self._all("SELECT digest, tenant, hint, created_at FROM api_keys ORDER BY created_at, digest")
        return [ApiKeyRecord(*row) for row in rows]

    @_bounded
    def has_keys(self) -> bool:
        """See ``TaskStore.has_keys``."""
        return self._one("SELECT 1 FROM api_keys LIMIT 1") is not None

    @_bounded
    def remove_key(self, digest: str) -> bool:
        """See ``TaskStore.remove_key``."""
        with self._connections.writing() as db:
            removed = db.execute("DELETE FROM api_keys WHERE digest = ?", (digest,)).rowcount > 0
            if removed:  # the last one may have been added by an older program, which did not note it
                note_keys_needed(db, needed=True)
        return removed

    @_bounded
    def needs_keys(self) -> bool:
        """See ``TaskStore.needs_keys``."""
        return keys_are_needed(self._connections.own())

    @_bounded
    def set_needs_keys(self, needed: bool) -> None:
        """See ``TaskStore.set_needs_keys``."""
        with self._connections.writing() as db:
            note_keys_needed(db, needed=needed)

    @_bounded
    def marker(self) -> StoreMarker | None:
        """See ``TaskStore.marker``; a file that was removed has lost its data, though it can still be read."""
        return read_marker(self._connections.own()) if self._connections.follow_file() else None

    @_bounded
    def mark(self) -> StoreMarker:
        """See ``TaskStore.mark``."""
        with self._connections.writing() as db:
            marker = read_marker(db)
            if marker is None:
                marker = StoreMarker.new()
                write_marker(db, marker)
        return marker

    @_bounded
    def accept(self, lost_id: str) -> StoreMarker:
        """See ``TaskStore.accept``."""
        with self._connections.writing() as db:
            marker = (read_marker(db) or StoreMarker.new()).replacing(lost_id)
            write_marker(db, marker)
        return marker

    @_bounded
    def purge_expired(self) -> None:
        """See ``TaskStore.purge_expired``."""
        with self._connections.writing() as db:
            self._purge_expired(db, time.time())

    @_bounded
    def ping(self) -> None:
        """See ``TaskStore.ping``."""
        self._one("SELECT 1 FROM tasks LIMIT 1")

    def warnings(self) -> Sequence[str]:
        """See ``TaskStore.warnings``."""
        return []

    def close(self) -> None:
        """See ``TaskStore.close``."""
        self._connections.close()

    @_bounded
    def _prepare(self, *, create: bool) -> bool:
        is_new = make_tables(self._connections, self.path, create=create)
        self._connections.follow_file()
        return is_new

    # ---- queries -----------------------------------------------------------------------------------------------

    def _one(self, query: str, connection: sqlite3.Connection | None = None, **parameters: object) -> Any:
        return (connection or self._connections.own()).execute(query, {"now": time.time(), **parameters}).fetchone()

    def _all(self, query: str, **parameters: object) -> list[Any]:
        return self._connections.own().execute(query, {"now": time.time(), **parameters}).fetchall()

    def _own_damage(
        self, read: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result | StoreUnavailable:
        """What a read gives, or the damage that it met, which is not its neighbours' trouble."""
        try:
            return read(*args, **kwargs)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise  # the file is locked, closed, or cannot be read at all
            return _translate(self, error)

    def _tenant_of_key(self, digest: str, connection: sqlite3.Connection | None = None) -> str | None:
        row = self._one("SELECT tenant FROM api_keys WHERE digest = :digest", connection, digest=digest)
        return row[0] if row else None

    def _current(self, tenant: str, task: str, connection: sqlite3.Connection | None = None) -> CurrentVersion | None:
        row = self._one(
            f"SELECT version, adapter_id FROM tasks t WHERE tenant = :tenant AND task = :task AND {_ALIVE}",
            connection,
            tenant=tenant,
            task=task,
        )
        return CurrentVersion(*row) if row else None

    def _column(self, column: str, tenant: str, task: str, version: int) -> bytes | None:
        row = self._one(
            f"SELECT v.{column} FROM versions v JOIN tasks t USING (tenant, task)"
            f" WHERE v.tenant = :tenant AND v.task = :task AND v.version = :version AND {_ALIVE}",
            tenant=tenant,
            task=task,
            version=version,
        )
        return row[0] if row else None

    def _purge_expired(self, db: sqlite3.Connection, now: float) -> None:
        for tenant, task in db.execute("SELECT tenant, task FROM tasks WHERE expires_at <= ?", (now,)).fetchall():
            db.execute("DELETE FROM versions WHERE tenant = ? AND task = ?", (tenant, task))
            db.execute("DELETE FROM tasks WHERE tenant = ? AND task = ?", (tenant, task))
            self._connections.log_has_erased_texts = True
        db.execute("DELETE FROM idempotency WHERE expires_at <= ?", (now,))
