"""Clients that disconnect before their answer."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from fastapi import Request

from service.errors import ClientGone

Result = TypeVar("Result")

_UNWATCHED_S = 0.02
"""Seconds of work on a request before the first check of its client's connection."""


async def unless_disconnected(request: Request, work: Awaitable[Result]) -> Result:
    """Awaits ``work``, and cancels it when the client goes away: nobody would read the answer.

    Most answers are ready before the first check.

    Raises:
        ClientGone: The client went away first.
    """
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    watching: asyncio.Task[None] | None = None
    gone = answered = False

    def watch() -> None:
        nonlocal watching
        watching = loop.create_task(_disconnect(request))
        watching.add_done_callback(cancel)

    def cancel(watched: "asyncio.Task[None]") -> None:
        nonlocal gone
        if not answered and not watched.cancelled() and serving is not None:
            gone = True
            serving.cancel()

    unwatched = loop.call_later(_UNWATCHED_S, watch)
    try:
        return await work
    except asyncio.CancelledError:
        if not gone or serving is None:
            raise
        serving.uncancel()
        raise ClientGone from None
    finally:
        answered = True
        unwatched.cancel()
        if watching is not None:
            watching.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
