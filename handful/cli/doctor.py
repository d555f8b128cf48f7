"""``handful doctor``: faults that make a server on this machine slow, unsafe or unable to start."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from handful.cli.output import stdout, waiting
from handful.cli.server_part import load_settings
from model_store.errors import ModelStoreError, StoreAbsent

if TYPE_CHECKING:
    from service.settings import Settings

_LOW_DISK_BYTES = 2**30

Finding = tuple[str, str, str]
"""Level (``ok``, ``warning`` or ``error``), subject and finding."""


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command()(doctor)


def doctor(
    store: Annotated[str | None, typer.Option(help="The server's store. [env: HANDFUL_STORE]")] = None,
    checkpoint: Annotated[
        list[str] | None, typer.Option(help="The checkpoint; may be given again. [env: HANDFUL_CHECKPOINT]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="The device. [env: HANDFUL_DEVICE]")] = None,
) -> None:
    """Check store, checkpoint, device, threads and disk; status 1 if something is wrong."""
    settings = load_settings(store=store, checkpoint=checkpoint or None, device=device)
    checks: list[Callable[[Settings], Iterator[Finding]]] = [
        _store,
        _checkpoint,
        _tasks,
        _device,
        _threads,
        _disk,
        _exposure,
    ]
    failed = False
    colours = {"ok": "green", "warning": "yellow", "error": "red"}
    for check in checks:
        with waiting("looking"):
            findings = list(check(settings))
        for level, what, found in findings:
            failed |= level == "error"
            stdout.print(f"[{colours[level]}]{level:8}[/] {what:11} {escape(found)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def _store(settings: "Settings") -> Iterator[Finding]:
    from service.store_access import open_store, store_name

    name = store_name(settings)
    try:
        store = open_store(settings, create=False)
        try:
            store.ping()
            warnings = store.warnings()
            has_keys = store.has_keys()
        finally:
            store.close()
    except StoreAbsent as error:
        yield from _absent_store(settings, error)
        return
    except ModelStoreError as error:
        yield "error", "store", str(error) if settings.sqlite_path is not None else f"{error} ({name})"
        return
    yield "ok", "store", f"{name} answers, {'with' if has_keys else 'without'} API keys"
    for warning in warnings:
        yield "warning", "store", warning


def _absent_store(settings: "Settings", error: StoreAbsent) -> Iterator[Finding]:
    """Checks the place of a store that does not exist yet, as before a server's first start."""
    from model_store.sqlite_path import why_not_writable

    path = settings.sqlite_path
    if path is None or path.exists() or not path.absolute().parent.is_dir():
        yield "error", "store", f"{error}: name the server's own store (HANDFUL_STORE)"
        return
    why = why_not_writable(path.absolute())
    if why:
        yield "error", "store", f"{error}{why}"
        return
    yield (
        "warning",
        "store",
        f"{error}; `handful serve` makes it. Where it should be there, name the server's own store (HANDFUL_STORE)",
    )


def _tasks(settings: "Settings") -> Iterator[Finding]:
    from model_store.checkpoint import resolve_checkpoint
    from model_store.manifest import read_manifest
    from service.stale_tasks import HOW_TO_READAPT, count_tasks
    from service.store_access import open_store

    try:
        fingerprints = {read_manifest(resolve_checkpoint(each)).fingerprint for each in settings.checkpoint}
        store = open_store(settings, create=False)
        try:
            count = count_tasks(store, fingerprints)
        finally:
            store.close()
    except ModelStoreError:
        return  # the checks of store and checkpoint report it
    if count.stale:
        yield "warning", "tasks", f"{count}: {HOW_TO_READAPT}"
    else:
        yield "ok", "tasks", str(count)


def _checkpoint(settings: "Settings") -> Iterator[Finding]:
    import torch

    from model_store.checkpoint import Checkpoint, resolve_checkpoint

    for each in settings.checkpoint:
        try:
            loaded = Checkpoint(resolve_checkpoint(each), torch.device("cpu"))
        except ModelStoreError as error:
            yield "error", "checkpoint", str(error)
        else:
            yield "ok", "checkpoint", f"{loaded.manifest.name} ({loaded.fingerprint[:12]}), every file as it was made"


def _device(settings: "Settings") -> Iterator[Finding]:
    from metalearn.devices import select_device
    from metalearn.errors import DeviceUnavailable

    try:
        yield "ok", "device", str(select_device(settings.device))
    except DeviceUnavailable as error:
        yield "error", "device", str(error)


def _threads(settings: "Settings") -> Iterator[Finding]:
    from service.settings import granted_threads

    granted = granted_threads()
    used = settings.threads or granted
    if used > granted:
        yield "warning", "threads", f"{used} are asked for, {granted} are granted: they will take turns"
    else:
        yield "ok", "threads", f"{used} of {granted} granted, {os.cpu_count()} in the machine"


def _disk(settings: "Settings") -> Iterator[Finding]:
    if settings.sqlite_path is None:
        return
    folder = settings.sqlite_path.absolute().parent
    if not folder.is_dir():
        return  # the check of the store reports it
    free = shutil.disk_usage(folder).free
    yield "ok" if free > _LOW_DISK_BYTES else "warning", "disk", f"{free / 2**30:.1f} GiB free in {folder}"


def _exposure(settings: "Settings") -> Iterator[Finding]:
    if settings.allow_open and not settings.is_loopback:
        yield "warning", "exposure", f"allow_open on {settings.host}: until a key exists, whoever reaches it may use it"
