"""``handful doctor``: faults that make a server on this machine slow, unsafe or unable to start."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from handful.cli.checks.finding import Finding
from handful.cli.completion import shipped_names
from handful.cli.output import print_json, stdout, waiting
from handful.cli.server_part import load_settings

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command()(doctor)


def doctor(
    store: Annotated[str | None, typer.Option(help="The server's store. [env: HANDFUL_STORE]")] = None,
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="The checkpoint; may be given again. [env: HANDFUL_CHECKPOINT]", autocompletion=shipped_names
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="The device. [env: HANDFUL_DEVICE]")] = None,
    url: Annotated[
        str | None, typer.Option(help="The address that callers use, to ask the server there. [env: HANDFUL_URL]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines instead of text.")] = False,
) -> None:
    """Look for the likeliest misconfigurations of a server with these settings; status 1 if something is wrong.

    It reads the same HANDFUL_ variables as `handful serve`, and changes nothing.
    """
    failed = False
    for finding in _findings(store, checkpoint, device, url):
        failed |= finding.level == "error"
        if as_json:
            print_json(asdict(finding))
            continue
        stdout.print(
            f"[{_COLOURS[finding.level]}]{finding.level:8}[/] {finding.subject:11} {escape(finding.cause)}",
            highlight=False,
            soft_wrap=True,
        )
        if finding.next_step is not None:
            stdout.print(f"{'':21}-> {escape(finding.next_step)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def _findings(
    store: str | None, checkpoint: list[str] | None, device: str | None, url: str | None
) -> Iterator[Finding]:
    try:
        settings = load_settings(store=store, checkpoint=checkpoint or None, device=device)
    except Exception as error:
        # Looked up, not imported: the settings need packages that the light client does not have
        module = sys.modules.get("service.settings")
        if module is None or not isinstance(error, module.SettingsInvalid):
            raise
        yield Finding.error("settings", str(error), "correct that first; nothing else was looked at")
        return
    from handful.cli.checks import checkpoint_checks, machine_checks, network_checks, store_checks

    yield Finding.ok("settings", "every HANDFUL_ variable is known, and every value can be used")
    for check in (
        machine_checks.check_packages,
        lambda: store_checks.check_store(settings),
        lambda: checkpoint_checks.check_checkpoints(settings),
        lambda: machine_checks.check_device(settings),
        lambda: machine_checks.check_threads(settings),
        lambda: machine_checks.check_disk(settings),
        lambda: machine_checks.check_open_files(settings),
        lambda: network_checks.check_port(settings),
        lambda: network_checks.check_address(settings, url),
    ):
        with waiting("looking"):
            found = list(check())
        yield from found
