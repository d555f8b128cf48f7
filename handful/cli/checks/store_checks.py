"""Checks of the store: reach, risks, identity, keys, tasks."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from handful.cli.checks.finding import Finding
from model_store.errors import ModelStoreError, StoreAbsent

if TYPE_CHECKING:
    from model_store.records import StoreMarker
    from model_store.store import TaskStore
    from service.settings import Settings

_NAME_IT = "name the server's own store with --store (HANDFUL_STORE)"


def check_store(settings: "Settings") -> Iterator[Finding]:
    """Opens the store and looks at everything in it; it makes none."""
    from service.store_access import open_store, store_name

    name = store_name(settings)
    try:
        store = open_store(settings, create=False)
        try:
            store.ping()
            # All at once, so that a store that goes away meanwhile is one finding
            yield from list(_opened(settings, name, store))
        finally:
            store.close()
    except StoreAbsent as error:
        yield _absent(settings, error)
    except ModelStoreError as error:
        if settings.sqlite_path is not None:
            yield Finding.error("store", str(error), f"repair that, or {_NAME_IT}")
        else:
            yield Finding.error(
                "store",
                f"{name} does not answer: {error}",
                f"start it, open the way to it (address, password, firewall), or {_NAME_IT}",
            )


def _opened(settings: "Settings", name: str, store: "TaskStore") -> Iterator[Finding]:
    yield Finding.ok("store", f"{name} answers")
    for risk in store.risks():
        yield Finding.warning(risk.subject, risk.cause, risk.next_step)
    marker = store.marker()
    if settings.store_id:
        yield _identity(settings.store_id, marker)
    yield _keys(settings, has_keys=store.has_keys(), needs_keys=store.needs_keys())
    yield from _tasks(settings, store)


def _absent(settings: "Settings", error: StoreAbsent) -> Finding:
    """The finding on the place of a store that does not exist yet, as before a server's first start."""
    from model_store.sqlite_path import why_not_writable

    path = settings.sqlite_path
    if path is None or path.exists() or not path.absolute().parent.is_dir():
        return Finding.error("store", str(error), f"make the folder, or {_NAME_IT}")
    why = why_not_writable(path.absolute())
    if why:
        return Finding.error("store", str(error) + why.rpartition(": ")[0], why.rpartition(": ")[2])
    return Finding.warning(
        "store", str(error), f"`handful serve` makes it; where it should be there already, {_NAME_IT}"
    )


def _identity(known_id: str, marker: "StoreMarker | None") -> Finding:
    if marker is not None and (marker.store_id == known_id or known_id in marker.replaces):
        return Finding.ok("store id", f"{known_id}, as HANDFUL_STORE_ID asks for")
    found = "it has no id: it is new or was emptied" if marker is None else f"its id is {marker.store_id}"
    return Finding.error(
        "store id",
        f"HANDFUL_STORE_ID is {known_id}, and {found}: a server refuses it",
        f"give all servers the same HANDFUL_STORE and HANDFUL_STORE_ID; if the data are lost for good, "
        f"`handful store accept {known_id}`",
    )


def _keys(settings: "Settings", *, has_keys: bool, needs_keys: bool) -> Finding:
    make = "`handful keys create TENANT` makes one"
    if has_keys:
        return Finding.ok("keys", "requests need an API key")
    if needs_keys:
        return Finding.error(
            "keys",
            "all API keys were revoked: every request is refused",
            f"{make}; `handful keys open` lets callers in without a key again",
        )
    if settings.is_loopback:
        return Finding.ok("keys", "there is no API key: callers on this machine need none")
    if settings.allow_open:
        return Finding.warning(
            "keys",
            f"there is no API key, and allow_open on {settings.host}: whoever reaches the server may use it",
            f"{make}; or leave HANDFUL_ALLOW_OPEN out",
        )
    return Finding.warning(
        "keys", f"there is no API key, and the server listens on {settings.host}: every request is refused", make
    )


def _tasks(settings: "Settings", store: "TaskStore") -> Iterator[Finding]:
    from model_store.checkpoint import resolve_checkpoint
    from model_store.manifest import read_manifest
    from service.stale_tasks import HOW_TO_READAPT, count_tasks

    try:
        fingerprints = {read_manifest(resolve_checkpoint(each)).fingerprint for each in settings.checkpoint}
    except ModelStoreError:
        return  # the check of the checkpoints reports it
    count = count_tasks(store, fingerprints)
    if count.stale:
        yield Finding.warning("tasks", str(count), HOW_TO_READAPT)
    else:
        yield Finding.ok("tasks", str(count))
