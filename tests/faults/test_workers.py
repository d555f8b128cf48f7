"""Several server processes on one socket: they answer as one, a dead one is replaced, and none is left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.server import ServerProcess, running_server
from tests.conftest import SUPPORT
from tests.faults.conftest import ADAPT, PREDICT, TEXTS
from tests.waiting import LIMIT_S, until

pytestmark = pytest.mark.slow

STARTED, CPU = "process_start_time_seconds", "process_cpu_seconds_total"


@pytest.fixture
def server(tmp_path: Path, tiny_checkpoint: Path) -> Iterator[ServerProcess]:
    """Two workers."""
    options = ("--checkpoint", str(tiny_checkpoint), "--threads", "2", "--workers", "2", "--store-timeout-s", "30")
    with running_server(tmp_path, *options) as running:
        yield running


def children(process: int) -> list[int]:
    """Processes that another one has started and that still run."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        # Not the helper that watches over shared memory
        if fields[1] == str(process) and fields[0] != "Z" and b"spawn_main" in command:
            found.append(int(folder.name))
    return found


def series(url: str, name: str) -> dict[str, float]:
    """A metric's series: labels -> value."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name)}


def ask(url: str) -> int:
    """Status of a prediction over a connection of its own."""
    return httpx.post(f"{url}{PREDICT}", json={"queries": TEXTS}).status_code


def test_workers_answer_as_one_server(server: ServerProcess) -> None:
    assert len(children(server.process.pid)) == 2
    for number in range(1, 7):
        # Whichever worker takes it, it goes on from what the others have committed
        assert httpx.post(f"{server.url}{ADAPT}", json={"support": SUPPORT}).json()["version"] == number
        answer = httpx.post(f"{server.url}{PREDICT}", json={"queries": TEXTS}).json()
        assert answer["version"] == number
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(ask, [server.url] * 200)) == {200}
    for _ in range(6):  # each worker reports the requests of all
        counted = series(server.url, "handful_requests_total")
        assert counted['handful_requests_total{route="/v1/tasks/{task}/predict",status="200"}'] == 206
        assert counted['handful_requests_total{route="/v1/tasks/{task}/adapt",status="200"}'] == 6
        (info,) = series(server.url, "handful_checkpoint_info").values()
        assert info == 1
        assert series(server.url, "handful_queue_tokens") == {"handful_queue_tokens": 0}
        # One worker counts, and nothing is added up over those that do not
        assert series(server.url, "handful_stale_tasks") in ({}, {"handful_stale_tasks": 0})
        processes = series(server.url, "process_")
        assert processes.keys() >= {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
    assert len({series(server.url, STARTED)[STARTED] for _ in range(6)}) == 1, "whichever is asked"


def test_a_worker_that_dies_is_replaced_and_its_counts_stay(server: ServerProcess) -> None:
    assert httpx.post(f"{server.url}{ADAPT}", json={"support": SUPPORT}).status_code == 200
    for _ in range(20):
        assert ask(server.url) == 200
    name = 'handful_requests_total{route="/v1/tasks/{task}/predict",status="200"}'
    assert series(server.url, name)[name] == 20
    started, cpu_s = series(server.url, STARTED)[STARTED], series(server.url, CPU)[CPU]
    victim, survivor = children(server.process.pid)
    os.kill(victim, signal.SIGSTOP)  # so that a request cannot end up with it
    assert ask(server.url) == 200
    os.kill(victim, signal.SIGKILL)
    # One look: between two the victim may go, and have been counted as its own replacement
    until(lambda: len({*children(server.process.pid)} - {victim}) == 2)
    assert survivor in children(server.process.pid)
    assert series(server.url, name)[name] == 21
    assert f"worker {victim} ended with status {-signal.SIGKILL}" in server.log.read_text()
    assert ask(server.url) == 200
    # What the alert on restarts looks at changes, and a counter does not fall
    until(lambda: series(server.url, STARTED)[STARTED] > started)
    assert series(server.url, CPU)[CPU] >= cpu_s


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_of_them(server: ServerProcess, number: signal.Signals) -> None:
    workers = children(server.process.pid)
    server.process.send_signal(number)
    assert server.process.wait(LIMIT_S) == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert "Traceback" not in server.log.read_text()


def test_workers_end_with_their_parent(server: ServerProcess) -> None:
    workers = children(server.process.pid)
    server.process.kill()
    server.process.wait(LIMIT_S)
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_an_error_at_a_workers_start_is_reported_in_a_line(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "handful", "serve", "--port", "0", "--workers", "2", "--checkpoint", "nowhere")
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 1
    assert "error:" in ended.stderr
    assert "Traceback" not in ended.stderr
