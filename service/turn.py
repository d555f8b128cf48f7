"""The choice of one of several workers for work that only one of them should do."""

import os
from pathlib import Path
from typing import IO


class Turn:
    """The turn of one worker: it holds a lock, which the system releases when that worker ends."""

    def __init__(self, work: str) -> None:
        """Prepares the turn.

        Args:
            work: The name of the work, a part of the lock file's name.
        """
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        self._path = None if folder is None else Path(folder) / f"{work}.lock"
        self._held: IO[bytes] | None = None

    def is_ours(self) -> bool:
        """Takes the lock if it is free; returns whether this process holds it."""
        if self._path is None or self._held is not None:
            return True
        import fcntl  # absent on some systems, and used by workers alone

        file = self._path.open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        self._held = file
        return True
