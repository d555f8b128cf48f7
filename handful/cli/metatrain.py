"""``handful metatrain``: one run, or the stages of a recipe."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from handful.cli.connection import AsJson
from handful.cli.model_options import validated, with_options_of
from handful.cli.recipes import follow
from handful.cli.training import Place, train
from metatrain.options import TrainingOptions


def add_to(app: typer.Typer) -> None:
    """Registers the command, with an option for each field of ``TrainingOptions``."""
    app.command(name="metatrain")(with_options_of(TrainingOptions, metatrain))


def metatrain(
    out: Annotated[Path, typer.Option(help="Folder of the run and of its checkpoint.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the folder.")] = False,
    recipe: Annotated[
        str | None,
        typer.Option(help="File of a recipe, or the name of a shipped one: its stages instead of one run."),
    ] = None,
    data: Annotated[Path, typer.Option(help="Folder that a recipe's paths begin in.")] = Path(),
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop in good order after this time.")] = None,
    save_every: Annotated[int, typer.Option(min=1, help="Outer steps between saved states.")] = 50,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 takes what the machine grants.")] = 0,
    as_json: AsJson = False,
    **given: Any,
) -> None:
    """Meta-train a checkpoint on labelled tasks, plain text, or both. Ctrl-C saves; --resume goes on.

    A resumed run takes its options from the folder and ends with the weights of a run without interruption.
    A recipe resumes by itself where it was stopped; options beside it replace those of all its runs.
    Several processes share each meta-batch under torchrun: torchrun --nproc_per_node=2 -m handful metatrain ….
    """
    asked = {name: _absolute(name, value) for name, value in given.items() if value not in (None, [])}
    time_is_up = _clock(minutes)
    if recipe is None:
        options = _options(out, resume, asked)
        with _place(device, threads) as place:
            train(options, out, place, resume=resume, time_is_up=time_is_up, save_every=save_every, as_json=as_json)
        return
    if resume:
        raise typer.BadParameter("a recipe goes on by itself: leave --resume out")
    with _place(device, threads) as place:
        follow(recipe, data, out, place, overrides=asked, time_is_up=time_is_up, save_every=save_every, as_json=as_json)


def _clock(minutes: float | None) -> Callable[[], bool]:
    """A function that returns whether the time is up."""
    end = None if minutes is None else time.monotonic() + minutes * 60
    return lambda: end is not None and time.monotonic() > end


def _options(out: Path, resume: bool, given: dict[str, Any]) -> TrainingOptions:
    """The given options, or the stored options of a resumed run."""
    from model_store.training_run import TrainingRun

    begun = TrainingRun(out).config() if resume else {}
    for name, value in given.items():
        if name in begun and begun[name] != value:
            raise typer.BadParameter(
                f"the run was begun with {name}={begun[name]!r}; leave the option out to go on with it"
            )
    return validated(TrainingOptions, {**begun, **given})


def _absolute(name: str, value: Any) -> Any:
    """The options with absolute paths, so that a run can be resumed from any folder."""
    if name in {"tasks", "valid", "unlabelled"}:
        return [str(Path(path).absolute()) for path in value]
    is_path = name == "index" or (name == "encoder" and not value.startswith(("package:", "hub:")))
    if is_path or (name == "start_from" and Path(value).exists()):
        return str(Path(value).absolute())
    return value


@contextmanager
def _place(device: str, threads: int) -> Iterator[Place]:
    """The processes that torchrun started, or this one alone, each with a device and a part of the CPU's threads."""
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    import torch

    from metalearn.collective import Alone, torch_processes
    from metalearn.devices import select_device
    from service.settings import granted_threads

    if not torch.distributed.is_torchelastic_launched():
        torch.set_num_threads(threads or granted_threads())
        yield Place(Alone(), select_device(device))
        return
    local_size, local_rank = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    torch.set_num_threads(threads or max(1, granted_threads() // local_size))
    with torch_processes("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo") as processes:
        chosen = select_device(device)
        if chosen.type == "cuda" and chosen.index is None and processes.size > 1:
            chosen = torch.device("cuda", local_rank)
            torch.cuda.set_device(chosen)
        yield Place(processes, chosen)
