"""The forward pass from a batch of many tasks' texts to class probabilities. Texts of one width are encoded at once."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.body import HiddenTexts
from metalearn.encoder.batches import plan_batches
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, mixed_logits, stack_heads
from metalearn.objectives import OBJECTIVES
from metalearn.placement import Modulations
from metalearn.types import Adapter
from model_store.learner_models import Models
from service.engine.threads import shared_if_worth_it
from service.engine.token_forward import tag_probabilities

Shares = Sequence[tuple[Adapter, list[int]]]
"""Adapters, each with its rows of the batch."""


def class_probabilities(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter], max_batch_tokens: int
) -> list[Sequence[float]]:
    """The probabilities of the classes of ``adapters[i]`` for ``texts[i]``."""
    return classified(models, texts, adapters, max_batch_tokens)[0]


@torch.no_grad()
def classified(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter], max_batch_tokens: int
) -> tuple[list[Sequence[float]], Float[Tensor, "texts dim"]]:
    """The probabilities of the classes of ``adapters[i]`` for ``texts[i]``, and the features of the texts.

    A text whose words are tagged has the probabilities of its first word, of its second, and so on; its features are
    zero.

    Args:
        models: The models of the checkpoint.
        texts: The queries, of any lengths.
        adapters: The adapter of each query.
        max_batch_tokens: The bound on rows times width of a padded batch.
    """
    answers: list[Sequence[float]] = [[] for _ in texts]
    if any(text.words is not None for text in texts):
        return _partly_tagged(models, texts, adapters, max_batch_tokens)
    shares = _shares(adapters)
    features = _features(models, texts, adapters, max_batch_tokens)
    linear = [share for share in shares if models.of(share[0].learner).model.learner.linear_head]
    if linear:
        _answer_with_heads(linear, features, answers)
    for adapter, rows in shares:
        learner = models.of(adapter.learner).model.learner
        if not learner.linear_head:
            for row in rows:  # each alone, as in _answer_one_by_one
                answers[row] = _activated(adapter, learner.logits(adapter.fast_weights, features[[row]]))[0].tolist()
    return answers, features


def _partly_tagged(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter], max_batch_tokens: int
) -> tuple[list[Sequence[float]], Float[Tensor, "texts dim"]]:
    """As ``classified``, where the words of some texts are tagged."""
    encoder = models.checkpoint.encoder
    answers: list[Sequence[float]] = [[] for _ in texts]
    features = torch.zeros(len(texts), encoder.dim, device=encoder.device)
    tagged = [row for row, text in enumerate(texts) if text.words is not None]
    rest = [row for row, text in enumerate(texts) if text.words is None]
    found = tag_probabilities(models, [texts[i] for i in tagged], [adapters[i] for i in tagged], max_batch_tokens)
    if rest:
        plain, features[rest] = classified(
            models, [texts[i] for i in rest], [adapters[i] for i in rest], max_batch_tokens
        )
        found = [*found, *plain]
    for row, answer in zip([*tagged, *rest], found, strict=True):
        answers[row] = answer
    return answers, features


def _features(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter], max_batch_tokens: int
) -> Float[Tensor, "texts dim"]:
    """The features of texts; texts of about one length share a batch, whatever their tenant."""
    encoder = models.checkpoint.encoder
    if len(texts) == 1 and not models.of(adapters[0].learner).is_deep:
        return models.runtime(texts)
    features = torch.empty(len(texts), encoder.dim, device=encoder.device)
    for rows in plan_batches([len(text.ids) for text in texts], max_batch_tokens):
        batch = [texts[row] for row in rows]
        if any(models.of(adapters[row].learner).is_deep for row in rows):
            own = [adapters[row] for row in rows]
            if isinstance(models.of().model.placement, Modulations):
                features[rows] = _modulated_features(models, batch, own)
            else:
                features[rows] = _deep_features(models, batch, own)
        else:
            features[rows] = models.runtime(batch)
    return features


def _modulated_features(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter]
) -> Float[Tensor, "texts dim"]:
    """The features of rows with modulations: all layers run once for all rows, since modulations are elementwise."""
    encoder, own = models.checkpoint.encoder, models.of()
    placement = cast(Modulations, own.model.placement)
    shares = _shares(adapters)
    task_of_row = torch.empty(len(texts), dtype=torch.long)
    for task, (_, rows) in enumerate(shares):
        task_of_row[rows] = task
    tasks = [adapter.fast_weights for adapter, _ in shares]
    norms = placement.norms_of_rows(own.top_layers, tasks, task_of_row.to(encoder.device))
    return models.runtime(texts, norms) if models.runtime.norms else encoder.encode_batch(texts, norms)


def _deep_features(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter]
) -> Float[Tensor, "texts dim"]:
    """The features of rows: the frozen layers run once for all rows, a task's own layers on its rows alone."""
    encoder = models.checkpoint.encoder
    own = models.of()  # of all learners, the checkpoint's alone has fast weights below the head
    batch = own.body.begin(texts)
    features = torch.empty(len(texts), encoder.dim, device=encoder.device)
    plain: list[int] = []
    for adapter, rows in _shares(adapters):
        if models.of(adapter.learner).is_deep:
            inputs = HiddenTexts((batch.rows(rows),), torch.arange(len(rows), device=encoder.device))
            features[rows] = own.model.features(own.slow_weights, adapter.fast_weights, inputs)
        else:
            plain += rows
    if plain:
        features[plain] = encoder.finish_batch(batch.rows(plain), encoder.n_layers - own.body.layers)
    return features


def _shares(adapters: Sequence[Adapter]) -> Shares:
    """Groups the rows by adapter."""
    rows_of: dict[int, tuple[Adapter, list[int]]] = {}
    for row, adapter in enumerate(adapters):
        rows_of.setdefault(id(adapter), (adapter, []))[1].append(row)
    return list(rows_of.values())


def _answer_with_heads(shares: Shares, features: Float[Tensor, "texts dim"], answers: list[Sequence[float]]) -> None:
    if features.device.type == "cpu":
        for adapter, rows in shares:
            _answer_one_by_one(adapter, rows, features, answers)
        return
    rows = [row for _, own in shares for row in own]
    task_of_row = torch.tensor([task for task, (_, own) in enumerate(shares) for _ in own], device=features.device)
    heads = stack_heads([adapter.fast_weights for adapter, _ in shares])
    logits = mixed_logits(heads, task_of_row, features[rows])
    # Of all tasks at once, since most tasks of a batch have the same objective
    objectives = {adapter.objective for adapter, _ in shares}
    activated = {objective: OBJECTIVES[objective].activation(logits).tolist() for objective in objectives}
    begin = 0
    for adapter, own in shares:
        end, size = begin + len(own), adapter.n_outputs
        for row, answer in zip(own, activated[adapter.objective][begin:end], strict=True):
            answers[row] = answer[:size]
        begin = end


def _answer_one_by_one(
    adapter: Adapter, rows: Sequence[int], features: Float[Tensor, "texts dim"], answers: list[Sequence[float]]
) -> None:
    """Answers each text by a product of its own, since the last bits of a row depend on the number of rows.

    Both factors are copied, since the last bits depend on their memory layout, too.
    """
    weights = [adapter.fast_weights[name] for name in (HEAD_WEIGHT, HEAD_BIAS)]
    weight, bias = (each.clone(memory_format=torch.contiguous_format) for each in weights)
    with shared_if_worth_it(weight.numel()):
        for row in rows:
            logits = torch.addmv(bias, weight, features[row].clone())
            answers[row] = _activated(adapter, logits.unsqueeze(0))[0].tolist()


def _activated(adapter: Adapter, logits: Float[Tensor, "rows outputs"]) -> Float[Tensor, "rows outputs"]:
    return OBJECTIVES[adapter.objective].activation(logits)
