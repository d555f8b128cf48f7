"""From a support set to an adapter: which texts are encoded, and how the learner's parts make an inner loop."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.errors import InvalidSupportSet
from metalearn.inner_loop import InnerState, inner_steps
from metalearn.label_text import label_texts
from metalearn.learners import Learner
from metalearn.types import SlowWeights, SupportFeatures, SupportSet, TextInput


@dataclass(frozen=True, slots=True)
class SupportPlan:
    """What has to be encoded for a support set, before any text is.

    Attributes:
        inputs: The examples' texts, then the label texts.
        targets: Class index of each.
        weights: How much each counts.
        n_examples: How many of them are examples.
        n_classes: Number of classes.
    """

    inputs: tuple[TextInput, ...]
    targets: tuple[int, ...]
    weights: tuple[float, ...]
    n_examples: int
    n_classes: int


def plan_support(support: SupportSet, *, label_text_weight: float) -> SupportPlan:
    """Lists what is encoded; a label's text stands in as one more example of its class.

    Args:
        support: The labelled examples.
        label_text_weight: What a label's text counts, where an example counts 1; 0 leaves label texts out.

    Raises:
        InvalidSupportSet: A class has no example, and no words either to start from.
    """
    texts = label_texts(support) if label_text_weight > 0 else {}
    for index in sorted(set(range(len(support.labels))) - set(support.targets) - set(texts)):
        raise InvalidSupportSet(
            "class_without_examples",
            f"the class {support.labels[index]!r} has no example, and its description is not used: add an example",
            ("labels", support.labels[index]),
        )
    return SupportPlan(
        inputs=tuple(example.input for example in support.examples) + tuple(texts.values()),
        targets=support.targets + tuple(texts),
        weights=(1.0,) * len(support.examples) + (label_text_weight,) * len(texts),
        n_examples=len(support.examples),
        n_classes=len(support.labels),
    )


def support_features(plan: SupportPlan, features: Float[Tensor, "inputs dim"]) -> SupportFeatures:
    """The encoded support set: row i of ``features`` belongs to input i of the plan."""
    return SupportFeatures(
        features,
        torch.tensor(plan.targets, device=features.device),
        torch.tensor(plan.weights, dtype=features.dtype, device=features.device),
        plan.n_classes,
    )


def adaptation_steps(
    learner: Learner,
    slow: SlowWeights,
    support: SupportFeatures,
    *,
    steps: int,
    learning_rate: float | None = None,
    create_graph: bool = False,
) -> Iterator[InnerState]:
    """The inner loop of one task: the learner's start, then ``steps`` gradient steps.

    Args:
        learner: Says how fast weights start and what is descended on.
        slow: The meta-learned weights.
        support: The encoded support set.
        steps: Number of inner steps.
        learning_rate: Takes the place of the meta-learned rate.
        create_graph: Keep the graph, for meta-gradients.

    Yields:
        The start and the state after each step.
    """
    return inner_steps(
        learner.start(slow, support),
        lambda fast_weights: learner.support_loss(fast_weights, support),
        rule=learner.rule,
        learning_rates=learner.learning_rates(slow, support, base_rate=learning_rate),
        steps=steps,
        create_graph=create_graph,
    )


def support_accuracy(logits: Float[Tensor, "examples classes"], targets: tuple[int, ...]) -> float:
    """Share of rows whose largest logit is the target's."""
    hits = logits.argmax(dim=1) == torch.tensor(targets, device=logits.device)
    return float(hits.float().mean())
