"""``handful serve``."""

import gc
import inspect
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import FrameType
from typing import Annotated, Any, Literal, get_origin

import typer
import uvicorn
from pydantic import SecretStr

from service.commands.output import complain, stderr
from service.settings import PREFIX, Settings, SettingsInvalid, load_settings, prepare_threads


def add_to(app: typer.Typer) -> None:
    """Registers the command, with an option for each setting."""
    app.command(name="serve", help="Start the server.")(_with_setting_options(serve))


def serve(**overrides: Any) -> None:
    """Starts the server and returns when it has drained."""
    # Process 1 of a container has no default handler: until uvicorn has its own, SIGTERM would be lost
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings(**overrides)
    if settings.workers == 1:
        prepare_threads(settings)
        _run(settings, None, None)
        return
    from service.workers import run_workers

    run_workers(settings, serve_worker, lambda listening: _announce([listening]))


def serve_worker(settings: Settings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """One of several processes on a socket; what it cannot start with is one line and status 1."""
    from model_store.errors import ModelStoreError

    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has stopped
            _run(settings, listening, ready)
    except (SettingsInvalid, ModelStoreError, OSError) as error:
        complain(str(error))
        sys.exit(1)


def _run(settings: Settings, listening: socket.socket | None, ready: Callable[[], None] | None) -> None:
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with stderr.status("loading the checkpoint"):
        # Here, where what is wrong with them can be said in one line
        from service.app import create_app, load_checkpoint
        from service.store_access import open_store

        open_store(settings).close()
        app = create_app(settings, checkpoint=load_checkpoint(settings))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level=settings.log_level,
        log_config=None,
        access_log=settings.log_level == "debug",
        server_header=False,
        # Longer than a load balancer keeps idle connections, so that it is never we who close one under a request
        timeout_keep_alive=75,
        timeout_graceful_shutdown=round(settings.drain_timeout_s) or 1,
    )
    DrainingServer(config, app.state, settings, ready).run(sockets=[listening] if listening else None)


class DrainingServer(uvicorn.Server):
    """On SIGTERM: unready first, serving on for a while, since traffic still arrives; then no new connections."""

    def __init__(
        self, config: uvicorn.Config, state: Any, settings: Settings, ready: Callable[[], None] | None = None
    ) -> None:
        """Prepares the server.

        Args:
            config: Of uvicorn.
            state: The app's, where it notes that it is draining.
            settings: How to drain.
            ready: Called once requests are served; None says so on standard error.
        """
        super().__init__(config)
        self._ready = ready or (lambda: _announce([socket for server in self.servers for socket in server.sockets]))
        self._state = state
        self._settings = settings

    async def startup(self, sockets: Any = None) -> None:
        """Starts, and says where."""
        await super().startup(sockets)
        if self.started:
            # What is there now stays: modules, weights, routes. Collections need not look through it again
            gc.collect()
            gc.freeze()
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal; a second one, or Ctrl-C, skips the wait."""
        if sig == signal.SIGTERM and not self._state.draining:
            self._state.draining = True
            timer = threading.Timer(self._settings.drain_delay_s, self._stop_accepting)
            timer.daemon = True
            timer.start()
        else:
            super().handle_exit(sig, frame)

    def _stop_accepting(self) -> None:
        self.should_exit = True


def _announce(sockets: Iterable[Any]) -> None:
    for each in sockets:
        host, port = each.getsockname()[:2]
        stderr.print(f"Handful is ready on http://{host}:{port}  (docs: /docs, metrics: /metrics)", highlight=False)


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
