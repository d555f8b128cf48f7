"""Heads of multi-label and regression tasks: adapted, stored and answered beside those of classifications."""

import pytest
import torch

from metalearn import adapting
from metalearn.objectives import OBJECTIVES
from metalearn.options import AdaptOptions
from metalearn.support_plan import prepare_episode_support
from metalearn.types import Adapter, Episode, LabelledTexts, Objective, Target, TextInput
from model_store.checkpoint import Checkpoint
from model_store.codec import AdapterKey, decode_adapter, encode_adapter
from model_store.learner_models import Models
from service.engine.forward import class_probabilities

TEXTS = tuple(map(TextInput, ("where is my card", "an extra fee", "a virtual card", "my card is late", "why a fee?")))
TARGETS: dict[Objective, tuple[Target, ...]] = {
    "classification": (0, 1, 2, 0, 1),
    "multi_label": ((0,), (1,), (0, 2), (), (1, 2)),
    "regression": (0.5, 2.0, -1.0, 0.25, 1.5),
}
KEY = AdapterKey("default", "task", 1, "a")


def adapter_of(models: Models, objective: Objective) -> Adapter:
    """An adapter as a store gives it back."""
    labels = () if objective == "regression" else ("a", "b", "c")
    texts = LabelledTexts(TEXTS, TARGETS[objective])
    loaded = models.of("maml")
    support = prepare_episode_support(loaded.body, Episode("task", "", objective, labels, texts, texts))
    fast = adapting.adapt(loaded.model, loaded.slow_weights, support, AdaptOptions(4)).fast_weights
    made = Adapter(fast, labels, models.checkpoint.fingerprint, "maml", objective=objective)
    return decode_adapter(encode_adapter(made, KEY), KEY, shapes={made.checkpoint: models.shapes})


@pytest.mark.parametrize("together", [False, True])
def test_each_is_answered_by_its_own_activation(loaded_checkpoint: Checkpoint, together: bool) -> None:
    models = Models(loaded_checkpoint)
    encoder, model = loaded_checkpoint.encoder, models.of("maml").model
    queries = encoder.tokenize(TEXTS[:3])
    adapters = [adapter_of(models, objective) for objective in TARGETS]
    assert [adapter.objective for adapter in adapters] == [*TARGETS]
    if together:
        answers = class_probabilities(models, queries * 3, [each for each in adapters for _ in queries], 10_000)
    else:
        answers = [row for each in adapters for row in class_probabilities(models, queries, [each] * 3, 10_000)]
    for place, (objective, adapter) in enumerate(zip(TARGETS, adapters, strict=True)):
        logits = model.learner.logits(adapter.fast_weights, encoder.encode_batch(queries))
        expected = OBJECTIVES[objective].activation(logits)
        found = torch.tensor(answers[3 * place : 3 * place + 3])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_an_adapter_of_a_classification_is_stored_as_before(loaded_checkpoint: Checkpoint) -> None:
    models = Models(loaded_checkpoint)
    assert b"objective" not in encode_adapter(adapter_of(models, "classification"), KEY)
    assert b"multi_label" in encode_adapter(adapter_of(models, "multi_label"), KEY)
