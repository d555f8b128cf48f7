"""A checkpoint by torch, ONNX Runtime float32 and int8: ``python -m benchmarks.other_encoder CHECKPOINT FILE.jsonl``.

FILE has 100 texts or more; the first 25 have labels, and are the support set. The runtimes take turns, so that other
work on the machine meets all of them.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch

from metalearn import adapting
from metalearn.encoder.batches import plan_batches
from metalearn.encoder.encoder import FeatureRuntime, TorchRuntime
from metalearn.options import AdaptOptions
from metalearn.support_plan import plan_support, prepared_support
from metalearn.types import Example, SupportSet, TextInput
from model_store.checkpoint import Checkpoint, resolve_checkpoint
from model_store.learner_models import Models
from service.engine.runtime import start_runtime

SUPPORT, TEXTS, MAX_BATCH_TOKENS = 25, 100, 512


def main() -> None:
    """Prints medians as ratios to torch's, and how near int8's features are to torch's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    torch.set_num_threads(1)
    checkpoint = Checkpoint(resolve_checkpoint(given.checkpoint), torch.device("cpu"))
    lines = [json.loads(line) for line in given.file.read_text(encoding="utf-8").splitlines()]
    encoder = checkpoint.encoder
    runtimes: dict[str, FeatureRuntime] = {"torch float32": TorchRuntime(encoder)}
    for precision in ("float32", "int8"):
        runtimes[f"ONNX Runtime {precision}"] = start_runtime(encoder, "onnxruntime", precision)  # type: ignore[arg-type]
    texts = [TextInput(line["text"]) for line in lines[:TEXTS]]
    work = {f"adapt {SUPPORT} texts": _adapting(checkpoint, lines[:SUPPORT])}
    work |= {"one query": _encoding(checkpoint, texts[:1]), f"{len(texts)} texts": _encoding(checkpoint, texts)}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(given.rounds + 1):
        for task, run in work.items():
            for name, runtime in runtimes.items():
                began = time.perf_counter()
                run(runtime)
                times.setdefault((task, name), []).append(time.perf_counter() - began)
    print("| | " + " | ".join(work) + " |" + "\n|---|" + "---|" * len(work))
    for name in runtimes:
        ratios = [median(times[task, name][1:]) / median(times[task, "torch float32"][1:]) for task in work]
        print(f"| {name} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    print({task: f"{1000 * median(times[task, 'torch float32'][1:]):.0f} ms by torch" for task in work})
    found = [_encoding(checkpoint, texts)(runtime) for runtime in runtimes.values()]
    for name, features in zip(runtimes, found, strict=True):
        cosines = torch.cosine_similarity(features, found[0])
        print(f"{name}: cosine to torch's features, mean {cosines.mean():.4f}, least {cosines.min():.4f}")


def _encoding(checkpoint: Checkpoint, inputs: list[TextInput]) -> Callable[[FeatureRuntime], torch.Tensor]:
    def encode(runtime: FeatureRuntime) -> torch.Tensor:
        texts = checkpoint.encoder.tokenize(inputs)
        features = torch.empty(len(texts), checkpoint.encoder.dim)
        for rows in plan_batches([len(text.ids) for text in texts], MAX_BATCH_TOKENS):
            features[rows] = runtime([texts[row] for row in rows])
        return features

    return encode


def _adapting(checkpoint: Checkpoint, lines: list[dict[str, Any]]) -> Callable[[FeatureRuntime], object]:
    support = SupportSet(tuple(Example(TextInput(line["text"]), line["label"]) for line in lines))
    plan, steps = plan_support(support, use_label_text=False), checkpoint.manifest.hyperparameters.steps
    models = cache(lambda runtime: Models(checkpoint, runtime).of())

    def adapt(runtime: FeatureRuntime) -> object:
        loaded = models(runtime)
        examples = loaded.body.prepare(checkpoint.encoder.tokenize(plan.inputs))
        return adapting.adapt(
            loaded.model, loaded.slow_weights, prepared_support(plan, examples, None), AdaptOptions(steps)
        )

    return adapt


if __name__ == "__main__":
    main()
