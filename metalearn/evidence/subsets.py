"""Adaptations on many subsets of one support set, by the path that an adaptation on all of it takes."""

from collections.abc import Generator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedSet
from metalearn.slices import result_of
from metalearn.types import SlowWeights

_PASSES = 4
"""Products of all features with the head in an inner step, two operations a multiplication."""
_TOGETHER = 1e8
"""Operations of the adaptations that are computed as one batch: some ten milliseconds of a core."""


def logits_of_subsets(
    model: MetaModel,
    slow: SlowWeights,
    support: PreparedSet,
    kept: Bool[Tensor, "subsets examples"],
    options: AdaptOptions,
    *,
    default_steps: int = 0,
) -> Generator[None, None, Float[Tensor, "subsets examples classes"]]:
    """The logits of all examples by the head that each subset makes.

    Small heads are adapted as one batch, in which an example that is left out has the weight 0. A thousand small
    operations cost little more than one. Large ones are adapted one after another, each on its subset alone. Fast
    weights below the head play no part, and the temperature is that of the whole support set.

    Args:
        model: The model that adapts.
        slow: Its slow weights.
        support: The support set; its inputs, and those of its label texts, are features.
        kept: Whether each example is in each subset. Each class keeps one example at least.
        options: How.
        default_steps: Inner steps where the options name no number.

    Yields:
        None, after each slice of work.
    """
    seen = narrowed(support) if _sees_products_alone(slow, model.body.dim) else support
    on_features = replace(model, body=MlpBody((seen.inputs.shape[1],)), placement=HeadOnly())
    asked = options if options.steps is not None else replace(options, steps=default_steps)
    together = int(_TOGETHER // operations(seen, steps=asked.steps or 1))
    # A rule that draws rows, and a memory that is written in order, see an example of weight 0
    one_by_one = together < 2 or model.learner.rule.batch_size is not None or model.learner.name == "memory"
    found: list[Tensor] = []
    if one_by_one:
        for rows in kept:
            part = replace(seen, inputs=seen.inputs[rows], targets=seen.targets[rows], weights=seen.weights[rows])
            found.append((yield from _logits(on_features, slow, part, seen, asked)).unsqueeze(0))
        return torch.cat(found)

    def of_weights(weights: Float[Tensor, " examples"]) -> Float[Tensor, "examples classes"]:
        return result_of(_logits(on_features, slow, replace(seen, weights=weights), seen, asked))

    for some in torch.split(kept, together):
        found.append(torch.func.vmap(of_weights, randomness="same")(seen.weights * some))
        yield
    return torch.cat(found)


def operations(support: PreparedSet, *, steps: int) -> float:
    """Floating-point operations of one adaptation of a head, roughly."""
    return float(2 * _PASSES * max(steps, 1) * support.inputs.numel() * support.n_classes)


def narrowed(support: PreparedSet) -> PreparedSet:
    """The support set with features of fewer columns that have the same inner products.

    The texts span no more dimensions than there are texts. So a handful of texts is adapted on some thirty columns in
    place of hundreds.
    """
    texts = support.label_texts
    features = support.inputs if texts is None else torch.cat([support.inputs, texts.inputs])
    if features.shape[0] >= features.shape[1]:
        return support
    narrow = features @ torch.linalg.qr(features.T).Q
    examples, of_labels = narrow.tensor_split([support.inputs.shape[0]])
    return replace(support, inputs=examples, label_texts=None if texts is None else replace(texts, inputs=of_labels))


def _sees_products_alone(slow: SlowWeights, dim: int) -> bool:
    """Whether no slow weight above the body is as wide as the features, so that inner products decide on the logits."""
    return not any(dim in weight.shape for name, weight in slow.items() if not name.startswith(("body.", "fast.")))


def _logits(
    model: MetaModel, slow: SlowWeights, part: PreparedSet, whole: PreparedSet, options: AdaptOptions
) -> Generator[None, None, Float[Tensor, "examples classes"]]:
    """The logits of all examples by the head that a part of them makes; paused after each inner step."""
    start = model.start(slow, part)
    yield
    steps, rate = options.steps or 0, options.learning_rate
    states = model.adapt(slow, part, start, steps=steps, learning_rate=rate, seed=options.seed, last_loss=False)
    for state in states:
        fast_weights = state.fast_weights
        yield
    return model.learner.logits(model.answering(slow, fast_weights, whole), whole.inputs)
