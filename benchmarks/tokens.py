"""Token classification through HTTP, beside logistic regression on the same features of the same words.

python -m benchmarks.tokens --data FOLDER

FOLDER has NAME.train.jsonl and NAME.test.jsonl with tokens and tags. A draw takes sentences until each label stands in
so many of them (or in all that there are), the rarest label first. All methods have the same draws and queries. Entity
F1 counts spans with both ends and the label right, of all queries together; token accuracy counts the labels of tokens.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from benchmarks.server import running_server
from handful import Client
from metalearn.encoder.batches import plan_batches
from metalearn.tasks.entities import OUTSIDE, Span, entity_spans, has_positions
from metalearn.tokens.features import word_features, words_of
from metalearn.tokens.words import joined
from metalearn.types import TextInput
from model_store.checkpoint import DEFAULT_CHECKPOINT, Checkpoint, resolve_checkpoint
from service.engine.runtime import start_runtime

_QUERIES_PER_REQUEST = 50


class Sentence(NamedTuple):
    """A sentence with its entities."""

    tokens: list[str]
    tags: list[str]
    spans: list[Span]

    @property
    def labels(self) -> list[str]:
        """The label of each token."""
        return labels_of(self.spans, len(self.tokens))


Answers = list[list[Span]]
Encode = Callable[[Sequence[Sentence]], list[np.ndarray[Any, Any]]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a table of each set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--tasks", nargs="+", default=["conll2003_ner", "atis_slots"])
    parser.add_argument("--shots", type=int, default=5, help="sentences of each label")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--max-queries", type=int, default=300, help="most sentences that are asked")
    parser.add_argument("--checkpoint", default=DEFAULT_CHECKPOINT)
    options = parser.parse_args(arguments)
    encode = _encoder(options.checkpoint)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder), "--checkpoint", options.checkpoint) as server,
        Client(server.url) as client,
    ):
        for task in options.tasks:
            _run(task, options, client, encode)


def _run(
    task: str, options: Any, client: Client, encode: Callable[[Sequence[Sentence]], list[np.ndarray[Any, Any]]]
) -> None:
    pool = read(options.data / f"{task}.train.jsonl")
    asked = read(options.data / f"{task}.test.jsonl")
    queries = random.Random(0).sample(asked, min(options.max_queries, len(asked)))
    of_queries = encode(queries)
    figures: dict[str, list[tuple[float, float, float]]] = {}
    for index in range(options.draws):
        support = draw(pool, options.shots, random.Random(index))
        found: dict[str, tuple[Answers, float]] = {}
        began = time.perf_counter()
        name = f"{task}-{index}"
        client.adapt(name, [{"tokens": s.tokens, "tags": s.tags} for s in support])
        adapted_s = time.perf_counter() - began
        found["Handful, over HTTP"] = _asked(client, name, queries), adapted_s
        features = np.concatenate(encode(support))
        labels = [label for sentence in support for label in sentence.labels]
        for c in (1.0, 10.0):
            began = time.perf_counter()
            regression = LogisticRegression(C=c, max_iter=500).fit(features, labels)
            answers = [spans_of(regression.predict(each)) for each in of_queries]
            found[f"logistic regression, C = {c:g}"] = answers, time.perf_counter() - began
        found["majority (no entity)"] = [[] for _ in queries], 0.0
        for method, (spans, seconds) in found.items():
            figures.setdefault(method, []).append((entity_f1(spans, queries), token_accuracy(spans, queries), seconds))
        print(f"{name}: {len(support)} sentences, {len(set(labels)) - 1} labels", file=sys.stderr, flush=True)
    print(f"\n{task}: {options.shots} sentences a label, {options.draws} draws, {len(queries)} queries\n")
    print("| method | entity F1 | token accuracy | seconds to adapt |\n|---|---|---|---|")
    for method, rows in figures.items():
        f1, accuracy, seconds = (np.array(column) for column in zip(*rows, strict=True))
        print(f"| {method} | {_spread(f1)} | {_spread(accuracy)} | {seconds.mean():.2f} |", flush=True)


def _spread(values: np.ndarray[Any, Any]) -> str:
    return f"{100 * values.mean():.1f} ± {100 * values.std():.1f}"


def _asked(client: Client, task: str, queries: Sequence[Sentence]) -> Answers:
    answers: Answers = []
    for begin in range(0, len(queries), _QUERIES_PER_REQUEST):
        part = [{"tokens": sentence.tokens} for sentence in queries[begin : begin + _QUERIES_PER_REQUEST]]
        for prediction in client.predict(task, part).predictions:
            assert prediction.tags is not None
            answers.append(entity_spans(prediction.tags, positions=True))
    return answers


def read(path: Path) -> list[Sentence]:
    """The sentences of a file, in its order."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    positions = has_positions([tag for row in rows for tag in row["tags"]])
    return [Sentence(row["tokens"], row["tags"], entity_spans(row["tags"], positions)) for row in rows]


def draw(pool: Sequence[Sentence], shots: int, chance: random.Random) -> list[Sentence]:
    """Sentences of which each label has ``shots``, or all that there are; a sentence may count for several labels."""
    order = chance.sample(list(pool), len(pool))
    having = {
        label: [s for s in order if any(x.type == label for x in s.spans)] for s in pool for _, _, label in s.spans
    }
    chosen: list[Sentence] = []
    for _, sentences in sorted(having.items(), key=lambda item: (len(item[1]), item[0])):
        missing = shots - sum(any(sentence is other for other in sentences) for sentence in chosen)
        rest = [sentence for sentence in sentences if not any(sentence is other for other in chosen)]
        chosen += rest[: max(0, missing)]
    return chosen


def labels_of(spans: Sequence[Span], n_tokens: int) -> list[str]:
    """The label of each token, ``O`` for none."""
    labels = [OUTSIDE] * n_tokens
    for start, end, label in spans:
        labels[start:end] = [label] * (end - start)
    return labels


def spans_of(labels: Sequence[str]) -> list[Span]:
    """The spans of tokens' labels: neighbours of one label are one span."""
    return entity_spans([str(label) for label in labels], positions=False)


def entity_f1(found: Answers, queries: Sequence[Sentence]) -> float:
    """F1 of the spans of all sentences together."""
    hits = sum(len(set(spans) & set(query.spans)) for spans, query in zip(found, queries, strict=True))
    return 2 * hits / max(1, sum(map(len, found)) + sum(len(query.spans) for query in queries))


def token_accuracy(found: Answers, queries: Sequence[Sentence]) -> float:
    """Share of tokens with the right label."""
    hits = [
        own == right
        for spans, query in zip(found, queries, strict=True)
        for own, right in zip(labels_of(spans, len(query.tokens)), query.labels, strict=True)
    ]
    return sum(hits) / len(hits)


def _encoder(reference: str) -> Callable[[Sequence[Sentence]], list[np.ndarray[Any, Any]]]:
    """Sentences -> the features of each one's tokens, by the runtime that serves."""
    encoder = Checkpoint(resolve_checkpoint(reference), torch.device("cpu")).encoder
    runtime = start_runtime(encoder, "auto", "auto")

    def encode(sentences: Sequence[Sentence]) -> list[np.ndarray[Any, Any]]:
        texts = encoder.tokenize(
            [TextInput(text, None, words) for text, words in (joined(s.tokens) for s in sentences)]
        )
        features: list[np.ndarray[Any, Any]] = [np.empty(0)] * len(texts)
        for rows in plan_batches([len(text.ids) for text in texts], 512):
            states = runtime.token_states([texts[i] for i in rows])
            for own, i in zip(states, rows, strict=True):
                features[i] = word_features(own, words_of(texts[i])).numpy()
        return features

    return encode


if __name__ == "__main__":
    main()
