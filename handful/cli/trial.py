"""``handful try``: from a file of examples to predictions in one command. It keeps nothing."""

import contextlib
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.markup import escape

from handful import environment
from handful.cli.answers import answer_record, answer_words, reading_limit, show_warnings
from handful.cli.connection import ApiKey, AsJson, Local, Url, connect_without_trace
from handful.cli.inputs import SupportFiles, read_support_files
from handful.cli.output import complain, print_json, printable, stderr, stdout, waiting
from handful.cli.text_options import Delimiter, Encoding, LabelColumn, Labels, TextColumn, given
from handful.client import Client
from handful.errors import HandfulError
from handful.files import ReadOptions, Row
from handful.wire import AdaptResponse, Prediction

_TTL_S = 86_400
_SHOWN_CLASSES = 12
_SHOWN_SCORES = 3
_END = ":q"


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    app.command(name="try")(try_file)


def try_file(
    file: Annotated[
        str, typer.Argument(help="Labelled examples: JSON, JSON lines, CSV or another tool's export; - for stdin.")
    ],
    labels: Labels = None,
    text_column: TextColumn = None,
    label_column: LabelColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    as_json: AsJson = False,
) -> None:
    """Read a file of examples, adapt on it, and classify the texts that you type. Nothing is kept.

    Computes in this process, or on a server that --url or HANDFUL_URL names. Where standard input is no terminal, each
    of its lines is classified.
    """
    files = read_support_files(file, labels, ReadOptions(text_column, label_column, delimiter, encoding))
    local = local or (url is None and not environment.value_of(environment.URL))
    with connect_without_trace(url, api_key, local=local) as client, _adapted(client, files) as (task, answer):
        _report(answer, files)
        show_warnings(answer.warnings, files.places, set())
        if sys.stdin is not None and sys.stdin.isatty():
            _converse(client, task, as_json=as_json)
        elif not _answer_lines(client, task, as_json=as_json):
            raise typer.Exit(1)


@contextlib.contextmanager
def _adapted(client: Client, files: SupportFiles) -> Iterator[tuple[str, AdaptResponse]]:
    """Adapts a task under a random name, and removes it in the end."""
    task = f"try-{uuid.uuid4().hex[:12]}"
    options = given(labels=files.labels)
    with waiting(f"adapting on {len(files.examples)} examples"), files.places.named():
        answer = client.adapt(task, files.examples, keep_support=False, ttl_seconds=_TTL_S, **options)
    try:
        yield task, answer
    finally:
        with contextlib.suppress(HandfulError):  # it ends by itself
            client.delete(task)


def _report(answer: AdaptResponse, files: SupportFiles) -> None:
    """Prints the number of examples and the accuracy; on standard error where the answers go to a pipe."""
    counts = Counter(label for example in files.examples for label in _labels_shown(example))
    shown = [f"{label} {count}" for label, count in counts.most_common(_SHOWN_CLASSES)]
    if len(counts) > _SHOWN_CLASSES:
        shown.append(f"and {len(counts) - _SHOWN_CLASSES} more")
    console = stdout if stdout.is_terminal else stderr
    of_classes = f" of {len(answer.labels)} classes: {', '.join(shown)}" if answer.labels else " with scores"
    lines = [f"{answer.n_support} examples{of_classes}"]
    if answer.leave_one_out_accuracy is not None:
        lines.append(f"accuracy on examples that were left out, one at a time: {answer.leave_one_out_accuracy:.1%}")
    if answer.leave_one_out:
        figures = ", ".join(f"{name} {value:.3f}" for name, value in answer.leave_one_out.items())
        lines.append(f"on examples that were left out, one at a time: {figures}")
    for line in lines:
        console.print(escape(printable(line)), highlight=False, soft_wrap=True)


def _labels_shown(example: Mapping[str, Any]) -> list[str]:
    """The labels of an example as the count shows them."""
    if "labels" in example:
        return list(example["labels"])
    if "spans" in example:
        return [span["label"] for span in example["spans"]]
    if "tags" in example:
        return [tag.removeprefix("B-") for tag in example["tags"] if not tag.startswith(("I-", "E-", "L-"))]
    label = example.get("label", "(scored)")
    return ["(out of scope)" if label is None else label]


def _converse(client: Client, task: str, *, as_json: bool) -> None:
    """Classifies typed texts, until an empty line, ``:q`` or Ctrl-D."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - input() then edits lines and remembers them
    stderr.print("[dim]Type a text to classify it; an empty line or Ctrl-D ends.[/]", highlight=False)
    number = 0
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            stderr.print()
            return
        except UnicodeDecodeError:
            complain("this line is not in the encoding of the terminal")
            continue
        if text in {"", _END}:
            return
        number += 1
        _answer(client, task, Row(number, text), as_json=as_json)


def _answer_lines(client: Client, task: str, *, as_json: bool) -> bool:
    """Classifies each line of standard input as it comes; returns whether all have an answer."""
    well = True
    for number, data in enumerate([] if sys.stdin is None else sys.stdin.buffer, 1):
        try:
            text = data.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError:
            complain(f"standard input, line {number}: not UTF-8")
            well = False
            continue
        if text:
            well &= _answer(client, task, Row(number, text), as_json=as_json or not stdout.is_terminal)
    return well


def _answer(client: Client, task: str, row: Row, *, as_json: bool) -> bool:
    """Prints the answer to one text; returns whether there is one."""
    try:
        (prediction,) = client.predict(task, row.text, top_k=_SHOWN_SCORES).predictions
    except HandfulError as error:
        details = [part["detail"] for part in error.errors] or [str(error)]
        complain(f"line {row.line}: {'; '.join(details)}")
        return False
    if as_json:
        print_json(answer_record(row, prediction))
    else:
        stdout.print(_words(prediction, client), highlight=False, soft_wrap=True)
    return True


def _words(prediction: Prediction, client: Client) -> str:
    """A prediction in one line: the label with its confidence, and the next ones."""
    scores = sorted(prediction.scores.items(), key=lambda item: -item[1])
    shown = [f"{escape(printable(label))} {score:.2f}" for label, score in scores]
    if prediction.score is not None or prediction.labels is not None or prediction.spans is not None:
        shown.insert(0, escape(printable(answer_words(prediction))))
    first, others = shown[0], shown[1:]
    words = f"  [bold]{first}[/]" if not prediction.abstained else f"  [bold](abstained)[/]   {first}"
    words += "".join(f"   [dim]{other}[/]" for other in others)
    if prediction.unreadable:
        words += "   [yellow](in words that the encoder hardly knows)[/]"
    if prediction.truncated:
        words += f"   [yellow](cut: longer than {escape(reading_limit(client))})[/]"
    return words
