"""A report on a task of several labels, of scores or of ordered classes, made of the answers to left-out examples."""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from handful.report_answers import AccuracyOnNewTexts, Baselines, ReportResponse, Suspect
from handful.report_kinds import FigureName, FigureOnNewTexts, LeftOutScore
from metalearn.decision import Decision
from metalearn.evaluation.intervals import wilson_interval
from metalearn.evidence import kind_figures
from metalearn.evidence.decisions import enough_for_thresholds, learned_thresholds, left_out_means
from metalearn.evidence.findings import (
    ClassCounts,
    answers_of,
    confusions,
    counts_of_classes,
    most_suspects,
    suspects,
)
from metalearn.evidence.similarity import similarities
from metalearn.tokens.words import OUTSIDE
from metalearn.types import Example, SupportSet
from model_store.records import Version
from service.engine.evidence_slices import KindEvidence
from service.engine.token_evidence import TokenEvidence
from service.tasks.report_parts import (
    MOST_SHOWN,
    answer_in_words,
    class_reports,
    confusable_pairs,
    cut_and_unreadable,
    nearly_the_same,
    same_texts,
    shown,
)
from service.tasks.report_sentences import sentences_of
from service.tasks.support_warnings import ENOUGH_EXAMPLES, text_key

_MOST_SCORES = 500
_PARTS = 5
"""Parts of the examples, each answered with thresholds that the others have taught."""
ODDS = 5.0
"""The factor between the odds of a label and those of its threshold from which an example is a suspect."""
_SPREADS = 2.5
"""Distance of a score from its prediction, in standard deviations, from which an example is a suspect."""


@dataclass(frozen=True, slots=True)
class ReportedKind:
    """The subject of a report.

    Attributes:
        version: The version.
        n_examples: The number of its examples that have a weight.
        n_without_effect: The number of its other examples.
        support: Its support set, or a sample of a large one, without copies.
        max_chars: The most characters of a text that are kept.
    """

    version: Version
    n_examples: int
    n_without_effect: int
    support: SupportSet
    max_chars: int

    @property
    def weights(self) -> Float[Tensor, " examples"]:
        """How much each example counts."""
        return torch.tensor(self.support.weights, dtype=torch.float64)


def without_copies(support: SupportSet, *, most: int, seed: int) -> SupportSet:
    """The support set with each text once for each answer, as heavy as its copies together, and a bounded number.

    A copy that stays would answer for the one that is left out.

    Args:
        support: The support set.
        most: The most examples; of more, a sample is taken.
        seed: Seed of the sample.
    """
    groups: dict[object, list[Example]] = defaultdict(list)
    for example in support.examples:
        if example.weight:
            groups[text_key(example.input), example.answer].append(example)
    merged = [replace(group[0], weight=math.fsum(each.weight for each in group)) for group in groups.values()]
    if len(merged) > most:
        chosen = random.Random(seed).sample(range(len(merged)), most)  # noqa: S311 - nothing secret
        merged = [merged[i] for i in sorted(chosen)]
    return replace(support, examples=tuple(merged))


def kind_report_of(task: ReportedKind, evidence: KindEvidence) -> ReportResponse:
    """The report, without the time that it took."""
    alike = similarities(evidence.features, evidence.features)
    if evidence.left_out.outputs is None:
        return report_with(task, evidence, alike, {})
    parts = _of_labels if task.support.kind == "multi_label" else _of_scores
    return report_with(task, evidence, alike, parts(task, evidence, evidence.left_out.outputs.double(), alike))


def report_with(
    task: ReportedKind,
    evidence: KindEvidence | TokenEvidence,
    alike: Float[Tensor, "examples examples"],
    figures: Mapping[str, Any],
) -> ReportResponse:
    """A report with the fields that come of answers to examples that were left out.

    Args:
        task: The subject.
        evidence: The examples as the encoder reads them.
        alike: The similarities of the examples with each other.
        figures: These fields.
    """
    support = task.support
    keys = [text_key(example.input) for example in support.examples]
    numbers = _numbers(keys)
    same, nearly = same_texts(support, numbers), nearly_the_same(support, numbers, alike)
    cut, unreadable = cut_and_unreadable(support, evidence, task.max_chars)
    labels = [label for label in support.labels if support.kind != "tokens" or label != OUTSIDE]
    examples = Counter(label for example in support.examples for label in example.classes)
    report = ReportResponse(
        task=task.version.task,
        version=task.version.version,
        kind=support.kind,
        checkpoint=task.version.checkpoint,
        examples=task.n_examples,
        without_effect=task.n_without_effect,
        sampled=len(support.examples),
        labels=list(support.labels),
        findings=[],
        accuracy=None,
        baselines=None,
        figures=[],
        classes=[],
        confusable=[],
        n_confusable=0,
        suspects=[],
        n_suspects=0,
        contradictions=same[:MOST_SHOWN],
        n_contradictions=len(same),
        near_duplicates=nearly[:MOST_SHOWN],
        n_near_duplicates=len(nearly),
        few_examples=[label for label in labels if examples[label] < ENOUGH_EXAMPLES],
        abstention=None,
        learning_curve=[],
        twice_the_examples=None,
        cut=cut,
        unreadable=unreadable,
        next_to_label=[],
        elapsed_ms=0.0,
    )
    report = report.model_copy(update=dict(figures))
    return report.model_copy(update={"findings": sentences_of(report)})


def _numbers(keys: Sequence[bytes]) -> list[int]:
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def suspect(example: Example, reads_as: str, confidence: float) -> Suspect:
    return Suspect(
        **shown(example).model_dump(), reads_as=reads_as, confidence=confidence, of_label=max(1 - confidence, 0.0)
    )


def figure(
    name: FigureName, own: Float[Tensor, " draws"], baselines: Mapping[str, Float[Tensor, " draws"]]
) -> FigureOnNewTexts:
    value, interval = kind_figures.with_interval(own)
    others = {method: float(figures[0]) for method, figures in baselines.items()}
    return FigureOnNewTexts(name=name, value=value, interval=interval, baselines=others)


def most_suspect(strengths: Sequence[float], least: float) -> list[int]:
    """The examples of at least a strength, the strongest first, and no more than a share of all."""
    found = sorted((i for i, each in enumerate(strengths) if each >= least), key=lambda i: (-strengths[i], i))
    return found[: most_suspects(len(strengths))]


# ---- several labels --------------------------------------------------------------------------------------------------


def _of_labels(
    task: ReportedKind,
    evidence: KindEvidence,
    outputs: Float[Tensor, "examples labels"],
    alike: Float[Tensor, "examples examples"],
) -> dict[str, Any]:
    examples, labels, probabilities = task.support.examples, task.support.labels, outputs.sigmoid()
    actual = torch.tensor([[label in each.classes for label in labels] for each in examples])
    thresholds = _thresholds_of_others(probabilities, actual, task)
    predicted = probabilities >= thresholds
    majority = torch.zeros_like(actual)
    majority[:, (task.weights @ actual.double()).argmax()] = True
    draws = kind_figures.resampled(task.weights, seed=task.version.options.seed)
    own = kind_figures.f1_of_labels(predicted, actual, draws)
    others = {
        "most_frequent_label": kind_figures.f1_of_labels(majority, actual, draws),
        "ridge": kind_figures.f1_of_labels(evidence.left_out.by_ridge >= 0.5, actual, draws),
    }
    # Log odds by which the most doubtful label of an example is on the wrong side of its threshold
    beyond, doubtful = ((outputs - thresholds.logit()) * torch.where(actual, -1.0, 1.0)).max(dim=1)
    named = most_suspect(beyond.tolist(), math.log(ODDS))
    names: tuple[FigureName, FigureName] = ("micro_f1", "macro_f1")
    return {
        "figures": [figure(n, own[i], {m: each[i] for m, each in others.items()}) for i, n in enumerate(names)],
        "classes": class_reports(labels, [_counts(actual[:, i], predicted[:, i]) for i in range(len(labels))]),
        "suspects": [
            suspect(examples[i], _flipped(examples[i], labels[int(doubtful[i])]), float(beyond[i].sigmoid()))
            for i in named[:MOST_SHOWN]
        ],
        "n_suspects": len(named),
    }


def _thresholds_of_others(
    probabilities: Float[Tensor, "examples labels"], actual: Bool[Tensor, "examples labels"], task: ReportedKind
) -> Float[Tensor, "examples labels"]:
    """The thresholds for each example, as the examples of other parts teach them."""
    found, weights = torch.full_like(probabilities, 0.5), task.weights
    if not enough_for_thresholds(actual):
        return found
    order = list(range(len(actual)))
    random.Random(task.version.options.seed).shuffle(order)  # noqa: S311 - nothing secret
    for part in range(_PARTS):
        own, others = order[part::_PARTS], [i for j, i in enumerate(order) if j % _PARTS != part]
        if actual[others].any():
            found[own] = found.new_tensor(learned_thresholds(probabilities[others], actual[others], weights[others]))
    return found


def _counts(actual: Bool[Tensor, " examples"], predicted: Bool[Tensor, " examples"]) -> ClassCounts:
    return ClassCounts(int(actual.sum()), int(actual.sum()), int((actual & predicted).sum()), int(predicted.sum()))


def _flipped(example: Example, label: str) -> str:
    """The answer of an example with a label more or less."""
    return answer_in_words(replace(example, labels=tuple(sorted({*example.classes} ^ {label}))))


# ---- scores and places -----------------------------------------------------------------------------------------------


def _of_scores(
    task: ReportedKind,
    evidence: KindEvidence,
    outputs: Float[Tensor, "examples outputs"],
    alike: Float[Tensor, "examples examples"],
) -> dict[str, Any]:
    support, weights, predicted = task.support, task.weights, outputs.flatten()
    actual = torch.tensor([float(target) for target in support.targets if not isinstance(target, tuple)]).double()
    by_ridge, mean = evidence.left_out.by_ridge.flatten().double(), left_out_means(actual, weights)
    draws = kind_figures.resampled(weights, seed=task.version.options.seed)

    def spearman(found: Float[Tensor, " examples"]) -> Float[Tensor, " draws"]:
        return kind_figures.spearman_of_scores(found, actual, draws)

    def error(found: Float[Tensor, " examples"]) -> Float[Tensor, " draws"]:
        return kind_figures.mean_of_texts((found - actual).abs(), draws)

    both = zip(support.examples, actual.tolist(), predicted.tolist(), strict=True)
    shared = {
        "figures": [
            figure("spearman", spearman(predicted), {"mean": draws.new_zeros(1), "ridge": spearman(by_ridge)}),
            figure("mae", error(predicted), {"mean": error(mean), "ridge": error(by_ridge)}),
        ],
        "scores": [LeftOutScore(id=e.id, score=score, predicted=found) for e, score, found in both][:_MOST_SCORES],
    }
    if support.kind == "ordinal":
        decision = evidence.left_out.judged.decision or Decision()
        return shared | _of_places(support, predicted.tolist(), by_ridge, decision, alike)
    residuals = (predicted - actual).abs()
    # Robust, so that a few wrong scores do not hide themselves; rows may agree with their predictions altogether
    spread = float(1.4826 * residuals.median()) or float(residuals.square().mean().sqrt()) or 1.0
    apart = (residuals / spread).tolist()
    named = most_suspect(apart, _SPREADS)
    return shared | {
        "suspects": [
            suspect(support.examples[i], f"{float(predicted[i]):.3g}", math.erf(apart[i] / math.sqrt(2)))
            for i in named[:MOST_SHOWN]
        ],
        "n_suspects": len(named),
    }


def _of_places(
    support: SupportSet,
    predicted: Sequence[float],
    by_ridge: Float[Tensor, " examples"],
    decision: Decision,
    alike: Float[Tensor, "examples examples"],
) -> dict[str, Any]:
    """The figures of ordered classes that other classes have, too."""
    labels, targets = support.labels, support.class_indices
    answers = answers_of(targets, [True] * len(targets), [decision.of_places(p, len(labels)) for p in predicted])
    right, asked = sum(answer.right for answer in answers), len(answers)
    near = by_ridge.round().clamp(0, len(labels) - 1).long().tolist()
    confused, named = confusions(answers), suspects(answers)
    return {
        "accuracy": AccuracyOnNewTexts(
            value=right / asked,
            interval=wilson_interval(right / asked, asked),
            asked=asked,
            right=right,
            folds=asked,
            draws=1,
        ),
        "baselines": Baselines(
            majority=max(Counter(targets).values()) / asked,
            ridge=sum(found == target for found, target in zip(near, targets, strict=True)) / asked,
        ),
        "classes": class_reports(labels, counts_of_classes(targets, answers, len(labels))),
        "confusable": confusable_pairs(support, confused, alike),
        "n_confusable": len(confused),
        "suspects": [
            suspect(support.examples[a.example], labels[a.predicted], a.confidence) for a in named[:MOST_SHOWN]
        ],
        "n_suspects": len(named),
    }
