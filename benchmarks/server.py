"""A real server process on a free port, for benchmarks and tests that go through HTTP."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

_READY = re.compile(r"ready on (http://\S+)")
_START_TIMEOUT_S = 240


@dataclass(frozen=True)
class ServerProcess:
    """A running server.

    Attributes:
        url: Its address.
        process: Its process.
        log: File with its output.
    """

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path


@contextmanager
def running_server(
    folder: Path,
    *options: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = ("-m", "handful"),
) -> Iterator[ServerProcess]:
    """Starts ``handful serve`` with its embedded store in ``folder`` and waits until it is ready.

    Args:
        folder: Working folder of the process.
        options: Further options of ``handful serve``.
        env: Further environment variables.
        program: The program that Python runs.

    Raises:
        RuntimeError: It ended, or was not ready in time; the message has its log.
    """
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".log", delete=False) as log:
        process = subprocess.Popen(
            [sys.executable, *program, "serve", "--port", "0", "--drain-delay-s", "0", *options],
            cwd=folder,
            env={**os.environ, "COLUMNS": "200", **(env or {})},
            stdout=log,
            stderr=log,
        )
    path = Path(log.name)
    try:
        yield ServerProcess(_wait_until_ready(process, path), process, path)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        found = _READY.search(log.read_text())
        if found:
            url = found.group(1)
            try:
                if httpx.get(f"{url}/readyz").status_code < 500:
                    return url
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    raise RuntimeError(f"the server did not become ready:\n{log.read_text()}")
