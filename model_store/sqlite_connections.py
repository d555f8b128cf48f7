"""Connections to one SQLite file, and what every write to it goes through."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from model_store.errors import StoreUnavailable

_READERS_MS = 1000
"""Most milliseconds that an erasing write waits for readers, so that it can empty the log."""


class SqliteConnections:
    """One connection for each thread, and one that waits for nobody.

    Attributes:
        log_has_erased_texts: Whether what was erased may still stand in the write-ahead log; the next write that is
            committed empties it.
    """

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        """Opens nothing yet.

        Args:
            path: The database file.
            timeout_s: How long to wait for another process's write.
        """
        # A process that ended before it could empty the log leaves that to the next one
        self.log_has_erased_texts = True
        self._reader_was_in_the_way = False
        self._path = path
        self._timeout_s = timeout_s
        self._local = threading.local()
        self._impatient: sqlite3.Connection | None = None
        self._impatient_file = 0
        self._file: tuple[int, int] | None = None
        self._files = 0
        """How many files have stood at the path: a connection to an earlier one is opened anew."""
        self._open: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def own(self) -> sqlite3.Connection:
        """This thread's own connection: SQLite's readers do not wait for its writer then."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None or self._local.file != self._files:
            self._drop(connection)
            self._local.connection, self._local.file = None, self._files
            connection = sqlite3.connect(
                # Made at the first opening alone: a file that was removed since then must not come back empty
                f"{self._path.as_uri()}?mode={'rwc' if self._file is None else 'rw'}",
                uri=True,
                timeout=self._timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
            self._enter_wal_mode(connection)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # an erased text leaves no bytes behind
            self._keep(connection)
            self._local.connection = connection
        return connection

    def impatient(self) -> sqlite3.Connection:
        """A connection that waits for no writer, for the one thread that may not block."""
        if self._impatient is None or self._impatient_file != self._files:
            self._drop(self._impatient)
            self._impatient, self._impatient_file = None, self._files
            connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
            )
            self._keep(connection)
            self._impatient = connection
        return self._impatient

    def follow_file(self) -> bool:
        """Whether there is a file at the path; if it is another one than before, later calls use that one.

        A file that was removed or exchanged while it is open can still be read and written, and is gone in the end.
        """
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return False
        file = (found.st_dev, found.st_ino)
        with self._lock:
            if self._file not in {None, file}:
                self._files += 1
            self._file = file
        return True

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, on disk when it is left; rolled back where an error leaves it."""
        db = self.own()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            if db.in_transaction:  # a full disk has rolled back already
                db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
        if self.log_has_erased_texts:
            self._clean_log(db)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Several reads of one state of the file."""
        db = self.own()
        db.execute("BEGIN")
        try:
            yield db
        finally:
            db.execute("ROLLBACK")

    def close(self) -> None:
        """Closes those of all threads; none can be opened any more."""
        with self._lock:
            self._closed = True
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _drop(self, connection: sqlite3.Connection | None) -> None:
        """Closes this thread's connection to an earlier file."""
        if connection is not None:
            with self._lock:
                if connection in self._open:
                    self._open.remove(connection)
            connection.close()

    def _keep(self, connection: sqlite3.Connection) -> None:
        """Remembers to close it."""
        with self._lock:
            if self._closed:
                connection.close()
                raise StoreUnavailable(f"SQLite at {self._path}: the store is closed")
            self._open.append(connection)

    def _enter_wal_mode(self, connection: sqlite3.Connection) -> None:
        """Waits for others who are just doing the same: SQLite itself does not, whatever its timeout."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _clean_log(self, db: sqlite3.Connection) -> None:
        """Writes the log back and empties it, so that it forgets what was erased. Waits a moment for readers, which are
        short as a rule; if one stays in the way the next write tries again, without a wait. What was committed stays
        committed whatever comes of it."""
        db.execute(f"PRAGMA busy_timeout = {0 if self._reader_was_in_the_way else _READERS_MS}")
        with contextlib.suppress(sqlite3.Error):
            (busy, _, _) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            self.log_has_erased_texts = self._reader_was_in_the_way = bool(busy)
        db.execute(f"PRAGMA busy_timeout = {round(self._timeout_s * 1000)}")
