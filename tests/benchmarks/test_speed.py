"""The benchmark of speed: its driver, its population and its table."""

import asyncio
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch

from benchmarks.episodes import Row
from benchmarks.speed.closed_loop import DriverMissing, closed_loop
from benchmarks.speed.growth import picture
from benchmarks.speed.many_tenants import many_tenants
from benchmarks.speed.measurements import Measurement, append, read, table
from benchmarks.speed.open_loop import Stream, http_post, open_loop
from benchmarks.speed.parts import Bench
from benchmarks.speed.peer_server import peer_server
from benchmarks.speed.population import Tenant, predict_bodies, support_set
from benchmarks.speed.raw import RawLoop
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.types import TextInput
from model_store.checkpoint import Checkpoint

STALL_S = 0.1


class OneAtATime:
    """An HTTP server that takes its time over each request, one after the other."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.status = 200
        self.url = ""
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)))
        self._thread.start()
        started.wait()

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._turn, self._end = asyncio.get_running_loop(), asyncio.Lock(), asyncio.Event()
        async with await asyncio.start_server(self._serve, host="127.0.0.1", port=0) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            started.set()
            await self._end.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            self.bodies.append(await reader.readexactly(length))
            async with self._turn:
                await asyncio.sleep(STALL_S)
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % self.status)

    def close(self) -> None:
        """Ends it."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()


@pytest.fixture
def server() -> Iterator[OneAtATime]:
    """One for each test."""
    made = OneAtATime()
    yield made
    made.close()


def test_an_open_loop_does_not_wait_for_answers_and_counts_the_queue(server: OneAtATime) -> None:
    stream = Stream("ask", 50.0, lambda number: http_post("/", "key", b"%d" % number))
    taken = open_loop(server.url, [stream], seconds=0.5)["ask"]
    assert len(taken) > 10
    assert sorted(server.bodies, key=int) == [b"%d" % number for number in range(len(taken))]
    # Each waits for all before it: a driver that asks again only after an answer would see one stall each time
    assert taken[-1] > 0.8 * STALL_S * len(taken) - 0.5
    assert max(taken) > 4 * STALL_S


def test_an_open_loops_times_and_kinds_are_decided_by_its_seed(server: OneAtATime) -> None:
    def counts(seed: int) -> list[int]:
        streams = [Stream(name, rate, lambda _: http_post("/", "key", b"")) for name, rate in (("a", 20.0), ("b", 5.0))]
        return [len(taken) for taken in open_loop(server.url, streams, seconds=0.4, seed=seed).values()]

    assert counts(1) == counts(1)
    assert len({tuple(counts(seed)) for seed in range(4)}) > 1


def test_an_open_loop_takes_no_failure_for_an_answer(server: OneAtATime) -> None:
    server.status = 503
    with pytest.raises(ExceptionGroup) as caught:
        open_loop(server.url, [Stream("ask", 30.0, lambda _: http_post("/", "key", b""))], seconds=0.2)
    assert "the server answered 503" in str(caught.value.exceptions)


def test_without_a_load_driver_the_error_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(DriverMissing, match="wrk"):
        closed_loop("http://127.0.0.1:1", [Tenant("t", "k")], [b"{}"], tmp_path, connections=1, seconds=1)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_a_closed_loop_has_as_many_requests_under_way_as_connections(server: OneAtATime, tmp_path: Path) -> None:
    tenants = [Tenant("one", "key-1"), Tenant("two", "key-2")]
    run = closed_loop(server.url, tenants, [b'{"n": 1}', b'{"n": 2}'], tmp_path, connections=3, seconds=1)
    assert run.requests_per_s < 1.1 / STALL_S
    assert run.p50_s > 2 * STALL_S
    assert set(server.bodies) == {b'{"n": 1}', b'{"n": 2}'}
    server.status = 500
    with pytest.raises(RuntimeError, match="failed"):
        closed_loop(server.url, tenants, [b"{}"], tmp_path, connections=3, seconds=1)


def test_the_table_has_medians_and_marks_what_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    for value in (0.5, 0.9, 0.7):
        append(path, [Measurement("ratio", value, wanted=">= 0.6"), Measurement("time", 1000 * value, "ms", "<= 600")])
    append(path, [Measurement("rate", 1234.5, "texts/s")])
    assert table(read(path)).splitlines()[2:] == [
        "| ratio | 0.7 | 0.5 | 0.9 | 3 | >= 0.6 | yes |",
        "| time | 700 ms | 500 ms | 900 ms | 3 | <= 600 | **no** |",
        "| rate | 1,234 texts/s | 1,234 texts/s | 1,234 texts/s | 1 |  |  |",
    ]


def test_support_sets_differ_by_seed_and_bodies_hold_what_they_should() -> None:
    rows = [Row(f"text {label} {n}", f"label {label}") for label in range(8) for n in range(6)]
    drawn = support_set(rows, ways=3, shots=5, seed=1)
    assert len({example["text"] for example in drawn}) == 15
    labels = [example["label"] for example in drawn]
    assert sorted(labels.count(label) for label in set(labels)) == [5, 5, 5]
    assert drawn == support_set(rows, ways=3, shots=5, seed=1)
    assert drawn != support_set(rows, ways=3, shots=5, seed=2)
    bodies = predict_bodies([row.text for row in rows], queries=4, count=10)
    assert [len(set(json.loads(body)["queries"])) for body in bodies] == [4] * 10


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_the_raw_loop_reads_every_text(tiny_encoder: Path, runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = RawLoop(build_encoder(tiny_encoder, encoder_stages(max_tokens=64), torch.device("cpu")), runtime)
    texts = [TextInput("word " * (1 + n % 5)) for n in range(10)]
    seen: list[int] = []
    forward = loop._forward
    monkeypatch.setattr(loop, "_forward", lambda batch: (seen.append(len(batch)), forward(batch)))
    assert loop.whole_s(texts) > 0
    assert sum(seen) == 5 * len(texts), "once for each batch size"
    seen.clear()
    loop.median_s(texts, batch_size=3, batches=2)
    assert seen == [3, 3]
    assert loop.texts_per_s(texts, 4, 0.01) > 0


def test_growth_is_drawn_from_what_was_measured(tmp_path: Path) -> None:
    measured = [
        Measurement(f"adapt, {at} examples", 10.0 * at, "ms", along="examples", at=at, line=line)
        for at in (5, 10, 25)
        for line in ("adapt", "bare forward pass")
    ]
    measured += [Measurement("predict, 1 tenants", 250.0, "texts/s", along="tenants", at=1, line="predict")]
    file = tmp_path / "measurements.jsonl"
    append(file, [*measured, Measurement("nothing grows here", 1.0)])
    assert read(file)[:-1] == measured
    picture(read(file), tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_another_projects_server_is_waited_for_and_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1"]
    with peer_server(command, "/", tmp_path / "log", {}) as url:
        assert httpx.get(url).status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_a_server_that_does_not_start_is_reported_with_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such model'); raise SystemExit(3)"]
    with pytest.raises(RuntimeError, match="no such model"), peer_server(command, "/", tmp_path / "log", {}):
        pass


@pytest.mark.slow
def test_very_many_tenants_are_all_asked_once(tiny_checkpoint: Path, tmp_path: Path, redis_url: str) -> None:
    checkpoint = Checkpoint(tiny_checkpoint, torch.device("cpu"))
    rows = [Row(f"number {i} of {label}", f"class {label}") for label in range(12) for i in range(6)]
    bench = Bench(
        checkpoint=checkpoint,
        raw=RawLoop(checkpoint.encoder, "torch"),
        train=rows,
        texts=[row.text for row in rows],
        folder=tmp_path,
        seconds=1,
        repeats=1,
        tenants=1,
    )
    ((a_tenant, before, after, growth),) = many_tenants(bench, redis_url, 150)
    assert 0 < a_tenant.value < 20_480
    assert before.value > 10
    assert after.value > 10
    assert growth.held
