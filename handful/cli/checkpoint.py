"""``handful checkpoint``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track

from handful.cli.completion import shipped_names
from handful.cli.connection import ApiKey, AsJson, Url, connect
from handful.cli.encoder_line import encoder_line
from handful.cli.model_options import validated, with_options_of
from handful.cli.output import note, show, stderr, waiting
from metatrain.options import ModelOptions

if TYPE_CHECKING:
    from model_store.manifest import Manifest

CheckpointName = Annotated[
    str, typer.Argument(help="A folder, or the name of a shipped one.", autocompletion=shipped_names)
]

app = typer.Typer(help="Make and show checkpoints.", no_args_is_help=True)


def create(out: Annotated[Path, typer.Argument(help="The new folder.")], as_json: AsJson = False, **given: Any) -> None:
    """Make a checkpoint of a pretrained encoder and any learner, without meta-training."""
    options = validated(ModelOptions, {name: value for name, value in given.items() if value is not None})
    if Path(options.encoder).is_dir():  # else read as relative to the new folder, or as the name of a package
        options = options.model_copy(update={"encoder": str(Path(options.encoder).absolute())})
    with waiting("reading the encoder"):
        manifest = created(options, out)
    show_manifest(manifest, as_json=as_json)


app.command()(with_options_of(ModelOptions, create))


def created(options: ModelOptions, out: Path) -> "Manifest":
    """Writes a checkpoint that was not meta-trained."""
    from metalearn.encoder.published import Published
    from metalearn.encoder.source import locate_encoder
    from metalearn.learners.interface import LearnerOptions
    from metalearn.model_spec import ModelSpec
    from model_store.checkpoint import UNTRAINED, untrained_card, write_checkpoint

    name = options.name or out.absolute().name
    spec = options.part(ModelSpec, fast_layers=options.fast_layers_used, options=LearnerOptions())
    folder = locate_encoder(options.encoder, out.absolute())
    manifest = write_checkpoint(
        out,
        name=name,
        spec=spec,
        hyperparameters=UNTRAINED,
        encoder_source=options.encoder,
        encoder_licence=options.encoder_licence,
        card=untrained_card(name, spec, options.encoder, options.encoder_licence),
        stages=Published.read(folder).stages(**options.stages),
    )
    note(encoder_line(manifest, folder))
    return manifest


@app.command()
def calibrate(
    checkpoint: CheckpointName,
    out: Annotated[Path, typer.Argument(help="Folder of the calibrated copy.")],
    tasks: Annotated[list[Path], typer.Option(help="Folder of labelled tasks, never trained on; may be given again.")],
    episodes: Annotated[int, typer.Option(min=2, help="The number of sampled episodes.")] = 400,
    name: Annotated[str | None, typer.Option(help="The copy's name; else the folder's.")] = None,
    half: Annotated[bool, typer.Option(help="Store the encoder's weights in half precision.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32, bfloat16 or int8, as in serving.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Copy a checkpoint with confidences fitted on tasks: a temperature by shots and ways, a threshold to abstain."""
    name = name or out.absolute().name
    manifest = calibrated(
        checkpoint, out, tasks, name=name, episodes=episodes, half=half, seed=seed, device=device, precision=precision
    )
    show_manifest(manifest, as_json=as_json)


def calibrated(
    checkpoint: str,
    out: Path,
    tasks: Sequence[Path],
    *,
    name: str,
    episodes: int,
    half: bool,
    seed: int,
    device: str,
    precision: str = "auto",
) -> "Manifest":
    """Writes a checkpoint with fitted confidences."""
    with waiting("reading checkpoint and tasks"):
        from metalearn.tasks.labelled import read_tasks
        from metatrain.calibrate import judged_episodes, write_calibrated
        from model_store.checkpoint_files import check_free
        from service.app import load_models
        from service.settings import load_settings

        check_free(out.absolute())
        found = read_tasks(tasks).tasks
        models = load_models(load_settings(checkpoint=[checkpoint], device=device, precision=precision))
    judged = list(
        track(judged_episodes(models, found, episodes, seed), "judging episodes", total=episodes, console=stderr)
    )
    names = [task.name for task in found if task.rules.one_class_each]
    return write_calibrated(models.checkpoint, judged, names, out, name=name, half=half)


@app.command()
def derive(
    base: CheckpointName,
    out: Annotated[Path, typer.Argument(help="Folder of the new checkpoint.")],
    label_text_count: Annotated[
        float | None, typer.Option(min=1e-3, max=1e3, help="Weight of a label's text where an example has 1.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=0, help="Inner steps of a task.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=8, help="Longer texts are cut.")] = None,
    name: Annotated[str | None, typer.Option(help="The new checkpoint's name; else the folder's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Derive a checkpoint from another one, without training. An option that is not given keeps the base's value.

    Calibrate the new checkpoint afterwards.
    """
    with waiting("reading the checkpoint"):
        manifest = derived(
            base,
            out,
            name=name or out.absolute().name,
            label_text_count=label_text_count,
            steps=steps,
            max_tokens=max_tokens,
        )
    show_manifest(manifest, as_json=as_json)


def derived(base: str, out: Path, *, name: str, **changes: Any) -> "Manifest":
    """Writes a checkpoint that is derived from another one; see ``metatrain.derive.derive``."""
    import torch

    from metatrain.derive import derive as write_derived
    from model_store.checkpoint import Checkpoint, resolve_checkpoint

    loaded = Checkpoint(resolve_checkpoint(base), torch.device("cpu"))
    return write_derived(loaded, out, name=name, **changes)


@app.command()
def average(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="A folder, or the name of a shipped one. The copy takes all but the layers' weights from it.",
            autocompletion=shipped_names,
        ),
    ],
    other: Annotated[
        str, typer.Argument(help="A checkpoint of the same form, such as the first one after more training.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the copy.")],
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The other's part in the layers' weights; 0.5 is the mean.")
    ] = 0.5,
    name: Annotated[str | None, typer.Option(help="The copy's name; else the folder's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a checkpoint with its meta-trained layers averaged with another's; calibrate it afterwards."""
    with waiting("reading the checkpoints"):
        manifest = averaged(checkpoint, other, out, name=name or out.absolute().name, share=share)
    show_manifest(manifest, as_json=as_json)


def averaged(checkpoint: str, other: str, out: Path, *, name: str, share: float) -> "Manifest":
    """Writes a checkpoint with averaged layers; see ``metatrain.derive.average``."""
    import torch

    from metatrain.derive import average as write_average
    from model_store.checkpoint import Checkpoint, resolve_checkpoint

    first, second = (Checkpoint(resolve_checkpoint(each), torch.device("cpu")) for each in (checkpoint, other))
    return write_average(first, second, out, name=name, share=share)


@app.command(name="show")
def show_checkpoint(
    checkpoint: CheckpointName,
    as_json: AsJson = False,
) -> None:
    """Print a checkpoint's manifest."""
    from model_store.checkpoint import read_manifest, resolve_checkpoint

    show_manifest(read_manifest(resolve_checkpoint(checkpoint)), as_json=as_json)


def show_manifest(manifest: "Manifest", *, as_json: bool) -> None:
    """Prints a manifest: on a terminal what people ask about, in JSON all of it."""
    encoder, adaptation = manifest.encoder, manifest.adaptation
    below = "" if adaptation.placement == "head" else f", {adaptation.placement} in {adaptation.fast_layers} layers"
    rows = {
        "name": manifest.name,
        "fingerprint": manifest.fingerprint,
        "learner": f"{manifest.learner}{below}, {manifest.hyperparameters.steps} inner steps",
        "encoder": f"{encoder.source}, width {encoder.dim}, {encoder.max_tokens} tokens, licence {encoder.licence}",
        "trained on": f"{len(manifest.trained_on)} tasks",
        "languages": ", ".join(manifest.languages) or "not known",
    }
    show(("field", "value"), rows.items(), [manifest], as_json=as_json)


@app.command(name="list")
def list_loaded(url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """List the checkpoints that a server has loaded, the default one first."""
    with connect(url, api_key, local=False) as client:
        loaded = client.checkpoints()
    rows = [(each.name, each.fingerprint[:12], each.learner, each.device, each.runtime) for each in loaded]
    show(("name", "fingerprint", "learner", "device", "runtime"), rows, loaded, as_json=as_json)
