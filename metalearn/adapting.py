"""The one path from a support set to fast weights as they are stored: start, inner loop, temperature, rounding.

The server, ``handful evaluate``, ``handful checkpoint calibrate`` and the benchmarks all take it. What computes the
features of ``support`` is whatever runtime its body's encoder has.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.fast_weights import rounded_head
from metalearn.inner_loop import finished
from metalearn.leave_one_out import leave_one_out_classes
from metalearn.meta_model import MetaModel, Start
from metalearn.objectives import OBJECTIVES
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from metalearn.slices import result_of
from metalearn.types import FastWeights, SlowWeights


@dataclass(frozen=True)
class Adapted:
    """The result of an adaptation.

    Attributes:
        fast_weights: The weights that are stored and answer: under the temperature, the head in half precision.
        losses: Support loss before the first step and after each step.
        start: The state before the first step.
    """

    fast_weights: FastWeights
    losses: Float[Tensor, " steps_and_start"]
    start: Start

    @property
    def ignores_label_texts(self) -> bool:
        """Whether there are label texts and none of them counts."""
        weights = self.start.support.weights[self.start.n_examples :]
        return weights.shape[0] > 0 and not bool(weights.any())


def adapt_stepwise(
    model: MetaModel, slow: SlowWeights, support: PreparedSet, options: AdaptOptions, *, default_steps: int = 0
) -> Generator[None, None, Adapted]:
    """The adaptation, paused in and after the start and after each inner step, so that a caller may do other work.

    Args:
        model: The model that adapts.
        slow: Its slow weights.
        support: The support set. An example of weight 0 is as if it were absent.
        options: How.
        default_steps: Inner steps where the options name no number.

    Yields:
        None, after each slice of work.

    Raises:
        AdaptationDiverged: A loss or a weight is not finite.
        UnsupportedObjective: The learner does not do what the task asks for.
    """
    support = support.counted(model.body)
    start = yield from model.start_slices(slow, support)
    yield
    losses: list[Float[Tensor, ""]] = []
    steps = default_steps if options.steps is None else options.steps
    states = model.adapt(slow, support, start, steps=steps, learning_rate=options.learning_rate, seed=options.seed)
    for state in states:
        if state.loss is not None:  # only where the last one was declined
            losses.append(state.loss)
        fast_weights = state.fast_weights
        yield
    with torch.no_grad():
        are_scores = support.objective == "regression"
        result = finished(fast_weights, losses, learning_rate=options.learning_rate, are_scores=are_scores)
        # As it is stored: the same answers before and after
        own = rounded_head(model.answering(slow, result.fast_weights, support))
    return Adapted(own, result.losses, start)


def adapt(
    model: MetaModel, slow: SlowWeights, support: PreparedSet, options: AdaptOptions, *, default_steps: int = 0
) -> Adapted:
    """The adaptation in one go; see ``adapt_stepwise``.

    Raises:
        AdaptationDiverged: A loss or a weight is not finite.
        UnsupportedObjective: The learner does not do what the task asks for.
    """
    return result_of(adapt_stepwise(model, slow, support, options, default_steps=default_steps))


def left_out_classes(
    model: MetaModel, slow: SlowWeights, support: PreparedSet, adapted: Adapted, *, n_labels: int | None = None
) -> list[int] | None:
    """The class of each example without itself, on plain features, to which no task view was fitted.

    The examples of the first ``n_labels`` classes are asked, or all; those of weight 0 are left out of the list.

    Where fast weights live below the head, the features at the start are plain. -1 for an example that is not asked,
    such as the only one of its class; None where classes do not exclude each other.
    """
    if not OBJECTIVES[support.objective].one_class_each:
        return None
    support, start = support.counted(model.body), adapted.start
    seen = start.support
    if model.placement.layers == 0:
        seen = replace(seen, features=model.features(slow, {}, model.inputs_of_all(support)))
    return leave_one_out_classes(seen, start.n_examples, n_asked=n_labels).tolist()
