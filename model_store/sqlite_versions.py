"""Versions of the SQLite store with their examples: written, read and removed inside a transaction."""

import sqlite3
import struct
from collections.abc import Collection, Iterable

from model_store.records import NewVersion, StoredSupport, row_digest
from model_store.removals import MOST_ENTRIES, Removal
from model_store.sqlite_secrets import erase_secrets, sealed, take_secrets

_COUNT = struct.Struct(">I")
_EXAMPLE = struct.Struct(">q16s")
"""The number of an example's row in its task, and the row's digest."""

_Examples = list[tuple[int, bytes]]


def insert_version(db: sqlite3.Connection, new: NewVersion) -> None:
    """Writes a version and those of its examples that the version before it does not have."""
    version = new.version
    name = (version.tenant, version.task)
    support = None if new.support is None else _with_rows(db, name, version.version, new.support)
    ((slot, secret),) = take_secrets(db, 1)
    columns = {"record": version.to_json(), "adapter": new.adapter, "support": support}
    values = [None if data is None else sealed(secret, column, data) for column, data in columns.items()]
    db.execute("INSERT INTO versions VALUES (?, ?, ?, ?, ?, ?, ?)", (*name, version.version, *values, slot))


def read_support(db: sqlite3.Connection, name: tuple[str, str], opened: bytes) -> StoredSupport:
    """The support set behind the opened value of a version's column ``support``."""
    examples, rest = _unpacked(opened)
    wanted = {number for number, _ in examples}
    query = "SELECT number, content, secret FROM examples JOIN secrets USING (slot) WHERE tenant = ? AND task = ?"
    found = db.execute(query, name) if wanted else ()
    rows = {number: sealed(secret, "content", content) for number, content, secret in found if number in wanted}
    # A row that is missing becomes an empty one, which whoever decodes the support set finds
    return StoredSupport(tuple(rows.get(number, b"") for number, _ in examples), rest)


def without_rows(rest: bytes) -> bytes:
    """The column ``support`` of a support set that an older program stored in one piece."""
    return _packed([], rest)


def remove_versions(
    db: sqlite3.Connection, name: tuple[str, str], numbers: Collection[int], removal: Removal | None
) -> int:
    """Removes versions and the examples that no other version has; returns how many versions there were.

    Args:
        db: The connection.
        name: Tenant and task.
        numbers: The versions.
        removal: The entry that is left of each.
    """
    orphans: set[int] = set()
    found = 0
    for number in numbers:
        where = (*name, number)
        orphans |= {example for example, _ in _examples_of(db, where)}
        query = "DELETE FROM versions WHERE tenant = ? AND task = ? AND version = ? RETURNING slot"
        slots = [slot for (slot,) in db.execute(query, where)]
        erase_secrets(db, slots)
        found += len(slots)
        if slots and removal is not None:
            db.execute("INSERT OR REPLACE INTO removed_versions VALUES (?, ?, ?, ?)", (*where, removal.to_json()))
            query = "DELETE FROM removed_versions WHERE tenant = ? AND task = ? AND version = ?"
            db.execute(query, (*name, number - MOST_ENTRIES))
    kept = db.execute("SELECT version FROM versions WHERE tenant = ? AND task = ? ORDER BY version DESC", name)
    for (number,) in kept.fetchall() if orphans else ():
        orphans -= {example for example, _ in _examples_of(db, (*name, number))}
    for example in orphans:
        query = "DELETE FROM examples WHERE tenant = ? AND task = ? AND number = ? RETURNING slot"
        erase_secrets(db, [slot for (slot,) in db.execute(query, (*name, example))])
    return found


def remove_all(db: sqlite3.Connection, name: tuple[str, str]) -> None:
    """Removes all versions and examples of a task."""
    for table in ("versions", "examples"):
        where = "WHERE tenant = ? AND task = ?"
        erase_secrets(db, [slot for (slot,) in db.execute(f"SELECT slot FROM {table} {where}", name).fetchall()])  # noqa: S608
        db.execute(f"DELETE FROM {table} {where}", name)  # noqa: S608
    db.execute("DELETE FROM removed_versions WHERE tenant = ? AND task = ?", name)


def remove_answers(db: sqlite3.Connection, where: str, values: Iterable[object]) -> None:
    """Removes the answers under idempotency keys that meet a condition."""
    query = f"DELETE FROM idempotency WHERE {where} RETURNING slot"  # noqa: S608 - the conditions are the callers' own
    erase_secrets(db, [slot for (slot,) in db.execute(query, tuple(values)).fetchall()])


def _with_rows(db: sqlite3.Connection, name: tuple[str, str], version: int, support: StoredSupport) -> bytes:
    """Writes the rows that are new, and returns the column that refers to all of them."""
    before = db.execute("SELECT MAX(version) FROM versions WHERE tenant = ? AND task = ? AND version < ?",
                        (*name, version)).fetchone()  # fmt: skip
    known = {digest: number for number, digest in _examples_of(db, (*name, before[0]))}
    (last,) = db.execute("SELECT COALESCE(MAX(number), 0) FROM examples WHERE tenant = ? AND task = ?", name).fetchone()
    digests = [row_digest(row) for row in support.examples]
    new = {digest: row for digest, row in zip(digests, support.examples, strict=True) if digest not in known}
    rows = []
    for (digest, row), (slot, secret) in zip(new.items(), take_secrets(db, len(new)), strict=True):
        last += 1
        known[digest] = last
        rows.append((*name, last, sealed(secret, "content", row), slot))
    db.executemany("INSERT INTO examples VALUES (?, ?, ?, ?, ?)", rows)
    return _packed([(known[digest], digest) for digest in digests], support.rest)


def _examples_of(db: sqlite3.Connection, where: tuple[str, str, int | None]) -> _Examples:
    row = db.execute(
        "SELECT support, secret FROM versions JOIN secrets USING (slot) WHERE tenant = ? AND task = ? AND version = ?",
        where,
    ).fetchone()
    return [] if row is None or row[0] is None else _unpacked(sealed(row[1], "support", row[0]))[0]


def _packed(examples: _Examples, rest: bytes) -> bytes:
    return _COUNT.pack(len(examples)) + b"".join(_EXAMPLE.pack(*example) for example in examples) + rest


def _unpacked(data: bytes) -> tuple[_Examples, bytes]:
    try:
        (count,) = _COUNT.unpack_from(data)
        end = _COUNT.size + count * _EXAMPLE.size
        return list(_EXAMPLE.iter_unpack(data[_COUNT.size : end])), data[end:]
    except struct.error:  # damaged: what is read of it is no support set
        return [], data
