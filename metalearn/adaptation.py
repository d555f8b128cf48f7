"""From labelled texts to what a learner adapts on: which texts are encoded, and what each counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.body import HiddenTexts, TextBody
from metalearn.errors import InvalidEpisode, InvalidSupportSet
from metalearn.label_text import label_texts, words_of_labels
from metalearn.meta_model import PreparedEpisode, PreparedSet
from metalearn.types import Episode, LabelledTexts, Objective, SupportSet, Target, TextInput


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


def prepared_support(plan: SupportPlan, inputs: HiddenTexts) -> PreparedSet:
    """The support set as the body reads it: text i of ``inputs`` belongs to input i of the plan."""
    device = inputs.order.device
    targets = torch.tensor(plan.targets, device=device)
    return PreparedSet(inputs, targets, torch.tensor(plan.weights, device=device), plan.n_classes)


def prepare_episode(body: TextBody, episode: Episode, *, label_text_weight: float = 0.0) -> PreparedEpisode:
    """Tokenizes an episode and runs the frozen layers.

    Args:
        body: Reads the texts.
        episode: What was sampled.
        label_text_weight: What the words of a label count beside an example; 0 leaves them out.

    Raises:
        InvalidEpisode: A text has no token.
    """
    return PreparedEpisode(
        prepare_episode_support(body, episode, label_text_weight=label_text_weight),
        _prepared(body, episode.query, [1.0] * len(episode.query.inputs), episode),
        episode.task,
        episode.group,
    )


def prepare_episode_support(body: TextBody, episode: Episode, *, label_text_weight: float = 0.0) -> PreparedSet:
    """The support set alone, with the words of the labels; see ``prepare_episode``.

    Raises:
        InvalidEpisode: A text has no token.
    """
    support = episode.support
    weights = [1.0] * len(support.inputs)
    if label_text_weight > 0 and episode.objective == "classification":
        texts = words_of_labels(episode.labels)
        support = LabelledTexts(support.inputs + tuple(texts.values()), support.targets + tuple(texts))
        weights += [label_text_weight] * len(texts)
    return _prepared(body, support, weights, episode)


def _prepared(body: TextBody, texts: LabelledTexts, weights: list[float], episode: Episode) -> PreparedSet:
    tokenized = body.encoder.tokenize(texts.inputs)
    for text, read in zip(texts.inputs, tokenized, strict=True):
        if read.empty:
            raise InvalidEpisode(f"a text of {episode.task} has no token: {text.text[:40]!r}")
    device = body.encoder.device
    return PreparedSet(
        body.prepare(tokenized),
        target_tensor(episode.objective, texts.targets, episode.n_classes).to(device),
        torch.tensor(weights, device=device),
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


def support_accuracy(logits: Float[Tensor, "examples classes"], targets: tuple[int, ...]) -> float:
    """Share of rows whose largest logit is the target's."""
    hits = logits.argmax(dim=1) == torch.tensor(targets, device=logits.device)
    return float(hits.float().mean())
