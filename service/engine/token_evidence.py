"""The evidence about a task that tags words, on the compute thread: the tags of each sentence by heads without it."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoder.tokenizing import TokenizedText
from metalearn.evidence.held_back import HeldBack
from metalearn.options import AdaptOptions
from metalearn.tokens.left_out import LeftOutTags, compare_tags_left_out, tags_left_out
from metalearn.types import SupportSet
from model_store.learner_models import LoadedModel, Models
from service.engine.adapt_slices import refuse_empty
from service.engine.token_slices import in_slices, on_features, tagged_sentences


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """The evidence about a task that tags words, on the CPU.

    Attributes:
        tags: The tags of each example's words that are read, without the example; None where there is one alone.
        features: A unit vector of each example: the mean of its words.
        texts: The examples as the encoder reads them.
        queue_s: Time waited.
    """

    tags: Sequence[LeftOutTags] | None
    features: Float[Tensor, "examples dim"]
    texts: Sequence[TokenizedText]
    queue_s: float = 0.0


def token_evidence_slices(
    loaded: LoadedModel,
    models: Models,
    support: SupportSet,
    texts: Sequence[TokenizedText],
    options: AdaptOptions,
    *,
    max_batch_tokens: int,
) -> Generator[int, None, TokenEvidence]:
    """Encodes the texts, then asks for the tags of each by a head of others.

    Args:
        loaded: The model that adapts.
        models: The models of its checkpoint.
        support: The examples, all with a weight.
        texts: The texts as the encoder reads them.
        options: The options of the adaptation.
        max_batch_tokens: The bound on rows times width of a padded batch.

    Yields:
        The number of tokens encoded, after each slice.
    """
    _, sentences = yield from tagged_sentences(models, support.examples, texts, max_batch_tokens=max_batch_tokens)
    means = torch.stack([each.features.sum(dim=0) for each in sentences])
    features = torch.nn.functional.normalize(means, dim=1).cpu()
    if len(sentences) < 2:
        return TokenEvidence(None, features, texts)
    steps = models.checkpoint.manifest.hyperparameters.steps
    slices = tags_left_out(
        on_features(loaded), loaded.slow_weights, sentences, support.labels, options, default_steps=steps
    )
    return TokenEvidence((yield from in_slices(slices, sentences, support)), features, texts)


def token_held_back_slices(
    loaded: LoadedModel,
    models: Models,
    support: SupportSet,
    texts: Sequence[TokenizedText],
    sides: tuple[Sequence[bool], Sequence[bool]],
    options: AdaptOptions,
    *,
    max_batch_tokens: int,
) -> Generator[int, None, HeldBack]:
    """Encodes the texts, then asks for those that a change leaves as they are, before and after it.

    Args:
        loaded: The model that adapts.
        models: The models of its checkpoint.
        support: The examples of both sides.
        texts: The texts as the encoder reads them.
        sides: Whether each example is in the support set before the change, and after it.
        options: The options of the adaptation.
        max_batch_tokens: The bound on rows times width of a padded batch.

    Yields:
        The number of tokens encoded, after each slice.
    """
    refuse_empty(texts, "support")
    _, sentences = yield from tagged_sentences(models, support.examples, texts, max_batch_tokens=max_batch_tokens)
    steps, slow = models.checkpoint.manifest.hyperparameters.steps, loaded.slow_weights
    slices = compare_tags_left_out(
        on_features(loaded), slow, sentences, support.labels, *sides, options, default_steps=steps
    )
    return (yield from in_slices(slices, sentences, support))
