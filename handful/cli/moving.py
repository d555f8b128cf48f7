"""``handful tasks export`` and ``import``: tasks as files, and in the formats of other programs."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from handful.cli.connection import ApiKey, AsJson, Local, StoreUrl, Url, connect
from handful.cli.output import note, print_json, show, waiting
from handful.cli.text_options import Task
from handful.errors import HandfulError

_STANDARD = "-"


class ExportFormat(StrEnum):
    """The formats of ``handful tasks export``."""

    HANDFUL = "handful"
    ONNX = "onnx"
    SENTENCE_TRANSFORMERS = "sentence-transformers"
    DATASET = "dataset"


def export(
    task: Task,
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="The file to write; with --format sentence-transformers a new folder."),
    ],
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="handful: one file for `handful tasks import`. dataset: the examples as JSON lines, .json or .csv. "
            "onnx: a graph from features to probabilities. sentence-transformers: a folder with the encoder and the "
            "head.",
        ),
    ] = ExportFormat.HANDFUL,
    version: Annotated[int | None, typer.Option(min=1, help="The newest version where missing.")] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="With --format sentence-transformers: the folder or the name of the checkpoint that made the version. "
            "Without it the shipped ones and those of HANDFUL_CHECKPOINT are searched."
        ),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Export a version of a task: to another server, or for programs that know nothing of Handful.

    Erasing an example later does not reach the files that were exported before.
    """
    if output == _STANDARD and form is not ExportFormat.HANDFUL:
        raise typer.BadParameter(f"--format {form} needs the name of a file", param_hint="-o")
    if output == _STANDARD and as_json:
        raise typer.BadParameter("with -o - the task itself goes to standard output: name a file, or leave --json out")
    with connect(url, api_key, local=local, store=store, existing=True) as client:
        content = client.export_task(task, version)
    path = Path(output)
    if form is ExportFormat.DATASET:
        from handful.cli.dataset_file import write_dataset

        write_dataset(content, path)
    elif form is ExportFormat.ONNX:
        from model_store.head_graph import head_graph
        from model_store.task_file import unpack_task

        path.write_bytes(head_graph(unpack_task(content)))
        note(f"wrote {path}: features in, probabilities out")
    elif form is ExportFormat.SENTENCE_TRANSFORMERS:
        _write_folder(content, path, checkpoint)
    elif output == _STANDARD:
        sys.stdout.buffer.write(content)
    else:
        path.write_bytes(content)
        note(f"wrote {path}, {len(content):,} bytes")
    if as_json:
        print_json({"task": task, "version": version, "format": form, "path": output})


def import_(
    task: Task,
    file: Annotated[str, typer.Argument(help="A file that `handful tasks export` has written; - for stdin.")],
    readapt: Annotated[
        bool, typer.Option("--readapt", help="Adapt on the file's examples where its checkpoint is not loaded.")
    ] = False,
    ttl_seconds: Annotated[int | None, typer.Option(min=1, help="The task ends after this time.")] = None,
    url: Url = None,
    api_key: ApiKey = None,
    local: Local = False,
    store: StoreUrl = None,
    as_json: AsJson = False,
) -> None:
    """Make the version in an exported file the newest version of a task."""
    content = sys.stdin.buffer.read() if file == _STANDARD else Path(file).read_bytes()
    with connect(url, api_key, local=local, store=store) as client:
        answer = client.import_task(task, content, readapt=readapt, ttl_seconds=ttl_seconds)
    for warning in answer.warnings:
        note(f"{warning.code}: {warning.detail}")
    columns = ("task", "version", "classes", "examples", "bytes", "checkpoint", "adapted again")
    row = (task, answer.version, len(answer.labels), answer.n_support, answer.bytes, answer.checkpoint[:12])
    show(columns, [(*row, answer.readapted)], [answer], as_json=as_json)


def _write_folder(content: bytes, folder: Path, checkpoint: str | None) -> None:
    from handful.cli.server_part import load_settings
    from model_store.checkpoint import checkpoint_with, resolve_checkpoint
    from model_store.sentence_folder import write_sentence_folder
    from model_store.task_file import unpack_task

    file = unpack_task(content)
    named = [checkpoint] if checkpoint is not None else load_settings().checkpoint
    fingerprint, name = file.checkpoint.fingerprint, file.checkpoint.name
    found = checkpoint_with(fingerprint, [resolve_checkpoint(each) for each in named], shipped=checkpoint is None)
    if found is None:
        raise HandfulError(
            f"the task was made from the checkpoint {name or ''} ({fingerprint[:12]}), which is not here: name its "
            "folder with --checkpoint",
            status=0,
            code="unknown_checkpoint",
        )
    with waiting("writing the encoder"):
        write_sentence_folder(file, found, folder)
    note(f"wrote {folder}: see its README.md")
