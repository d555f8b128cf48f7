"""The encoder in a plain loop by either runtime, plain MiniLM beside it, and the service without a socket."""

import time

import torch

from benchmarks.speed.measurements import Measurement
from benchmarks.speed.parts import Bench, Measured
from benchmarks.speed.population import TASK, support_set
from benchmarks.speed.raw import RawLoop
from handful.client import Client
from model_store.checkpoint import Checkpoint, resolve_checkpoint
from service.local import local_client
from service.settings import load_settings

_PLAIN = "minilm-l6-protomaml"
"""Checkpoint that has the encoder as it came."""
_QUERIES = 64
"""Queries of one call in process."""


def limits(bench: Bench) -> Measured:
    """Texts a second of each, in turn."""
    plain = Checkpoint(resolve_checkpoint(_PLAIN).resolve(), torch.device("cpu")).encoder
    loops = {
        "raw loop, ONNX Runtime int8": bench.raw,
        "raw loop, torch float32": RawLoop(bench.checkpoint.encoder, "torch"),
        "raw loop, plain MiniLM, ONNX Runtime int8": RawLoop(plain, "onnxruntime"),
        "raw loop, plain MiniLM, torch float32": RawLoop(plain, "torch"),
    }
    sizes = {name: loop.best_batch_size(bench.inputs, bench.seconds / 4) for name, loop in loops.items()}
    store = f"sqlite:{bench.folder / 'in-process.db'}"
    with local_client(load_settings(store=store, checkpoint=str(bench.checkpoint.folder))) as client:
        client.adapt(TASK, support_set(bench.train, ways=5, shots=5, seed=0))
        for _ in range(bench.repeats):
            rates = {
                f"{name}, batches of {sizes[name]}": loop.texts_per_s(bench.inputs, sizes[name], bench.seconds)
                for name, loop in loops.items()
            }
            rates[f"ours in process, {_QUERIES} a call"] = _texts_per_s(client, bench)
            yield [Measurement(name, rate, "texts/s") for name, rate in rates.items()]


def _texts_per_s(client: Client, bench: Bench) -> float:
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < bench.seconds:
        place = done % (len(bench.texts) - _QUERIES)
        client.predict(TASK, bench.texts[place : place + _QUERIES])
        done += _QUERIES
    return done / (time.perf_counter() - began)
