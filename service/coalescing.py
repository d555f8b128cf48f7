"""Coalescing: one call answers many simultaneous questions."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Coalescer(Generic[Key, Value]):
    """Joins the questions that arrive while a call is under way into the next call, which begins when it ends.

    So a call always begins after the questions that it answers, and sees all earlier writes. A question waits only
    while a call is under way. Lives on the event loop.
    """

    def __init__(self, call: Callable[[Sequence[Key]], Awaitable[Sequence[Value | Exception]]], *, most: int) -> None:
        """Prepares a coalescer.

        Args:
            call: Returns the values of keys, in the same order; an error in place of a value concerns that key alone.
            most: Most keys of one call.
        """
        self._call = call
        self._most = most
        self._waiting: deque[tuple[Key, asyncio.Future[Value]]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def get(self, key: Key) -> Value:
        """The value of a key. Raises the key's own error; an error of the call itself is raised for all its keys."""
        future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._running is None:
            # In a context of its own, since the call serves more requests than the first one
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
