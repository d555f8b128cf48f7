"""Many who ask at once are answered by one call."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Coalescer(Generic[Key, Value]):
    """Whoever asks while a call is under way shares the next one, which begins when that one ends.

    So a call always begins after the question that it answers: it sees what was written before that. Nobody waits while
    nothing is under way. Lives on the event loop.
    """

    def __init__(self, call: Callable[[Sequence[Key]], Awaitable[Sequence[Value | Exception]]], *, most: int) -> None:
        """Prepares a coalescer.

        Args:
            call: Keys -> their values, in the same order; an error in place of a value is that key's alone.
            most: Most keys of one call.
        """
        self._call = call
        self._most = most
        self._waiting: deque[tuple[Key, asyncio.Future[Value]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value:
        """The value of a key; raises the key's own error, or what the call raises, to all who share it."""
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._running is None:
            # In a context of its own: what it does is not the first request's alone
            self._running = asyncio.get_running_loop().create_task(self._run(), context=Context())
        return await future

    async def _run(self) -> None:
        batch: list[tuple[Key, asyncio.Future[Value]]] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]
                batch = [(key, future) for key, future in batch if not future.done()]
                try:
                    values = await self._call([key for key, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                else:
                    for (_, future), value in zip(batch, values, strict=True):
                        if future.done():
                            continue
                        if isinstance(value, Exception):
                            future.set_exception(value)
                        else:
                            future.set_result(value)
        finally:
            self._running = None
            for _, future in (*batch, *self._waiting):  # cancelled: the server ends
                future.cancel()
            self._waiting.clear()
