"""The facts that an SQLite store has about itself: its marker, and whether callers need a key."""

import sqlite3

from model_store.records import StoreMarker

_MARKER, _NEEDS_KEYS = "marker", "needs_keys"
_SINCE_VERSION = 2


def read_marker(db: sqlite3.Connection) -> StoreMarker | None:
    """The marker; None where there is none, also in a file that has no tables yet."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version < _SINCE_VERSION:
        return None
    row = db.execute("SELECT value FROM facts WHERE name = ?", (_MARKER,)).fetchone()
    return StoreMarker.from_json(row[0]) if row else None


def write_marker(db: sqlite3.Connection, marker: StoreMarker) -> None:
    """Puts a marker in place of the one that stands; inside a transaction."""
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (_MARKER, marker.to_json()))


def keys_are_needed(db: sqlite3.Connection) -> bool:
    """Whether a key exists or has existed; files of before version 2 remember only those that exist."""
    query = "SELECT 1 FROM api_keys UNION ALL SELECT 1 FROM facts WHERE name = ? LIMIT 1"
    return db.execute(query, (_NEEDS_KEYS,)).fetchone() is not None


def note_keys_needed(db: sqlite3.Connection, *, needed: bool) -> None:
    """Remembers that callers need a key, or forgets it."""
    if needed:
        db.execute("INSERT OR IGNORE INTO facts VALUES (?, '1')", (_NEEDS_KEYS,))
    else:
        db.execute("DELETE FROM facts WHERE name = ?", (_NEEDS_KEYS,))
