"""The embedded store: one SQLite file, safe for several processes on one machine."""

import sqlite3
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from model_store.errors import IdempotencyReplay, StoreUnavailable, VersionConflict
from model_store.records import (
    CurrentVersion,
    IdempotentAnswer,
    NewVersion,
    StoredSupport,
    StoredTask,
    StoredTasks,
    StoreMarker,
    TaskRecord,
    Version,
)
from model_store.removals import Removal
from model_store.risks import StoreRisk
from model_store.sqlite_api_keys import SqliteApiKeys
from model_store.sqlite_facts import read_marker, write_marker
from model_store.sqlite_path import check_place
from model_store.sqlite_queries import bounded
from model_store.sqlite_schema import make_tables, vacuum_if_due
from model_store.sqlite_secrets import sealed, take_secrets
from model_store.sqlite_versions import insert_version, read_support, remove_all, remove_answers, remove_versions
from model_store.store import TaskName, VersionName

_VERSIONS = "versions v JOIN tasks t USING (tenant, task) JOIN secrets s ON s.slot = v.slot"
_NEWEST = f"{_VERSIONS} WHERE v.version = t.version"
_ALIVE = "(t.expires_at IS NULL OR t.expires_at > :now)"


class SqliteStore(SqliteApiKeys):
    """A ``TaskStore`` in one file, with a write-ahead log and an fsync before a commit is acknowledged.

    Attributes:
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
        check_place(path.absolute(), create=create)
        super().__init__(path.absolute(), timeout_s=timeout_s)
        self.is_new = self._prepare(create=create)

    @bounded
    def commit(
        self,
        new: NewVersion,
        *,
        expected_version: int,
        expected_adapter_id: str | None = None,
        ttl_s: int | None = None,
        idempotent: IdempotentAnswer | None = None,
        erased: Collection[int] = (),
        removal: Removal | None = None,
    ) -> None:
        """See ``TaskStore.commit``."""
        version, now = new.version, time.time()
        tenant, task = version.tenant, version.task
        with self._connections.writing() as db:
            self._purge_expired(db, now)
            if idempotent is not None:
                former = self._answer(db, tenant, idempotent.key)
                if former is not None:
                    raise IdempotencyReplay(former)
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
            insert_version(db, new)
            if erased:
                self._remove_versions(db, tenant, task, erased, keep_answers=False, removal=removal)
            if idempotent is not None:
                ((slot, secret),) = take_secrets(db, 1)
                answer = sealed(secret, "answer", idempotent.answer)
                db.execute(
                    "INSERT INTO idempotency VALUES (?, ?, ?, ?, ?, ?)",
                    (tenant, idempotent.key, task, answer, now + idempotent.ttl_s, slot),
                )

    @bounded
    def current(self, tenant: str, task: str) -> CurrentVersion | None:
        """See ``TaskStore.current``."""
        return self._current(tenant, task)

    @bounded
    def current_at_once(self, tenant: str, task: str) -> CurrentVersion | None:
        """See ``AnswersAtOnce``: a row in memory, as a rule, which no writer keeps from being read."""
        return self._current(tenant, task, self._connections.impatient())

    @bounded
    def currents(self, tasks: Sequence[TaskName]) -> Sequence[CurrentVersion | StoreUnavailable | None]:
        """See ``TaskStore.currents``."""
        return [self._own_damage(self._current, *name) for name in tasks]

    @bounded
    def load_adapter(self, tenant: str, task: str, version: int) -> bytes | None:
        """See ``TaskStore.load_adapter``."""
        return self._column("adapter", tenant, task, version)

    @bounded
    def load_adapters(self, versions: Sequence[VersionName]) -> Sequence[bytes | StoreUnavailable | None]:
        """See ``TaskStore.load_adapters``."""
        return [self._own_damage(self._column, "adapter", *version) for version in versions]

    @bounded
    def load_support(self, tenant: str, task: str, version: int) -> StoredSupport | None:
        """See ``TaskStore.load_support``."""
        with self._connections.reading() as db:
            opened = self._column("support", tenant, task, version)
            return None if opened is None else read_support(db, (tenant, task), opened)

    @bounded
    def task(self, tenant: str, task: str) -> TaskRecord | None:
        """See ``TaskStore.task``."""
        row = self._one(
            f"SELECT v.record, s.secret, t.created_at, t.expires_at FROM {_NEWEST}"
            f" AND t.tenant = :tenant AND t.task = :task AND {_ALIVE}",
            tenant=tenant,
            task=task,
        )
        return TaskRecord(_version(*row[:2]), *row[2:]) if row else None

    @bounded
    def tasks(self, tenant: str, *, after: str = "", limit: int = 100) -> Sequence[TaskRecord]:
        """See ``TaskStore.tasks``."""
        rows = self._all(
            f"SELECT v.record, s.secret, t.created_at, t.expires_at FROM {_NEWEST}"
            f" AND t.tenant = :tenant AND t.task > :after AND {_ALIVE} ORDER BY t.task LIMIT :limit",
            tenant=tenant,
            after=after,
            limit=limit,
        )
        return [TaskRecord(_version(*row[:2]), *row[2:]) for row in rows]

    @bounded
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

    @bounded
    def version(self, tenant: str, task: str, version: int) -> Version | None:
        """See ``TaskStore.version``."""
        record = self._column("record", tenant, task, version)
        return Version.from_json(record) if record else None

    @bounded
    def versions(self, tenant: str, task: str, *, before: int | None = None, limit: int = 100) -> Sequence[Version]:
        """See ``TaskStore.versions``."""
        rows = self._all(
            f"SELECT v.record, s.secret FROM {_VERSIONS} WHERE v.tenant = :tenant"
            f" AND v.task = :task AND (:before IS NULL OR v.version < :before) AND {_ALIVE}"
            " ORDER BY v.version DESC LIMIT :limit",
            tenant=tenant,
            task=task,
            before=before,
            limit=limit,
        )
        return [_version(*row) for row in rows]

    @bounded
    def delete(self, tenant: str, task: str) -> bool:
        """See ``TaskStore.delete``."""
        with self._connections.writing() as db:
            self._purge_expired(db, time.time())
            remove_all(db, (tenant, task))
            remove_answers(db, "tenant = ? AND task = ?", (tenant, task))
            found = db.execute("DELETE FROM tasks WHERE tenant = ? AND task = ?", (tenant, task)).rowcount > 0
            self._connections.log_has_erased_texts |= found
        return found

    @bounded
    def delete_versions(
        self,
        tenant: str,
        task: str,
        versions: Collection[int],
        *,
        keep_answers: bool = False,
        removal: Removal | None = None,
    ) -> int:
        """See ``TaskStore.delete_versions``."""
        with self._connections.writing() as db:
            self._purge_expired(db, time.time())
            return self._remove_versions(db, tenant, task, versions, keep_answers=keep_answers, removal=removal)

    @bounded
    def removed_versions(self, tenant: str, task: str, *, before: int | None = None) -> Sequence[tuple[int, Removal]]:
        """See ``TaskStore.removed_versions``."""
        rows = self._all(
            "SELECT r.version, r.removal FROM removed_versions r JOIN tasks t USING (tenant, task)"
            f" WHERE r.tenant = :tenant AND r.task = :task AND (:before IS NULL OR r.version < :before) AND {_ALIVE}"
            " ORDER BY r.version DESC",
            tenant=tenant,
            task=task,
            before=before,
        )
        return [(number, Removal.from_json(removal)) for number, removal in rows]

    @bounded
    def idempotent_answer(self, tenant: str, key: str) -> bytes | None:
        """See ``TaskStore.idempotent_answer``."""
        return self._answer(self._connections.own(), tenant, key)

    @bounded
    def marker(self) -> StoreMarker | None:
        """See ``TaskStore.marker``; a file that was removed has lost its data, though it can still be read."""
        return read_marker(self._connections.own()) if self._connections.follow_file() else None

    @bounded
    def mark(self) -> StoreMarker:
        """See ``TaskStore.mark``."""
        with self._connections.writing() as db:
            marker = read_marker(db)
            if marker is None:
                marker = StoreMarker.new()
                write_marker(db, marker)
        return marker

    @bounded
    def accept(self, lost_id: str) -> StoreMarker:
        """See ``TaskStore.accept``."""
        with self._connections.writing() as db:
            marker = (read_marker(db) or StoreMarker.new()).replacing(lost_id)
            write_marker(db, marker)
        return marker

    @bounded
    def purge_expired(self) -> None:
        """See ``TaskStore.purge_expired``."""
        with self._connections.writing() as db:
            self._purge_expired(db, time.time())

    @bounded
    def ping(self) -> None:
        """See ``TaskStore.ping``."""
        self._one("SELECT 1 FROM tasks LIMIT 1")

    def risks(self) -> Sequence[StoreRisk]:
        """See ``TaskStore.risks``."""
        return []

    def close(self) -> None:
        """See ``TaskStore.close``."""
        self._connections.close()

    @bounded
    def _prepare(self, *, create: bool) -> bool:
        is_new = make_tables(self._connections, self.path, create=create)
        vacuum_if_due(self._connections)
        self._connections.follow_file()
        return is_new

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
            f"SELECT v.{column}, s.secret FROM {_VERSIONS}"
            f" WHERE v.tenant = :tenant AND v.task = :task AND v.version = :version AND {_ALIVE}",
            tenant=tenant,
            task=task,
            version=version,
        )
        return sealed(row[1], column, row[0]) if row and row[0] is not None else None

    def _answer(self, db: sqlite3.Connection, tenant: str, key: str) -> bytes | None:
        row = self._one(
            "SELECT answer, secret FROM idempotency JOIN secrets USING (slot)"
            " WHERE tenant = :tenant AND key = :key AND expires_at > :now",
            db,
            tenant=tenant,
            key=key,
        )
        return sealed(row[1], "answer", row[0]) if row else None

    def _remove_versions(
        self,
        db: sqlite3.Connection,
        tenant: str,
        task: str,
        versions: Collection[int],
        *,
        keep_answers: bool,
        removal: Removal | None,
    ) -> int:
        query = "SELECT version FROM tasks WHERE tenant = ? AND task = ?"
        newest = db.execute(query, (tenant, task)).fetchone()
        found = remove_versions(db, (tenant, task), [each for each in versions if (each,) != newest], removal)
        if not keep_answers:
            remove_answers(db, "tenant = ? AND task = ?", (tenant, task))
        self._connections.log_has_erased_texts = True
        return found

    def _purge_expired(self, db: sqlite3.Connection, now: float) -> None:
        for tenant, task in db.execute("SELECT tenant, task FROM tasks WHERE expires_at <= ?", (now,)).fetchall():
            remove_all(db, (tenant, task))
            db.execute("DELETE FROM tasks WHERE tenant = ? AND task = ?", (tenant, task))
            self._connections.log_has_erased_texts = True
        remove_answers(db, "expires_at <= ?", (now,))


def _version(record: bytes, secret: bytes) -> Version:
    return Version.from_json(sealed(secret, "record", record))
