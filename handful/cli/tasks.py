"""``handful tasks``."""

from typing import Annotated

import typer

from handful.cli.answers import answer_of_example
from handful.cli.connection import ApiKey, AsJson, Local, StoreUrl, Url, connect
from handful.cli.feedback import drift, feedback
from handful.cli.moving import export, import_
from handful.cli.output import note, show
from handful.cli.readapt import readapt
from handful.cli.report import report
from handful.cli.text_options import Task
from handful.wire import DeleteResponse, VersionResponse

app = typer.Typer(
    help="List, show, report on, correct, roll back, adapt again, export, import and delete tasks; list and erase "
    "their examples.",
    no_args_is_help=True,
)
app.command(name="readapt")(readapt)
app.command(name="report")(report)
app.command(name="feedback")(feedback)
app.command(name="drift")(drift)
app.command(name="export")(export)
app.command(name="import")(import_)

_COLUMNS = ("task", "version", "classes", "examples", "bytes", "checkpoint", "source", "created")


@app.command(name="list")
def list_tasks(
    url: Url = None, api_key: ApiKey = None, local: Local = False, store: StoreUrl = None, as_json: AsJson = False
) -> None:
    """List all tasks, by name."""
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        tasks = list(client.tasks())
    show(_COLUMNS, map(_row, tasks), tasks, as_json=as_json)


@app.command(name="show")
def show_task(
    task: Task,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show one task."""
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        record = client.task(task)
    show(("field", "value"), record.model_dump().items(), [record], as_json=as_json)


@app.command()
def versions(
    task: Task,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """List a task's versions, newest first."""
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        records = list(client.versions(task))
    rows = ((*_row(record), record.asked_by or "") for record in records)
    show((*_COLUMNS, "asked by"), rows, records, as_json=as_json)


@app.command()
def rollback(
    task: Task,
    version: Annotated[int, typer.Argument(min=1, help="The version to bring back.")],
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Bring an earlier version back, under a new number."""
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        record = client.rollback(task, version)
    show(_COLUMNS, [_row(record)], [record], as_json=as_json)


@app.command(name="examples")
def list_examples(
    task: Task,
    label: Annotated[str | None, typer.Option(help="Those of this class.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Those that this call brought: adapt, examples or feedback.")
    ] = None,
    state: Annotated[str | None, typer.Option(help="Those that are adapted, pending or outweighed.")] = None,
    text: Annotated[str | None, typer.Option(help="Those with this in their text; case does not count.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """List the examples of a task's newest version, by id."""
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        found = list(client.examples(task, label=label, source=source, state=state, text=text))
    rows = (
        (
            each.id,
            answer_of_example(each),
            each.source,
            each.state,
            each.text,
            each.text_pair or "",
        )
        for each in found
    )
    show(("id", "label", "source", "state", "text", "second text"), rows, found, as_json=as_json)


@app.command()
def erase(
    task: Task,
    example: Annotated[str, typer.Argument(help="The example's id; `handful tasks examples` lists them.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Erase an example: adapt without it, and remove every version that was made with its text."""
    if not yes:
        typer.confirm(f"Erase {example} of {task}, with every version made with its text?", abort=True, err=True)
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        answer = client.erase_example(task, example)
    for warning in answer.warnings:
        note(f"{warning.code}: {warning.detail}")
    columns = ("task", "version", "classes", "examples", "erased", "removed versions")
    removed = ", ".join(map(str, answer.removed_versions))
    row = (task, answer.version, len(answer.labels), answer.n_support, answer.erased, removed)
    show(columns, [row], [answer], as_json=as_json)


@app.command()
def delete(
    task: Task,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Remove a task with all its versions and texts."""
    if not yes:
        typer.confirm(f"Remove {task} with all its versions and texts?", abort=True, err=True)
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        client.delete(task)
    show(("task", "deleted"), [(task, True)], [DeleteResponse(task=task)], as_json=as_json)


def _row(version: VersionResponse) -> tuple[object, ...]:
    source = version.source if version.copied_from is None else f"{version.source} to {version.copied_from}"
    return (
        version.task,
        version.version,
        len(version.labels),
        version.n_support,
        version.bytes,
        version.checkpoint[:12],
        source,
        f"{version.created_at:%Y-%m-%d %H:%M:%S}",
    )
