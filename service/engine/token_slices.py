"""The adaptation of a task that tags words, on the compute thread: from tagged texts to a head over their words."""

import time
from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.adapting import Adapted, adapt_stepwise
from metalearn.body import HiddenTexts, MlpBody
from metalearn.decision import Decision
from metalearn.devices import wait_for
from metalearn.encoder.batches import plan_batches
from metalearn.encoder.pooling import HiddenBatch
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.errors import InvalidSupportSet, UnsupportedObjective
from metalearn.meta_model import MetaModel
from metalearn.objectives import OBJECTIVES
from metalearn.options import AdaptOptions
from metalearn.slices import Result
from metalearn.support_plan import SupportPlan
from metalearn.tokens.decode import tags_of_words
from metalearn.tokens.features import is_read, word_features, words_of
from metalearn.tokens.left_out import (
    TaggedSentence,
    f1_of_entities,
    tags_left_out,
    transitions_of,
    words_support,
)
from metalearn.tokens.words import OUTSIDE
from metalearn.types import Adapter, Example, SupportSet
from model_store.learner_models import LoadedModel, Models
from service.engine.adapt_slices import Adaptation, refuse_empty
from service.engine.threads import shared_if_worth_it

_MOST_PRODUCTS = 10_000_000
"""Numbers of the words' features times classes up to which each sentence is left out: at most a second of a core."""


def plan_words(support: SupportSet) -> SupportPlan:
    """The texts of a support set whose words are tagged; the targets are the classes that occur in each."""
    return SupportPlan(
        inputs=tuple(example.input for example in support.examples),
        targets=support.targets,
        label_classes=(),
        n_classes=len(support.labels),
    )


def token_adapt_slices(
    loaded: LoadedModel,
    models: Models,
    plan: SupportPlan,
    support: SupportSet,
    texts: Sequence[TokenizedText],
    options: AdaptOptions,
    *,
    max_batch_tokens: int,
) -> Generator[int, None, Adaptation]:
    """Encodes the texts batch by batch, then adapts a head on the features of their words.

    Words of which no token was read, since the text was cut, are left out.

    Args:
        loaded: The model that adapts.
        models: The models of its checkpoint.
        plan: The texts.
        support: The examples.
        texts: The texts as the encoder reads them.
        options: The options of the adaptation.
        max_batch_tokens: The bound on rows times width of a padded batch.

    Yields:
        The number of tokens encoded, after each slice.

    Raises:
        TextEmpty: An example holds nothing to read.
        UnsupportedObjective: The learner's head is not linear, or there are fast weights below it.
        InvalidSupportSet: No word that is read has one of the classes.
        AdaptationDiverged: A weight is not finite.
    """
    refuse_empty(texts, "support")
    model, slow, device = loaded.model, loaded.slow_weights, models.checkpoint.encoder.device
    if loaded.is_deep or not model.learner.linear_head:
        raise UnsupportedObjective(
            f"the learner {model.learner.name} tags no words: name one with a linear head alone, such as "
            "softmax_regression, or none"
        )
    # An example of weight 0 is as if it were absent
    counted = [i for i, example in enumerate(support.examples) if example.weight]
    encode_s, sentences = yield from tagged_sentences(
        models, [support.examples[i] for i in counted], [texts[i] for i in counted], max_batch_tokens=max_batch_tokens
    )
    began, inner_s = time.perf_counter(), 0.0
    _check_classes(support, [tag for each in sentences for tag in each.tags])
    prepared = words_support(sentences, support.labels)
    inputs = _as_hidden(prepared.inputs)
    prepared = replace(prepared, inputs=inputs)
    products = model.body.dim * len(prepared.targets) * plan.n_classes
    default_steps = models.checkpoint.manifest.hyperparameters.steps
    slices = adapt_stepwise(model, slow, prepared, options, default_steps=default_steps)
    while True:
        try:
            with shared_if_worth_it(products):
                next(slices)
        except StopIteration as done:
            adapted: Adapted = done.value
            break
        wait_for(device)
        inner_s += time.perf_counter() - began
        yield 0
        began = time.perf_counter()
    own = adapted.fast_weights
    with shared_if_worth_it(products), torch.no_grad():
        accuracy = OBJECTIVES[prepared.objective].accuracy(model.outputs(slow, own, inputs), prepared.targets)
    decision = Decision(transitions=transitions_of(sentences, support.labels))
    inner_s += time.perf_counter() - began
    figures = None
    if len(sentences) > 1 and products <= _MOST_PRODUCTS:
        slices_left_out = tags_left_out(
            on_features(loaded), slow, sentences, support.labels, options, default_steps=default_steps
        )
        found = yield from in_slices(slices_left_out, sentences, support)
        figures = f1_of_entities(sentences, found, support.labels)
    return Adaptation(
        adapter=Adapter(
            own, support.labels, models.checkpoint.fingerprint, model.learner.name, pairs=False, decision=decision
        ),
        steps=len(adapted.losses) - 1,
        losses=adapted.losses.tolist(),
        support_accuracy=accuracy,
        leave_one_out_accuracy=None,
        left_out=None,
        truncated=sum(text.truncated for text in texts),
        queue_s=0.0,
        encode_s=encode_s,
        inner_s=inner_s,
        plan=plan,
        texts=texts,
        label_text_ignored=False,
        figures=figures,
    )


def tagged_sentences(
    models: Models, examples: Sequence[Example], texts: Sequence[TokenizedText], *, max_batch_tokens: int
) -> Generator[int, None, tuple[float, list[TaggedSentence]]]:
    """Encodes sentences batch by batch: the seconds that it took, and their words that are read.

    Args:
        models: The models of a checkpoint.
        examples: The sentences with their spans.
        texts: The same as the encoder reads them.
        max_batch_tokens: The bound on rows times width of a padded batch.

    Yields:
        The number of tokens encoded, after each batch.
    """
    features: dict[int, Float[Tensor, "words dim"]] = {}
    encode_s = 0.0
    for rows in plan_batches([len(text.ids) for text in texts], max_batch_tokens):
        began = time.perf_counter()
        for i, states in zip(rows, models.runtime.token_states([texts[i] for i in rows]), strict=True):
            features[i] = word_features(states, words_of(texts[i]))[is_read(texts[i])]
        wait_for(models.checkpoint.encoder.device)
        encode_s += time.perf_counter() - began
        yield sum(len(texts[i].ids) for i in rows)
    sentences = []
    for i, (example, text) in enumerate(zip(examples, texts, strict=True)):
        tags = tags_of_words(example.input.words or (), example.spans or ())
        known = tuple(tag for tag, read in zip(tags, is_read(text), strict=True) if read)
        sentences.append(TaggedSentence(features[i], known, example.weight))
    return encode_s, sentences


def on_features(loaded: LoadedModel) -> MetaModel:
    """The model that adapts on features of words."""
    return replace(loaded.model, body=MlpBody((loaded.model.body.dim,)))


def in_slices(
    slices: Generator[None, None, Result], sentences: Sequence[TaggedSentence], support: SupportSet
) -> Generator[int, None, Result]:
    """The slices of heads on words, for the compute thread."""
    products = sum(each.features.numel() for each in sentences) * len(support.labels)
    while True:
        try:
            with shared_if_worth_it(products), torch.no_grad():
                next(slices)
        except StopIteration as done:
            result: Result = done.value
            return result
        yield 0


def _check_classes(support: SupportSet, tags: Sequence[str]) -> None:
    for label in support.labels:
        if label in tags:
            continue
        if label == OUTSIDE:
            detail = "every word of every example has a label: give at least one word without"
            raise InvalidSupportSet("class_without_examples", detail, ("support",))
        first = next(i for i, each in enumerate(support.examples) if each.weight and label in each.classes)
        raise InvalidSupportSet(
            "class_without_examples",
            f"all spans with the label {label!r} are in parts of texts that were cut: shorten these texts",
            ("support", first),
        )


def _as_hidden(features: Float[Tensor, "words dim"]) -> HiddenTexts:
    order = torch.arange(features.shape[0], device=features.device)
    return HiddenTexts((HiddenBatch.of_features(features),), order)
