"""The service in this process, for callers without a server; it begins with the first call."""

import os
import tempfile
import threading

from handful.client import Client

_begin = threading.Lock()
_clients: dict[tuple[int, str | None], Client] = {}
_stores: list["tempfile.TemporaryDirectory[str]"] = []


def in_process_client(checkpoint: str | None = None) -> Client:
    """A client of the service in this process, which may be used from several threads. Each checkpoint is loaded once.

    The service has a store of its own in a temporary folder.

    Args:
        checkpoint: A folder, or the name of a shipped checkpoint; None for ``HANDFUL_CHECKPOINT`` or the default one.

    Raises:
        ImportError: The server part is not installed.
        SettingsInvalid: A ``HANDFUL_`` variable cannot be used.
        CheckpointInvalid: The checkpoint cannot be loaded.
        DeviceUnavailable: The device does not exist here.
    """
    place = (os.getpid(), checkpoint)  # a forked process has none of its parent's threads
    with _begin:
        if place not in _clients:
            _clients[place] = _started(checkpoint)
        return _clients[place]


def _started(checkpoint: str | None) -> Client:
    try:
        from service.settings import load_settings, prepare_threads
    except ModuleNotFoundError as error:
        raise ImportError(
            f"computing in this process needs the server part of Handful, and {error.name} is missing: "
            "pip install 'handful[server]', or name a running server by url="
        ) from error
    # Files that are open cannot be removed everywhere; the system removes them in time
    folder = tempfile.TemporaryDirectory(prefix="handful-", ignore_cleanup_errors=True)
    settings = load_settings(
        store=f"sqlite:{folder.name}/handful.db", checkpoint=checkpoint and [checkpoint], log_level="error"
    )
    prepare_threads(settings)
    from service.local import lasting_service

    client = lasting_service(settings).client()
    _stores.append(folder)
    return client
