"""Opening of stores by commands: by absolute path, and without making a store that nobody asked for."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from handful.cli.output import note, waiting
from handful.cli.server_part import load_settings

if TYPE_CHECKING:
    from model_store.store import TaskStore
    from service.local import LocalService
    from service.settings import Settings


@contextmanager
def opened_store(settings: "Settings", *, create: bool) -> Iterator["TaskStore"]:
    """Opens the store that the settings name, and prints its place if it is new.

    Raises:
        StoreAbsent: There is none, and none is to be made.
        StoreUnavailable: It cannot be opened.
    """
    from service.store_access import open_store, store_name

    store = open_store(settings, create=create)
    try:
        if getattr(store, "is_new", False):
            path = settings.sqlite_path and settings.sqlite_path.absolute()
            note(f"made a new store at {path}: start the server with HANDFUL_STORE={store_name(settings)}")
        yield store
    finally:
        store.close()


def prepare_store(settings: "Settings", *, create: bool, announce: bool = True) -> None:
    """Makes the store that a command with ``--local`` will use, or refuses a store that does not exist.

    Args:
        settings: The settings that name the store.
        create: Whether to make it where there is none.
        announce: Whether to print its place.

    Raises:
        StoreAbsent: There is none, and none is to be made.
        StoreUnavailable: It cannot be opened.
    """
    from service.store_access import open_store, store_name

    if settings.sqlite_path is None or not announce:
        open_store(settings, create=create).close()
        return
    with opened_store(settings, create=create) as store:
        if not getattr(store, "is_new", False):
            note(f"in the store {store_name(settings)}")


@contextmanager
def opened_service(store: str | None, checkpoint: str | None) -> Iterator["LocalService"]:
    """Opens the service inside this process on a store that has to exist, for any of its tenants.

    Args:
        store: The store.
        checkpoint: The checkpoint to load in place of the settings' own.

    Raises:
        StoreAbsent: There is no such store.
        StoreUnavailable: It cannot be opened.
    """
    settings = load_settings(store=store, checkpoint=checkpoint and [checkpoint], log_level="error")
    from service.settings import prepare_threads

    prepare_store(settings, create=False)
    prepare_threads(settings)
    with ExitStack() as stack:
        with waiting("loading the checkpoint"):
            from service.local import local_service

            service = stack.enter_context(local_service(settings))
        yield service
