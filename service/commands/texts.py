"""``handful adapt`` and ``handful predict``."""

from typing import Annotated

import typer
from rich.progress import track

from service.commands.connection import ApiKey, AsJson, Local, StoreUrl, Url, connect
from service.commands.files import read_descriptions, read_queries, read_support
from service.commands.output import print_json, show, stderr, stdout, waiting
from service.schemas import Prediction

_QUERIES_PER_REQUEST = 100

Task = Annotated[str, typer.Argument(help="The task's name.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command()(adapt)
    app.command()(predict)


def adapt(
    task: Task,
    support: Annotated[
        str | None, typer.Option(help='JSON lines {"text", "label"} or CSV with these columns; - for stdin.')
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help='JSON {"LABEL": "what it means"}; a label that stands here needs no example. - for stdin.'),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Inner steps; else the checkpoint's own.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Inner learning rate; else the checkpoint's own.")] = None,
    use_label_text: Annotated[bool, typer.Option(help="Use the words of label names as a prior.")] = True,
    keep_support: Annotated[bool, typer.Option(help="Keep the texts beside the weights.")] = True,
    ttl_seconds: Annotated[int | None, typer.Option(help="The task ends after this time.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Adapt a task on exactly the labelled examples in a file, or on what its labels mean, or on both."""
    if support is None and labels is None:
        raise typer.BadParameter("give --support FILE, --labels FILE, or both")
    if support == labels == "-":
        raise typer.BadParameter("--support and --labels cannot both come from stdin")
    examples = [] if support is None else read_support(support)
    descriptions = None if labels is None else read_descriptions(labels)
    options = {"steps": steps, "learning_rate": learning_rate, "ttl_seconds": ttl_seconds, "labels": descriptions}
    given = {name: value for name, value in options.items() if value is not None}
    with connect(url, api_key, local=local, store=store) as client, waiting(f"adapting on {len(examples)} examples"):
        answer = client.adapt(task, examples, use_label_text=use_label_text, keep_support=keep_support, **given)
    if as_json or not stdout.is_terminal:
        print_json(answer)
        return
    accuracy = "" if answer.support_accuracy is None else f"support accuracy {answer.support_accuracy:.3f}, "
    stdout.print(
        f"{task} version {answer.version}: {answer.n_support} examples, {len(answer.labels)} classes, "
        f"{accuracy}{answer.bytes} bytes, {answer.elapsed_ms:.0f} ms"
    )


def predict(
    task: Task,
    queries: Annotated[str, typer.Option(help="Lines of text, JSON lines or CSV; - for stdin.")] = "-",
    top_k: Annotated[int | None, typer.Option(min=1, help="How many labels to score.")] = 3,
    version: Annotated[int | None, typer.Option(help="The newest version where missing.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Classify texts."""
    texts = read_queries(queries)
    options = {} if version is None else {"version": version}
    predictions: list[Prediction] = []
    with connect(url, api_key, local=local, store=store) as client:
        starts = range(0, len(texts), _QUERIES_PER_REQUEST)
        for start in track(starts, "classifying", console=stderr, disable=len(starts) < 2, transient=True):
            answer = client.predict(task, texts[start : start + _QUERIES_PER_REQUEST], top_k=top_k, **options)
            predictions += answer.predictions
    rows = [
        (query if isinstance(query, str) else query["text"], answer.label, f"{answer.confidence:.3f}")
        for query, answer in zip(texts, predictions, strict=True)
    ]
    show(("text", "label", "confidence"), rows, predictions, as_json=as_json)
