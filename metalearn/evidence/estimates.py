"""Estimates of the accuracy on new texts, and of what more examples would bring."""

from dataclasses import dataclass

from metalearn.evaluation.intervals import Interval, wilson_interval
from metalearn.evidence.left_out import CurvePoint

_CREDIT = 0.3
"""Share of the errors that one more example would remove where each class has one, less in proportion where it has
more: a classifier without the example has one example less of each class. Chosen on validation tasks; see docs/log.md.
"""
_DEPENDENCE = 1.25
"""Answers that count as one independent answer, since one support set makes all classifiers. Chosen as above."""
_LASTING = 0.25
"""The part of the gain of the last doubling that the next doubling is expected to bring: a cautious choice, since the
next one brought 0.4 of it on validation tasks; see docs/log.md."""


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """An estimate of the accuracy on new texts.

    Attributes:
        value: The estimate.
        interval: Its 95 % interval.
    """

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class Doubling:
    """The accuracy that twice the examples would bring.

    Attributes:
        value: The expected accuracy.
        interval: From no gain to as much as the last doubling brought.
    """

    value: float
    interval: Interval


def accuracy_on_new_texts(right: int, asked: int, examples_per_class: int | float) -> AccuracyEstimate:
    """The accuracy of a classifier, from the answers to examples that were left out.

    Args:
        right: Examples that were classified correctly without themselves.
        asked: Examples that were left out, at least one.
        examples_per_class: Examples of a class, as a mean over the examples that were left out.
    """
    value = 1 - (1 - right / asked) * (1 - _CREDIT / examples_per_class)
    return AccuracyEstimate(value, wilson_interval(value, asked / _DEPENDENCE))


def after_doubling(now: float, curve: tuple[CurvePoint, ...]) -> Doubling | None:
    """The accuracy with twice the examples; None where there is no accuracy with half of them.

    Args:
        now: The estimate with all examples.
        curve: Accuracies with fewer examples, the last with half of them.
    """
    if not curve:
        return None
    gain = min(max(now - curve[-1].accuracy, 0.0), 1 - now)
    return Doubling(now + _LASTING * gain, (now, now + gain))
