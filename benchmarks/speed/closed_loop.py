"""A closed loop of requests by wrk, a load driver in C, with tenants and bodies drawn at random."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.population import Tenant

_SCRIPT = Path(__file__).with_name("requests.lua")


class DriverMissing(Exception):
    """wrk is not installed."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """The result of a run of wrk.

    Attributes:
        requests_per_s: Answered requests a second.
        p50_s: Median time of a request, as are the others.
        p90_s: See ``p50_s``.
        p99_s: See ``p50_s``.
    """

    requests_per_s: float
    p50_s: float
    p90_s: float
    p99_s: float


def closed_loop(
    url: str,
    tenants: Sequence[Tenant],
    bodies: Sequence[bytes],
    folder: Path,
    *,
    connections: int,
    seconds: float,
    seed: int = 0,
) -> ClosedLoop:
    """Lets wrk ask ``predict``.

    Args:
        url: The server's.
        tenants: One is drawn for each request.
        bodies: The same; JSON without line breaks.
        folder: For files that wrk reads.
        connections: Kept alive; each has one request at a time.
        seconds: How long.
        seed: Decides what is drawn.

    Raises:
        DriverMissing: wrk is not installed.
        RuntimeError: Some requests failed, or wrk did.
    """
    wrk = shutil.which("wrk")
    if wrk is None:
        raise DriverMissing("the load driver wrk is not installed: it is in the package `wrk` of most distributions")
    (folder / "tenants").write_text("".join(f"{tenant.key} {tenant.task}\n" for tenant in tenants))
    (folder / "bodies").write_bytes(b"".join(body + b"\n" for body in bodies))
    ran = subprocess.run(
        [
            *(wrk, "--threads", "1", "--connections", str(connections), "--duration", f"{round(seconds)}s"),
            *("--timeout", "30s", "--script", str(_SCRIPT), url, "--", str(folder), str(seed)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    printed = ran.stdout.rpartition("RESULT ")[2]
    if ran.returncode or not printed:
        raise RuntimeError(f"wrk failed: {ran.stderr or ran.stdout}")
    result = json.loads(printed)
    if result["errors"]:
        raise RuntimeError(f"{result['errors']} of {result['requests']} requests failed")
    return ClosedLoop(
        requests_per_s=result["requests"] / result["duration_us"] * 1e6,
        p50_s=result["p50_us"] / 1e6,
        p90_s=result["p90_us"] / 1e6,
        p99_s=result["p99_us"] / 1e6,
    )
