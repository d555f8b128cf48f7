"""Full-way accuracy through HTTP, beside scikit-learn's logistic regression on the same frozen features.

python -m benchmarks.accuracy --data FOLDER
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.server import running_server
from benchmarks.task_files import Split, load_split, sample_support
from metalearn.encoder import Encoder, plan_batches
from metalearn.types import TextInput
from model_store.checkpoint import DEFAULT_CHECKPOINT, Checkpoint, resolve_checkpoint
from service.client import Client

_QUERIES_PER_REQUEST = 500


def encode(encoder: Encoder, texts: Sequence[str]) -> np.ndarray:
    """Frozen features of texts."""
    tokenized = encoder.tokenize([TextInput(text) for text in texts])
    features = torch.empty(len(texts), encoder.dim)
    for batch in plan_batches([len(text.ids) for text in tokenized], 512):
        features[batch] = encoder.encode_batch([tokenized[i] for i in batch])
    return features.numpy()


def accuracy_over_http(
    client: Client, name: str, support: Split, test: Split, **options: object
) -> tuple[float, float]:
    """Accuracy on the test split, and milliseconds for the adapt request."""
    examples = [{"text": t, "label": y} for t, y in zip(support.texts, support.labels, strict=True)]
    began = time.perf_counter()
    client.adapt(name, examples, **options)
    adapt_ms = (time.perf_counter() - began) * 1000
    hits = 0
    for start in range(0, len(test.texts), _QUERIES_PER_REQUEST):
        answer = client.predict(name, test.texts[start : start + _QUERIES_PER_REQUEST], top_k=1)
        wanted = test.labels[start : start + _QUERIES_PER_REQUEST]
        hits += sum(p.label == label for p, label in zip(answer.predictions, wanted, strict=True))
    return hits / len(test.texts), adapt_ms


def main() -> None:
    """Runs the comparison and prints one JSON object and one Markdown row per set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with NAME.train.jsonl and NAME.test.jsonl")
    parser.add_argument("--sets", nargs="+", default=["banking77"])
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()

    encoder = Checkpoint(resolve_checkpoint(DEFAULT_CHECKPOINT), torch.device("cpu")).encoder
    rows = []
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder)) as server, Client(server.url) as client:
        for name in options.sets:
            train, test = load_split(options.data, name, "train"), load_split(options.data, name, "test")
            test_features = encode(encoder, test.texts)
            for seed in range(options.seeds):
                support = sample_support(train, options.shots, seed)
                regression = LogisticRegression(C=30, max_iter=1000)
                regression.fit(encode(encoder, support.texts), support.labels)
                with_labels, adapt_ms = accuracy_over_http(client, name, support, test)
                without, _ = accuracy_over_http(client, name, support, test, use_label_text=False)
                rows.append(
                    {
                        "set": name,
                        "shots": options.shots,
                        "ways": len(set(support.labels)),
                        "seed": seed,
                        "queries": len(test.texts),
                        "logistic_regression": float(regression.score(test_features, test.labels)),
                        "handful_without_label_text": without,
                        "handful": with_labels,
                        "adapt_ms": adapt_ms,
                    }
                )
                print(json.dumps(rows[-1]), flush=True)
    columns = ("logistic_regression", "handful_without_label_text", "handful")
    print("\n| set | ways | shots | logistic regression | without label text | with label text | adapt, ms |")
    print("|---|---|---|---|---|---|---|")
    for name in options.sets:
        own = [row for row in rows if row["set"] == name]
        figures = [f"{100 * statistics.mean(float(row[c]) for row in own):.1f}" for c in columns]
        median = statistics.median(float(row["adapt_ms"]) for row in own)
        print(f"| {name} | {own[0]['ways']} | {options.shots} | {' | '.join(figures)} | {median:.0f} |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
