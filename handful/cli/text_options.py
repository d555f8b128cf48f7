"""Options of all commands on texts."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from handful.cli.completion import among, task_names

Task = Annotated[str, typer.Argument(help="The task's name.", autocompletion=task_names)]
Support = Annotated[
    str | None, typer.Option(help="Labelled examples: JSON, JSON lines, CSV or another tool's export; - for stdin.")
]
Labels = Annotated[
    str | None,
    typer.Option(help='JSON {"LABEL": "description"}; a label that stands here needs no example. - for stdin.'),
]
Kind = Annotated[
    str | None,
    typer.Option(
        help="single_label, multi_label, regression, ordinal or tokens; guessed where missing.",
        autocompletion=among(("single_label", "multi_label", "regression", "ordinal", "tokens")),
    ),
]
Order = Annotated[
    str | None, typer.Option(help="The classes of an ordinal task from the lowest to the highest, such as bad,ok,good.")
]
Explain = Annotated[bool, typer.Option("--explain", help="Give the examples nearest to each text.")]
TopK = Annotated[int | None, typer.Option(min=1, help="Number of labels to score.")]
Abstain = Annotated[
    bool,
    typer.Option(
        "--abstain",
        help="Answer no label where the confidence is under the checkpoint's threshold; --abstain 0.7 sets another.",
    ),
]
AbstainBelow = Annotated[
    float | None, typer.Option("--abstain-below", min=0, max=1, help="The same as --abstain with this threshold.")
]
Threshold = Annotated[
    list[str] | None,
    typer.Option(
        "--threshold",
        metavar="LABEL=NUMBER",
        help="Answer no label where the confidence in LABEL is under NUMBER; repeatable.",
    ),
]
OnlyLabel = Annotated[
    list[str] | None, typer.Option("--only-label", help="A label that may be answered, and no others; repeatable.")
]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", help="Column or key of the texts; guessed where missing.")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label-column", help="Column or key of the labels; guessed where missing.")
]
Delimiter = Annotated[
    str | None, typer.Option("--delimiter", help="Delimiter of columns: one character, or tab; guessed where missing.")
]
Encoding = Annotated[
    str | None, typer.Option("--encoding", help="Encoding of the files, such as windows-1252; guessed where missing.")
]


Queries = Annotated[
    str, typer.Option(help="Lines of text, JSON, JSON lines, CSV or another tool's export; - for stdin.")
]


class ThresholdCommand(TyperCommand):
    """A command whose ``--abstain`` takes an optional threshold. Typer has no options with an optional value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads ``--abstain 0.7`` and ``--abstain=0.7`` as ``--abstain-below 0.7``."""
        given: list[str] = []
        for i, word in enumerate(args):
            if word.startswith("--abstain="):
                given += ["--abstain-below", word.partition("=")[2]]
            elif word == "--abstain" and i + 1 < len(args) and _is_number(args[i + 1]):
                given.append("--abstain-below")
            else:
                given.append(word)
        return super().parse_args(ctx, given)


def threshold_of(
    abstain: bool, below: float | None, of_labels: Sequence[str] | None = None
) -> bool | float | dict[str, float] | None:
    """The ``abstain`` field of a request; None where no option is given.

    Raises:
        typer.BadParameter: A threshold of a label is no number from 0 to 1, or there is one of all labels beside it.
    """
    if not of_labels:
        return below if below is not None else (abstain or None)
    if below is not None:
        raise typer.BadParameter(
            "--threshold leaves the checkpoint's threshold to the other labels; a number after --abstain is for all "
            "labels: leave one of them out"
        )
    thresholds: dict[str, float] = {}
    for given_one in of_labels:
        label, _, number = given_one.rpartition("=")
        if not label or not _is_number(number) or not 0 <= float(number) <= 1:
            raise typer.BadParameter(f"--threshold {given_one!r}: write LABEL=NUMBER with a number from 0 to 1")
        if label in thresholds:
            raise typer.BadParameter(f"--threshold {given_one!r}: the label has a threshold already")
        thresholds[label] = float(number)
    return thresholds


def kind_options(kind: str | None, order: str | None) -> dict[str, Any]:
    """The fields of a request that say what its task answers."""
    return given(kind=kind, order=None if order is None else order.split(","))


def given(**options: Any) -> dict[str, Any]:
    """The options that have a value."""
    return {name: value for name, value in options.items() if value is not None}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
