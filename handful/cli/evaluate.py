"""``handful evaluate``."""

import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from handful.cli.completion import shipped_names
from handful.cli.model_options import validated, with_options_of
from handful.cli.output import print_json, stderr, stdout, waiting
from handful.cli.server_part import load_settings
from handful.cli.text_options import given
from handful.wire import AdaptOptionFields
from metalearn.options import AdaptOptions

if TYPE_CHECKING:
    from metalearn.evaluation.evaluate import Observer
    from metalearn.evaluation.report import Figures, Report
    from metatrain.sweeps import Episodes, Evaluation, Sweep

_ALL = "all"
_STANDARD = Path("-")
_COLUMNS = ("accuracy, %", "95 % interval", "macro-F1, %", "ECE, %", "majority, %", "Spearman", "adapt, ms", "episodes")
_LISTED = 10
"""Most omissions that are printed; the JSON has all of them."""


def add_to(app: typer.Typer) -> None:
    """Registers the command."""
    # --seed is the episodes' seed, and label texts have a shorter option name here
    app.command()(with_options_of(AdaptOptionFields, evaluate, leave_out={"use_label_text"}))


def evaluate(
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help="A folder, or the name of a shipped one. [env: HANDFUL_CHECKPOINT]", autocompletion=shipped_names
        ),
    ] = None,
    tasks: Annotated[
        list[Path] | None, typer.Option(help="Folder of task files to sample episodes from; may be given again.")
    ] = None,
    episodes_dir: Annotated[
        Path | None, typer.Option(help="Fixed episodes instead: folders of train_I_K.jsonl and eval.jsonl.")
    ] = None,
    ways: Annotated[str | None, typer.Option(help="Classes per episode, or all. [default: 5]")] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option(help="Support examples per class, such as 1,5; selects fixed episodes. [default: 5, or all]"),
    ] = None,
    queries: Annotated[str | None, typer.Option(help="Most queries per class, or all. [default: 15]")] = None,
    episodes: Annotated[
        int | None, typer.Option(min=1, help="Episodes per task and number of shots. [default: 20, or all fixed ones]")
    ] = None,
    max_queries: Annotated[
        int | None, typer.Option(min=1, help="Queries per task of fixed episodes, sampled by the seed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives every checkpoint the same episodes.")] = 0,
    learner: Annotated[
        str | None, typer.Option(help="Another learner, not meta-trained, on the checkpoint's encoder.")
    ] = None,
    label_text: Annotated[bool, typer.Option(help="Use the words of label names as a prior.")] = True,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            help="steps=0,5,10 or learning_rate=… or shots=…: that setting at each value; may be given again."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1 or mps. [env: HANDFUL_DEVICE]")] = None,
    runtime: Annotated[str | None, typer.Option(help="auto, torch or onnxruntime. [env: HANDFUL_RUNTIME]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or int8. [env: HANDFUL_PRECISION]")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=0, help="CPU threads; 0 takes what the machine grants. [env: HANDFUL_THREADS]")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures here; - writes them on standard output.")
    ] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Write a plot of the figures here, as PNG.")] = None,
    plots: Annotated[
        Path | None,
        typer.Option(help="Write plots into this folder, as SVG: shots against accuracy, reliability, tasks."),
    ] = None,
    **adapt_options: Any,
) -> None:
    """Measure few-shot accuracy, macro-F1 and calibration, per task and on average, with 95 % intervals."""
    if bool(tasks) == bool(episodes_dir):
        raise typer.BadParameter("give either --tasks or --episodes-dir")
    if episodes_dir and (ways or queries):
        raise typer.BadParameter("fixed episodes have the ways and queries that they have: see --max-queries")
    if tasks and max_queries:
        raise typer.BadParameter("--max-queries is for fixed episodes: see --queries")
    _check_outputs(json_file, plot_file, plots)
    asked = validated(AdaptOptionFields, {**given(**adapt_options), "use_label_text": label_text})
    settings = load_settings(
        checkpoint=checkpoint and [checkpoint], device=device, runtime=runtime, precision=precision, threads=threads
    )
    from service.settings import prepare_threads

    prepare_threads(settings)
    numbers = sorted({_number(part, "shots") for text in shots or [] for part in text.split(",")})
    sizes = (_number_or_all(ways or "5", "ways", least=2), _number_or_all(queries or "15", "queries"))

    with waiting("loading the checkpoint and reading the tasks"):
        import torch

        from metalearn.evaluation.evaluate import EpisodePlan
        from metalearn.tasks.fixed import read_fixed_tasks
        from metalearn.tasks.labelled import read_tasks
        from metatrain.sweeps import FixedEpisodes, RandomEpisodes, evaluate_all, make_evaluator
        from service.app import load_models

        sweeps = _sweeps(sweep or [])
        source: Episodes
        if episodes_dir:
            source = FixedEpisodes(
                read_fixed_tasks(episodes_dir, episodes=episodes, max_queries=max_queries, seed=seed)
            )
        else:
            plan = EpisodePlan(sizes[0], tuple(numbers) or (5,), sizes[1], episodes or 20, seed)
            source = RandomEpisodes(read_tasks(tasks or []), plan)
        models = load_models(settings)
        loaded = models.checkpoint
        evaluator = make_evaluator(models, learner)
        options = AdaptOptions(**dict(asked))
    with _progress() as (set_total, observe):
        found = evaluate_all(
            evaluator, source, options, tuple(numbers) or source.shots, sweeps, set_total=set_total, observe=observe
        )
    settled = {
        **adapt_options,
        "tasks": [str(folder) for folder in tasks or []],
        "episodes_dir": str(episodes_dir) if episodes_dir else None,
        **source.settings(),
        "max_queries": max_queries,
        "seed": seed,
        "learner": evaluator.model.learner.name,
        "steps": evaluator.steps if options.steps is None else options.steps,
        "label_text": label_text,
        "device": str(loaded.encoder.device),
        "runtime": models.runtime.name,
        "threads": torch.get_num_threads(),
    }
    named = {"name": loaded.manifest.name, "fingerprint": loaded.fingerprint}
    _write(found, {"checkpoint": named, "settings": settled}, json_file, plot_file, plots)
    if json_file != _STANDARD and (stdout.is_terminal or not json_file):
        _show(found)
    _print_omissions(found.report)


def _write(
    found: "Evaluation", facts: dict[str, Any], json_file: Path | None, plot_file: Path | None, plots: Path | None
) -> None:
    result = {**found.to_json(), **facts}
    if json_file:
        if json_file == _STANDARD:
            print_json(result)
        else:
            text = json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False)
            json_file.write_text(text + "\n", encoding="utf-8")
    if plot_file:
        from metatrain.sweeps import plot

        plot_file.write_bytes(plot(facts["checkpoint"]["name"], found))
    if plots:
        from metatrain.plots import plots_of

        plots.mkdir(exist_ok=True)
        for name, content in plots_of(result).items():
            (plots / name).write_bytes(content)


def _show(found: "Evaluation") -> None:
    table = Table("task", "shots", *_COLUMNS)
    for task, by_shots in found.report.tasks.items():
        for shots, figures in by_shots.items():
            table.add_row(escape(task), str(shots), *_cells(figures))
    table.add_section()
    for shots, figures in found.report.mean.items():
        table.add_row("mean", str(shots), *_cells(figures))
    stdout.print(table)
    for result in found.sweeps:
        table = Table(result.sweep.parameter.replace("_", " "), "shots", *_COLUMNS)
        for value, report in zip(result.sweep.values, result.reports, strict=True):
            for shots, figures in report.mean.items():
                table.add_row(f"{value:g}", str(shots), *_cells(figures))
        stdout.print(table)


def _cells(figures: "Figures") -> list[str]:
    low, high = figures.interval or (None, None)
    interval = "-" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
    shares = [figures.macro_f1, figures.ece, figures.majority]
    return [
        _percent(figures.accuracy),
        interval,
        *map(_percent, shares),
        "-" if figures.spearman is None else f"{figures.spearman:.3f}",
        "-" if figures.adapt_ms is None else f"{figures.adapt_ms:.0f}",
        f"{figures.n_episodes}" + (f", {figures.failed} failed" if figures.failed else ""),
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _print_omissions(report: "Report") -> None:
    failures = [
        f"{score.task}, {shots} shots, episode {score.index} failed: {score.failure}"
        for by_shots in report.scores.values()
        for shots, scores in by_shots.items()
        for score in scores
        if score.failure
    ]
    omissions = [f"left out: {left_out.task}: {left_out.reason}" for left_out in report.left_out]
    lines = omissions + failures
    for line in lines[:_LISTED]:
        stderr.print(line, highlight=False, markup=False, soft_wrap=True)
    if len(lines) > _LISTED:
        stderr.print(f"… and {len(lines) - _LISTED} more, all of them in the file of --json", highlight=False)


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], None], "Observer"]]:
    """Shows a progress bar on a terminal."""
    columns = (
        TextColumn("episodes"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("", total=None)
        yield (
            lambda total: progress.update(bar, total=total),
            lambda score: progress.update(bar, advance=1, description=escape(score.task)),
        )


def _sweeps(texts: Sequence[str]) -> "list[Sweep]":
    from metatrain.sweeps import Sweep

    try:
        return [Sweep.parse(text) for text in texts]
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--sweep") from None


def _number_or_all(text: str, name: str, least: int = 1) -> int | None:
    return None if text == _ALL else _number(text, name, least, f" or {_ALL}")


def _number(text: str, name: str, least: int = 1, otherwise: str = "") -> int:
    if not text.strip().isdecimal() or int(text) < least:
        raise typer.BadParameter(f"{text!r} is not a whole number from {least}{otherwise}", param_hint=f"--{name}")
    return int(text)


def _check_outputs(json_file: Path | None, plot_file: Path | None, plots: Path | None) -> None:
    """Refuses outputs that cannot be written, before anything is computed."""
    for file in (None if json_file == _STANDARD else json_file, plot_file):
        folder = file.absolute().parent if file else None
        if file and folder and (file.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK)):
            raise typer.BadParameter(f"cannot write {file}: name a file in a folder that is there")
    if plots and (plots.is_file() or not os.access(plots if plots.is_dir() else plots.absolute().parent, os.W_OK)):
        raise typer.BadParameter(f"cannot write into {plots}: name a folder, or a new one in a folder that is there")
    if (plot_file or plots) and importlib.util.find_spec("matplotlib") is None:
        option = "--plot" if plot_file else "--plots"
        raise typer.BadParameter(f"{option} needs the package matplotlib: pip install 'handful[train]'")
