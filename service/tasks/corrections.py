"""A correction in a task's support set: which rows it adds, which it sets aside."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from handful.wire import LabelledText
from metalearn.types import Example
from model_store.codec import ExampleRow, rows_of
from service.tasks.support_set import with_ids
from service.tasks.support_warnings import text_key

Reason = Literal["contradicts", "over_cap"]
"""Why an older example is outweighed."""


@dataclass(frozen=True, slots=True)
class Correction:
    """A support set with a correction.

    Attributes:
        row: The correction, which is adapted on; the last one of ``rows``.
        rows: All rows, those that are set aside included.
        outweighed: The rows that were adapted on before and are not any more, with the reason.
        waited: Whether the correction is kept as a pending one already.
    """

    row: ExampleRow
    rows: tuple[ExampleRow, ...]
    outweighed: tuple[tuple[ExampleRow, Reason], ...]
    waited: bool

    @property
    def held(self) -> tuple[ExampleRow, ...]:
        """The rows where the correction waits and nothing else changes."""
        before = {row.id: row for row, _ in self.outweighed}
        waiting = self.row.model_copy(update={"state": "pending"})
        return (*(before.get(row.id, row) for row in self.rows[:-1]), waiting)


def adapted_example(rows: Sequence[ExampleRow], right: Example) -> ExampleRow | None:
    """The example with the text and the answer that is adapted on already; None where there is none."""
    return next(
        (row for row in rows if row.state == "adapted" and _answers_alike(row, right) and _same(row, right)), None
    )


def contradicted(rows: Sequence[ExampleRow], right: Example) -> bool:
    """Whether an example with the text and another answer is adapted on."""
    return any(row.state == "adapted" and not _answers_alike(row, right) and _same(row, right) for row in rows)


def corrected(rows: Sequence[ExampleRow], right: Example, *, described: Collection[str], most: int) -> Correction:
    """The rows with a correction behind them.

    An example of the same text and answer that was set aside, or that another one contradicts, is the correction itself
    and keeps its id. Examples of the same text with another answer are set aside, and so are the oldest examples of
    feedback where the answer has too many; all scores count as one answer there. The last example of a class stays,
    unless the class has a description.

    Args:
        rows: The rows before.
        right: The text with its right answer.
        described: The labels with a description.
        most: Most examples of feedback of an answer that are adapted on.
    """
    same_answer = [row for row in rows if _answers_alike(row, right) and _same(row, right)]
    anew = not contradicted(rows, right)
    back = next((row for row in same_answer if row.state != "adapted" or not anew), None)
    if back is None:
        unnamed = LabelledText(text=right.input.text, text_pair=right.input.text_pair, label=None)
        (row,) = rows_of(with_ids([unnamed], [right], {row.id for row in rows}), "feedback")
    else:
        row = back.model_copy(update={"state": "adapted"})
    others = [each for each in rows if each is not back]
    reasons: dict[str, Reason] = {}
    for each in others:
        if each.state == "adapted" and not _answers_alike(each, right) and _same(each, right):
            left = [
                row,
                *(other for other in others if other.state == "adapted" and other.id not in {*reasons, each.id}),
            ]
            if {*described, *(label for other in left for label in _classes(other))}.issuperset(_classes(each)):
                reasons[each.id] = "contradicts"
    of_label = [
        each
        for each in others
        if each.state == "adapted" and each.source == "feedback" and each.example.classes == right.classes
    ]
    # The correction itself counts where it came by feedback
    too_many = len(of_label) + (row.source == "feedback") - most
    reasons |= {each.id: "over_cap" for each in of_label[: max(too_many, 0)]}
    kept = (each.model_copy(update={"state": "outweighed"}) if each.id in reasons else each for each in others)
    return Correction(
        row=row,
        rows=(*kept, row),
        outweighed=tuple((each, reasons[each.id]) for each in others if each.id in reasons),
        waited=back is not None and back.state == "pending",
    )


def _classes(row: ExampleRow) -> tuple[str | None, ...]:
    """The classes of a row; None stands for that of out of scope."""
    return (None,) if row.label is None else row.example.classes


def _answers_alike(row: ExampleRow, right: Example) -> bool:
    return row.example.label == right.label and row.example.answer == right.answer


def _same(row: ExampleRow, right: Example) -> bool:
    return text_key(row.example.input) == text_key(right.input)
