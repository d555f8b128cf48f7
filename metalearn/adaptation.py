"""From labelled texts to what a learner adapts on: which texts are encoded, and what each counts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.body import HiddenTexts, TextBody
from metalearn.errors import InvalidEpisode, InvalidSupportSet
from metalearn.label_text import label_texts, words_of_labels
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.types import Episode, LabelledTexts, Objective, SupportSet, Target, TextInput


@dataclass(frozen=True, slots=True)
class SupportPlan:
    """What has to be encoded for a support set, before any text is.

    Attributes:
        inputs: The examples' texts, then the label texts.
        targets: Class index of each.
        n_examples: How many of them are examples.
        n_classes: Number of classes.
    """

    inputs: tuple[TextInput, ...]
    targets: tuple[int, ...]
    n_examples: int
    n_classes: int


def plan_support(support: SupportSet, *, use_label_text: bool) -> SupportPlan:
    """Lists what is encoded; a label's text stands in as one more example of its class.

    Args:
        support: The labelled examples.
        use_label_text: Whether labels' texts are used.

    Raises:
        InvalidSupportSet: A class has no example, and no words either to start from.
    """
    texts = label_texts(support) if use_label_text else {}
    for index in sorted(set(range(len(support.labels))) - set(support.targets) - set(texts)):
        raise InvalidSupportSet(
            "class_without_examples",
            f"the class {support.labels[index]!r} has no example, and its description is not used: add an example",
            ("labels", support.labels[index]),
        )
    return SupportPlan(
        inputs=tuple(example.input for example in support.examples) + tuple(texts.values()),
        targets=support.targets + tuple(texts),
        n_examples=len(support.examples),
        n_classes=len(support.labels),
    )


def prepared_support(plan: SupportPlan, inputs: HiddenTexts) -> PreparedSet:
    """The support set as the body reads it: text i of ``inputs`` belongs to input i of the plan."""
    device = inputs.order.device
    targets = torch.tensor(plan.targets, device=device)
    return PreparedSet(
        inputs,
        targets,
        torch.ones(len(plan.targets), device=device),
        plan.n_classes,
        label_texts=len(plan.targets) - plan.n_examples,
    )


def prepare_episode(body: TextBody, episode: Episode, *, use_label_text: bool = False) -> PreparedEpisode:
    """Tokenizes an episode and runs the frozen layers.

    Args:
        body: Reads the texts.
        episode: What was sampled.
        use_label_text: Whether the words of its labels are used.

    Raises:
        InvalidEpisode: A text has no token.
    """
    return PreparedEpisode(
        prepare_episode_support(body, episode, use_label_text=use_label_text),
        _prepared(body, episode.query, episode),
        episode.task,
        episode.group,
    )


def prepare_episode_support(body: TextBody, episode: Episode, *, use_label_text: bool = False) -> PreparedSet:
    """The support set alone, with the words of the labels; see ``prepare_episode``.

    Raises:
        InvalidEpisode: A text has no token.
    """
    support = episode.support
    pairs = any(text.text_pair is not None for text in support.inputs)
    used = use_label_text and episode.objective == "classification"
    texts = words_of_labels(episode.labels, pairs=pairs) if used else {}
    together = LabelledTexts(support.inputs + tuple(texts.values()), support.targets + tuple(texts))
    return replace(_prepared(body, together, episode), label_texts=len(texts))


def _prepared(body: TextBody, texts: LabelledTexts, episode: Episode) -> PreparedSet:
    tokenized = body.encoder.tokenize(texts.inputs)
    for text, read in zip(texts.inputs, tokenized, strict=True):
        if read.empty:
            raise InvalidEpisode(f"a text of {episode.task} has no token: {text.text[:40]!r}")
    device = body.encoder.device
    return PreparedSet(
        body.prepare(tokenized),
        target_tensor(episode.objective, texts.targets, episode.n_classes).to(device),
        torch.ones(len(tokenized), device=device),
        episode.n_classes,
        episode.objective,
    )


def target_tensor(objective: Objective, targets: Sequence[Target], n_classes: int) -> Tensor:
    """Targets as ``EncodedSet`` holds them: class indices, rows of zeros and ones, or scores."""
    if objective == "classification":
        return torch.tensor(targets, dtype=torch.long)
    if objective == "regression":
        return torch.tensor(targets, dtype=torch.float32).reshape(-1, 1)
    rows = torch.zeros(len(targets), n_classes)
    for row, classes in enumerate(targets):
        assert isinstance(classes, tuple)  # noqa: S101 - what an episode of this objective holds
        rows[row, list(classes)] = 1.0
    return rows


def support_accuracy(logits: Float[Tensor, "examples classes"], targets: tuple[int, ...]) -> float | None:
    """Share of rows whose largest logit is the target's; None where there is no row."""
    if not targets:
        return None
    hits = logits.argmax(dim=1) == torch.tensor(targets, device=logits.device)
    return float(hits.float().mean())
