"""The cost of very many tenants: memory of Redis, and of the service while each is asked once."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis

from benchmarks.server import ServerProcess
from benchmarks.speed.measurements import Measurement
from benchmarks.speed.open_loop import Connections, http_post
from benchmarks.speed.parts import Bench, Measured, serving
from benchmarks.speed.population import Tenant, adapted_tenants, copied_tenants, predict_bodies

_ORIGINALS = 20
_CONNECTIONS = 32
_CACHE_BYTES = 256 * 2**20


def many_tenants(bench: Bench, store_url: str, number: int) -> Measured:
    """Tenants with a task of 10 classes, 5 examples each, in Redis; then one query of each. Measured once."""
    client = redis.Redis.from_url(store_url)
    bodies = predict_bodies(bench.texts, queries=1, count=2000)
    with serving(bench, store_url, "--cache-max-bytes", str(_CACHE_BYTES)) as (server, store):
        originals = adapted_tenants(store, server.url, bench.train, count=_ORIGINALS, ways=10, shots=5, prefix="first")
        empty = _used_bytes(client)
        tenants = list(copied_tenants(store, bench.checkpoint, originals, count=number, prefix="many"))
        bytes_a_tenant = (_used_bytes(client) - empty) / number
        asyncio.run(_ask(server.url, tenants[: number // 100], bodies))  # so that what is made once is there
        before = _resident_bytes(server)
        asyncio.run(_ask(server.url, tenants, bodies))
        after = _resident_bytes(server)
    mib = 2**20
    yield [
        Measurement(f"Redis, {number:,} tenants of 10 classes: a tenant", bytes_a_tenant, "bytes", "<= 20480"),
        Measurement("the service before all of them were asked", before / mib, "MiB"),
        Measurement("the service after all of them were asked", after / mib, "MiB"),
        Measurement(
            f"growth, to the {_CACHE_BYTES // mib} MiB that its cache may have",
            (after - before) / _CACHE_BYTES,
            wanted="<= 1.0",
        ),
    ]


async def _ask(url: str, tenants: Sequence[Tenant], bodies: Sequence[bytes]) -> None:
    connections = Connections(url)
    waiting: Iterator[tuple[int, Tenant]] = iter(enumerate(tenants))

    async def asker() -> None:
        for number, tenant in waiting:
            body = bodies[number % len(bodies)]
            status = await connections.ask(http_post(f"/v1/tasks/{tenant.task}/predict", tenant.key, body))
            if status != 200:
                raise RuntimeError(f"{tenant.name}: the server answered {status}")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_CONNECTIONS):
                group.create_task(asker())
    finally:
        connections.close()


def _used_bytes(client: "redis.Redis") -> int:
    return int(client.info("memory")["used_memory"])


def _resident_bytes(server: ServerProcess) -> int:
    """Resident memory of the process, as Linux reports it."""
    (line,) = (
        line
        for line in Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmRSS:")
    )
    return int(line.split()[1]) * 1024
