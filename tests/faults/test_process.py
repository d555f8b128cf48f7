"""A real server process: stopped, killed, and abandoned by its clients."""

import json
import signal
import socket
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from benchmarks.server import ServerProcess, running_server
from tests.conftest import SUPPORT
from tests.faults.conftest import ADAPT, PREDICT, TEXTS
from tests.waiting import LIMIT_S, until

pytestmark = pytest.mark.slow

LARGE = {"support": [{"text": f"{'some words ' * 10}{i}", "label": f"class {i % 4}"} for i in range(200)]}
"""A support set that is large enough to be held."""

HELD_SERVER = str(Path(__file__).with_name("held_server.py"))


@pytest.fixture
def options(tiny_checkpoint: Path) -> list[str]:
    """Options of every server here."""
    return ["--checkpoint", str(tiny_checkpoint), "--threads", "1"]


@pytest.fixture
def server(tmp_path: Path, options: list[str]) -> Iterator[ServerProcess]:
    """A server on an SQLite file of its own."""
    with running_server(tmp_path, *options) as running:
        yield running


def counted(url: str, name: str) -> dict[str, float]:
    """A metric's series: labels -> value."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)}


def answers(url: str) -> bool:
    """Whether a new connection is still taken."""
    try:
        return httpx.get(f"{url}/livez").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def holding_server(folder: Path, *options: str) -> Iterator[tuple[ServerProcess, Path]]:
    """A server in which large work runs for as long as a file is there."""
    hold = folder / "hold"
    hold.touch()
    more = ("--max-queue-tokens", "1000000")
    with running_server(folder, *options, *more, program=[HELD_SERVER], env={"TEST_HOLD_FILE": str(hold)}) as server:
        try:
            yield server, hold
        finally:
            hold.unlink(missing_ok=True)


def test_a_request_that_runs_is_finished_after_sigterm(tmp_path: Path, options: list[str]) -> None:
    delays = ("--drain-delay-s", "3600", "--drain-timeout-s", "600")
    with holding_server(tmp_path, *options, *delays) as (server, hold):
        with httpx.Client(base_url=server.url) as client, ThreadPoolExecutor(1) as threads:
            assert client.post(ADAPT, json={"support": SUPPORT}).status_code == 200
            slow = threads.submit(httpx.post, f"{server.url}/v1/tasks/slow/adapt", json=LARGE)
            until(lambda: counted(server.url, "handful_queue_tokens")["handful_queue_tokens"] > 0)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: client.get("/readyz").status_code == 503)
            assert client.get("/readyz").json()["checks"] == {"compute": True, "store": True, "not_draining": False}
            # Unready, and still serving: traffic arrives for a while
            assert client.post(PREDICT, json={"queries": TEXTS}).status_code == 200
            assert answers(server.url)
            server.process.send_signal(signal.SIGTERM)  # a second one skips what is left of the delay
            until(lambda: not answers(server.url))
            assert not slow.done()
            hold.unlink()
            answer = slow.result()
        assert answer.status_code == 200
        assert answer.json()["version"] == 1
        assert server.process.wait(LIMIT_S) in {0, -signal.SIGTERM}
        assert "Traceback" not in server.log.read_text()
    with sqlite3.connect(tmp_path / "handful.db") as db:
        assert db.execute("SELECT version FROM tasks WHERE task = 'slow'").fetchall() == [(1,)]


def test_an_idle_server_ends_well_after_sigterm(server: ServerProcess) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(LIMIT_S) == 0
    assert "Traceback" not in server.log.read_text()


def test_every_acknowledged_version_outlives_kill_9(tmp_path: Path, options: list[str]) -> None:
    acknowledged: dict[str, list[int]] = {f"task-{i}": [] for i in range(4)}
    stop = threading.Event()

    def keep_adapting(task: str) -> None:
        with httpx.Client(base_url=server.url) as client:
            while not stop.is_set():
                try:
                    response = client.post(f"/v1/tasks/{task}/adapt", json={"support": SUPPORT, "steps": 1})
                except httpx.TransportError:
                    return
                assert response.status_code == 200
                acknowledged[task].append(response.json()["version"])

    with running_server(tmp_path, *options) as server:
        threads = [threading.Thread(target=keep_adapting, args=(task,)) for task in acknowledged]
        for thread in threads:
            thread.start()
        until(lambda: sum(map(len, acknowledged.values())) > 40)
        server.process.kill()
        stop.set()
        for thread in threads:
            thread.join()
        assert server.process.wait(LIMIT_S) == -signal.SIGKILL

    with sqlite3.connect(tmp_path / "handful.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with running_server(tmp_path, *options) as again, httpx.Client(base_url=again.url) as client:
        for task, versions in acknowledged.items():
            assert versions == list(range(1, len(versions) + 1))
            pages = client.get(f"/v1/tasks/{task}/versions?limit=1000").json()["versions"]
            stored = [version["version"] for version in pages]
            # One more may have been committed and not answered; never a gap
            assert stored == list(range(len(stored), 0, -1))
            assert len(versions) <= len(stored) <= len(versions) + 1
            for version in (1, len(versions)):
                answer = client.post(f"/v1/tasks/{task}/predict", json={"queries": TEXTS[:1], "version": version})
                assert answer.status_code == 200


def leave_in_the_middle(url: str, path: str, body: object, running: threading.Event) -> None:
    """Sends a request and closes the connection without reading an answer."""
    address = urlsplit(url)
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port or 80), timeout=LIMIT_S) as connection:
        connection.sendall(head.encode() + content)
        running.wait(LIMIT_S)


def test_work_for_a_client_that_left_is_dropped(tmp_path: Path, options: list[str]) -> None:
    def queued() -> float:
        return counted(server.url, "handful_queue_tokens")["handful_queue_tokens"]

    with holding_server(tmp_path, *options) as (server, _):
        assert httpx.post(f"{server.url}{ADAPT}", json={"support": SUPPORT}).status_code == 200
        before = counted(server.url, "handful_predict_queries_total")
        for path, body, route in (
            ("/v1/classify", {**LARGE, "queries": TEXTS}, "/v1/classify"),
            (PREDICT, {"queries": ["some words " * 10] * 200}, "/v1/tasks/{task}/predict"),
        ):
            left = threading.Event()
            leaving = threading.Thread(target=leave_in_the_middle, args=(server.url, path, body, left))
            leaving.start()
            until(lambda: queued() > 1000)
            left.set()
            leaving.join()
            # The work is held and would never end by itself: it is dropped, or stays
            until(lambda: queued() == 0)
            # Counted as the client's, so that no 5xx wakes an operator
            of_route = f'route="{route}"'
            left_alone = f'handful_requests_total{{{of_route},status="499"}}'
            until(lambda series=left_alone: series in counted(server.url, "handful_requests_total"))
            seen = [series for series in counted(server.url, "handful_requests_total") if of_route in series]
            assert not [series for series in seen if 'status="5' in series]
        assert counted(server.url, "handful_predict_queries_total") == before, "something was computed for nobody"
        assert "Traceback" not in server.log.read_text()
        assert httpx.post(f"{server.url}{PREDICT}", json={"queries": TEXTS}).status_code == 200
