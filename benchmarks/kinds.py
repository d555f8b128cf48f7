"""Multi-label, regression and token tasks through HTTP, beside regressions on the same features and the majority.

``python -m benchmarks.kinds --data DIR`` wants ``goemotions`` and ``query_wellformedness``, or the ``--tasks``, as
``NAME.train.jsonl`` and ``NAME.test.jsonl`` in DIR. It prints tables in Markdown. Of sentences with tokens and tags,
``--examples`` counts those of each label.
"""

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression, Ridge  # type: ignore[import-untyped]
from sklearn.metrics import f1_score  # type: ignore[import-untyped]

from benchmarks import tokens
from benchmarks.server import running_server
from handful.calls import Query
from handful.client import Client
from metalearn.encoder.batches import plan_batches
from metalearn.tasks.entities import entity_spans
from metalearn.types import TextInput
from model_store.learner_models import Models
from service.app import load_models
from service.settings import Settings

Record = Mapping[str, Any]


def main() -> None:
    """Runs both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the task files")
    parser.add_argument("--checkpoint", default="e5-small-handful", help="checkpoint of the server and of the features")
    parser.add_argument(
        "--examples", type=int, nargs="+", default=[50, 200], help="sizes of the support sets; of tokens, by label"
    )
    parser.add_argument("--tasks", nargs="+", default=["goemotions", "query_wellformedness"], help="tasks to run")
    parser.add_argument("--queries", type=int, default=300, help="texts that are asked for")
    parser.add_argument("--draws", type=int, default=3, help="support sets of each size")
    options = parser.parse_args()
    models = load_models(Settings(checkpoint=options.checkpoint))

    def features(rows: Sequence[Record]) -> np.ndarray[Any, Any]:
        texts = models.checkpoint.encoder.tokenize([TextInput(row["text"]) for row in rows])
        found = torch.empty(len(texts), models.checkpoint.encoder.dim)
        for batch in plan_batches([len(text.ids) for text in texts], 1024):
            found[batch] = models.runtime([texts[i] for i in batch])
        return found.numpy()

    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), "--checkpoint", options.checkpoint) as server,
        Client(server.url) as client,
        torch.no_grad(),
    ):
        for name in options.tasks:
            if "tags" in _rows(options.data / f"{name}.train.jsonl")[0]:
                _tokens(name, options, client, models)
                continue
            score = _multi_label if name == "goemotions" else _regression
            train, test = (_rows(options.data / f"{name}.{part}.jsonl") for part in ("train", "test"))
            queries = random.Random(0).sample(test, min(options.queries, len(test)))
            of_queries = features(queries)
            for n in options.examples:
                found: list[dict[str, tuple[float, float]]] = []
                for draw in range(options.draws):
                    support = random.Random(draw + 1).sample(train, n)
                    client.adapt("benchmark", support)
                    texts = [row["text"] for row in queries]
                    answers = [p for i in range(0, len(texts), 100) for p in _asked(client, texts[i : i + 100])]
                    found.append(score(support, features(support), queries, of_queries, answers))
                for method in found[0]:
                    first, second = np.mean([each[method] for each in found], axis=0)
                    sys.stdout.write(f"| {name} | {n} | {method} | {first:.3f} | {second:.3f} |\n")
                    sys.stdout.flush()


def _tokens(name: str, options: argparse.Namespace, client: Client, models: Models) -> None:
    """Entity F1 and token accuracy of each method, the mean over draws and its standard deviation."""
    pool, test = (tokens.read(options.data / f"{name}.{part}.jsonl") for part in ("train", "test"))
    queries = random.Random(0).sample(test, min(options.queries, len(test)))
    of_queries = tokens.features_of(models, queries)
    for n in options.examples:
        found: dict[str, list[tuple[float, float]]] = {}
        for draw in range(options.draws):
            support = [pool[i] for i in tokens.draw(pool, n, random.Random(draw + 1))]
            client.adapt("benchmark", [{"tokens": each.tokens, "tags": each.tags} for each in support])
            asked = [{"tokens": each.tokens} for each in queries]
            predictions = [p for i in range(0, len(asked), 100) for p in _asked(client, asked[i : i + 100])]
            answers = {"Handful": [entity_spans(each.tags, positions=True) for each in predictions]}
            features = np.concatenate(tokens.features_of(models, support))
            labels = [label for each in support for label in each.labels]
            for c in (1, 10, 30):
                regression = LogisticRegression(C=c, max_iter=300).fit(features, labels)
                answers[f"logistic regression per token, C = {c}"] = [
                    tokens.spans_of(regression.predict(each)) for each in of_queries
                ]
            answers["the most frequent tag (O)"] = [[] for _ in queries]
            for method, spans in answers.items():
                figures = tokens.entity_f1(spans, queries), tokens.token_accuracy(spans, queries)
                found.setdefault(method, []).append(figures)
            sys.stderr.write(f"{name}: {len(support)} sentences, {len(set(labels)) - 1} labels\n")
        for method, each in found.items():
            (f1, accuracy), (f1_apart, accuracy_apart) = np.mean(each, axis=0), np.std(each, axis=0)
            row = (name, n, method, f"{f1:.3f} ± {f1_apart:.3f}", f"{accuracy:.3f} ± {accuracy_apart:.3f}")
            sys.stdout.write(f"| {' | '.join(map(str, row))} |\n")
            sys.stdout.flush()


def _asked(client: Client, texts: Sequence[Query]) -> Sequence[Any]:
    return client.predict("benchmark", texts).predictions


def _rows(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _multi_label(
    support: Sequence[Record], features: Any, queries: Sequence[Record], of_queries: Any, answers: Sequence[Any]
) -> dict[str, tuple[float, float]]:
    """Micro and macro F1 of each method, over the labels of the support set and of the queries."""
    labels = sorted({label for row in [*support, *queries] for label in row["labels"]})

    def rows_of(sets: Sequence[Sequence[str]]) -> Any:
        return np.array([[label in each for label in labels] for each in sets])

    wanted, actual = rows_of([row["labels"] for row in support]), rows_of([row["labels"] for row in queries])
    of_regressions = np.zeros(actual.shape)
    for place in range(len(labels)):
        target = wanted[:, place]
        if target.any() and not target.all():
            regression = LogisticRegression(C=30, max_iter=1000).fit(features, target)
            of_regressions[:, place] = regression.predict_proba(of_queries)[:, 1]

    def f1(predicted: Any, average: str) -> float:
        return float(f1_score(actual, predicted, average=average, zero_division=0))

    majority = np.zeros_like(actual)
    majority[:, wanted.sum(axis=0).argmax()] = True
    best = max(np.linspace(0.02, 0.5, 25), key=lambda threshold: f1(of_regressions >= threshold, "micro"))
    methods = {
        "Handful": rows_of([answer.labels for answer in answers]),
        "logistic regression per label, threshold 0.5": of_regressions >= 0.5,
        "logistic regression per label, one threshold, the best on the queries": of_regressions >= best,
        "the most frequent label": majority,
    }
    return {name: (f1(found, "micro"), f1(found, "macro")) for name, found in methods.items()}


def _regression(
    support: Sequence[Record], features: Any, queries: Sequence[Record], of_queries: Any, answers: Sequence[Any]
) -> dict[str, tuple[float, float]]:
    """Spearman's correlation and mean absolute error of each method; with Handful's, the share inside the interval."""
    wanted, actual = (np.array([row["score"] for row in rows]) for rows in (support, queries))
    of_ridge = Ridge(alpha=1.0).fit(features, wanted).predict(of_queries)
    methods = {
        "Handful": np.array([answer.score for answer in answers]),
        "ridge regression, alpha 1": of_ridge,
        "the mean score": np.full(len(actual), wanted.mean()),
    }

    def figures(found: Any) -> tuple[float, float]:
        ranked = 0.0 if np.ptp(found) == 0 else float(spearmanr(found, actual).statistic)
        return ranked, float(np.abs(found - actual).mean())

    inside = [low <= score <= high for (low, high), score in zip([a.interval for a in answers], actual, strict=True)]
    return {name: figures(found) for name, found in methods.items()} | {
        "(share of scores inside the interval of 0.9)": (float(np.mean(inside)), 0.0)
    }


if __name__ == "__main__":
    main()
