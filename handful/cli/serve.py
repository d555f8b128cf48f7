"""``handful serve``."""

import importlib.util
import inspect
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic import SecretStr
from typer.core import TyperCommand

from handful.cli.completion import among, shipped_names
from handful.cli.output import complain, stderr
from handful.cli.server_part import advice_on, load_settings, loading

if TYPE_CHECKING:
    from service.draining_server import Report
    from service.settings import Settings

log = logging.getLogger("handful")


def add_to(app: typer.Typer) -> None:
    """Registers the command, with an option for each setting."""
    app.command(cls=_ServeCommand)(serve)


class _ServeCommand(TyperCommand):
    """The command with an option for each setting. The options are made late, since they need the server's part."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parses the command line with the options of all settings."""
        if extra.get("resilient_parsing") and importlib.util.find_spec("pydantic_settings") is None:
            return super().make_context(info_name, args, parent, **extra)  # a shell completes, and there are none
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(help=self.help)(_with_setting_options(serve))
        return typer.main.get_command(app).make_context(info_name, args, parent, **extra)


def serve(**overrides: Any) -> None:
    """Start the server."""
    from service.listening import bind
    from service.request_log import configure_logs
    from service.settings import prepare_threads

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


def serve_worker(settings: "Settings", listening: Sequence[socket.socket], report: "Report") -> None:
    """Runs one of several processes on the same sockets. An error at its start is one line and status 1."""
    from model_store.errors import ModelStoreError
    from service.request_log import configure_logs
    from service.settings import SettingsInvalid

    configure_logs(settings.log_level)
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has stopped
            _run(settings, listening, report)
    except (SettingsInvalid, ModelStoreError, OSError) as error:
        complain(str(error))
        sys.exit(1)
    except ModuleNotFoundError as error:
        advice = advice_on(error)
        if advice is None:
            raise
        complain(advice)
        sys.exit(1)


def _run(settings: "Settings", listening: Sequence[socket.socket], report: "Report") -> None:
    with stderr.status("loading the checkpoint"), loading():
        # Imported and opened here, where an error is reported in one line
        from service.app import create_app, load_checkpoints
        from service.draining_server import DrainingServer
        from service.store_access import open_store

        open_store(settings).close()
        app = create_app(settings, checkpoints=load_checkpoints(settings))
    DrainingServer(app, settings, report).run(sockets=list(listening))


def announce(listening: Iterable[socket.socket], reason: str) -> None:
    """Prints the server's addresses, and whether it is ready.

    Args:
        listening: The server's sockets.
        reason: The reason why it is not ready; empty when it is.
    """
    from service.listening import address

    for each in listening:
        url = f"http://{address(*each.getsockname()[:2])}"
        if reason:
            print_line(f"Handful listens on {url} and is not ready: {reason}; it goes on trying", logging.WARNING)
        else:
            print_line(f"Handful is ready on {url}  (docs: /docs, metrics: /metrics)", logging.INFO)


def print_line(text: str, level: int) -> None:
    """Prints a line on standard error, or logs it where standard error is no terminal and the level is logged."""
    if stderr.is_terminal or not log.isEnabledFor(level):
        stderr.print(text, highlight=False, markup=False, soft_wrap=True)
    else:
        log.log(level, "%s", text)


def _with_setting_options(command: Callable[..., None]) -> Any:
    from service.settings import PREFIX, Settings

    parameters = []
    for name, field in Settings.model_fields.items():
        default = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
        kind: Any = field.annotation
        if get_origin(kind) is tuple:
            kind, default = list[str], ",".join(default)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        if kind is SecretStr or choices:
            kind = str
        complete = shipped_names if name == "checkpoint" else among(choices) if choices else None
        flag = f"--{name.replace('_', '-')}"
        text = f"{field.description} [env: {PREFIX}{name.upper()}] [default: {default}]"
        flags = [flag, f"--no{flag[1:]}"] if kind is bool else [flag]
        option = typer.Option(*flags, help=text, show_default=False, autocompletion=complete)
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
