"""The forward pass of texts whose words are tagged: from states of tokens to the probabilities of each word's tag."""

from array import array
from collections.abc import Sequence

import torch

from metalearn.encoder.batches import plan_batches
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.tokens.features import word_features, words_of
from metalearn.types import Adapter
from model_store.learner_models import Models
from service.engine.threads import shared_if_worth_it


@torch.no_grad()
def tag_probabilities(
    models: Models, texts: Sequence[TokenizedText], adapters: Sequence[Adapter], max_batch_tokens: int
) -> list[Sequence[float]]:
    """For each text the probabilities of the classes of ``adapters[i]``: those of its first word, of its second, ...

    Texts of one width share a batch, whatever their tenant. Each has a product of its own with its task's head, so
    that its answer depends on the text alone.

    Args:
        models: The models of the checkpoint.
        texts: Texts whose words are tagged.
        adapters: The adapter of each text.
        max_batch_tokens: The bound on rows times width of a padded batch.
    """
    answers: list[Sequence[float]] = [()] * len(texts)
    for rows in plan_batches([len(text.ids) for text in texts], max_batch_tokens):
        states = models.runtime.token_states([texts[row] for row in rows])
        for own, row in zip(states, rows, strict=True):
            features = word_features(own, words_of(texts[row]))
            fast = (adapters[row].fast_weights[name] for name in (HEAD_WEIGHT, HEAD_BIAS))
            # Copies, since the last bits depend on the memory layout, too
            weight, bias = (each.clone(memory_format=torch.contiguous_format) for each in fast)
            with shared_if_worth_it(weight.numel() * len(features)):
                found = torch.addmm(bias, features, weight.T).softmax(dim=1)
            # Packed, since long texts of many classes have many numbers
            answers[row] = array("f", found.cpu().numpy().tobytes())
    return answers
