"""A stopping server breaks no connection between two requests, and a starting server reports when it is ready."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from handful.cli import serve
from service.tasks.app_parts import Parts
from tests.conftest import SUPPORT
from tests.faults.conftest import ADAPT, PREDICT, TEXTS
from tests.socket_server import answers_in, exchange, request, socket_server
from tests.waiting import until

BODY = json.dumps({"queries": TEXTS[:1]}).encode()
ASK = request("POST", PREDICT, BODY)


class KeptAlive(threading.Thread):
    """A client that asks every 15 ms on one connection for as long as the server lets it."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.answered = 0
        self.broken: list[str] = []
        self._port = port

    def run(self) -> None:
        """Asks until no connection can be made any more."""
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", self._port), timeout=60)
            except OSError:
                return
            with connection:
                on_this_one = 0
                while (status := self._ask(connection)) == "kept":
                    on_this_one += 1
                    time.sleep(0.015)
                if status == "lost":
                    if on_this_one:  # not one that came when nobody took connections any more
                        self.broken.append(f"after {on_this_one} requests")
                    return

    def _ask(self, connection: socket.socket) -> str:
        received = b""
        try:
            connection.sendall(ASK)
            while not (answers := answers_in(received) if b"\r\n\r\n" in received else []) or not answers[0].body:
                part = connection.recv(2**16)
                if not part:
                    return "lost"
                received += part
        except OSError:
            return "lost"
        self.answered += 1
        assert answers[0].status == 200
        return "closed" if answers[0].headers.get("connection") == "close" else "kept"


@pytest.mark.parametrize("drain_delay_s", [0.0, 0.5])
def test_no_kept_alive_connection_breaks_between_two_requests(
    tiny_checkpoint: Path, tmp_path: Path, drain_delay_s: float
) -> None:
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path / 'a.db'}", drain_delay_s=drain_delay_s) as server:
        assert httpx.post(f"{server.url}{ADAPT}", json={"support": SUPPORT}, timeout=60).status_code == 200
        clients = [KeptAlive(server.port) for _ in range(6)]
        for client in clients:
            client.start()
        until(lambda: all(client.answered > 3 for client in clients))
        server.server.handle_exit(signal.SIGTERM, None)
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        assert [client.broken for client in clients] == [[]] * 6
        server.thread.join(60)
        assert not server.thread.is_alive()


def test_idle_connections_do_not_keep_a_server(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with (
        socket_server(tiny_checkpoint, f"sqlite:{tmp_path / 'a.db'}") as server,
        socket.create_connection(("127.0.0.1", server.port)) as silent,
        socket.create_connection(("127.0.0.1", server.port)) as halfway,
        httpx.Client(base_url=server.url) as client,
    ):
        assert client.get("/livez").status_code == 200
        halfway.sendall(b"GET /livez HTTP/1.1\r\nHos")
        server.server.handle_exit(signal.SIGTERM, None)
        server.thread.join(60)
        assert not server.thread.is_alive()
        silent.settimeout(10)
        assert silent.recv(1) == b""


def test_a_request_that_outlasts_the_drain_gets_an_answer(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    async def endless(*_: object) -> None:
        asked.set()
        await asyncio.sleep(600)

    store = f"sqlite:{tmp_path / 'a.db'}"
    with socket_server(tiny_checkpoint, store, drain_timeout_s=1) as server:
        monkeypatch.setattr(server.app.state.authenticator, "tenant", endless)
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{server.url}/v1/tasks", timeout=60)))
        asking.start()
        assert asked.wait(20)
        server.server.handle_exit(signal.SIGTERM, None)
        asking.join(60)
        assert answers[0].status_code == 503
        assert answers[0].json()["code"] == "server_stopping"
        assert answers[0].headers["retry-after"]


def test_a_server_without_its_store_is_not_called_ready(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.draining_server._LOOK_EVERY_S", 0.05)
    with socket_server(tiny_checkpoint, "redis://:hunter2@127.0.0.1:1/0", store_timeout_s=0.1) as server:
        assert server.reports == ["the store redis://127.0.0.1:1/0 does not answer"]
        answers, _ = exchange(server.port, request("GET", "/readyz", b"", "Connection: close"))
        assert answers[0].status == 503

        async def ready(parts: Parts, *, draining: bool) -> dict[str, bool]:
            return {"store": True}

        monkeypatch.setattr("service.draining_server.readiness", ready)
        until(lambda: len(server.reports) > 1)
        assert server.reports[1:] == [""]


def test_the_announcement_distinguishes_ready_from_listening(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        serve.log.setLevel("ERROR")  # so that the lines are printed
        try:
            serve.announce([one], "")
            serve.announce([one], "the store does not answer")
        finally:
            serve.log.setLevel("NOTSET")
    ready, waiting = capsys.readouterr().err.splitlines()
    assert ready.startswith(f"Handful is ready on http://127.0.0.1:{port} ")
    assert waiting.startswith(f"Handful listens on http://127.0.0.1:{port} and is not ready: the store does not answer")
    assert "Handful is ready" not in waiting


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_is_found_out_before_the_checkpoint_is_loaded(tmp_path: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        # Of the two mistakes the one that costs nothing to find comes first
        command = (sys.executable, "-m", "handful", "serve", "--port", port, "--checkpoint", "nowhere")
        ended = subprocess.run(
            [*command, "--workers", workers], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"error: port {port} is taken")
    assert "--port" in line
    assert not list(tmp_path.iterdir()), "a store was made"
