"""The HTTP server: uvicorn that on SIGTERM reports unready, serves on for a while, and then drains."""

import asyncio
import gc
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from service.http_protocol import HttpProtocol
from service.listening import cannot_listen
from service.settings import Settings
from service.store_access import store_name
from service.tasks.status import readiness

_LOOK_EVERY_S = 1.0

Report = Callable[[str], None]
"""Takes the reason why a server is not ready; an empty text when it is."""


class DrainingServer(uvicorn.Server):
    """A server that on SIGTERM reports unready, serves on while traffic still arrives, then takes no connections."""

    def __init__(self, app: FastAPI, settings: Settings, report: Report) -> None:
        """Prepares the server.

        Args:
            app: The app, whose state notes that the server is draining.
            settings: The settings, with the drain's times.
            report: Called once the server listens, with the reason why it is not ready, and again when that changes.
        """
        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            # Its messages on starting and stopping repeat ours
            log_level="warning" if settings.log_level == "info" else settings.log_level,
            log_config=None,
            access_log=False,  # ours has no query strings
            server_header=False,
            # Longer than a load balancer keeps idle connections, so that the server never closes one under a request
            timeout_keep_alive=75,
            timeout_graceful_shutdown=round(settings.drain_timeout_s) or 1,
        )
        super().__init__(config)
        self._app = app
        self._report = report
        self._settings = settings
        self._waiting: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and reports the addresses and the readiness."""
        try:
            await super().startup(sockets)
        except OSError as error:  # another program has come to listen there meanwhile
            await self.lifespan.shutdown()
            raise cannot_listen(self._settings.host, self._settings.port, error) from None
        if self.started:
            # Modules, weights and routes stay for good: the garbage collector need not look through them again
            gc.collect()
            gc.freeze()
            if not await self._reported():
                self._waiting = asyncio.create_task(self._wait_until_ready())

    async def _reported(self) -> bool:
        """Reports once whether the server is ready; returns it."""
        checks = await readiness(self._app.state.parts, draining=False)
        store = f"the store {store_name(self._settings)}"
        reasons = {"store": f"{store} does not answer", "store_not_emptied": f"{store} has lost its data"}
        reason = "; ".join(reasons.get(name, name.replace("_", " ")) for name, holds in checks.items() if not holds)
        if self._waiting is None or not reason:
            self._report(reason)
        return not reason

    async def _wait_until_ready(self) -> None:
        while not self._app.state.draining:
            await asyncio.sleep(_LOOK_EVERY_S)
            if await self._reported():
                return

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles a signal; a second one, or Ctrl-C, skips the wait."""
        if sig == signal.SIGTERM and not self._app.state.draining:
            self._app.state.draining = True
            timer = threading.Timer(self._settings.drain_delay_s, self._stop_accepting)
            timer.daemon = True
            timer.start()
        else:
            self._app.state.draining = True
            super().handle_exit(sig, frame)

    def _stop_accepting(self) -> None:
        self.should_exit = True
