"""The service behind a real socket inside this process, and requests as bytes."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI
from pydantic import SecretStr

from service.app import create_app
from service.draining_server import DrainingServer
from service.listening import bind
from service.settings import Settings

_TIMEOUT_S = 60.0


@dataclass
class SocketServer:
    """A server that runs in a thread.

    Attributes:
        port: The port on 127.0.0.1.
        app: The app.
        server: The HTTP server.
        thread: The server's thread.
        reports: The server's reports of its readiness.
    """

    port: int
    app: FastAPI
    server: DrainingServer
    thread: threading.Thread
    reports: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def socket_server(checkpoint: Path, store: str, *others: Path, **overrides: object) -> Iterator[SocketServer]:
    """Serves on a free port until the context ends; takes further checkpoints, and settings by name."""
    fields: dict[str, object] = {
        "checkpoint": [str(checkpoint), *map(str, others)],
        "store": SecretStr(store),
        "port": 0,
        "device": "cpu",
        "precision": "float32",
        "threads": 1,
        "auth_cache_s": 0,
        "drain_delay_s": 0,
        **overrides,
    }
    settings = Settings(**fields)  # type: ignore[arg-type]
    sockets = bind(settings.host, settings.port)
    reports: list[str] = []
    listens = threading.Event()

    def report(reason: str) -> None:
        reports.append(reason)
        listens.set()

    app = create_app(settings)
    server = DrainingServer(app, settings, report)
    thread = threading.Thread(target=server.run, args=(sockets,), daemon=True)
    port: int = sockets[0].getsockname()[1]
    thread.start()
    try:
        assert listens.wait(_TIMEOUT_S), "the server never listened"
        yield SocketServer(port, app, server, thread, reports)
    finally:
        server.should_exit = True
        thread.join(_TIMEOUT_S)
        assert not thread.is_alive(), "the server never stopped"


@dataclass(frozen=True)
class Answer:
    """A response as it came."""

    status: int
    headers: dict[str, str]
    body: bytes


def exchange(port: int, *parts: bytes, pause_s: float = 0.0, wait_s: float = 30.0) -> tuple[list[Answer], bool]:
    """Sends bytes, and reads all that comes back until the server closes or is silent.

    Args:
        port: The server's port.
        parts: The bytes, sent one after another.
        pause_s: The time between the parts.
        wait_s: The longest wait for a server that neither answers nor closes.

    Returns:
        The answers, and whether the server closed the connection.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i, part in enumerate(parts):
            if i:
                time.sleep(pause_s)
            with suppress(ConnectionError):
                connection.sendall(part)
        received, closed = b"", False
        connection.settimeout(wait_s)
        try:
            while part := connection.recv(2**16):
                received += part
            closed = True
        except TimeoutError:
            pass
        except ConnectionError:
            closed = True
    return answers_in(received), closed


def answers_in(received: bytes) -> list[Answer]:
    """The responses in a stream."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        matched = re.match(r"HTTP/1\.1 (\d{3})", first)
        assert matched, received[:200]
        status = int(matched.group(1))
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if status >= 200:
            found.append(Answer(status, headers, rest[:length]))
        received = rest[length:]
    return found


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """A plain request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
