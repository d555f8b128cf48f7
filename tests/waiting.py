"""Waits of tests, for a condition and never for a time. The limit is for a starved machine."""

import asyncio
import time
from collections.abc import Callable

LIMIT_S = 180.0
"""Longest wait in seconds, below the timeout of a whole test, so that the failure names the wait."""


def until(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Waits for what another thread or process is about to do."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.01)


async def until_on_loop(condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    """Waits on an event loop, which goes on meanwhile."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        await asyncio.sleep(0.005)
