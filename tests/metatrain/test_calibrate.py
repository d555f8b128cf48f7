"""``handful checkpoint calibrate``, as a user types it: the same answers, other confidences."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from metalearn import adapting
from metalearn.body import TextBody
from metalearn.calibration import JudgedEpisode, temperature
from metalearn.encoder.encoder import build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.errors import InvalidModel, InvalidTasks
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.options import AdaptOptions
from metalearn.support_plan import prepare_episode
from metalearn.tasks.labelled import read_tasks
from metalearn.tasks.sampler import EpisodeSampler, SamplerSettings
from metalearn.tasks.task import Task
from metalearn.types import OUT_OF_SCOPE
from metatrain.calibrate import judged_episodes, write_calibrated
from model_store.checkpoint import Checkpoint, Hyperparameters, TrainingTask, read_manifest, write_checkpoint
from model_store.learner_models import Models
from model_store.manifest import CARD, SLOW_WEIGHTS
from service.settings import PREFIX
from tests.conftest import MakeCheckpoint, StartService
from tests.handful.cli.test_cli import Handful
from tests.handful.cli.test_metatrain import write_tasks
from tests.metalearn.tasks.test_labelled import write
from tests.metalearn.test_placement import moved
from tests.service.conftest import TEXTS, adapt, predict

CPU = torch.device("cpu")
EPISODES = 16
PREFIX_OF_CALIBRATION = "calibration."


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Task files whose classes differ by their words, and one with scores, which plays no part."""
    folder = write_tasks(tmp_path_factory.mktemp("calibration") / "tasks", 3, seed=5)
    write(folder / "scores.jsonl", *({"text": f"a {i}", "score": i / 8} for i in range(9)))
    return folder


@pytest.fixture
def handful(tmp_path: Path) -> Handful:
    """The command in an empty folder."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
    return Handful(tmp_path, {**kept, "HANDFUL_THREADS": "1", "COLUMNS": "200"})


@pytest.fixture(scope="module")
def trained(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with a tuned layer: no slow weight is where it began, its old temperature included."""
    spec, how = ModelSpec(tuned_layers=1), encoder_stages(max_tokens=32)
    slow = make_text_model(spec, build_encoder(tiny_encoder, how, CPU)).initial_slow_weights(steps=3)
    folder = tmp_path_factory.mktemp("trained") / "checkpoint"
    write_checkpoint(
        folder,
        name="trained",
        spec=spec,
        hyperparameters=Hyperparameters(steps=3, abstain_threshold=0.5),
        encoder_source=os.path.relpath(tiny_encoder, folder),
        encoder_licence="none",
        card="# trained\n\nA card.\n",
        slow_weights=moved(slow, by=0.1),
        stages=how,
        trained_on=[TrainingTask(name="banking77", licence="CC-BY-4.0")],
        extra_files={"curves.png": b"\x89PNG"},
    )
    return folder


def calibrated(handful: Handful, checkpoint: Path, tasks: Path, *more: str, out: str = "copy") -> Path:
    """The folder that the command wrote."""
    words = ("checkpoint", "calibrate", str(checkpoint), out, "--tasks", str(tasks), "--episodes", str(EPISODES))
    printed = json.loads(handful(*words, "--device", "cpu", *more))
    assert printed["fingerprint"] == read_manifest(handful.folder / out).fingerprint
    return handful.folder / out


def of_calibration(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The numbers of a checkpoint's temperature."""
    return {
        name.removeprefix(PREFIX_OF_CALIBRATION): weight
        for name, weight in checkpoint.slow_weights.items()
        if name.startswith(PREFIX_OF_CALIBRATION)
    }


def classification_tasks(folder: Path) -> tuple[Task, ...]:
    return tuple(task for task in read_tasks([folder]).tasks if task.objective == "classification")


def mean_cross_entropy(judged: list[JudgedEpisode], slow: dict[str, Tensor] | None) -> float:
    """Mean cross-entropy of the queries with a class, episodes counting alike."""
    found = []
    for episode in judged:
        rows = episode.targets != OUT_OF_SCOPE
        divisor = temperature(slow, shots=episode.shots, ways=episode.logits.shape[1]) if slow else 1.0
        found.append(torch.nn.functional.cross_entropy(episode.logits[rows] / divisor, episode.targets[rows]))
    return float(torch.stack(found).mean())


def test_a_calibrated_copy_answers_alike_with_other_confidences(
    handful: Handful, trained: Path, tasks: Path, start_service: StartService
) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    copy = calibrated(handful, trained, tasks)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    old, new = Checkpoint(trained, CPU), Checkpoint(copy, CPU)
    assert (new.manifest.name, new.fingerprint == old.fingerprint) == ("copy", False)
    # All but the temperature is what it was
    for field in ("learner", "adaptation", "trained_on"):
        assert getattr(new.manifest, field) == getattr(old.manifest, field)
    assert new.manifest.encoder.files == old.manifest.encoder.files
    assert new.encoder.stages == old.encoder.stages
    assert (copy / "curves.png").read_bytes() == b"\x89PNG"
    stored, own = (safetensors.torch.load_file(folder / SLOW_WEIGHTS) for folder in (copy, trained))
    assert stored.keys() == own.keys()
    changed = {name for name in own if not torch.equal(stored[name], own[name])}
    assert changed == {name for name in own if name.startswith(PREFIX_OF_CALIBRATION)}
    # The threshold is in the manifest, and the card has all of it
    threshold = new.manifest.hyperparameters.abstain_threshold
    assert new.manifest.hyperparameters.steps == 3
    card = (copy / CARD).read_text(encoding="utf-8")
    assert card.startswith("# copy\n\nA card.\n")
    assert f"{EPISODES} episodes of 3 tasks" in card
    assert f"abstention under {threshold:.3f}" in card
    # Confidences are better where they were fitted
    judged = list(judged_episodes(Models(old), classification_tasks(tasks), EPISODES, seed=0))
    fitted = mean_cross_entropy(judged, of_calibration(new))
    assert fitted <= mean_cross_entropy(judged, None) + 1e-6
    assert fitted < mean_cross_entropy(judged, of_calibration(old))
    # And a service gives the same answers
    answers = []
    for number, folder in enumerate((trained, copy)):
        client = start_service(checkpoint=str(folder), store=f"sqlite:{handful.folder / f'{number}.db'}")
        adapt(client, steps=5)
        answers.append(predict(client, queries=[*TEXTS, "where is it", "a fee"])["predictions"])
    assert [p["label"] for p in answers[0]] == [p["label"] for p in answers[1]]
    assert any(abs(a["confidence"] - b["confidence"]) > 1e-3 for a, b in zip(*answers, strict=True))


@pytest.mark.slow
def test_the_seed_alone_decides_what_is_fitted(handful: Handful, trained: Path, tasks: Path) -> None:
    first = calibrated(handful, trained, tasks, out="first")
    again = calibrated(handful, trained, tasks, "--name", "first", out="again")
    other = calibrated(handful, trained, tasks, "--seed", "1", out="other")
    assert read_manifest(again).fingerprint == read_manifest(first).fingerprint
    assert read_manifest(other).slow_weights != read_manifest(first).slow_weights
    # What was fitted before plays no part
    twice = calibrated(handful, first, tasks, out="twice")
    assert read_manifest(twice).slow_weights == read_manifest(first).slow_weights


def test_half_precision_halves_the_tuned_layers_and_keeps_the_answers(
    handful: Handful, trained: Path, tasks: Path
) -> None:
    whole, half = (calibrated(handful, trained, tasks, *more, out=f"copy{len(more)}") for more in ((), ("--half",)))
    stored = safetensors.torch.load_file(half / SLOW_WEIGHTS)
    types = {name.startswith("body.layers."): weight.dtype for name, weight in stored.items()}
    assert types == {True: torch.float16, False: torch.float32}
    assert all((w.dtype == torch.float16) is n.startswith("body.layers.") for n, w in stored.items())
    assert (half / SLOW_WEIGHTS).stat().st_size < 0.6 * (whole / SLOW_WEIGHTS).stat().st_size
    texts = Checkpoint(whole, CPU).encoder.tokenize([*classification_tasks(tasks)[0].inputs[:20]])
    features = [Checkpoint(folder, CPU).encoder.encode_batch(texts) for folder in (whole, half)]
    torch.testing.assert_close(features[1], features[0], atol=1e-2, rtol=0)
    assert not torch.equal(features[1], features[0])
    for one, other in zip(*(_answers(folder, tasks) for folder in (whole, half)), strict=True):
        torch.testing.assert_close(other, one, atol=1e-2, rtol=0)


def _answers(folder: Path, tasks: Path) -> list[Tensor]:
    """Probabilities in a few episodes."""
    loaded = Checkpoint(folder, CPU)
    assert isinstance(loaded.model.body, TextBody)
    sampler = EpisodeSampler(classification_tasks(tasks), SamplerSettings(ways=(2, 4), shots=(1, 4)), seed=9)
    found = []
    for index in range(4):
        episode = prepare_episode(loaded.model.body, sampler.episode(index))
        fast = adapting.adapt(loaded.model, loaded.slow_weights, episode.support, AdaptOptions(5)).fast_weights
        with torch.no_grad():
            logits = loaded.model.outputs(loaded.slow_weights, fast, episode.query.inputs)
        found.append(logits.softmax(dim=1))
    return found


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(ModelSpec("maml", "modulations", 1), marks=pytest.mark.slow),
        ModelSpec("ridge"),
        ModelSpec(tuned_layers=1),
    ],
)
def test_every_model_with_a_linear_head_can_be_calibrated(
    handful: Handful, make_checkpoint: MakeCheckpoint, tasks: Path, spec: ModelSpec
) -> None:
    copy = Checkpoint(calibrated(handful, make_checkpoint(spec), tasks), CPU)
    assert copy.manifest.spec == spec
    assert any(float(number) != 0 for number in of_calibration(copy).values())


def test_judged_answers_are_those_before_any_calibration(trained: Path, tasks: Path) -> None:
    loaded = Checkpoint(trained, CPU)
    assert all(float(number) != 0 for number in of_calibration(loaded).values())
    judged = list(judged_episodes(Models(loaded), classification_tasks(tasks), 6, seed=3))
    loaded.slow_weights = {
        name: torch.zeros(()) if name.startswith(PREFIX_OF_CALIBRATION) else weight
        for name, weight in loaded.slow_weights.items()
    }
    plain = list(judged_episodes(Models(loaded), classification_tasks(tasks), 6, seed=3))
    for one, other in zip(judged, plain, strict=True):
        assert torch.equal(one.logits, other.logits)
        assert torch.equal(one.targets, other.targets)
        assert one.shots == other.shots
        assert one.shots >= 1, "texts of labels are no shots"
    assert len({episode.shots for episode in judged}) > 1
    assert any(bool((episode.targets == OUT_OF_SCOPE).any()) for episode in judged)


# ---- what cannot be calibrated ---------------------------------------------------------------------------------------


def refusal(handful: Handful, checkpoint: Path, *words: str, out: str = "copy") -> str:
    """The error of the command, which leaves no checkpoint."""
    message = handful.fails("checkpoint", "calibrate", str(checkpoint), out, "--episodes", "8", *words)
    assert not (handful.folder / "copy").exists()
    return message


@pytest.mark.parametrize("learner", ["matching", "prototypical_cosine", "attention"])
def test_a_learner_without_a_linear_head_has_no_temperature(
    handful: Handful, make_checkpoint: MakeCheckpoint, tasks: Path, learner: str
) -> None:
    folder = make_checkpoint(ModelSpec(learner))
    assert f"the learner {learner} has no linear head" in refusal(handful, folder, "--tasks", str(tasks))
    with pytest.raises(InvalidModel):
        next(judged_episodes(Models(Checkpoint(folder, CPU)), classification_tasks(tasks), 1, seed=0))


def test_a_taken_folder_is_refused_before_anything_is_read(handful: Handful, tiny_checkpoint: Path) -> None:
    shutil.copytree(tiny_checkpoint, handful.folder / "taken")
    taken = {path.name: path.read_bytes() for path in (handful.folder / "taken").iterdir()}
    assert "never overwritten" in refusal(handful, tiny_checkpoint, "--tasks", "not read yet", out="taken")
    assert {path.name: path.read_bytes() for path in (handful.folder / "taken").iterdir()} == taken
    (handful.folder / "notes").mkdir()
    (handful.folder / "notes" / CARD).write_text("mine")
    assert "is not overwritten" in refusal(handful, tiny_checkpoint, "--tasks", "not read yet", out="notes")


def rows(*labels: str, per_label: int = 8) -> list[dict[str, Any]]:
    """Examples of some classes."""
    return [{"text": f"{label} text {i}", "label": label} for label in labels for i in range(per_label)]


def test_tasks_that_cannot_have_a_query_of_no_class_are_refused(handful: Handful, tiny_checkpoint: Path) -> None:
    write(handful.folder / "two" / "pair.jsonl", *rows("good", "bad"))
    message = refusal(handful, tiny_checkpoint, "--tasks", "two")
    assert "queries with a class and out-of-scope queries" in message
    assert "three classes or more" in message


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([{"text": f"a {i}", "score": i / 8} for i in range(9)], "none of 0 tasks can give an episode"),
        ([{"text": "a", "label": "b"}], "few holds no task"),
    ],
)
def test_without_a_task_of_classes_there_is_a_reason(
    handful: Handful, tiny_checkpoint: Path, lines: list[dict[str, Any]], message: str
) -> None:
    write(handful.folder / "few" / "some.jsonl", *lines)
    assert message in refusal(handful, tiny_checkpoint, "--tasks", "few")


def test_what_is_not_there_is_named(handful: Handful, tiny_checkpoint: Path, tasks: Path) -> None:
    assert "absent" in refusal(handful, tiny_checkpoint, "--tasks", "absent")
    assert "nowhere" in refusal(handful, Path("nowhere"), "--tasks", str(tasks))


def test_where_no_episode_could_be_judged_nothing_is_written(tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded = Checkpoint(tiny_checkpoint, CPU)
    with pytest.raises(InvalidTasks, match="nothing to fit a temperature to"):
        write_calibrated(loaded, [], [], tmp_path / "copy", name="copy", half=False)
    assert not (tmp_path / "copy").exists()
