"""One meta-training run from the command line: progress, signals and end."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from handful.cli.output import show, stderr
from handful.cli.server_part import require
from metatrain.options import TrainingOptions

if TYPE_CHECKING:
    import torch

    from metalearn.collective import Collective
    from metatrain.session import Event, TrainingSession
    from model_store.training_run import TrainingRun

_PLOT_EVERY_S = 60


@dataclass(frozen=True, slots=True)
class Place:
    """The processes and the device of a run.

    Attributes:
        collective: The processes that compute the run together.
        device: This process's device.
    """

    collective: "Collective"
    device: "torch.device"

    @property
    def chief(self) -> bool:
        """Whether this process writes the files and the messages."""
        return self.collective.rank == 0

    def wait(self) -> None:
        """Waits until every process has called this."""
        self.collective.gathered([self.collective.rank])


def train(
    options: TrainingOptions,
    out: Path,
    place: Place,
    *,
    resume: bool,
    time_is_up: Callable[[], bool],
    save_every: int,
    as_json: bool,
) -> bool:
    """Begins a run or goes on with it, and writes its checkpoint.

    Args:
        options: The options that determine the weights.
        out: The folder of the run and of the checkpoint.
        place: The processes that compute the run together, and the device of this one.
        resume: Whether the run was begun before.
        time_is_up: Whether to stop in good order after the step.
        save_every: Outer steps between saved states.
        as_json: Whether to print the result in JSON on a terminal, too.

    Returns:
        Whether the run has come to its end.
    """
    from model_store.training_run import TrainingRun

    require("matplotlib")  # draws the curves, at the end at the latest
    run = TrainingRun(out)
    with stderr.status("reading encoder and tasks") if place.chief else nullcontext():
        from metatrain.session import TrainingSession

        session = TrainingSession(options, out, place.device, place.collective)
        _pick_up(session, run, options, resume=resume, chief=place.chief)
    if place.chief:
        _describe(session)
    place.wait()  # no process begins before the folder exists
    result = _train(session, run, out, chief=place.chief, time_is_up=time_is_up, save_every=save_every)
    if result is not None:
        show(("field", "value"), result.items(), [result], as_json=as_json)
    return _is_over(session)


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
    session: "TrainingSession",
    run: "TrainingRun",
    out: Path,
    *,
    chief: bool,
    time_is_up: Callable[[], bool],
    save_every: int,
) -> dict[str, object] | None:
    """Trains, and returns the result; None in a process that does not write it."""
    from metatrain.curves import as_json, plot

    began = plotted = time.monotonic()
    name = session.options.name or out.resolve().name
    with _interruption() as interrupted, _progress(session, shown=chief) as show_event:

        def stop() -> bool:
            return interrupted() or time_is_up()

        saved = session.trainer.step_number
        for events in session.run(stop):
            step = session.trainer.step_number
            if not chief:
                continue
            for event in events:
                run.log(as_json(event, step, time.monotonic() - began))
                show_event(event)
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
            return None
        picture = plot(run.curves(), name)
        run.write_plot(picture)
        run.release()
        manifest = session.write({"curves.png": picture})
        if _is_over(session):
            run.finish()
    step, steps = session.trainer.step_number, session.options.steps
    if session.has_given_up:
        stderr.print(f"ended after step {step}: {session.options.patience} validations without a better one")
    elif step < steps:
        stderr.print(f"stopped after step {step} of {steps}; --resume goes on from there", highlight=False)
    return {
        "checkpoint": str(out),
        "fingerprint": manifest.fingerprint,
        "steps": step,
        "validation": None if session.best is None else session.best.accuracy,
    }


def _is_over(session: "TrainingSession") -> bool:
    return session.has_given_up or session.trainer.step_number >= session.options.steps


@contextmanager
def _interruption() -> Iterator[Any]:
    """Whether Ctrl-C or SIGTERM came; a second one ends the process as usual."""
    came = False

    def note(number: int, _: object) -> None:
        nonlocal came
        came = True
        signal.signal(number, previous[number])
        stderr.print("finishing this step, then saving", highlight=False)

    # When one process has failed, torchrun ends the others by SIGTERM: they wait for it and would wait for ever
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

        def show_event(event: "Event") -> None:
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

        yield show_event


def _describe(session: "TrainingSession") -> None:
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
