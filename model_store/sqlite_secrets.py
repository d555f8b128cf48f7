"""Secrets that seal rows of the SQLite store: once its secret is overwritten, a row cannot be read by anybody.

SQLite overwrites a deleted row (``secure_delete``), but not each copy that it leaves in the unused part of a page where
rows move from page to page; measured, one in a thousand deleted rows stays readable in the file
(docs/adr/0011-erased-rows-lose-their-secret.md). So all that is derived from texts is sealed with a random secret of
its row.

The table of secrets only grows, and a secret is overwritten in place by one of the same length: SQLite never moves a
row of it, and leaves no copy.
"""

import secrets
import sqlite3
from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

TABLE = """
CREATE TABLE secrets (slot INTEGER PRIMARY KEY, secret BLOB NOT NULL, used INTEGER NOT NULL);
CREATE INDEX free_secrets ON secrets (slot) WHERE NOT used
"""
_BYTES = 32


def take_secrets(db: sqlite3.Connection, count: int) -> list[tuple[int, bytes]]:
    """Slots with fresh secrets, inside a transaction."""
    new = [secrets.token_bytes(_BYTES) for _ in range(count)]
    free = [slot for (slot,) in db.execute("SELECT slot FROM secrets WHERE NOT used LIMIT ?", (count,))]
    taken = list(zip(free, new, strict=False))
    db.executemany("UPDATE secrets SET secret = ?, used = 1 WHERE slot = ?", [(secret, slot) for slot, secret in taken])
    (last,) = db.execute("SELECT COALESCE(MAX(slot), 0) FROM secrets").fetchone()
    added = list(enumerate(new[len(free) :], start=last + 1))
    db.executemany("INSERT INTO secrets VALUES (?, ?, 1)", added)
    return taken + added


def erase_secrets(db: sqlite3.Connection, slots: Iterable[int]) -> None:
    """Overwrites secrets, inside a transaction; their slots may be taken again."""
    db.executemany("UPDATE secrets SET secret = ?, used = 0 WHERE slot = ?", [(bytes(_BYTES), slot) for slot in slots])


def sealed(secret: bytes, column: str, data: bytes) -> bytes:
    """Seals the value of a column, or opens a sealed one. The length stays.

    A secret seals one value of each column, so the column's name is all of the nonce. Damage is found by whoever
    decodes the value.
    """
    cipher = Cipher(algorithms.AES(secret), modes.CTR(column.encode().ljust(16, b"\0")))
    return cipher.encryptor().update(data)
