"""The stages of a recipe, one after another. Stages that are done already are left as they are."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from handful.cli.checkpoint import averaged, calibrated, created, derived, show_manifest
from handful.cli.output import note
from handful.cli.training import Place, train
from metatrain.options import ModelOptions, TrainingOptions
from metatrain.recipe import Average, Calibrate, Create, Derive, Recipe, Select, Stage, Train, read_recipe, select_files

if TYPE_CHECKING:
    from model_store.manifest import Manifest


def follow(
    reference: str,
    data: Path,
    out: Path,
    place: Place,
    *,
    overrides: Mapping[str, Any],
    time_is_up: Callable[[], bool],
    save_every: int,
    as_json: bool,
) -> None:
    """Makes the checkpoint of a recipe, from the first stage that is not done.

    Args:
        reference: The recipe's file, or the name of a shipped one.
        data: The folder of the task files.
        out: The folder that gets a folder for each stage.
        place: The processes and the device of the runs.
        overrides: Training options that replace the recipe's.
        time_is_up: Whether to stop in good order.
        save_every: Outer steps between the saved states of a run.
        as_json: Whether to print the results in JSON on a terminal, too.

    Raises:
        InvalidRecipe: The recipe cannot be read, or its stages do not go together.
    """
    recipe = read_recipe(reference).located(data, out, overrides)
    if place.chief:
        _remember(recipe, out)
    place.wait()
    for stage in recipe.stages:
        folder = out / stage.name
        if isinstance(stage, Train):
            if not _trained(stage, folder, place, time_is_up=time_is_up, save_every=save_every, as_json=as_json):
                if place.chief:
                    note(f"stopped in stage {stage.name}; the same command goes on from there")
                return
        elif place.chief and (isinstance(stage, Select) or not (folder / "manifest.json").exists()):
            note(f"stage {stage.name}: {stage.make}")
            manifest = _make(stage, folder, str(place.device))
            if manifest is not None:
                show_manifest(manifest, as_json=as_json)
        place.wait()
    if place.chief:
        note(f"the checkpoint of the recipe is {out / recipe.stages[-1].name}")


def _trained(
    stage: Train, folder: Path, place: Place, *, time_is_up: Callable[[], bool], save_every: int, as_json: bool
) -> bool:
    """Trains a stage unless it is done; returns whether its run is complete."""
    from model_store.training_run import TrainingRun

    run = TrainingRun(folder)
    is_finished, resume = run.is_finished, run.exists
    place.wait()  # every process has looked before one of them writes
    if is_finished:
        return True
    if place.chief:
        note(f"stage {stage.name}: train")
    options = TrainingOptions(**stage.options)
    return train(options, folder, place, resume=resume, time_is_up=time_is_up, save_every=save_every, as_json=as_json)


def _make(stage: Stage, folder: Path, device: str) -> "Manifest | None":
    """Makes a stage that is not trained; returns the manifest of its checkpoint, if it is one."""
    if isinstance(stage, Select):
        select_files(stage, folder)
    elif isinstance(stage, Create):
        return created(ModelOptions(**stage.options), folder)
    elif isinstance(stage, Average):
        return averaged(stage.first, stage.second, folder, share=stage.share, name=stage.name)
    elif isinstance(stage, Derive):
        changes = {"label_text_count": stage.label_text_count, "steps": stage.steps, "max_tokens": stage.max_tokens}
        return derived(stage.base, folder, name=stage.name, **changes)
    elif isinstance(stage, Calibrate):
        return calibrated(
            stage.base,
            folder,
            [Path(each) for each in stage.tasks],
            name=stage.name,
            episodes=stage.episodes,
            half=stage.half,
            seed=stage.seed,
            device=device,
        )
    return None


def _remember(recipe: Recipe, out: Path) -> None:
    """Writes the recipe into the folder, and refuses a folder of another recipe."""
    file, content = out / "recipe.json", recipe.model_dump(mode="json")
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    elif json.loads(file.read_text(encoding="utf-8")) != content:
        raise typer.BadParameter(f"{out} was begun with another recipe, other options or other data: see {file}")
