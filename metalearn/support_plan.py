"""Plans of support sets: which texts are encoded, and prepared support sets and episodes out of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.body import HiddenTexts, TextBody
from metalearn.decision import n_outputs
from metalearn.errors import InvalidEpisode, InvalidSupportSet
from metalearn.kinds import KINDS
from metalearn.label_text import label_texts, words_of_labels
from metalearn.objectives import OBJECTIVES
from metalearn.prepared import LabelTexts, PreparedEpisode, PreparedSet
from metalearn.types import (
    OUT_OF_SCOPE,
    Episode,
    LabelledTexts,
    Objective,
    SupportSet,
    Target,
    TextInput,
)


@dataclass(frozen=True, slots=True)
class SupportPlan:
    """The texts of a support set in serving, or of an episode's set in training, before any is encoded.

    Attributes:
        inputs: The examples' texts, then the label texts.
        targets: Target of each example. That of an out-of-scope example is the class after the last one.
        weights: Weight of each example; None for 1.
        label_classes: Class index of each label text.
        n_classes: Number of classes, or of outputs in regression; with out-of-scope examples, one more.
        objective: What the targets mean.
    """

    inputs: tuple[TextInput, ...]
    targets: tuple[Target, ...]
    label_classes: tuple[int, ...]
    n_classes: int
    objective: Objective = "classification"
    weights: tuple[float, ...] | None = None

    @property
    def n_examples(self) -> int:
        """How many of the texts are examples."""
        return len(self.targets)


def plan_support(support: SupportSet, *, use_label_text: bool) -> SupportPlan:
    """Lists what is encoded; a label's text stands in as one more example of its class.

    Out-of-scope examples are a class of their own, the last one. Its probability counts against all others, and their
    order hardly changes; see docs/log.md.

    Args:
        support: The labelled examples.
        use_label_text: Whether labels' texts are used.

    Raises:
        InvalidSupportSet: A class has no example, and no words either to start from.
    """
    rules = KINDS[support.kind]
    texts = label_texts(support) if use_label_text and rules.described else {}
    needed = range(len(support.labels)) if OBJECTIVES[rules.objective].one_class_each else ()
    for index in sorted(set(needed) - set(support.of_classes.class_indices) - set(texts)):
        raise InvalidSupportSet(
            "class_without_examples",
            f"the class {support.labels[index]!r} has no example, and its description is not used: add an example",
            ("labels", support.labels[index]),
        )
    outside = len(support.labels)
    return SupportPlan(
        inputs=tuple(example.input for example in support.examples) + tuple(texts.values()),
        targets=tuple(outside if target == OUT_OF_SCOPE else target for target in support.targets)
        if needed
        else support.targets,  # of scores, -1 is one like any other
        label_classes=tuple(texts),
        n_classes=n_outputs(rules.objective, support.labels) + support.has_out_of_scope,
        weights=support.weights,
        objective=rules.objective,
    )


def prepared_support(plan: SupportPlan, examples: HiddenTexts, label_texts: HiddenTexts | None) -> PreparedSet:
    """The support set as the body reads it.

    Args:
        plan: The list of ``plan_support``.
        examples: The examples' texts, in the plan's order.
        label_texts: The label texts, in the plan's order; None where there are none.
    """
    device = (examples if label_texts is None else label_texts).order.device
    targets = OBJECTIVES[plan.objective].targets(plan.targets, plan.n_classes)
    prepared = PreparedSet(
        examples,
        targets.to(device),
        torch.tensor(plan.weights or (1.0,) * plan.n_examples, dtype=torch.float32, device=device),
        plan.n_classes,
        plan.objective,
    )
    if label_texts is None:
        return prepared
    classes = torch.tensor(plan.label_classes, device=device)
    return replace(prepared, label_texts=LabelTexts(label_texts, classes))


def prepare_episode(body: TextBody, episode: Episode, *, use_label_text: bool = False) -> PreparedEpisode:
    """Tokenizes an episode and runs the frozen layers.

    Args:
        body: Reads the texts.
        episode: The sampled episode.
        use_label_text: Whether the words of its labels are used.

    Raises:
        InvalidEpisode: A text has no token.
    """
    return PreparedEpisode(
        prepare_episode_support(body, episode, use_label_text=use_label_text),
        _prepared(body, _plan(episode, episode.query, {}), episode.task),
        episode.task,
        episode.group,
    )


def prepare_episode_support(body: TextBody, episode: Episode, *, use_label_text: bool = False) -> PreparedSet:
    """The support set alone, with the words of the labels; see ``prepare_episode``.

    Raises:
        InvalidEpisode: A text has no token.
    """
    pairs = any(text.text_pair is not None for text in episode.support.inputs)
    used = use_label_text and OBJECTIVES[episode.objective].one_class_each
    texts = words_of_labels(episode.labels, pairs=pairs) if used else {}
    return _prepared(body, _plan(episode, episode.support, texts), episode.task)


def _plan(episode: Episode, examples: LabelledTexts, texts: Mapping[int, TextInput]) -> SupportPlan:
    inputs = examples.inputs + tuple(texts.values())
    return SupportPlan(inputs, examples.targets, tuple(texts), episode.n_classes, episode.objective)


def _prepared(body: TextBody, plan: SupportPlan, task: str) -> PreparedSet:
    """Tokenizes a plan's texts, runs the frozen layers, and refuses texts of a task that have no token."""
    examples, label_texts = plan.inputs[: plan.n_examples], plan.inputs[plan.n_examples :]
    return prepared_support(plan, _read(body, examples, task), _read(body, label_texts, task) if label_texts else None)


def _read(body: TextBody, texts: tuple[TextInput, ...], task: str) -> HiddenTexts:
    tokenized = body.encoder.tokenize(texts)
    for text, read in zip(texts, tokenized, strict=True):
        if read.empty:
            raise InvalidEpisode(f"a text of {task} has no token: {text.text[:40]!r}")
    return body.prepare(tokenized)


def support_accuracy(logits: Float[Tensor, "examples classes"], targets: tuple[int, ...]) -> float | None:
    """Share of rows whose largest logit is the target's; None where there is no row."""
    if not targets:
        return None
    hits = logits.argmax(dim=1) == torch.tensor(targets, device=logits.device)
    return float(hits.float().mean())
