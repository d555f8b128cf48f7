"""A report, made of the evidence about a task. Every count is a count of rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from handful.report_answers import (
    Abstention,
    AccuracyOnNewTexts,
    Baselines,
    CurvePoint,
    NextToLabel,
    ReportResponse,
    Suspect,
    TwiceTheExamples,
)
from metalearn.evidence.estimates import accuracy_on_new_texts, after_doubling
from metalearn.evidence.findings import Answer, answers_of, at_threshold, confusions, counts_of_classes, suspects
from metalearn.evidence.left_out import CurvePoint as Point
from metalearn.evidence.similarity import next_to_label, similarities
from metalearn.types import SupportSet, TextInput
from model_store.records import Version
from service.engine.evidence_slices import Evidence
from service.tasks.report_parts import (
    MOST_SHOWN,
    class_reports,
    confusable_pairs,
    cut_and_unreadable,
    nearly_the_same,
    same_texts,
    shown,
)
from service.tasks.report_sentences import sentences_of
from service.tasks.support_warnings import ENOUGH_EXAMPLES


@dataclass(frozen=True, slots=True)
class ReportedTask:
    """The subject of a report.

    Attributes:
        version: The version.
        n_examples: The number of its examples that classes have.
        n_out_of_scope: The number of its out-of-scope examples.
        n_without_effect: The number of its other examples, which have the weight 0.
        support: Its support set, or a sample of a large one.
        same_texts: A number of each example's text, the same for copies.
        unlabelled: The unlabelled texts of the request.
        next: How many of them to choose.
        threshold: The abstention threshold of the checkpoint.
        max_chars: The most characters of a text that are kept.
    """

    version: Version
    n_examples: int
    n_out_of_scope: int
    n_without_effect: int
    support: SupportSet
    same_texts: Sequence[int]
    unlabelled: Sequence[TextInput]
    next: int
    threshold: float
    max_chars: int


def report_of(task: ReportedTask, evidence: Evidence) -> ReportResponse:
    """The report, without the time that it took."""
    support, left_out = task.support, evidence.left_out
    labels, targets = support.labels, support.class_indices
    answers = answers_of(targets, left_out.asked.tolist(), left_out.probabilities.tolist())
    alike = similarities(evidence.features, evidence.features)
    accuracy, curve = _accuracy(answers, targets, evidence), list(left_out.curve)
    twice = None if accuracy is None else after_doubling(accuracy.value, left_out.curve)
    if accuracy is not None:
        per_class = len(targets) / len(set(targets)) * (1 - 1 / accuracy.folds)
        # With two examples a class, half of them are all but one
        if not curve or per_class > curve[-1].examples_per_class:
            curve.append(Point(per_class, accuracy.right / accuracy.asked))
    sure = at_threshold(answers, task.threshold)
    named, confused = suspects(answers), confusions(answers)
    same, nearly = same_texts(support, task.same_texts), nearly_the_same(support, task.same_texts, alike)
    cut, unreadable = cut_and_unreadable(support, evidence, task.max_chars)
    counts = counts_of_classes(targets, answers, len(labels))
    report = ReportResponse(
        task=task.version.task,
        version=task.version.version,
        checkpoint=task.version.checkpoint,
        examples=task.n_examples,
        out_of_scope=task.n_out_of_scope,
        without_effect=task.n_without_effect,
        sampled=len(support.examples),
        labels=list(labels),
        findings=[],
        accuracy=accuracy,
        baselines=_baselines(answers, evidence) if answers else None,
        classes=class_reports(labels, counts),
        confusable=confusable_pairs(support, confused, alike),
        n_confusable=len(confused),
        suspects=[_suspect(support, answer) for answer in named[:MOST_SHOWN]],
        n_suspects=len(named),
        contradictions=same[:MOST_SHOWN],
        n_contradictions=len(same),
        near_duplicates=nearly[:MOST_SHOWN],
        n_near_duplicates=len(nearly),
        few_examples=[label for label, each in zip(labels, counts, strict=True) if each.examples < ENOUGH_EXAMPLES],
        abstention=Abstention(
            threshold=task.threshold,
            asked=len(answers),
            answered=sure.answered,
            right=sure.right,
            coverage=sure.answered / len(answers),
            accuracy=sure.right / sure.answered if sure.answered else None,
        )
        if answers
        else None,
        learning_curve=[CurvePoint(examples_per_class=p.examples_per_class, accuracy=p.accuracy) for p in curve],
        twice_the_examples=None if twice is None else TwiceTheExamples(accuracy=twice.value, interval=twice.interval),
        cut=cut,
        unreadable=unreadable,
        next_to_label=_next_to_label(task, evidence),
        elapsed_ms=0.0,
    )
    return report.model_copy(update={"findings": sentences_of(report)})


def _accuracy(answers: Sequence[Answer], targets: Sequence[int], evidence: Evidence) -> AccuracyOnNewTexts | None:
    if not answers:
        return None
    counts, right = Counter(targets), sum(answer.right for answer in answers)
    per_class = sum(counts[answer.actual] for answer in answers) / len(answers)
    estimate = accuracy_on_new_texts(right, len(answers), per_class)
    return AccuracyOnNewTexts(
        value=estimate.value,
        interval=estimate.interval,
        asked=len(answers),
        right=right,
        folds=evidence.left_out.folds,
        draws=evidence.left_out.draws,
    )


def _baselines(answers: Sequence[Answer], evidence: Evidence) -> Baselines:
    most = max(Counter(answer.actual for answer in answers).values())
    by_ridge = sum(bool(evidence.left_out.by_ridge[answer.example]) for answer in answers)
    return Baselines(majority=most / len(answers), ridge=by_ridge / len(answers))


def _suspect(support: SupportSet, answer: Answer) -> Suspect:
    example, reads_as = shown(support.examples[answer.example]), support.labels[answer.predicted]
    return Suspect(**example.model_dump(), reads_as=reads_as, confidence=answer.confidence, of_label=answer.of_label)


def _next_to_label(task: ReportedTask, evidence: Evidence) -> list[NextToLabel]:
    if not task.unlabelled:
        return []
    labels, best = task.support.labels, evidence.probabilities.topk(2, dim=1)
    to_examples = similarities(evidence.features, evidence.unlabelled)
    # Copies of each other and of examples have a similarity of 1
    chosen = next_to_label(
        (best.values[:, 0] - best.values[:, 1]).tolist(),
        similarities(evidence.features, evidence.unlabelled, evidence.unlabelled),
        to_examples,
        task.next,
    )
    return [
        _choice(index, task, labels, best.values[index], best.indices[index], to_examples[index]) for index in chosen
    ]


def _choice(
    index: int,
    task: ReportedTask,
    labels: Sequence[str],
    probabilities: Float[Tensor, "2"],
    classes: Tensor,
    to_examples: Float[Tensor, " examples"],
) -> NextToLabel:
    (first, second), pair = probabilities.tolist(), [labels[i] for i in classes.tolist()]
    text = task.unlabelled[index]
    nearest = int(to_examples.argmax()) if len(to_examples) else None
    similarity = 0.0 if nearest is None else float(to_examples[nearest])
    undecided = f"{pair[0]!r} ({first:.2f}) and {pair[1]!r} ({second:.2f}) are the most probable"
    return NextToLabel(
        index=index,
        text=text.text,
        text_pair=text.text_pair,
        labels=(pair[0], pair[1]),
        probabilities=(first, second),
        nearest="" if nearest is None else labels[task.support.class_indices[nearest]],
        similarity=similarity,
        reason=f"{undecided}; the most similar example has a similarity of {similarity:.2f}",
    )
