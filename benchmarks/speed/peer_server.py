"""Other projects' servers, each a process of an environment of its own."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

_ROOT = Path(__file__).resolve().parent.parent.parent
_START_TIMEOUT_S = 180


@contextmanager
def peer_server(command: Sequence[str], ready: str, log: Path, env: Mapping[str, str]) -> Iterator[str]:
    """Starts a server on a free port, waits until it is ready, and gives its address.

    Args:
        command: Starts it; ``{port}`` stands for the port.
        ready: Path that answers 200 once it is ready.
        log: File for its output.
        env: Further environment variables.

    Raises:
        RuntimeError: It was not ready in time; the message has its log.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [part.format(port=port) for part in command],
            cwd=_ROOT,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
            stdout=output,
            stderr=output,
            start_new_session=True,  # whatever it starts ends with it
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(process, url + ready, log)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{process.args!r} did not become ready:\n{log.read_text()}")
