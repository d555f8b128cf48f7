"""Recipes: files of stages, from the first stage to the checkpoint that is the last one's result."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from metatrain.recipe import SHIPPED, InvalidRecipe, Recipe, Train, read_recipe
from model_store.checkpoint import DEFAULT_CHECKPOINT, Checkpoint, read_manifest
from service.settings import PREFIX
from tests.handful.cli.test_cli import Handful
from tests.handful.cli.test_metatrain import write_tasks

RECIPE = """
[training]
tasks = ["train"]
tuned_layers = 1
encoder = "ENCODER"
max_tokens = 32
inner_steps = 2
meta_batch = 2
ways = "2-4"
shots = "1-3"
warmup_steps = 2
valid_ways = 3
valid_shots = 2
valid_episodes = 2

[[stages]]
name = "half"
make = "select"
folder = "more"
every = 2

[[stages]]
name = "untuned"
make = "create"
[stages.options]
encoder = "ENCODER"
max_tokens = 32
tuned_layers = 1

[[stages]]
name = "untuned-derived"
make = "derive"
base = "stage:untuned"
steps = 2
label_text_count = 2
max_tokens = 24

[[stages]]
name = "first"
make = "train"
[stages.options]
valid = ["valid"]
steps = 2

[[stages]]
name = "on"
make = "train"
[stages.options]
tasks = ["train", "stage:half"]
start_from = "stage:untuned-derived"
steps = 2
seed = 5

[[stages]]
name = "averaged"
make = "average"
first = "stage:on"
second = "stage:untuned-derived"
share = 0.25

[[stages]]
name = "made"
make = "calibrate"
base = "stage:averaged"
tasks = ["valid"]
episodes = 60
half = true
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task files."""
    folder = tmp_path_factory.mktemp("data")
    write_tasks(folder / "train", 2, seed=0)
    write_tasks(folder / "valid", 2, seed=1)
    write_tasks(folder / "more", 3, seed=2)
    for number in range(3):
        (folder / "more" / f"task{number}.jsonl").rename(folder / "more" / f"other{number}.jsonl")
    return folder


@pytest.fixture
def handful(tmp_path: Path, tiny_encoder: Path) -> Handful:
    """The command in a folder with the recipe."""
    (tmp_path / "tiny.toml").write_text(RECIPE.replace("ENCODER", str(tiny_encoder)))
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return Handful(tmp_path, {**kept, "COLUMNS": "200"})


def made(handful: Handful, data: Path, out: str, *more: str) -> str:
    """Follows the recipe, and returns the messages."""
    words = ("--recipe", "tiny.toml", "--data", str(data), "--out", out, "--threads", "1", "--device", "cpu", *more)
    done = handful.run("metatrain", *words)
    assert done.returncode == 0, done.stderr
    return " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_recipe_makes_the_same_checkpoint_each_time_also_where_it_was_stopped(handful: Handful, data: Path) -> None:
    assert "the checkpoint of the recipe is once/made" in made(handful, data, "once")
    once = Checkpoint(handful.folder / "once" / "made", torch.device("cpu"))
    assert once.manifest.name == "made"
    derived = read_manifest(handful.folder / "once" / "untuned-derived")
    assert (derived.hyperparameters.steps, derived.encoder.max_tokens) == (2, 24)
    assert {task.name for task in once.manifest.trained_on} == {"task0", "task1", "other1"}

    made(handful, data, "again")
    stops = []
    while "stopped in stage" in (message := made(handful, data, "stopped", "--minutes", "0")):  # after each step
        stops.append(message.partition("stopped in stage ")[2].partition(";")[0])
        assert not (handful.folder / "stopped" / "made").exists()
    assert stops == ["first", "on"]
    for out in ("again", "stopped"):
        manifest = read_manifest(handful.folder / out / "made")
        assert manifest.slow_weights == once.manifest.slow_weights
        assert manifest.fingerprint == once.fingerprint

    # Nothing is made a second time
    before = {path: path.stat().st_mtime_ns for path in (handful.folder / "once").rglob("manifest.json")}
    made(handful, data, "once")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    other = handful.fails("metatrain", "--recipe", "tiny.toml", "--data", str(data), "--out", "once", "--steps", "9",
                          codes=(1, 2))  # fmt: skip
    assert "begun with another recipe" in other.replace("│ ", "")


@pytest.mark.parametrize("name", [DEFAULT_CHECKPOINT, "minilm-l6-handful"])
def test_a_meta_trained_checkpoint_that_ships_has_a_recipe(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.stages[-1].name == name
    located = recipe.located(Path("data"), Path("out"), {"open_licences_only": True})
    for stage in located.stages:
        if isinstance(stage, Train):
            assert stage.options["open_licences_only"] is True
            assert stage.options["tasks"][0] == str(Path("data").absolute() / "train")
    assert SHIPPED.joinpath(f"{name}.toml").is_file()


CREATE = {"name": "a", "make": "create"}


@pytest.mark.parametrize(
    ("stages", "reason"),
    [
        ([], "at least 1 item"),
        ([CREATE, CREATE], "two stages are called 'a'"),
        ([{"name": "b", "make": "derive", "base": "stage:a"}], "b: 'stage:a' is no earlier stage"),
        ([{"name": "b", "make": "bake"}], "'bake'"),
        ([{"name": "../b", "make": "create"}], "should match pattern"),
        ([{"name": "b", "make": "create", "chef": "me"}], "chef"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(stages: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Recipe.model_validate({"stages": stages})


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ({"name": "a", "make": "create", "options": {"rank": 0}}, "a: .*rank"),
        ({"name": "a", "make": "train", "options": {"flour": 1, "tasks": ["train"]}}, "a: .*flour"),
        ({"name": "a", "make": "train"}, "nothing to train on"),
    ],
)
def test_options_out_of_bounds_are_refused_before_the_first_stage(stage: dict[str, Any], reason: str) -> None:
    recipe = Recipe.model_validate({"stages": [stage]})
    with pytest.raises(InvalidRecipe, match=f"(?s){reason}"):
        recipe.located(Path("data"), Path("out"), {})


def test_a_recipe_that_is_not_there_is_refused_with_the_names_of_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match=DEFAULT_CHECKPOINT):
        read_recipe("absent")
    (tmp_path / "broken.toml").write_text("[[stages")
    with pytest.raises(InvalidRecipe, match="cannot read the recipe"):
        read_recipe(str(tmp_path / "broken.toml"))
