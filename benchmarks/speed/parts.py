"""The parts of the benchmark, each a generator: each ``yield`` has the measurements of one repeat."""

import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx
import numpy as np

from benchmarks.comparison import read_outcomes
from benchmarks.episodes import Episode, Row
from benchmarks.peer_process import run_peer
from benchmarks.server import ServerProcess, running_server
from benchmarks.speed.closed_loop import ClosedLoop, closed_loop
from benchmarks.speed.measurements import Measurement
from benchmarks.speed.open_loop import Stream, http_post, open_loop
from benchmarks.speed.population import (
    Tenant,
    adapted_tenants,
    copied_tenants,
    new_tenant,
    predict_bodies,
    support_set,
)
from benchmarks.speed.raw import RawLoop
from handful.client import Client
from metalearn.types import TextInput
from model_store.checkpoint import Checkpoint
from model_store.store import TaskStore
from service.settings import load_settings
from service.store_access import open_store

Measured = Iterator[list[Measurement]]

_ORIGINALS = 20
_ADAPTS_A_SECOND = 4.0
_AWAKE_S = 0.2
"""For so long the raw loop's threads may spin when it has ended, on the cores that the server needs."""


@dataclass(frozen=True)
class Bench:
    """The common ground of all parts.

    Attributes:
        checkpoint: The checkpoint that is served, and computed raw.
        raw: Its encoder in a plain loop.
        train: Rows that tenants adapt on.
        texts: Texts that are classified.
        folder: Folder for files.
        seconds: Length of one run under load.
        repeats: How often everything is measured.
        tenants: How many tenants there are, where there are many.
    """

    checkpoint: Checkpoint
    raw: RawLoop
    train: Sequence[Row]
    texts: Sequence[str]
    folder: Path
    seconds: float
    repeats: int
    tenants: int

    @property
    def inputs(self) -> list[TextInput]:
        """The texts as an encoder takes them."""
        return [TextInput(text) for text in self.texts]


@contextmanager
def serving(bench: Bench, store_url: str, *options: str) -> Iterator[tuple[ServerProcess, TaskStore]]:
    """A server, and its store beside it."""
    store = open_store(load_settings(store=store_url))
    try:
        checkpoint = ("--checkpoint", str(bench.checkpoint.folder), "--store", store_url)
        with running_server(bench.folder, *checkpoint, *options) as server:
            yield server, store
    finally:
        store.close()


def populate(bench: Bench, server: ServerProcess, store: TaskStore, number: int) -> list[Tenant]:
    """Tenants with tasks of 5 classes, 5 examples each."""
    originals = adapted_tenants(store, server.url, bench.train, count=_ORIGINALS, ways=5, shots=5, prefix="original")
    return list(copied_tenants(store, bench.checkpoint, originals, count=number, prefix="tenant"))


def throughput(bench: Bench, server: ServerProcess, tenants: Sequence[Tenant]) -> Measured:
    """Predictions a second through HTTP, beside the raw loop."""
    batch_size = bench.raw.best_batch_size(bench.inputs, bench.seconds / 4)
    for repeat in range(bench.repeats):
        raw = bench.raw.texts_per_s(bench.inputs, batch_size, bench.seconds)
        measured = [Measurement(f"raw loop, batches of {batch_size}", raw, "texts/s")]
        for queries, least in ((1, 0.55), (8, 0.85)):
            bodies = predict_bodies(bench.texts, queries=queries, count=2000, seed=repeat)
            runs: dict[int, list[ClosedLoop]] = {len(tenants): [], 1: []}
            # In turn, so that a machine that slows down favours neither
            for number in (len(tenants), 1, 1, len(tenants)) * 2:
                run = predictions(bench, server.url, tenants[:number], bodies, connections=64, seed=repeat)
                runs[number].append(run)
            rates = {}
            for number, both in runs.items():
                rates[number] = statistics.fmean(run.requests_per_s for run in both) * queries
                what = f"{queries} a request, 64 connections, {number:,} tenants"
                measured += [
                    Measurement(what, rates[number], "texts/s"),
                    Measurement(f"{what}: p99", statistics.fmean(run.p99_s for run in both) * 1000, "ms"),
                ]
            several, one = rates[len(tenants)], rates[1]
            what = f"{queries} a request, {len(tenants):,} tenants"
            measured += [
                Measurement(f"{what}, to the raw loop", several / raw, wanted=f">= {least}"),
                Measurement(f"{what}, to one tenant", several / one, wanted=">= 0.95"),
            ]
        bodies = predict_bodies(bench.texts, queries=1, count=2000, seed=repeat)
        run = predictions(bench, server.url, tenants, bodies, connections=8, seed=repeat)
        measured.append(Measurement("1 a request, 8 connections", run.requests_per_s, "texts/s"))
        yield measured


def latency(bench: Bench, server: ServerProcess, tenants: Sequence[Tenant]) -> Measured:
    """One query at a time, beside the raw loop's batches of one."""
    for repeat in range(bench.repeats):
        raw = bench.raw.median_s(bench.inputs[repeat * 150 :], batch_size=1, batches=150)
        bodies = predict_bodies(bench.texts, queries=1, count=2000, seed=repeat)
        run = predictions(bench, server.url, tenants[:1], bodies, connections=1, seed=repeat)
        yield [
            Measurement("raw loop, one text: p50", raw * 1000, "ms"),
            Measurement("one query, one connection: p50", run.p50_s * 1000, "ms"),
            Measurement("one query, one connection: p99", run.p99_s * 1000, "ms"),
            Measurement("p50 above the raw loop's", (run.p50_s - raw) * 1000, "ms", "<= 2.0"),
        ]


def adaptation(bench: Bench, server: ServerProcess, store: TaskStore) -> Measured:
    """Adaptations through HTTP, beside the bare forward pass over the same texts."""
    numbers = count()
    for _ in range(bench.repeats):
        measured = []
        for ways, shots, times, most in ((5, 5, 10, 2.0), (77, 10, 1, 1.5)):
            bare, cold, cached = [], [], []
            for _ in range(times):
                number = next(numbers)
                support = support_set(bench.train, ways=ways, shots=shots, seed=number)
                tenant = new_tenant(store, f"adapting-{number}")
                bare.append(bench.raw.whole_s([TextInput(example["text"]) for example in support]))
                time.sleep(_AWAKE_S)
                with Client(server.url, api_key=tenant.key, timeout_s=600) as client:
                    client.checkpoint()  # so that there is a connection
                    for taken in (cold, cached):
                        began = time.perf_counter()
                        client.adapt(tenant.task, support)
                        taken.append(time.perf_counter() - began)
            forward, first, again = (statistics.median(taken) for taken in (bare, cold, cached))
            what = f"adapt, {ways} classes, {shots} examples each"
            measured += [
                Measurement(f"bare forward pass over {ways * shots} texts", forward * 1000, "ms"),
                Measurement(what, first * 1000, "ms"),
                Measurement(f"{what}, to the bare forward pass", first / forward, wanted=f"<= {most}"),
                Measurement(f"{what}, again", again * 1000, "ms"),
            ]
            if ways == 5:
                measured.append(Measurement(f"{what}, again, to the first time", again / first, wanted="<= 0.25"))
        yield measured


def fitting(
    bench: Bench, server: ServerProcess, store: TaskStore, peer: str, python: str, wanted: str = ""
) -> Measured:
    """Another project's fit, and adaptations to the same examples through HTTP."""
    queries = tuple(Row(text, "") for text in bench.texts[:64])
    episodes: list[Episode] = []
    for repeat in range(bench.repeats):
        support = support_set(bench.train, ways=5, shots=5, seed=2_000_000 + repeat)
        rows = tuple(Row(example["text"], example["label"]) for example in support)
        episodes.append(Episode("speed", "banking77", 5, repeat, rows, queries))
        # On both sides of a fit that takes so long that the machine may change its pace
        ours = _adapt_times_s(server, store, support, f"before-{peer}-{repeat}")
        theirs = read_outcomes(run_peer(peer, python, episodes, bench.folder))[-1]
        ours += _adapt_times_s(server, store, support, f"after-{peer}-{repeat}")
        yield [
            Measurement(f"{peer}, fit to 5 classes, 5 examples each", theirs.adapt_s, "s"),
            Measurement(f"{peer}, predict 64 texts", theirs.predict_s * 1000, "ms"),
            Measurement(f"adapt to the same as {peer}", statistics.median(ours) * 1000, "ms"),
            Measurement(f"{peer}'s fit, to adapt", theirs.adapt_s / statistics.median(ours), wanted=wanted),
        ]


def _adapt_times_s(
    server: ServerProcess, store: TaskStore, support: Sequence[dict[str, str]], name: str
) -> list[float]:
    """Times of adaptations by new tenants, of whose texts nothing is cached."""
    taken = []
    for number in range(5):
        tenant = new_tenant(store, f"{name}-{number}")
        with Client(server.url, api_key=tenant.key, timeout_s=600) as client:
            client.checkpoint()  # so that there is a connection
            began = time.perf_counter()
            client.adapt(tenant.task, support)
            taken.append(time.perf_counter() - began)
    return taken


def peer_serving(bench: Bench, server: ServerProcess, tenants: Sequence[Tenant], name: str, url: str) -> Measured:
    """The same requests to another server and to ours, in turn; it has a task for each of a few tenants only."""
    few = [Tenant(f"peer-{number}", f"peer-{number}") for number in range(_ORIGINALS)]
    with httpx.Client(base_url=url, timeout=600) as client:
        for number, tenant in enumerate(few):
            headers = {"Authorization": f"Bearer {tenant.key}"}
            body = {"support": support_set(bench.train, ways=5, shots=5, seed=number)}
            client.post(f"/v1/tasks/{tenant.task}/adapt", json=body, headers=headers).raise_for_status()
    for repeat in range(bench.repeats):
        measured = []
        for queries, connections in ((1, 1), (1, 64), (8, 64)):
            bodies = predict_bodies(bench.texts, queries=queries, count=2000, seed=repeat)
            both = {"connections": connections, "seed": repeat}
            ours = predictions(bench, server.url, tenants, bodies, **both)
            theirs = predictions(bench, url, few, bodies, **both)
            what = f"{queries} a request, {connections} connections"
            measured += [
                Measurement(f"{name}: {what}", theirs.requests_per_s * queries, "texts/s"),
                Measurement(f"{name}: {what}: p50", theirs.p50_s * 1000, "ms"),
                Measurement(f"ours beside {name}: {what}", ours.requests_per_s * queries, "texts/s"),
                Measurement(f"ours beside {name}: {what}: p50", ours.p50_s * 1000, "ms"),
                Measurement(f"ours to {name}: {what}", ours.requests_per_s / theirs.requests_per_s),
            ]
        yield measured


def adapting_beside(bench: Bench, server: ServerProcess, store: TaskStore, tenants: Sequence[Tenant]) -> Measured:
    """Predictions at half of what the server can do, with and without adaptations at the same time."""
    bodies = predict_bodies(bench.texts, queries=1, count=2000)
    capacity = predictions(bench, server.url, tenants, bodies, connections=64).requests_per_s
    numbers = count()
    for repeat in range(bench.repeats):

        def predicts(number: int) -> bytes:
            tenant = tenants[number * 7919 % len(tenants)]
            return http_post(f"/v1/tasks/{tenant.task}/predict", tenant.key, bodies[number % len(bodies)])

        def adapts(_: int) -> bytes:
            number = next(numbers)
            support = support_set(bench.train, ways=5, shots=5, seed=1_000_000 + number)
            body = json.dumps({"support": support}).encode()
            return http_post("/v1/tasks/beside/adapt", tenants[number % len(tenants)].key, body)

        predicting = Stream("predict", capacity / 2, predicts)
        alone = open_loop(server.url, [predicting], seconds=bench.seconds * 2, seed=repeat)
        both = open_loop(
            server.url,
            [predicting, Stream("adapt", _ADAPTS_A_SECOND, adapts)],
            seconds=bench.seconds * 2,
            seed=repeat,
        )
        before, beside = _percentile_ms(alone["predict"], 99), _percentile_ms(both["predict"], 99)
        yield [
            Measurement("half load", capacity / 2, "requests/s"),
            Measurement("half load: p50", _percentile_ms(alone["predict"], 50), "ms"),
            Measurement("half load: p99", before, "ms"),
            Measurement("half load beside 4 adapts a second: p50", _percentile_ms(both["predict"], 50), "ms"),
            Measurement("half load beside 4 adapts a second: p99", beside, "ms"),
            Measurement("adapt beside half load: p50", _percentile_ms(both["adapt"], 50), "ms"),
            Measurement("p99 with adapts, to without", beside / before, wanted="<= 2.0"),
        ]


def cold_tenants(bench: Bench, store_url: str, tenants: Sequence[Tenant]) -> Measured:
    """A tenant's first query on a server that has just started, and its next."""
    share = len(tenants) // bench.repeats
    body = predict_bodies(bench.texts, queries=1, count=1)[0]
    with serving(bench, store_url) as (server, _), httpx.Client(base_url=server.url) as client:
        for repeat in range(bench.repeats):
            taken: dict[str, list[float]] = {"cold": [], "warm": []}
            for tenant in tenants[repeat * share :][: min(share, 200)]:
                headers = {"Authorization": f"Bearer {tenant.key}", "Content-Type": "application/json"}
                for kind in ("cold", "warm"):
                    began = time.perf_counter()
                    answer = client.post(f"/v1/tasks/{tenant.task}/predict", content=body, headers=headers)
                    taken[kind].append(time.perf_counter() - began)
                    answer.raise_for_status()
            cold, warm = (statistics.median(taken[kind]) for kind in ("cold", "warm"))
            yield [
                Measurement("first query of a tenant (Redis): p50", cold * 1000, "ms"),
                Measurement("second query of a tenant: p50", warm * 1000, "ms"),
                Measurement("first above second", (cold - warm) * 1000, "ms", "<= 2.0"),
            ]


def predictions(
    bench: Bench,
    url: str,
    tenants: Sequence[Tenant],
    bodies: Sequence[bytes],
    *,
    connections: int,
    seed: int = 0,
) -> ClosedLoop:
    """A run of wrk."""
    return closed_loop(url, tenants, bodies, bench.folder, connections=connections, seconds=bench.seconds, seed=seed)


def _percentile_ms(taken_s: Sequence[float], percent: float) -> float:
    return float(np.percentile(taken_s, percent)) * 1000
