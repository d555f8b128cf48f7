"""``handful tasks report``: how good a task's classifier is, and what to do next."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from handful.cli.connection import ApiKey, AsJson, Local, StoreUrl, Url, connect
from handful.cli.inputs import query_of, read_query_rows
from handful.cli.output import note, print_json, printable, show_lines, stdout, waiting
from handful.cli.text_options import Task, given
from handful.files import ReadOptions
from handful.report_answers import ReportResponse

_SHOWN = 10


def report(
    task: Task,
    html: Annotated[Path | None, typer.Option(help="Write the report with plots into one HTML file.")] = None,
    unlabelled: Annotated[
        str | None, typer.Option(help="A file of texts, to choose the next to label from; - for stdin.")
    ] = None,
    choose: Annotated[int, typer.Option("--next", min=1, max=100, help="How many of these texts to choose.")] = 10,
    version: Annotated[int | None, typer.Option(min=1, help="The newest version where missing.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Report on a task: accuracy on new texts, labels that may be wrong, confusable classes, what to label next."""
    texts = None if unlabelled is None else [query_of(row) for row in read_query_rows(unlabelled, ReadOptions()).rows]
    options = given(version=version, next=None if texts is None else choose)
    with connect(url, api_key, local=local, store=store, existing=True) as client, waiting("reporting"):
        found = client.report(task, texts, **options)
    if html is not None:
        from handful.report_page import report_page

        html.write_text(report_page(found), encoding="utf-8")
        note(f"wrote {html}")
    if as_json or not stdout.is_terminal:
        print_json(found)
    else:
        _show(found)


def _show(found: ReportResponse) -> None:
    """Prints the findings, and a table of each kind that has entries."""
    for sentence in found.findings:
        stdout.print(f"- {escape(printable(sentence))}", highlight=False)
    if found.figures:
        figures = [
            (each.name, f"{each.value:.3f}", "{:.3f} to {:.3f}".format(*each.interval), _beside(each.baselines))
            for each in found.figures
        ]
        show_lines(("figure", "on new texts", "95 % interval", "beside"), figures)
    rows = [
        (each.label, each.examples, _share(each.right, each.asked), _share(each.right, each.predicted))
        for each in found.classes
    ]
    if rows:
        show_lines(("class", "examples", "found (recall)", "right (precision)"), rows)
    if found.suspects:
        suspects = [(each.text, each.label, each.reads_as, f"{each.confidence:.2f}") for each in found.suspects]
        show_lines(("may be wrong", "label", "reads as", "confidence"), suspects[:_SHOWN])
    if found.confusable:
        pairs = [(*pair.labels, sum(pair.counts), pair.shown[0].text, pair.shown[1].text) for pair in found.confusable]
        show_lines(("class", "taken for", "times", "misread", "beside"), pairs[:_SHOWN])
    if found.next_to_label:
        chosen = [(each.text, " or ".join(each.labels)) for each in found.next_to_label]
        show_lines(("label next", "undecided between"), chosen)


def _beside(baselines: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in baselines.items())


def _share(right: int, of: int) -> str:
    return f"{right} of {of}" if of else "-"
