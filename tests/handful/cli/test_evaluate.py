"""``handful evaluate``, as a user types it."""

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from metalearn.model_spec import ModelSpec
from model_store.checkpoint import read_manifest
from service.settings import PREFIX
from tests.conftest import MakeCheckpoint
from tests.handful.cli.test_cli import Handful
from tests.metalearn.tasks.test_fixed import write_task
from tests.metalearn.tasks.test_labelled import write

COLOURS = ("blue sky", "green grass", "red rose", "yellow sun")
SHORT = ("--ways", "3", "--queries", "4", "--episodes", "3", "--steps", "2")
CONTRACT = {"accuracy", "macro_f1", "ece", "majority", "interval", "n_queries", "adapt_ms"}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """Two tasks, of which one has too few examples for more than one shot."""
    folder = tmp_path / "tasks"
    rows = [{"text": f"{colour} {i}", "label": colour} for colour in COLOURS for i in range(8)]
    write(folder / "colours.jsonl", *rows)
    write(folder / "small.jsonl", *rows[:2], *rows[8:10], *rows[16:18], {"text": "blue sky 0", "label": "blue sky"})
    return folder


@pytest.fixture
def handful(tmp_path: Path, tiny_checkpoint: Path) -> Handful:
    """The command with the tiny checkpoint, in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    settings = {"HANDFUL_CHECKPOINT": str(tiny_checkpoint), "HANDFUL_THREADS": "1", "COLUMNS": "200"}
    return Handful(tmp_path, {**kept, **settings})


def evaluated(handful: Handful, *words: str) -> dict[str, Any]:
    """The JSON file that the command writes."""
    assert handful("evaluate", *words, "--json", "out.json") == ""
    return json.loads((handful.folder / "out.json").read_text(), parse_constant=pytest.fail)  # type: ignore[no-any-return]


def untimed(value: Any) -> Any:
    """The figures without times, which differ from run to run."""
    if isinstance(value, dict):
        return {key: untimed(inner) for key, inner in value.items() if key != "adapt_ms"}
    return [untimed(inner) for inner in value] if isinstance(value, list) else value


def test_random_episodes(handful: Handful, tasks: Path, tiny_checkpoint: Path) -> None:
    found = evaluated(handful, "--tasks", str(tasks), "--shots", "1,3", *SHORT)
    assert {task: list(by_shots) for task, by_shots in found["tasks"].items()} == {
        "colours": ["1", "3"],
        "small": ["1"],
    }
    for figures in (found["tasks"]["colours"]["3"], found["mean"]["3"]):
        assert figures.keys() >= CONTRACT
        low, high = figures["interval"]
        assert 0 <= low <= figures["accuracy"] <= high <= 1
        assert figures["adapt_ms"] > 0
        assert (figures["n_queries"], figures["n_episodes"], figures["failed"]) == (12, 3, 0)
    assert found["mean"]["1"]["n_tasks"] == 2
    assert [(s["task"], s.get("shots")) for s in found["skipped"]] == [("small.jsonl", None), ("small", 3)]
    manifest = read_manifest(tiny_checkpoint)
    assert found["checkpoint"] == {"name": "tiny", "fingerprint": manifest.fingerprint}
    wanted = {
        "ways": 3,
        "queries": 4,
        "shots": [1, 3],
        "episodes": 3,
        "seed": 0,
        "learner": "protomaml",
        "steps": 2,
        "learning_rate": None,
        "label_text": True,
        "device": "cpu",
        "threads": 1,
    }
    assert found["settings"] | wanted == found["settings"]


def test_the_same_seed_gives_the_same_file(handful: Handful, tasks: Path) -> None:
    words = ("--tasks", str(tasks), "--shots", "2", *SHORT)
    first = evaluated(handful, *words)
    assert untimed(evaluated(handful, *words)) == untimed(first)
    assert untimed(evaluated(handful, *words, "--seed", "1"))["tasks"] != untimed(first)["tasks"]


def test_figures_go_to_standard_output_in_place_of_a_file(handful: Handful, tasks: Path) -> None:
    in_file = evaluated(handful, "--tasks", str(tasks), "--shots", "1", *SHORT)
    printed = json.loads(handful("evaluate", "--tasks", str(tasks), "--shots", "1", *SHORT, "--json", "-"))
    assert untimed(printed) == untimed(in_file)
    assert not (handful.folder / "-").exists()


def test_options_reach_the_adaptation(handful: Handful, tasks: Path) -> None:
    words = ("--tasks", str(tasks), "--shots", "3", *SHORT)
    plain = evaluated(handful, *words)
    without = evaluated(handful, *words, "--no-label-text")
    assert without["settings"]["label_text"] is False
    faster = evaluated(handful, *words, "--learning-rate", "0.25")
    assert faster["settings"]["learning_rate"] == 0.25
    other = evaluated(handful, *words, "--learner", "anil")
    assert other["settings"]["learner"] == "anil"
    assert len({found["mean"]["3"]["ece"] for found in (plain, without, faster, other)}) == 4


def test_all_ways_and_queries_and_shots_given_twice(handful: Handful, tasks: Path) -> None:
    words = ("--ways", "all", "--queries", "all", "--shots", "1", "--shots", "2", "--episodes", "2", "--steps", "0")
    found = evaluated(handful, "--tasks", str(tasks), *words)
    assert list(found["tasks"]["colours"]) == ["1", "2"]
    assert found["tasks"]["colours"]["2"]["n_queries"] == 4 * 6
    assert (found["settings"]["ways"], found["settings"]["queries"]) == ("all", "all")


def test_a_checkpoint_with_fast_weights_below_the_head(
    handful: Handful, tasks: Path, make_checkpoint: MakeCheckpoint
) -> None:
    folder = make_checkpoint(ModelSpec("maml", "modulations", fast_layers=1))
    found = evaluated(handful, "--checkpoint", str(folder), "--tasks", str(tasks), "--shots", "1", *SHORT)
    assert found["settings"]["learner"] == "maml"
    assert found["tasks"]["colours"]["1"]["failed"] == 0


def test_fixed_episodes(handful: Handful, tmp_path: Path) -> None:
    write_task(tmp_path / "fixed" / "mood")
    write_task(tmp_path / "fixed" / "tone", queries=[{"text": "q", "label": "good"}, {"text": "r", "label": "new"}])
    found = evaluated(handful, "--episodes-dir", "fixed", "--steps", "2")
    assert {task: list(by_shots) for task, by_shots in found["tasks"].items()} == {
        "mood": ["1", "2"],
        "tone": ["1", "2"],
    }
    figures = found["tasks"]["mood"]["1"]
    assert figures.keys() >= CONTRACT
    assert (figures["n_queries"], figures["n_episodes"], figures["unseen"]) == (9, 2, 0)
    assert figures["majority"] == pytest.approx(6 / 9)
    assert found["tasks"]["tone"]["1"]["unseen"] == 1
    assert found["settings"]["shots"] == [1, 2]


def test_part_of_the_fixed_episodes(handful: Handful, tmp_path: Path) -> None:
    write_task(tmp_path / "mood")
    words = ("--episodes-dir", "mood", "--episodes", "1", "--max-queries", "4", "--shots", "1", "--steps", "0")
    found = evaluated(handful, *words)
    assert found["tasks"]["mood"].keys() == {"1"}
    assert found["tasks"]["mood"]["1"]["n_episodes"] == 1
    assert found["tasks"]["mood"]["1"]["n_queries"] == 4


def test_sweeps(handful: Handful, tasks: Path) -> None:
    swept = ("--sweep", "steps=0,2,5", "--sweep", "shots=1,3", "--sweep", "learning_rate=0.5,1")
    found = evaluated(handful, "--tasks", str(tasks), "--shots", "3", *SHORT, *swept, "--plot", "out.png")
    steps, shots, rates = found["sweep"]
    assert (steps["parameter"], [point["value"] for point in steps["points"]]) == ("steps", [0, 2, 5])
    assert untimed(steps["points"][1]["mean"]) == untimed(found["mean"])
    assert untimed(steps["points"][1]["tasks"]) == untimed(found["tasks"])
    assert [list(point["mean"]) for point in shots["points"]] == [["1"], ["3"]]
    assert untimed(shots["points"][1]["tasks"]) == untimed(found["tasks"])
    assert [point["value"] for point in rates["points"]] == [0.5, 1.0]
    assert rates["points"][0]["mean"]["3"]["ece"] != rates["points"][1]["mean"]["3"]["ece"]
    width, height = Image.open(io.BytesIO((handful.folder / "out.png").read_bytes())).size
    assert width > 2 * height


def test_a_picture_without_a_sweep(handful: Handful, tasks: Path) -> None:
    evaluated(handful, "--tasks", str(tasks), "--shots", "1,3", *SHORT, "--plot", "out.png")
    assert Image.open(handful.folder / "out.png").format == "PNG"


def test_without_a_file_the_figures_are_a_table(handful: Handful, tasks: Path) -> None:
    done = handful.run("evaluate", "--tasks", str(tasks), "--shots", "1,3", *SHORT, "--sweep", "steps=0,2")
    assert done.returncode == 0
    assert "colours" in done.stdout
    assert "mean" in done.stdout
    assert "macro-F1" in done.stdout
    assert "steps" in done.stdout
    assert "left out: small" in done.stderr


def test_a_failed_adaptation_is_reported(handful: Handful, tmp_path: Path) -> None:
    write_task(tmp_path / "fixed" / "mood")
    write_task(tmp_path / "fixed" / "odd", support=[{"text": "\u200b", "label": "good"}, {"text": "x", "label": "bad"}])
    done = handful.run("evaluate", "--episodes-dir", "fixed", "--steps", "1", "--json", "out.json")
    assert "odd, 1 shots, episode 1 failed" in done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["tasks"]["odd"]["1"] | {"accuracy": None, "interval": None, "failed": 2} == found["tasks"]["odd"]["1"]
    assert [f["task"] for f in found["failures"]] == ["odd"] * 3
    assert found["mean"]["1"]["n_tasks"] == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "either --tasks or --episodes-dir"),
        (["--tasks", "tasks", "--episodes-dir", "tasks"], "either --tasks or --episodes-dir"),
        (["--episodes-dir", "tasks", "--ways", "3"], "--max-queries"),
        (["--tasks", "tasks", "--max-queries", "3"], "--queries"),
        (["--tasks", "tasks", "--ways", "1"], "whole number from 2 or all"),
        (["--tasks", "tasks", "--ways", "some"], "whole number from 2 or all"),
        (["--tasks", "tasks", "--shots", "0"], "whole number from 1"),
        (["--tasks", "tasks", "--shots", "1,,2"], "whole number from 1"),
        (["--tasks", "tasks", "--queries", "-1"], "whole number from 1 or all"),
        (["--tasks", "tasks", "--sweep", "seed=1,2"], "steps, learning_rate, shots"),
        (["--tasks", "tasks", "--sweep", "steps"], "steps, learning_rate, shots"),
        (["--tasks", "tasks", "--sweep", "steps=1.5"], "whole numbers"),
        (["--tasks", "tasks", "--sweep", "shots=0"], "too small"),
        (["--tasks", "tasks", "--sweep", "learning_rate=nan"], "too small"),
        (["--tasks", "tasks", "--json", "nowhere/out.json"], "cannot write nowhere/out.json"),
        (["--tasks", "tasks", "--plot", "tasks"], "cannot write tasks"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    handful: Handful, tasks: Path, words: list[str], complaint: str
) -> None:
    assert tasks.is_dir()
    assert complaint in handful.fails("evaluate", *words, codes=(2,))


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--tasks", "absent"], "is not a folder"),
        (["--episodes-dir", "tasks"], "train_I_K.jsonl"),
        (["--tasks", "tasks", "--ways", "3", "--shots", "99"], "no episode could be evaluated"),
        (["--tasks", "tasks", "--learner", "nobody"], "no learner 'nobody'"),
        (["--tasks", "tasks", "--device", "cuda:7"], "not available"),
        (["--tasks", "tasks", "--checkpoint", "absent"], "absent"),
    ],
)
def test_an_impossible_evaluation_is_reported_in_one_line(
    handful: Handful, tasks: Path, words: list[str], complaint: str
) -> None:
    assert tasks.is_dir()
    assert complaint in handful.fails("evaluate", *words)


def test_a_malformed_line_is_named(handful: Handful, tmp_path: Path) -> None:
    folder = write_task(tmp_path / "mood")
    (folder / "train_1_1.jsonl").write_text('{"text": "a", "label": "good"}\n{"text": "b"}\n')
    assert "train_1_1.jsonl:2: " in handful.fails("evaluate", "--episodes-dir", "mood")


def test_plots_are_written_into_a_folder(handful: Handful, tasks: Path) -> None:
    found = evaluated(handful, "--tasks", str(tasks), "--shots", "1,3", *SHORT, "--plots", "plots")
    assert {path.name for path in (handful.folder / "plots").iterdir()} == {"shots.svg", "reliability.svg", "tasks.svg"}
    assert "colours" in (handful.folder / "plots" / "tasks.svg").read_text()
    answers = {k: sum(each["decisions"] for each in bins) for k, bins in found["calibration"].items()}
    per_episode = {k: [by_shots[k] for by_shots in found["tasks"].values() if k in by_shots] for k in answers}
    assert answers == {k: sum(each["n_queries"] * each["n_episodes"] for each in per_episode[k]) for k in answers}
    (handful.folder / "file").write_text("")
    assert "cannot write into file" in handful.fails("evaluate", "--tasks", str(tasks), "--plots", "file", codes=(2,))


def test_a_picture_without_matplotlib_is_refused_at_once(
    handful: Handful, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    complaint = handful.fails("evaluate", "--tasks", str(tasks), "--plot", "out.png", codes=(2,))
    assert "pip install 'handful[train]'" in complaint
