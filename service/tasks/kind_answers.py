"""The answers of tasks that are no classifications: predictions, and the fields of versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from handful.wire import Prediction, PredictionFields
from metalearn.decision import Decision, TaskKind
from metalearn.evidence.decisions import COVERAGE
from metalearn.kinds import KINDS
from metalearn.types import Adapter
from service.tasks.errors import Fault, InvalidContent


def kind_of_adapter(adapter: Adapter) -> TaskKind:
    """The kind of the task that an adapter belongs to."""
    if adapter.decision is not None and adapter.decision.ordered:
        return "ordinal"
    if adapter.decision is not None and adapter.decision.transitions:
        return "tokens"
    return next(rules.name for rules in KINDS.values() if rules.objective == adapter.objective)


def kind_fields(
    kind: TaskKind, labels: Sequence[str], decision: Decision | None, figures: Mapping[str, float] | None
) -> dict[str, Any]:
    """The fields of an answer that say what a version's task answers.

    Args:
        kind: The task's kind.
        labels: Its classes.
        decision: How answers are made of the head's outputs.
        figures: Figures of the answers to examples without themselves.
    """
    fields: dict[str, Any] = {"kind": kind, "leave_one_out": None if figures is None else dict(figures)}
    if decision is not None and decision.thresholds:
        fields["thresholds"] = dict(zip(labels, decision.thresholds, strict=True))
        fields["thresholds_from"] = "leave_one_out" if decision.learned else "default"
    return fields


def refuse_unusable(kind: TaskKind, asked: PredictionFields) -> None:
    """Refuses options of a prediction that a task's kind has no use for.

    Args:
        kind: The task's kind.
        asked: The options.

    Raises:
        InvalidContent: An option was asked for in vain.
    """
    given = {
        "abstain": asked.abstain is not None and asked.abstain is not False,
        "only_labels": asked.only_labels is not None,
        "explain": asked.explain,
    }
    wrong = [] if KINDS[kind].abstains else [name for name, wanted in given.items() if wanted]
    if wrong:
        faults = [Fault((name,), f"{name} is not there for {kind} tasks yet: leave it out") for name in wrong]
        raise InvalidContent("option_unsupported", faults)


def prediction_of(
    adapter: Adapter, outputs: Sequence[float], *, top_k: int | None, readable: bool, truncated: bool, unreadable: bool
) -> Prediction:
    """The prediction that a task of another kind than classification makes of its head's outputs for a text.

    Args:
        adapter: The task's adapter.
        outputs: Probabilities of the classes, or the score.
        top_k: The number of scores to show.
        readable: Whether the text is to have an answer; otherwise the prediction abstains.
        truncated: Whether the text was cut.
        unreadable: Whether the encoder cannot read the text.
    """
    decision = adapter.decision or Decision()
    fields: dict[str, Any] = {"abstained": not readable, "truncated": truncated, "unreadable": unreadable}
    if adapter.objective == "multi_label":
        order = sorted(range(len(outputs)), key=lambda i: -outputs[i])
        thresholds = decision.thresholds or (0.5,) * len(outputs)
        found = [adapter.labels[i] for i in order if readable and outputs[i] >= thresholds[i]]
        return Prediction.model_construct(
            label=found[0] if found else None,
            labels=found,
            confidence=outputs[order[0]],
            scores={adapter.labels[i]: outputs[i] for i in order[:top_k]},
            **fields,
        )
    (score,) = outputs
    if decision.ordered:
        probabilities = decision.of_places(score, len(adapter.labels))
        order = sorted(range(len(probabilities)), key=lambda i: -probabilities[i])
        return Prediction.model_construct(
            label=adapter.labels[order[0]] if readable else None,
            score=sum(p * value for p, value in zip(probabilities, _values(adapter.labels), strict=True)),
            confidence=probabilities[order[0]],
            scores={adapter.labels[i]: probabilities[i] for i in order[:top_k]},
            **fields,
        )
    width = decision.half_width
    return Prediction.model_construct(
        label=None,
        score=score,
        interval=None if width is None else (score - width, score + width),
        confidence=0.0 if width is None else COVERAGE,
        scores={},
        **{**fields, "abstained": False},
    )


def _values(labels: Sequence[str]) -> list[float]:
    """The numbers that ordered classes are, or their places where they are no numbers."""
    try:
        return [float(label) for label in labels]
    except ValueError:
        return [float(i) for i in range(len(labels))]
