"""API keys in an SQLite file."""

import sqlite3
from collections.abc import Sequence

from model_store.errors import StoreUnavailable
from model_store.records import ApiKeyRecord
from model_store.sqlite_facts import keys_are_needed, note_keys_needed
from model_store.sqlite_queries import SqliteQueries, bounded


class SqliteApiKeys(SqliteQueries):
    """The part of ``TaskStore`` that keeps API keys."""

    @bounded
    def add_key(self, key: ApiKeyRecord) -> None:
        """See ``TaskStore.add_key``."""
        with self._connections.writing() as db:
            db.execute(
                "INSERT INTO api_keys VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (key.digest, key.tenant, key.hint, key.created_at),
            )
            note_keys_needed(db, needed=True)

    @bounded
    def tenants_of_keys(self, digests: Sequence[str]) -> Sequence[str | StoreUnavailable | None]:
        """See ``TaskStore.tenants_of_keys``."""
        return [self._own_damage(self._tenant_of_key, digest) for digest in digests]

    @bounded
    def tenant_of_key_at_once(self, digest: str) -> str | None:
        """See ``AnswersAtOnce``."""
        return self._tenant_of_key(digest, self._connections.impatient())

    @bounded
    def keys(self) -> Sequence[ApiKeyRecord]:
        """See ``TaskStore.keys``."""
        rows = self._all("SELECT digest, tenant, hint, created_at FROM api_keys ORDER BY created_at, digest")
        return [ApiKeyRecord(*row) for row in rows]

    @bounded
    def has_keys(self) -> bool:
        """See ``TaskStore.has_keys``."""
        return self._one("SELECT 1 FROM api_keys LIMIT 1") is not None

    @bounded
    def remove_key(self, digest: str) -> bool:
        """See ``TaskStore.remove_key``."""
        with self._connections.writing() as db:
            removed = db.execute("DELETE FROM api_keys WHERE digest = ?", (digest,)).rowcount > 0
            if removed:  # the last one may have been added by an older program, which did not note it
                note_keys_needed(db, needed=True)
        return removed

    @bounded
    def needs_keys(self) -> bool:
        """See ``TaskStore.needs_keys``."""
        return keys_are_needed(self._connections.own())

    @bounded
    def set_needs_keys(self, needed: bool) -> None:
        """See ``TaskStore.set_needs_keys``."""
        with self._connections.writing() as db:
            note_keys_needed(db, needed=needed)

    def _tenant_of_key(self, digest: str, connection: sqlite3.Connection | None = None) -> str | None:
        row = self._one("SELECT tenant FROM api_keys WHERE digest = :digest", connection, digest=digest)
        return row[0] if row else None
