"""Queries to one SQLite file, and its failures as this package's errors."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from model_store.errors import StoreFull, StoreUnavailable
from model_store.failures import failing_as
from model_store.sqlite_connections import SqliteConnections
from model_store.sqlite_path import why_not_writable

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def _translate(asked: "SqliteQueries", error: Exception) -> StoreUnavailable:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    why = why_not_writable(asked.path) if code in {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY} else ""
    return (StoreFull if code == sqlite3.SQLITE_FULL else StoreUnavailable)(f"SQLite at {asked.path}: {error}{why}")


bounded = failing_as(_translate, sqlite3.Error)
"""A decorator for methods that ask SQLite."""


class SqliteQueries:
    """The base of what asks the file.

    Attributes:
        path: The file, as an absolute path.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        self.path = path
        self._connections = SqliteConnections(path, timeout_s=timeout_s)

    def _one(self, query: str, connection: sqlite3.Connection | None = None, **parameters: object) -> Any:
        return (connection or self._connections.own()).execute(query, {"now": time.time(), **parameters}).fetchone()

    def _all(self, query: str, **parameters: object) -> list[Any]:
        return self._connections.own().execute(query, {"now": time.time(), **parameters}).fetchall()

    def _own_damage(
        self, read: Callable[_Parameters, _Result], *args: _Parameters.args, **kwargs: _Parameters.kwargs
    ) -> _Result | StoreUnavailable:
        """The result of a read, or its damage as an error: a damaged row must not fail its neighbours."""
        try:
            return read(*args, **kwargs)
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
                raise  # the file is locked, closed, or cannot be read at all
            return _translate(self, error)
