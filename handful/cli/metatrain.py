"""``handful metatrain``."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from handful.cli.model_options import validated, with_options_of
from handful.cli.output import print_json, stderr
from metatrain.options import TrainingOptions
from service.settings import granted_threads

if TYPE_CHECKING:
    from metalearn.collective import Collective
    from metatrain.session import Event, TrainingSession
    from model_store.training_run import TrainingRun

_PLOT_EVERY_S = 60


def add_to(app: typer.Typer) -> None:
    """Registers the command, with an option for each field of ``TrainingOptions``."""
    app.command(name="metatrain")(with_options_of(TrainingOptions, metatrain))


def metatrain(
    out: Annotated[Path, typer.Option(help="Folder of the run and of the checkpoint that comes of it.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop in good order after this time.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Outer steps between saved states.")] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes what the machine grants.")] = 0,
    **given: Any,
) -> None:
    """Meta-train a checkpoint on labelled tasks, plain text, or both. Ctrl-C saves; --resume goes on.

    A resumed run takes its options from the folder; the weights it arrives at are those of a run without interruption.
    Several processes share each meta-batch under torchrun: torchrun --nproc_per_node=2 -m service metatrain ….
    """
    from model_store.training_run import TrainingRun

    run = TrainingRun(out)
    options = _options(
        run, resume, {name: _absolute(name, value) for name, value in given.items() if value not in (None, [])}
    )
    with _processes(threads) as (collective, local_rank):
        import torch

        from metalearn.devices import select_device

        chief = collective.rank == 0
        chosen = select_device(device)
        if chosen.type == "cuda" and chosen.index is None and collective.size > 1:
            chosen = torch.device("cuda", local_rank)
            torch.cuda.set_device(chosen)
        with stderr.status("reading encoder and tasks") if chief else _quiet():
            from metatrain.session import TrainingSession

            session = TrainingSession(options, out, chosen, collective)
            _pick_up(session, run, options, resume=resume, chief=chief)
        if chief:
            _tell(session)
        collective.gathered([torch.initial_seed()])  # nobody begins before the folder is there
        _train(session, run, out, chief=chief, minutes=minutes, save_every=save_every)


def _options(run: "TrainingRun", resume: bool, given: dict[str, Any]) -> TrainingOptions:
    """What was asked for; of a resumed run, what it was begun with."""
    begun = run.config() if resume else {}
    for name, value in given.items():
        if name in begun and begun[name] != value:
            raise typer.BadParameter(
                f"the run was begun with {name}={begun[name]!r}; leave the option out to go on with it"
            )
    return validated(TrainingOptions, {**begun, **given})


def _absolute(name: str, value: Any) -> Any:
    """Paths as they are from anywhere, so that a run can be resumed from anywhere."""
    if name in {"tasks", "valid", "unlabelled"}:
        return [str(Path(path).absolute()) for path in value]
    is_path = name == "index" or (name == "encoder" and not value.startswith(("package:", "hub:")))
    if is_path or (name == "start_from" and Path(value).exists()):
        return str(Path(value).absolute())
    return value


@contextmanager
def _processes(threads: int) -> Iterator[tuple["Collective", int]]:
    """The processes that torchrun started, or this one alone; with their share of the CPU's threads."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import torch

    from metalearn.collective import Alone, torch_processes

    if not torch.distributed.is_torchelastic_launched():
        torch.set_num_threads(threads or granted_threads())
        yield Alone(), 0
        return
    local_size, local_rank = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    torch.set_num_threads(threads or max(1, granted_threads() // local_size))
    with torch_processes("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo") as processes:
        yield processes, local_rank


def _pick_up(
    session: "TrainingSession", run: "TrainingRun", options: TrainingOptions, *, resume: bool, chief: bool
) -> None:
    from model_store.errors import TrainingRunInvalid

    if not resume:
        if chief:
            run.begin(options.model_dump(mode="json"))
        return
    state = run.load()
    if state is not None:
        try:
            session.restore(state)
        except ValueError as error:
            raise TrainingRunInvalid(f"cannot go on with the run in {run.folder.parent}: {error}") from error
    if chief:
        run.forget_after(session.trainer.step_number if state is not None else -1)


def _train(
    session: "TrainingSession", run: "TrainingRun", out: Path, *, chief: bool, minutes: float | None, save_every: int
) -> None:
    from metatrain.curves import as_json, plot

    began = plotted = time.monotonic()
    name = session.options.name or out.resolve().name
    with _interruption() as interrupted, _progress(session, shown=chief) as show:

        def stop() -> bool:
            return interrupted() or (minutes is not None and time.monotonic() - began > minutes * 60)

        saved = session.trainer.step_number
        for events in session.run(stop):
            step = session.trainer.step_number
            if not chief:
                continue
            for event in events:
                run.log(as_json(event, step, time.monotonic() - began))
                show(event)
            if step >= saved + save_every:
                run.save(session.state())
                saved = step
            if time.monotonic() - plotted > _PLOT_EVERY_S:
                run.write_plot(plot(run.curves(), name))
                plotted = time.monotonic()
        if chief:
            run.save(session.state())
        session.conclude()
        if not chief:
            return
        picture = plot(run.curves(), name)
        run.write_plot(picture)
        run.release()
        manifest = session.write({"curves.png": picture})
    step, steps = session.trainer.step_number, session.options.steps
    if session.has_given_up:
        stderr.print(f"ended after step {step}: {session.options.patience} validations without a better one")
    elif step < steps:
        stderr.print(f"stopped after step {step} of {steps}; --resume goes on from there", highlight=False)
    print_json(
        {
            "checkpoint": str(out),
            "fingerprint": manifest.fingerprint,
            "steps": step,
            "validation": None if session.best is None else session.best.accuracy,
        }
    )


@contextmanager
def _interruption() -> Iterator[Any]:
    """Whether Ctrl-C or SIGTERM came; a second one ends the process as usual."""
    came = False

    def note(number: int, _: object) -> None:
        nonlocal came
        came = True
        signal.signal(number, previous[number])
        stderr.print("finishing this step, then saving", highlight=False)

    # torchrun ends the others by SIGTERM when one has failed: they wait for it, and would wait on
    kinds = [signal.SIGINT] if "TORCHELASTIC_RUN_ID" in os.environ else [signal.SIGINT, signal.SIGTERM]
    previous: dict[int, Any] = {kind: signal.getsignal(kind) for kind in kinds}
    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _progress(session: "TrainingSession", *, shown: bool) -> Iterator[Any]:
    from metalearn.meta_train import StepResult
    from metatrain.session import Validation

    columns = (
        TextColumn("meta-training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}  accuracy {task.fields[accuracy]}  {task.fields[rate]} episodes/s"),
        TextColumn("valid {task.fields[valid]}"),
        TimeRemainingColumn(),
    )
    recent: list[tuple[float, StepResult]] = []
    with Progress(*columns, console=stderr, disable=not shown) as progress:
        bar: TaskID = progress.add_task(
            "",
            total=session.options.steps,
            completed=session.trainer.step_number,
            loss="-",
            accuracy="-",
            rate="-",
            valid="-",
        )

        def show(event: "Event") -> None:
            if isinstance(event, StepResult):
                recent.append((time.monotonic(), event))
                del recent[:-20]
                seconds = recent[-1][0] - recent[0][0]
                episodes = sum(len(result.episodes) for _, result in recent[1:])
                progress.update(
                    bar,
                    completed=event.step,
                    loss=_mean([result.loss for _, result in recent]),
                    accuracy=_mean([result.accuracy for _, result in recent]),
                    rate=f"{episodes / seconds:.1f}" if seconds > 0 else "-",
                )
            elif isinstance(event, Validation):
                progress.update(bar, valid=f"{event.accuracy:.4f}{' (best)' if event.is_best else ''}")
                if not stderr.is_terminal:
                    stderr.print(f"step {event.step}: validation {event.accuracy:.4f}", highlight=False)

        yield show


@contextmanager
def _quiet() -> Iterator[None]:
    yield


def _tell(session: "TrainingSession") -> None:
    from metalearn.devices import bfloat16_is_emulated

    pool = session.pool
    stderr.print(
        f"{len(pool.labelled)} labelled tasks, {len(pool.unlabelled)} tasks of plain text; "
        f"{sum(weight.numel() for weight in session.trainer.slow_weights.values()):,} slow weights",
        highlight=False,
    )
    if session.options.bf16 and bfloat16_is_emulated(session.device):
        stderr.print("warning: this CPU has no bfloat16 instructions: without --bf16 the run is many times faster")
    for task, count in pool.shared.items():
        stderr.print(f"warning: {count} texts of the validation task {task} are trained on as well", highlight=False)
    for skipped in (*pool.skipped, *session.unusable):
        stderr.print(f"left out: {skipped.file}: {skipped.reason} ({skipped.rows} rows)", highlight=False, markup=False)


def _mean(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "-"
