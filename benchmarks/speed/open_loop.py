"""Requests at a steady rate whatever the answers take, timed from when each was due: queueing is not hidden.

A driver that waits for an answer before it asks again leaves out just those requests that would have waited longest
("coordinated omission").
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one kind.

    Attributes:
        name: The kind's.
        rate: Requests a second on average; gaps are exponentially distributed.
        request: Number of a request -> its bytes on the wire.
    """

    name: str
    rate: float
    request: Callable[[int], bytes]


def http_post(path: str, key: str, body: bytes) -> bytes:
    """A request on the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: benchmark\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def open_loop(url: str, streams: Sequence[Stream], *, seconds: float, seed: int = 0) -> dict[str, list[float]]:
    """Seconds from when each request was due to its answer, by kind, in the order of answers.

    Args:
        url: The server's.
        streams: The streams of requests, all at once.
        seconds: For how long requests begin.
        seed: Decides when.

    Raises:
        RuntimeError: A request failed.
    """
    return asyncio.run(_drive(url, streams, seconds, seed))


async def _drive(url: str, streams: Sequence[Stream], seconds: float, seed: int) -> dict[str, list[float]]:
    connections = Connections(url)
    took: dict[str, list[float]] = {stream.name: [] for stream in streams}

    async def one(stream: Stream, number: int, due: float) -> None:
        status = await connections.ask(stream.request(number))
        if status != 200:
            raise RuntimeError(f"{stream.name}: the server answered {status}")
        took[stream.name].append(time.perf_counter() - due)

    async def send(stream: Stream, group: asyncio.TaskGroup) -> None:
        draw = random.Random(f"{seed} {stream.name}")
        due, number = time.perf_counter(), 0
        end = due + seconds
        while (due := due + draw.expovariate(stream.rate)) < end:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(stream, number, due))
            number += 1

    try:
        async with asyncio.TaskGroup() as group:
            for stream in streams:
                group.create_task(send(stream, group))
    finally:
        connections.close()
    return took


class Connections:
    """Kept alive; as many as there are requests at once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname, parts.port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes) -> int:
        """Status of the answer, once all of it is there."""
        if self._idle:
            reader, writer = self._idle.pop()
        else:
            reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").lower().split("\r\n")
        (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
        self._idle.append((reader, writer))
        return int(lines[0].split()[1])

    def close(self) -> None:
        """Closes those that are idle."""
        for _, writer in self._idle:
            writer.close()
