"""A correction in a task's support set: which rows it adds, which it sets aside."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from handful.wire import LabelledText
from metalearn.types import Example, TextInput
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


def adapted_example(rows: Sequence[ExampleRow], text: TextInput, label: str) -> ExampleRow | None:
    """The example with the text and the label that is adapted on already; None where there is none."""
    same = text_key(text)
    return next((row for row in rows if row.state == "adapted" and row.label == label and _key(row) == same), None)


def contradicted(rows: Sequence[ExampleRow], text: TextInput, label: str) -> bool:
    """Whether an example with the text and another label is adapted on."""
    same = text_key(text)
    return any(row.state == "adapted" and row.label != label and _key(row) == same for row in rows)


def corrected(
    rows: Sequence[ExampleRow], text: TextInput, label: str, *, described: Collection[str], most: int
) -> Correction:
    """The rows with a correction behind them.

    An example of the same text and label that was set aside, or that another one contradicts, is the correction itself
    and keeps its id. Examples of the same text under
    another label are set aside, and so are the oldest examples of feedback where the label has too many. The last
    example of a class stays, unless the class has a description.

    Args:
        rows: The rows before.
        text: The text.
        label: Its right label.
        described: The labels with a description.
        most: Most examples of feedback of a label that are adapted on.
    """
    same = text_key(text)
    same_label = [row for row in rows if row.label == label and _key(row) == same]
    anew = not contradicted(rows, text, label)
    back = next((row for row in same_label if row.state != "adapted" or not anew), None)
    if back is None:
        given = LabelledText(text=text.text, text_pair=text.text_pair, label=label)
        (row,) = rows_of(with_ids([given], [Example(text, label)], {row.id for row in rows}), "feedback")
    else:
        row = back.model_copy(update={"state": "adapted"})
    others = [each for each in rows if each is not back]
    reasons: dict[str, Reason] = {}
    for each in others:
        if each.state == "adapted" and each.label != label and _key(each) == same:
            left = [
                other
                for other in others
                if other.state == "adapted" and other.label == each.label and other.id not in {*reasons, each.id}
            ]
            if left or each.label in described:
                reasons[each.id] = "contradicts"
    of_label = [each for each in others if each.state == "adapted" and (each.source, each.label) == ("feedback", label)]
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


def _key(row: ExampleRow) -> bytes:
    return text_key(row.example.input)
