"""A run's folder: what is written is read back, what is damaged is refused."""

from pathlib import Path

import pytest
import torch

from metalearn.encoder.stages import encoder_stages
from metalearn.meta_train import TrainingState
from metalearn.model_spec import ModelSpec
from model_store.checkpoint import UNTRAINED, read_manifest, write_checkpoint
from model_store.errors import TrainingRunInvalid
from model_store.training_run import TrainingRun

CONFIG = {"learner": "protomaml", "tasks": ["somewhere"], "seed": 3}


def begun(folder: Path) -> TrainingRun:
    """A run that was just begun."""
    run = TrainingRun(folder)
    run.begin(CONFIG)
    return run


def test_a_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    run = begun(tmp_path)
    assert run.load() is None
    tensors = {"slow.a": torch.randn(3, 2), "optimizer.step.a": torch.tensor(4.0), "b": torch.randn(4, 4).T}
    numbers = {"step": 4, "feed": {"difficulty": {"täsk": 0.1 + 0.2}}, "best": None}
    run.save(TrainingState(tensors, numbers))
    found = TrainingRun(tmp_path).load()
    assert found is not None
    assert found.numbers == numbers
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors.items())
    assert TrainingRun(tmp_path).config() == CONFIG


def test_a_folder_with_a_run_or_a_checkpoint_is_not_begun_in(tmp_path: Path) -> None:
    begun(tmp_path / "run")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "manifest.json").write_text("{}")
    for name in ("run", "checkpoint"):
        with pytest.raises(TrainingRunInvalid, match="holds a run or a checkpoint"):
            TrainingRun(tmp_path / name).begin(CONFIG)


@pytest.mark.parametrize("name", ["README.md", "slow_weights.safetensors", "curves.png"])
def test_a_file_in_the_checkpoints_way_is_refused_before_the_first_step(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(TrainingRunInvalid, match=name):
        TrainingRun(tmp_path).begin(CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_run_that_goes_on_makes_its_checkpoint_anew(tiny_encoder: Path, tmp_path: Path) -> None:
    run = begun(tmp_path)

    def write(name: str) -> None:
        run.release()
        write_checkpoint(
            tmp_path,
            name=name,
            spec=ModelSpec(),
            hyperparameters=UNTRAINED,
            encoder_source=str(tiny_encoder),
            encoder_licence="none",
            card=name,
            stages=encoder_stages(max_tokens=64),
            extra_files={"curves.png": name.encode()},
        )

    for name in ("first", "second"):
        write(name)
        assert read_manifest(tmp_path).name == name
        assert (tmp_path / "curves.png").read_text() == name
    # A process killed while it puts the files in place leaves some, and no manifest
    run.release()
    for name in ("slow_weights.safetensors", "README.md", "curves.png"):
        (tmp_path / name).write_text("left behind")
    write("third")
    assert (tmp_path / "README.md").read_text() == "third"
    assert run.exists


def test_an_absent_or_damaged_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingRunInvalid, match="no run to resume"):
        TrainingRun(tmp_path).config()
    run = begun(tmp_path)
    run.save(TrainingState({"slow.a": torch.zeros(100)}, {"step": 1}))
    path = run.folder / "state.safetensors"
    whole = path.read_bytes()
    for damaged in (whole[:-10], b"", whole.replace(b"numbers", b"nummers")):
        path.write_bytes(damaged)
        with pytest.raises(TrainingRunInvalid, match="cannot read"):
            run.load()
    (run.folder / "config.json").write_text("{")
    with pytest.raises(TrainingRunInvalid, match="cannot read"):
        run.config()


def test_curves_lose_what_comes_after_a_step_and_a_line_that_a_crash_cut(tmp_path: Path) -> None:
    run = begun(tmp_path)
    for step in range(1, 6):
        run.log({"event": "step", "step": step, "loss": step / 3})
    with (run.folder / "curves.jsonl").open("a") as file:
        file.write('{"event": "step", "st')
    assert [line["step"] for line in run.curves()] == [1, 2, 3, 4, 5]
    run.forget_after(3)
    run.log({"event": "step", "step": 4, "loss": None})
    assert [(line["step"], line["loss"]) for line in run.curves()] == [(1, 1 / 3), (2, 2 / 3), (3, 1.0), (4, None)]


def test_a_replaced_state_leaves_nothing_half_written(tmp_path: Path) -> None:
    run = begun(tmp_path)
    for step in range(3):
        run.save(TrainingState({"slow.a": torch.full((5,), float(step))}, {"step": step}))
    assert {path.name for path in run.folder.iterdir()} == {"config.json", "state.safetensors"}
