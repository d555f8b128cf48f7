"""From a batch of texts, each of some task's, to class probabilities: as much at once as the tasks have in common."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.body import HiddenTexts
from metalearn.encoder import TokenizedText
from metalearn.fast_weights import mixed_logits, stack_heads
from metalearn.types import Adapter
from service.engine.models import Models

Shares = Sequence[tuple[Adapter, list[int]]]
"""Adapters, each with the rows of the batch that it answers."""


@torch.no_grad()
def class_probabilities(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter]
) -> list[list[float]]:
    """Probabilities of the classes of ``adapters[i]`` for ``texts[i]``."""
    rows_of: dict[int, tuple[Adapter, list[int]]] = {}
    for row, adapter in enumerate(adapters):
        rows_of.setdefault(id(adapter), (adapter, []))[1].append(row)
    shares = list(rows_of.values())
    features = _features(models, texts, shares)
    answers: list[list[float]] = [[] for _ in texts]
    linear = [share for share in shares if models.of(share[0].learner).model.learner.linear_head]
    if linear:
        _answer_with_heads(linear, features, answers)
    for adapter, rows in shares:
        learner = models.of(adapter.learner).model.learner
        if not learner.linear_head:
            probabilities = learner.logits(adapter.fast_weights, features[rows]).softmax(dim=1)
            for row, answer in zip(rows, probabilities.tolist(), strict=True):
                answers[row] = answer
    return answers


def _features(models: Models, texts: Sequence[TokenizedText], shares: Shares) -> Float[Tensor, "texts dim"]:
    """Frozen layers once for all rows; then, where tasks have layers of their own, each task's on its rows."""
    encoder = models.checkpoint.encoder
    deep = [(adapter, rows) for adapter, rows in shares if models.of(adapter.learner).is_deep]
    if not deep:
        return encoder.encode_batch(texts)
    own = models.of()  # of all learners, the checkpoint's alone has fast weights below the head
    batch = own.body.begin(texts)
    features = torch.empty(len(texts), encoder.dim, device=encoder.device)
    for adapter, rows in deep:
        inputs = HiddenTexts((batch.rows(rows),), torch.arange(len(rows), device=encoder.device))
        features[rows] = own.model.features(own.slow_weights, adapter.fast_weights, inputs)
    plain = [row for adapter, rows in shares if not models.of(adapter.learner).is_deep for row in rows]
    if plain:
        features[plain] = encoder.finish_batch(batch.rows(plain), encoder.n_layers - own.body.layers)
    return features


def _answer_with_heads(shares: Shares, features: Float[Tensor, "texts dim"], answers: list[list[float]]) -> None:
    """One product for all linear heads."""
    rows = [row for _, own in shares for row in own]
    task_of_row = torch.tensor([task for task, (_, own) in enumerate(shares) for _ in own], device=features.device)
    heads = stack_heads([adapter.fast_weights for adapter, _ in shares])
    probabilities = mixed_logits(heads, task_of_row, features[rows]).softmax(dim=1).tolist()
    sizes = [len(adapter.labels) for adapter, own in shares for _ in own]
    for row, answer, size in zip(rows, probabilities, sizes, strict=True):
        answers[row] = answer[:size]
