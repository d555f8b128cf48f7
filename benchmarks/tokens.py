"""Token classification: what its parts bring, on validation sets; and the draws and figures of ``benchmarks.kinds``.

``python -m benchmarks.tokens --data DIR --tasks NAME`` wants sentences with tokens and tags as ``NAME.train.jsonl`` in
DIR. It prints a table in Markdown. A draw takes sentences until each label stands in so many of them (or in all that
there are), the rarest label first; the other sentences are asked.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.encoder.batches import plan_batches
from metalearn.learners.softmax_regression import SoftmaxRegression
from metalearn.tasks.entities import Span, entity_spans, has_positions
from metalearn.tokens.decode import Transitions, best_tags, learned_transitions
from metalearn.tokens.features import balanced_weights, word_features, words_of
from metalearn.tokens.words import OUTSIDE, joined
from metalearn.types import TextInput
from model_store.learner_models import Models
from service.app import load_models
from service.settings import Settings

Array = np.ndarray[Any, Any]
Answers = Sequence[Sequence[Span]]
Rows = Float[Tensor, "words classes"]


class Sentence(NamedTuple):
    """A sentence with its entities."""

    tokens: list[str]
    tags: list[str]
    spans: list[Span]

    @property
    def labels(self) -> list[str]:
        """The label of each token."""
        return labels_of(self.spans, len(self.tokens))


def main() -> None:
    """Prints the entity F1 of each variant, the mean and the standard deviation over draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--tasks", nargs="+", default=["re3d_ner"])
    parser.add_argument("--shots", type=int, default=5, help="sentences of each label")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--queries", type=int, default=200, help="most sentences that are asked")
    parser.add_argument("--checkpoint", default="e5-small-handful")
    options = parser.parse_args()
    models = load_models(Settings(checkpoint=options.checkpoint))
    for task in options.tasks:
        pool, found = read(options.data / f"{task}.train.jsonl"), dict[str, list[float]]()
        of_layers = {layer: [*map(torch.from_numpy, _of_layer(models, pool, layer))] for layer in ("last", "both")}
        for index in range(options.draws):
            support = draw(pool, options.shots, random.Random(index))
            rest = [i for i in range(len(pool)) if i not in support]
            queries = random.Random(0).sample(rest, min(options.queries, len(rest)))
            for name, answers in _variants(pool, support, queries, of_layers):
                found.setdefault(name, []).append(entity_f1(answers, [pool[i] for i in queries]))
        for name, figures in found.items():
            sys.stdout.write(f"| {task} | {name} | {100 * np.mean(figures):.1f} ± {100 * np.std(figures):.1f} |\n")
            sys.stdout.flush()


def _variants(
    pool: Sequence[Sentence],
    support: Sequence[int],
    queries: Sequence[int],
    of_layers: dict[str, list[Float[Tensor, "words dim"]]],
) -> list[tuple[str, Answers]]:
    labels = sorted({OUTSIDE, *(label for i in support for label in pool[i].labels)})
    targets = torch.tensor([labels.index(label) for i in support for label in pool[i].labels])
    follow = learned_transitions([pool[i].labels for i in support], [1.0] * len(support), len(labels) - 1)
    outside = labels.index(OUTSIDE)

    def rows(layer: str, weights: Float[Tensor, " words"]) -> list[Rows]:
        features = of_layers[layer]
        of_support = torch.cat([features[i] for i in support])
        learner = SoftmaxRegression()
        slow = learner.initial_slow_weights(of_support.shape[1], {}, steps=0, draw=torch.Generator())
        encoded = EncodedSet(of_support, targets, weights, len(labels))
        head = learner.start(slow, encoded)
        return [learner.logits(head, features[i]).softmax(dim=1) for i in queries]

    def spans(found: Sequence[Rows], transitions: Transitions) -> Answers:
        return [spans_of([labels[tag] for tag in best_tags(each.numpy(), outside, transitions)]) for each in found]

    none, strong = Transitions(0, 0, 0, 0, 0), Transitions(*(each / 0.4 for each in follow))
    alike = torch.ones(len(targets))
    balanced = balanced_weights(targets, alike, len(labels))
    inverse = balanced.square() / balanced.square().mean()
    served = rows("both", balanced)
    return [
        ("as served", spans(served, follow)),
        ("features of the last layer alone", spans(rows("last", balanced), follow)),
        ("all words alike", spans(rows("both", alike), follow)),
        ("all tags alike", spans(rows("both", inverse), follow)),
        ("each word by itself", spans(served, none)),
        ("transitions at full strength", spans(served, strong)),
    ]


def read(path: Path) -> list[Sentence]:
    """The sentences of a file, in its order."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    positions = has_positions([tag for row in rows for tag in row["tags"]])
    return [Sentence(row["tokens"], row["tags"], entity_spans(row["tags"], positions)) for row in rows]


def draw(pool: Sequence[Sentence], shots: int, chance: random.Random) -> list[int]:
    """Sentences of which each label has ``shots``, or all that there are; a sentence may count for several labels."""
    order = chance.sample(range(len(pool)), len(pool))
    labels = {label for sentence in pool for _, _, label in sentence.spans}
    having = {label: [i for i in order if any(span.type == label for span in pool[i].spans)] for label in labels}
    chosen: dict[int, None] = {}
    for _, sentences in sorted(having.items(), key=lambda item: (len(item[1]), item[0])):
        missing = shots - sum(i in chosen for i in sentences)
        rest = [i for i in sentences if i not in chosen]
        chosen |= dict.fromkeys(rest[: max(0, missing)])
    return list(chosen)


def features_of(models: Models, sentences: Sequence[Sentence]) -> list[Array]:
    """The features of each sentence's tokens, by the runtime that serves."""
    return _of_layer(models, sentences, "both")


def _of_layer(models: Models, sentences: Sequence[Sentence], layer: str) -> list[Array]:
    encoder = models.checkpoint.encoder
    inputs = [TextInput(text, None, words) for text, words in (joined(sentence.tokens) for sentence in sentences)]
    texts = encoder.tokenize(inputs)
    compute: Callable[..., Tensor] = models.runtime.token_states
    if layer == "last":
        compute = lambda batch: encoder.begin_batch(batch, encoder.n_layers).hidden  # noqa: E731
    features: list[Array] = [np.empty(0)] * len(texts)
    for rows in plan_batches([len(text.ids) for text in texts], 1024):
        for own, i in zip(compute([texts[i] for i in rows]), rows, strict=True):
            features[i] = word_features(own, words_of(texts[i])).numpy()
    return features


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
    """F1 of the spans of all sentences together; one is right where its ends and its label are."""
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


if __name__ == "__main__":
    main()
