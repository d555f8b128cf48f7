"""``handful adapt``, ``handful predict`` and ``handful classify``."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.progress import track

from handful.cli.answers import AnswerSheet, Fault, answer_rows, show_warnings
from handful.cli.connection import (
    ApiKey,
    AsJson,
    Checkpoint,
    Local,
    StoreUrl,
    Url,
    connect,
    connect_without_trace,
    load_or_ask_for,
)
from handful.cli.inputs import STANDARD_INPUT, query_of, read_query_rows, read_support_files
from handful.cli.model_options import with_options_of
from handful.cli.output import note, print_json, stderr, stdout, waiting
from handful.cli.places import Places, Rows
from handful.cli.text_options import (
    Abstain,
    AbstainBelow,
    Delimiter,
    Encoding,
    Explain,
    Kind,
    LabelColumn,
    Labels,
    OnlyLabel,
    Order,
    Queries,
    Support,
    Task,
    TextColumn,
    Threshold,
    ThresholdCommand,
    TopK,
    given,
    kind_options,
    threshold_of,
)
from handful.client import Client
from handful.errors import HandfulError
from handful.files import ReadOptions, Row
from handful.wire import AdaptOptionFields, AdaptResponse, Prediction

_QUERIES_PER_PREDICT = 100
_QUERIES_PER_CLASSIFY = 1000


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    app.command()(with_options_of(AdaptOptionFields, adapt))
    app.command(cls=ThresholdCommand)(predict)
    app.command(cls=ThresholdCommand)(with_options_of(AdaptOptionFields, classify))


def adapt(
    task: Task,
    support: Support = None,
    labels: Labels = None,
    keep_support: Annotated[bool, typer.Option(help="Keep the texts beside the weights.")] = True,
    ttl_seconds: Annotated[int | None, typer.Option(help="The task ends after this time.")] = None,
    kind: Kind = None,
    order: Order = None,
    checkpoint: Checkpoint = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
    **adapt_options: Any,
) -> None:
    """Adapt a task on exactly the labelled examples in a file, or on descriptions of its labels, or on both."""
    files = read_support_files(support, labels, ReadOptions(text_column, label_column, delimiter, encoding))
    loaded, asked = load_or_ask_for(checkpoint, local=local)
    options = given(**adapt_options, ttl_seconds=ttl_seconds, labels=files.labels, checkpoint=asked)
    options |= kind_options(kind, order)
    with connect(url, api_key, local=local, store=store, checkpoint=loaded) as client:
        with waiting(f"adapting on {len(files.examples)} examples"), files.places.named():
            answer = client.adapt(task, files.examples, keep_support=keep_support, **options)
        show_warnings(answer.warnings, files.places, set())
    if answer.checkpoint_choice is not None:
        note(answer.checkpoint_choice.reason)
    if as_json or not stdout.is_terminal:
        print_json(answer)
        return
    stdout.print(
        f"{task} version {answer.version}: {answer.n_support} examples, {len(answer.labels)} classes, "
        f"{accuracy_of(answer)}{answer.bytes} bytes, {answer.elapsed_ms:.0f} ms",
        soft_wrap=True,
    )


def predict(
    task: Task,
    queries: Queries = STANDARD_INPUT,
    top_k: TopK = 3,
    version: Annotated[int | None, typer.Option(help="The newest version where missing.")] = None,
    abstain: Abstain = False,
    abstain_below: AbstainBelow = None,
    threshold: Threshold = None,
    only_label: OnlyLabel = None,
    explain: Explain = False,
    ids: Annotated[bool, typer.Option("--ids", help="Give each answer an id, by which feedback can name it.")] = False,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Classify texts. Each answer has the line and the text that it answers."""
    file = read_query_rows(queries, ReadOptions(text_column, label_column, delimiter, encoding))
    options = given(
        top_k=top_k,
        version=version,
        abstain=threshold_of(abstain, abstain_below, threshold),
        only_labels=only_label or None,
        explain=explain or None,
        ids=ids or None,
    )
    with connect(url, api_key, local=local, store=store, existing=True) as client:

        def ask(rows: Sequence[Row]) -> list[Prediction]:
            return client.predict(task, map(query_of, rows), **options).predictions

        _answer_file(file, ask, client, Places(), size=_QUERIES_PER_PREDICT, as_json=as_json)


def classify(
    queries: Queries = STANDARD_INPUT,
    support: Support = None,
    labels: Labels = None,
    top_k: TopK = 3,
    abstain: Abstain = False,
    abstain_below: AbstainBelow = None,
    threshold: Threshold = None,
    only_label: OnlyLabel = None,
    explain: Explain = False,
    kind: Kind = None,
    order: Order = None,
    checkpoint: Checkpoint = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    as_json: AsJson = False,
    **adapt_options: Any,
) -> None:
    """Adapt on one file and classify another at once; nothing is stored."""
    if STANDARD_INPUT in {support, labels} and queries == STANDARD_INPUT:
        raise typer.BadParameter("two files cannot both come from stdin: give --queries FILE")
    read_as = ReadOptions(text_column, label_column, delimiter, encoding)
    files = read_support_files(support, labels, read_as)
    file = read_query_rows(queries, replace(read_as, label_column=None))
    abstention = threshold_of(abstain, abstain_below, threshold)
    loaded, asked = load_or_ask_for(checkpoint, local=local)
    options = given(
        **adapt_options,
        top_k=top_k,
        abstain=abstention,
        only_labels=only_label or None,
        explain=explain or None,
        labels=files.labels,
        checkpoint=asked,
        **kind_options(kind, order),
    )
    seen: set[str] = set()
    with connect_without_trace(url, api_key, local=local, checkpoint=loaded) as client:

        def ask(rows: Sequence[Row]) -> list[Prediction]:
            answer = client.classify(files.examples, map(query_of, rows), **options)
            show_warnings(answer.warnings, files.places, seen)
            if answer.checkpoint_choice is not None and answer.checkpoint_choice.reason not in seen:
                seen.add(answer.checkpoint_choice.reason)
                note(answer.checkpoint_choice.reason)
            return answer.predictions

        _answer_file(file, ask, client, files.places, size=_QUERIES_PER_CLASSIFY, as_json=as_json)


def accuracy_of(answer: AdaptResponse) -> str:
    """A phrase with the best accuracy estimate that an answer has."""
    if answer.leave_one_out_accuracy is not None:
        return f"leave-one-out accuracy {answer.leave_one_out_accuracy:.3f}, "
    if answer.leave_one_out is not None:
        figures = (f"{name.replace('_', ' ')} {value:.3f}, " for name, value in answer.leave_one_out.items())
        return f"leave-one-out {''.join(figures)}"
    return "" if answer.support_accuracy is None else f"support accuracy {answer.support_accuracy:.3f}, "


def _answer_file(
    file: Rows,
    ask: Callable[[Sequence[Row]], list[Prediction]],
    client: Client,
    places: Places,
    *,
    size: int,
    as_json: bool,
) -> None:
    """Shows the answer to each row of a file; exits with status 1 where a row has none."""
    starts = range(0, len(file.rows), size)
    quiet = len(starts) < 2 or stdout.is_terminal == as_json
    with AnswerSheet(file, as_json=as_json, client=client) as sheet:
        try:
            for start in track(starts, "classifying", console=stderr, disable=quiet, transient=True):
                for answer in answer_rows(file.only(file.rows[start : start + size]), ask, places):
                    if isinstance(answer, Fault):
                        sheet.fault(answer)
                    else:
                        sheet.add(*answer)
        except (HandfulError, KeyboardInterrupt):
            left = len(file.rows) - sheet.answered - len(sheet.faulty)
            if sheet.answered and left:
                note(f"{sheet.answered} of {len(file.rows)} texts were answered; {left} were not asked")
            raise
    if sheet.faulty:
        raise typer.Exit(1)
