"""Connections of commands to a service: a running server, or the app inside this process."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

import typer

from handful import environment
from handful.cli.completion import checkpoint_names
from handful.cli.opened_store import prepare_store
from handful.cli.output import waiting, warn
from handful.cli.server_part import load_settings, loading
from handful.client import Client
from handful.network import absent_certificates
from handful.server import DEFAULT_URL

Url = Annotated[str | None, typer.Option("--url", help="The server's address. [env: HANDFUL_URL]")]
ApiKey = Annotated[str | None, typer.Option("--api-key", help="API key. [env: HANDFUL_API_KEY]")]
Local = Annotated[bool, typer.Option("--local", help="Compute in this process, without a server.")]
StoreUrl = Annotated[str | None, typer.Option("--store", help="With --local: the store. [env: HANDFUL_STORE]")]
Checkpoint = Annotated[
    str | None,
    typer.Option(
        help="Name or fingerprint of a checkpoint that the server has loaded, or auto. With --local: a folder, or the "
        "name of a shipped one, to load in place of HANDFUL_CHECKPOINT; auto chooses between the loaded ones.",
        autocompletion=checkpoint_names,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines instead of a table.")]


def load_or_ask_for(checkpoint: str | None, *, local: bool) -> tuple[str | None, str | None]:
    """The checkpoint that this process loads in place of the settings' own, and the one that requests name."""
    return (checkpoint, None) if local and checkpoint != "auto" else (None, checkpoint)


@contextmanager
def connect(
    url: str | None,
    api_key: str | None,
    *,
    local: bool,
    store: str | None = None,
    tenant: str | None = None,
    existing: bool = False,
    announce: bool = True,
    checkpoint: str | None = None,
) -> Iterator[Client]:
    """Opens a client of the service that the options name.

    With ``--local`` the tenant is ``default`` unless it is named. No key is needed, since the caller may read the
    store's file.

    Args:
        url: The server's address.
        api_key: The key for that server.
        local: Whether to answer in this process instead.
        store: With ``local``, the store.
        tenant: With ``local``, the tenant.
        existing: With ``local``, whether the store has to exist already.
        announce: With ``local``, whether to print the place of the store.
        checkpoint: With ``local``, the checkpoint to load in place of the settings' own.
    """
    if local and url is not None:
        raise typer.BadParameter("give --url or --local, not both")
    if store is not None and not local:
        raise typer.BadParameter("--store needs --local: a server has its own store")
    if not local:
        address = environment.value_of(environment.URL) if url is None else url
        key = environment.value_of(environment.API_KEY) if api_key is None else api_key
        absent = absent_certificates()
        with Client(DEFAULT_URL if address is None else address, api_key=key) as client:
            if absent is not None:
                warn(f"{absent}: there is no such file or folder; plain HTTP does without, HTTPS would not")
            yield client
        return
    own = load_settings(store=store, checkpoint=checkpoint and [checkpoint], log_level="error")
    from service.settings import prepare_threads

    prepare_store(own, create=not existing, announce=announce)
    prepare_threads(own)
    with ExitStack() as stack:
        with waiting("loading the checkpoint"), loading():
            from service.auth import OPEN_TENANT
            from service.local import local_client

            client = stack.enter_context(local_client(own, tenant or OPEN_TENANT))
        yield client


@contextmanager
def connect_without_trace(
    url: str | None, api_key: str | None, *, local: bool, checkpoint: str | None = None
) -> Iterator[Client]:
    """Opens a client as ``connect`` does; with ``--local`` the store is removed at the end."""
    with ExitStack() as stack:
        store = None
        if local:
            store = f"sqlite:{stack.enter_context(tempfile.TemporaryDirectory(prefix='handful-'))}/handful.db"
        yield stack.enter_context(
            connect(url, api_key, local=local, store=store, announce=False, checkpoint=checkpoint)
        )
