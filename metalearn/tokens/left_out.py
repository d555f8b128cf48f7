"""The tags of sentences by heads that were adapted without them."""

import math
import random
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.adapting import adapt_stepwise
from metalearn.evidence.held_back import HeldBack
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from metalearn.tokens.decode import Transitions, best_tags, learned_transitions
from metalearn.tokens.features import balanced_weights
from metalearn.tokens.words import OUTSIDE
from metalearn.types import SlowWeights

_MOST_FOLDS = 10


@dataclass(frozen=True)
class TaggedSentence:
    """A sentence with its right tags.

    Attributes:
        features: Features of its words; of those alone that are read.
        tags: The label of each of these words, or ``O``.
        weight: How much the sentence counts.
    """

    features: Float[Tensor, "words dim"]
    tags: tuple[str, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class LeftOutTags:
    """The tags of a sentence by a head without it.

    Attributes:
        tags: The class of each word, of all words together.
        probabilities: For each word, that of each class.
    """

    tags: list[int]
    probabilities: Float[Tensor, "words classes"]


def words_support(sentences: Sequence[TaggedSentence], labels: Sequence[str]) -> PreparedSet:
    """The words of sentences as a support set; its inputs are features.

    Args:
        sentences: The sentences.
        labels: The classes, among them ``O``.
    """
    index = {label: i for i, label in enumerate(labels)}
    features = torch.cat([each.features for each in sentences])
    targets = torch.tensor([index[tag] for each in sentences for tag in each.tags], dtype=torch.long)
    weights = torch.tensor([each.weight for each in sentences for _ in each.tags])
    balanced = balanced_weights(targets, weights, len(labels))
    return PreparedSet(features, targets.to(features.device), balanced.to(features.device), len(labels))


def transitions_of(sentences: Sequence[TaggedSentence], labels: Sequence[str]) -> Transitions:
    """The transitions between the tags of sentences."""
    return learned_transitions([each.tags for each in sentences], [each.weight for each in sentences], len(labels) - 1)


def tags_left_out(
    model: MetaModel,
    slow: SlowWeights,
    sentences: Sequence[TaggedSentence],
    labels: Sequence[str],
    options: AdaptOptions,
    *,
    default_steps: int,
    asked: int | None = None,
) -> Generator[None, None, list[LeftOutTags]]:
    """Asks for the tags of sentences by heads that were adapted on the sentences of other folds.

    Of ten sentences or fewer each is a fold by itself.

    Args:
        model: The model that adapts on features.
        slow: Its slow weights.
        sentences: The sentences; all have a weight, and two or more.
        labels: The classes, among them ``O``.
        options: How to adapt. The seed decides on the folds.
        default_steps: Inner steps where the options name no number.
        asked: How many of the first sentences are asked for; the others are always adapted on. None for all.

    Yields:
        None, after each step of a fold.
    """
    asked = len(sentences) if asked is None else asked
    found: list[LeftOutTags | None] = [None] * asked
    order, folds = list(range(asked)), min(_MOST_FOLDS, asked)
    random.Random(options.seed).shuffle(order)  # noqa: S311 - nothing secret
    outside = labels.index(OUTSIDE)
    for fold in range(folds):
        out = order[fold::folds]
        others = [each for i, each in enumerate(sentences) if i not in out]
        support = words_support(others, labels)
        adapted = yield from adapt_stepwise(model, slow, support, options, default_steps=default_steps)
        transitions = transitions_of(others, labels)
        for i in out:
            logits = model.learner.logits(adapted.fast_weights, sentences[i].features)
            probabilities = logits.softmax(dim=1).cpu()
            found[i] = LeftOutTags(best_tags(probabilities.numpy(), outside, transitions), probabilities)
        yield
    return [each for each in found if each is not None]


def compare_tags_left_out(
    model: MetaModel,
    slow: SlowWeights,
    sentences: Sequence[TaggedSentence],
    labels: Sequence[str],
    before: Sequence[bool],
    after: Sequence[bool],
    options: AdaptOptions,
    *,
    default_steps: int,
) -> Generator[None, None, HeldBack]:
    """Asks for the sentences that a change leaves as they are, each without itself, before and after the change.

    Args:
        model: The model that adapts on features.
        slow: Its slow weights.
        sentences: The sentences of both sides.
        labels: The classes, among them ``O``.
        before: Whether each sentence is adapted on before the change.
        after: Whether it is after the change.
        options: How to adapt. The seed decides on the folds, which are those of both sides.
        default_steps: Inner steps where the options name no number.

    Yields:
        None, after each step of a fold.
    """
    counted = [i for i, each in enumerate(sentences) if each.weight]
    asked = [i for i in counted if before[i] and after[i]]
    if len(asked) < 2:
        return HeldBack(0, 0.0, 0.0)
    figures = []
    for side in (before, after):
        chosen = [sentences[i] for i in (*asked, *(i for i in counted if side[i] and i not in asked))]
        found = yield from tags_left_out(
            model, slow, chosen, labels, options, default_steps=default_steps, asked=len(asked)
        )
        figures.append(f1_of_entities(chosen[: len(asked)], found, labels)["micro_f1"])
    return HeldBack(len(asked), figures[0] * len(asked), figures[1] * len(asked), "micro F1")


def f1_of_entities(
    sentences: Sequence[TaggedSentence], found: Sequence[LeftOutTags], labels: Sequence[str]
) -> dict[str, float]:
    """Micro F1 of entities, and macro F1: the mean over the labels that are right or answered anywhere.

    Args:
        sentences: The sentences with their right tags.
        found: The tags that were answered.
        labels: The classes, among them ``O``.
    """
    hits, marked = Counter[str](), Counter[str]()
    for sentence, answer in zip(sentences, found, strict=True):
        actual, answered = entities(sentence.tags), entities([labels[tag] for tag in answer.tags])
        hits.update(label for *_, label in actual & answered)
        marked.update(label for *_, label in (*actual, *answered))
    macro = [2 * hits[label] / count for label, count in marked.items()]
    return {
        "micro_f1": 2 * hits.total() / marked.total() if marked else 0.0,
        "macro_f1": math.fsum(macro) / len(macro) if macro else 0.0,
    }


def entities(tags: Sequence[str]) -> set[tuple[int, int, str]]:
    """The entities of tagged words: the first word, the one after the last, and the label of both and all between."""
    found, start = set(), 0
    for label, words in groupby(tags):
        end = start + len(list(words))
        if label != OUTSIDE:
            found.add((start, end, label))
        start = end
    return found
