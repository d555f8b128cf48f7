"""``handful serve``."""

import asyncio
import gc
import inspect
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_origin

import typer
import uvicorn
from pydantic import SecretStr

from handful.cli.output import complain, stderr
from service.listening import address, bind, cannot_listen
from service.request_log import configure_logs
from service.settings import PREFIX, Settings, SettingsInvalid, load_settings, prepare_threads

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("handful")

_LOOK_EVERY_S = 1.0

Report = Callable[[str], None]
"""Takes what keeps a server from being ready; an empty text when nothing does."""


def add_to(app: typer.Typer) -> None:
    """Registers the command, with an option for each setting."""
    app.command(name="serve", help="Start the server.")(_with_setting_options(serve))


def serve(**overrides: Any) -> None:
    """Starts the server and returns when it has drained."""
    # Process 1 of a container has no default handler: until uvicorn has its own, SIGTERM would be lost
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings(**overrides)
    configure_logs(settings.log_level)
    # Before the checkpoint is loaded: that takes seconds
    listening = bind(settings.host, settings.port)
    if settings.workers == 1:
        prepare_threads(settings)
        _run(settings, listening, lambda reason: announce(listening, reason))
        return
    from service.workers import run_workers

    run_workers(settings, serve_worker, listening, announce)


def serve_worker(settings: Settings, listening: Sequence[socket.socket], report: Report) -> None:
    """One of several processes on the same sockets; what it cannot start with is one line and status 1."""
    from model_store.errors import ModelStoreError

    configure_logs(settings.log_level)
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has stopped
            _run(settings, listening, report)
    except (SettingsInvalid, ModelStoreError, OSError) as error:
        complain(str(error))
        sys.exit(1)


def _run(settings: Settings, listening: Sequence[socket.socket], report: Report) -> None:
    with stderr.status("loading the checkpoint"):
        # Here, where what is wrong with them can be said in one line
        from service.app import create_app, load_models
        from service.store_access import open_store

        open_store(settings).close()
        app = create_app(settings, models=load_models(settings))
    DrainingServer(app, settings, report).run(sockets=list(listening))


class DrainingServer(uvicorn.Server):
    """On SIGTERM: unready first, serving on for a while, since traffic still arrives; then no new connections."""

    def __init__(self, app: "FastAPI", settings: Settings, report: Report) -> None:
        """Prepares the server.

        Args:
            app: Its state notes that the server is draining.
            settings: How to drain.
            report: Called once the server listens, with what keeps it from being ready, and again when that changes.
        """
        from service.http_protocol import HttpProtocol

        config = uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            # Its lines on starting and stopping say nothing that ours do not
            log_level="warning" if settings.log_level == "info" else settings.log_level,
            log_config=None,
            access_log=False,  # ours has no query strings
            server_header=False,
            # Longer than a load balancer keeps idle connections, so that it is never we who close one under a request
            timeout_keep_alive=75,
            timeout_graceful_shutdown=round(settings.drain_timeout_s) or 1,
        )
        super().__init__(config)
        self._app = app
        self._report = report
        self._settings = settings
        self._waiting: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and says where and whether it is ready."""
        try:
            await super().startup(sockets)
        except OSError as error:  # another program has come to listen there meanwhile
            await self.lifespan.shutdown()
            raise cannot_listen(self._settings.host, self._settings.port, error) from None
        if self.started:
            # What is there now stays: modules, weights, routes. Collections need not look through it again
            gc.collect()
            gc.freeze()
            if not await self._reported():
                self._waiting = asyncio.create_task(self._wait_until_ready())

    async def _reported(self) -> bool:
        """Reports once whether the server is ready; returns it."""
        from service.routes.health import readiness
        from service.store_access import store_name

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
        """Takes a signal; a second one, or Ctrl-C, skips the wait."""
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


def announce(listening: Iterable[socket.socket], reason: str) -> None:
    """Says where the server listens, and whether it is ready.

    Args:
        listening: Its sockets.
        reason: What keeps it from being ready; empty when it is.
    """
    for each in listening:
        url = f"http://{address(*each.getsockname()[:2])}"
        if reason:
            say(f"Handful listens on {url} and is not ready: {reason}; it goes on trying", logging.WARNING)
        else:
            say(f"Handful is ready on {url}  (docs: /docs, metrics: /metrics)", logging.INFO)


def say(text: str, level: int) -> None:
    """One line on standard error: plain on a terminal, and where the log would leave it out."""
    if stderr.is_terminal or not log.isEnabledFor(level):
        stderr.print(text, highlight=False, markup=False, soft_wrap=True)
    else:
        log.log(level, "%s", text)


def _with_setting_options(command: Any) -> Any:
    parameters = []
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        kind: Any = field.annotation
        if kind is SecretStr or get_origin(kind) is Literal:
            kind = str
        flag = f"--{name.replace('_', '-')}"
        text = f"{field.description} [env: {PREFIX}{name.upper()}] [default: {default}]"
        option = typer.Option(*([flag, f"--no{flag[1:]}"] if kind is bool else [flag]), help=text, show_default=False)
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
            )
        )

    def wrapper(**options: Any) -> None:
        command(**options)

    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return wrapper
