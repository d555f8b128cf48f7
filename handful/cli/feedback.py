"""``handful tasks feedback`` corrects answers; ``handful tasks drift`` shows what moved in recent queries."""

from typing import Annotated

import typer
from rich.markup import escape

from handful.calls import RightAnswer
from handful.cli.connection import ApiKey, AsJson, Local, StoreUrl, Url, connect
from handful.cli.inputs import note_found, query_of
from handful.cli.output import complain, note, print_json, printable, show, stdout, waiting
from handful.cli.places import Rows
from handful.cli.text_options import Task
from handful.client import Client
from handful.errors import HandfulError
from handful.files import ReadOptions, read_support
from handful.files.rows import Row
from handful.wire_feedback import Distances, FeedbackResponse, QueryWindow

_COLUMNS = ("text", "answered", "label", "outcome", "version", "example", "outweighed")
_SHOWN_CHARS = 60


def feedback(
    task: Task,
    label: Annotated[str | None, typer.Option(help="The right label of the text or the answer.")] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="A right label of a multi-label task; once for each of them.")
    ] = None,
    score: Annotated[float | None, typer.Option(help="The right score of a regression.")] = None,
    text: Annotated[str | None, typer.Option(help="The text.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Second text, where pairs are classified.")] = None,
    answer: Annotated[str | None, typer.Option("--id", help="The id of an answer, from predict --ids.")] = None,
    file: Annotated[str | None, typer.Option(help="A file of texts with their right labels; - for stdin.")] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Adapt on them also where the check fails, or the task has them.")
    ] = False,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Correct answers: each text becomes an example, unless the task's other examples would suffer."""
    if sum(each is not None for each in (text, answer, file)) != 1:
        raise typer.BadParameter("give --text, --id or --file")
    answers: list[RightAnswer] = [each for each in (label, labels or None, score) if each is not None]
    if len(answers) != (file is None):
        raise typer.BadParameter("give --label, --labels or --score with --text or --id; a file has its own answers")
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        if file is not None:
            _of_file(client, task, file, force=force, as_json=as_json)
            return
        query = text if text is None or text_pair is None else {"text": text, "text_pair": text_pair}
        found = client.feedback(task, answers[0], text=query, id=answer, force=force)
    note(found.detail)
    show(_COLUMNS, [_row(text or "", found)], [found], as_json=as_json)


def _of_file(client: Client, task: str, file: str, *, force: bool, as_json: bool) -> None:
    """Corrects row by row, since each correction counts for the next."""
    read = read_support(file, ReadOptions())
    note_found(read)
    rows, shown, found, refused = Rows.of(read), [], [], []
    with waiting("correcting"):
        for row in rows.rows:
            try:
                one = client.feedback(task, _right_answer(row), text=query_of(row), force=force)
            except HandfulError as error:
                if error.status != 422:
                    raise
                complain(f"{rows.at([row.line])}: {error}")
                refused.append(row)
                continue
            found.append(one)
            shown.append(_row(row.text, one))
    show(_COLUMNS, shown, found, as_json=as_json)
    counts = {outcome: sum(one.outcome == outcome for one in found) for outcome in sorted({o.outcome for o in found})}
    note(", ".join(f"{count} {outcome}" for outcome, count in counts.items()) or "no correction")
    if refused:
        raise typer.Exit(1)


def _right_answer(row: Row) -> RightAnswer:
    if row.tagged is not None:
        return {name: value for name, value in row.tagged.items() if name in {"spans", "tags"}}
    right = row.labels if row.labels is not None else row.score
    return row.label or "" if right is None else right


def _row(text: str, found: FeedbackResponse) -> tuple[object, ...]:
    outweighed = ", ".join(each.id for each in found.outweighed)
    return (
        printable(text)[:_SHOWN_CHARS],
        found.answered,
        found.label,
        found.outcome,
        found.version,
        found.id or "",
        outweighed,
    )


def drift(
    task: Task,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show how far recent queries lie from the examples, and how abstention moved."""
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        found = client.drift(task)
    if as_json or not stdout.is_terminal:
        print_json(found)
        return
    for sentence in found.findings:
        stdout.print(f"- {escape(printable(sentence))}", highlight=False)
    rows = [("recent", *_window(found.recent)), ("earlier", *_window(found.earlier))]
    show(("queries", "number", f"below {found.threshold:.2f}", "mean confidence"), rows, [], as_json=False)
    distances = [("recent queries", *_distances(found.of_queries)), ("examples", *_distances(found.of_examples))]
    show(("distance of", "number", "median", "far"), distances, [], as_json=False)


def _window(window: QueryWindow) -> tuple[object, ...]:
    return window.queries, _share(window.abstained), "-" if window.confidence is None else f"{window.confidence:.2f}"


def _distances(found: Distances | None) -> tuple[object, ...]:
    if found is None:
        return "-", "-", "-"
    return found.texts, "-" if found.median is None else f"{found.median:.2f}", _share(found.far)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
