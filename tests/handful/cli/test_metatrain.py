"""``handful metatrain`` as a user runs it: processes, signals, files."""

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import safetensors.torch
import torch

from metalearn.learners import LEARNERS
from metalearn.update_rules import UPDATE_RULES
from metatrain.options import TrainingOptions
from model_store.checkpoint import Checkpoint, read_manifest
from tests.handful.cli.test_cli import Done, Handful
from tests.waiting import LIMIT_S

REPOSITORY = Path(__file__).parents[3]
WORDS = {
    "sport": "ball team goal match coach league player stadium",
    "food": "bread soup cheese onion kitchen pepper butter lemon",
    "money": "bank loan coin credit interest wallet invoice budget",
    "sky": "cloud rain storm wind sun snow thunder fog",
}


def write_tasks(folder: Path, count: int, seed: int) -> Path:
    """Task files whose classes differ in their words."""
    folder.mkdir()
    draw = random.Random(seed)
    for number in range(count):
        lines = []
        for label, words in WORDS.items():
            for _ in range(12):
                text = " ".join(draw.choices(words.split(), k=4))
                lines.append(json.dumps({"text": f"{text} {draw.randrange(10**6)}", "label": f"{label}{number}"}))
        (folder / f"task{number}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "lonely.jsonl").write_text('{"text": "one", "label": "a"}\n{"text": "two", "label": "a"}\n')
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training and validation tasks, and plain text."""
    home = tmp_path_factory.mktemp("tasks")
    write_tasks(home / "train", 4, seed=0)
    write_tasks(home / "valid", 2, seed=1)
    draw = random.Random(2)
    words = [
        f"{first}{second}" for first in " ".join(WORDS.values()).split() for second in ("", "s", *"abcdefghijklmn")
    ]
    (home / "plain.txt").write_text("\n".join(" ".join(draw.choices(words, k=7)) for _ in range(2000)) + "\n")
    return home


def command(folders: Path, tiny_encoder: Path, out: Path, *more: str) -> list[str]:
    """A short run on the tiny encoder."""
    fixed = ["--tuned-layers", "1", "--inner-steps", "3", "--meta-batch", "2", "--ways", "2-4", "--shots", "1-3"]
    fixed += ["--warmup-steps", "2", "--max-tokens", "32", "--threads", "1", "--device", "cpu"]
    fixed += ["--valid-ways", "3", "--valid-shots", "2", "--valid-episodes", "2"]
    where = ["--tasks", str(folders / "train"), "--encoder", str(tiny_encoder), "--out", str(out)]
    return [sys.executable, "-m", "handful", "metatrain", *where, *fixed, *more]


def run(arguments: Sequence[str], *, check: bool = True) -> Done:
    """Runs a command inside this process: a process of its own takes seconds to start."""
    assert arguments[:3] == [sys.executable, "-m", "handful"]
    done = Handful(REPOSITORY, {**os.environ, "COLUMNS": "200"}).run(*arguments[3:])
    assert not check or done.returncode == 0, done.stderr
    return done


def run_apart(arguments: Sequence[str], *, code: int = 0) -> Done:
    """Runs a command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        arguments, check=False, capture_output=True, text=True, cwd=REPOSITORY, env=environment, timeout=LIMIT_S
    )
    assert done.returncode == code, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


SIGNALLED = """
import os, sys
from metalearn.meta_train import MetaTrainer
from handful.cli.main import main

number, at = map(int, sys.argv.pop(1).split(":"))
step = MetaTrainer.step

def signalled(trainer, *arguments, **more):
    result = step(trainer, *arguments, **more)
    if trainer.step_number == at:
        os.kill(os.getpid(), number)
    return result

MetaTrainer.step = signalled
main()
"""


def signalled(arguments: Sequence[str], number: signal.Signals, at: int) -> list[str]:
    """A command that gets a signal after an outer step, however fast it runs."""
    assert arguments[:3] == [sys.executable, "-m", "handful"]
    return [sys.executable, "-c", SIGNALLED, f"{int(number)}:{at}", *arguments[3:]]


def weights_of(out: Path) -> bytes:
    """The bytes of a checkpoint's weights."""
    return (out / "slow_weights.safetensors").read_bytes()


def curves_of(out: Path, event: str) -> list[dict[str, object]]:
    """The curves' lines of one kind."""
    lines = (out / "training" / "curves.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == event]


def test_a_run_ends_in_a_checkpoint_that_serves_and_lists_its_training_data(
    folders: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    valid = ["--valid", str(folders / "valid"), "--validate-every", "4"]
    mixed = ["--unlabelled", str(folders / "plain.txt"), "--unlabelled-share", "0.5", "--guard-every", "5"]
    more = ["--contrastive-weight", "0.1", "--out-of-scope-share", "0.5", "--label-text-share", "0.5"]
    done = run(command(folders, tiny_encoder, out, "--steps", "10", "--learning-rate", "0.003", *valid, *mixed, *more))
    assert "bfloat16" not in done.stderr
    printed = json.loads(done.stdout)
    manifest = read_manifest(out)
    assert printed["fingerprint"] == manifest.fingerprint
    assert printed["steps"] == 10
    assert "left out: lonely: fewer than two classes (2 rows)" in done.stderr.replace("\n", " ")
    assert {task.name for task in manifest.trained_on} == {"task0", "task1", "task2", "task3", "plain.txt"}
    assert [line["step"] for line in curves_of(out, "step")] == list(range(1, 11))
    assert [line["step"] for line in curves_of(out, "validation")] == [0, 4, 8, 10]
    assert [line["step"] for line in curves_of(out, "transfer")] == [5, 10]
    groups = {group["group"] for group in curves_of(out, "transfer")[0]["groups"]}  # type: ignore[union-attr]
    assert groups == {"ungrouped", "unlabelled-words", "unlabelled-clusters"}
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    best = max(float(str(line["accuracy"])) for line in curves_of(out, "validation"))
    assert printed["validation"] == best
    checkpoint = Checkpoint(out, torch.device("cpu"))
    pretrained = safetensors.torch.load_file(tiny_encoder / "model.safetensors")
    trained = checkpoint.encoder.upper_weights(2)
    assert torch.equal(trained["layers.0.output.weight"], pretrained["encoder.layer.0.output.dense.weight"])
    assert not torch.equal(trained["layers.1.output.weight"], pretrained["encoder.layer.1.output.dense.weight"])

    again = run(command(folders, tiny_encoder, out, "--steps", "10"), check=False)
    assert again.returncode != 0
    assert "resume it, or choose another folder" in again.stderr.replace("\n", " ")


def test_a_run_in_bfloat16_with_label_texts_trains_the_layer_and_their_weight(
    folders: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "made"
    more = ["--splits", "3", "--label-text-share", "1", "--bf16", "--learner-learning-rate", "0.1"]
    done = run(command(folders, tiny_encoder, out, "--steps", "4", *more))
    warned = "this CPU has no bfloat16 instructions" in " ".join(done.stderr.split())
    assert warned is (torch.backends.cpu.get_cpu_capability() in {"DEFAULT", "AVX2"})
    config = json.loads((out / "training" / "config.json").read_text())
    assert (config["splits"], config["bf16"]) == (3, True)
    checkpoint = Checkpoint(out, torch.device("cpu"))
    stored = safetensors.torch.load(weights_of(out))
    pretrained = safetensors.torch.load_file(tiny_encoder / "model.safetensors")
    trained, own = stored["body.layers.1.output.weight"], pretrained["encoder.layer.1.output.dense.weight"]
    assert not torch.equal(trained, own)
    assert torch.equal(checkpoint.encoder.upper_weights(1)["layers.1.output.weight"], trained)
    for name, start in (("prior.log_weight", math.log(2)), ("prior.fade", 0.0)):
        assert float(stored[name]) != pytest.approx(start, abs=1e-6), f"{name} was not trained"


def test_a_run_starts_from_the_weights_of_another_checkpoint(folders: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    learning = ["--learning-rate", "1e-3", "--learner-learning-rate", "0.1"]
    run(command(folders, tiny_encoder, first, "--steps", "3", *learning))
    standing = ["--learning-rate", "1e-12", "--learner-learning-rate", "1e-12", "--weight-decay", "0"]
    more = ["--leave-out", "task2", "--leave-out", "task3"]
    run(command(folders, tiny_encoder, second, "--steps", "1", *standing, *more, "--start-from", str(first)))
    begun, ended = (safetensors.torch.load(weights_of(folder)) for folder in (first, second))
    torch.testing.assert_close(ended, begun, atol=1e-6, rtol=1e-6)
    pretrained = safetensors.torch.load_file(tiny_encoder / "model.safetensors")
    moved = ended["body.layers.1.output.weight"] - pretrained["encoder.layer.1.output.dense.weight"]
    assert float(moved.abs().max()) > 1e-4, "the second run began at the pretrained weights"
    assert {task.name for task in read_manifest(second).trained_on} == {"task0", "task1", "task2", "task3"}
    assert read_manifest(first).fingerprint[:12] in (second / "README.md").read_text()

    other = command(folders, tiny_encoder, tmp_path / "other", "--tuned-layers", "2", "--start-from", str(first))
    message = " ".join(run(other, check=False).stderr.replace("│", " ").split())
    assert "training cannot start from" in message
    assert "lack" in message


def test_an_averaged_run_ends_in_a_checkpoint_of_the_averages(
    folders: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    decay, newest = 0.9, {}
    for steps in (1, 2):
        out = tmp_path / f"plain-{steps}"
        run(command(folders, tiny_encoder, out, "--steps", str(steps), "--schedule", "constant"))
        newest[steps] = safetensors.torch.load(weights_of(out))
    averaged = tmp_path / "averaged"
    done = run(
        command(folders, tiny_encoder, averaged, "--steps", "2", "--schedule", "constant", "--average", str(decay))
    )
    assert json.loads(done.stdout)["fingerprint"] == read_manifest(averaged).fingerprint
    assert json.loads((averaged / "training" / "config.json").read_text())["average"] == decay
    found = safetensors.torch.load(weights_of(averaged))
    assert found.keys() == newest[2].keys()
    pretrained = safetensors.torch.load_file(tiny_encoder / "model.safetensors")
    name = "body.layers.1.output.weight"
    expected = pretrained["encoder.layer.1.output.dense.weight"].double()
    for step in range(2):
        warmed_up = min(decay, (1 + step) / (10 + step))
        expected = warmed_up * expected + (1 - warmed_up) * newest[step + 1][name].double()
    torch.testing.assert_close(found[name].double(), expected, atol=1e-7, rtol=1e-5)
    assert not torch.equal(found[name], newest[2][name])
    Checkpoint(averaged, torch.device("cpu"))


@pytest.mark.slow
def test_killed_and_resumed_a_run_arrives_at_the_same_bytes(folders: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    more = ["--steps", "30", "--valid", str(folders / "valid"), "--validate-every", "5", "--save-every", "3"]
    more += ["--strategy", "difficulty", "--guard-every", "7", "--unlabelled", str(folders / "plain.txt")]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run_apart(command(folders, tiny_encoder, whole, *more))
    for attempt in range(3):
        arguments = command(folders, tiny_encoder, killed, *more, *(["--resume"] if attempt else []))
        run_apart(signalled(arguments, signal.SIGKILL, at=8 * (attempt + 1)), code=-signal.SIGKILL)
    # The options come from the folder
    run_apart([sys.executable, "-m", "handful", "metatrain", "--out", str(killed), "--resume", "--threads", "1"])
    assert weights_of(killed) == weights_of(whole)
    assert read_manifest(killed).slow_weights == read_manifest(whole).slow_weights

    def without_time(out: Path) -> list[dict[str, object]]:
        return [
            {**line, "elapsed_s": 0} for kind in ("step", "validation", "transfer") for line in curves_of(out, kind)
        ]

    assert without_time(killed) == without_time(whole)


@pytest.mark.slow
def test_an_interrupted_run_saves_leaves_a_checkpoint_and_can_go_on(
    folders: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    more = [
        "--learning-rate",
        "0.003",
        "--steps",
        "40",
        "--valid",
        str(folders / "valid"),
        "--validate-every",
        "10",
        "--patience",
        "3",
    ]
    run_apart(command(folders, tiny_encoder, whole, *more))
    message = run_apart(signalled(command(folders, tiny_encoder, stopped, *more), signal.SIGINT, at=5)).stderr
    assert "--resume goes on" in message.replace("\n", " ")
    first = read_manifest(stopped).fingerprint
    assert 0 < len(curves_of(stopped, "step")) < 40

    other = run(command(folders, tiny_encoder, stopped, "--resume", *more, "--steps", "41"), check=False)
    assert other.returncode != 0
    assert "begun with steps=40" in other.stderr.replace("\n", " ").replace("│ ", "").replace(" │", "")
    run_apart([sys.executable, "-m", "handful", "metatrain", "--out", str(stopped), "--resume", "--threads", "1"])
    assert read_manifest(stopped).fingerprint != first
    assert weights_of(stopped) == weights_of(whole)


@pytest.mark.slow
def test_two_processes_train_as_one(folders: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    more = ["--steps", "5", "--valid", str(folders / "valid"), "--validate-every", "2"]
    run(command(folders, tiny_encoder, tmp_path / "one", *more))
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run_apart([*launch, *command(folders, tiny_encoder, tmp_path / "two", *more)[1:]])
    one, two = (safetensors.torch.load(weights_of(tmp_path / name)) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=2e-5, rtol=1e-3)
    for line, other in zip(curves_of(tmp_path / "one", "step"), curves_of(tmp_path / "two", "step"), strict=True):
        assert other["loss"] == pytest.approx(line["loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--learner", "nobody"], "there is no learner 'nobody'"),
        (["--update-rule", "nothing"], "there is no update rule 'nothing'"),
        (["--ways", "many"], "'many' is neither a number nor LOW-HIGH"),
        (["--tuned-layers", "9"], "9 layers were asked for; the encoder has 2"),
        (["--placement", "modulations", "--fast-layers", "0"], "does not go with 0 fast layers"),
        (["--splits", "0"], "greater than or equal to 1"),
        (["--learner", "reptile", "--rates", "learned"], "its inner rates are fixed"),
        (["--learner", "ridge", "--update-rule", "adam"], "takes no inner steps"),
        (["--open-licences-only"], "open"),
        (["--steps", "0"], "greater than or equal to 1"),
        (["--ways", "5-2"], "give the fewest first"),
        (["--head-rate", "inf"], "finite"),
        (["--resume"], "no run to resume"),
        (["--start-from", "nothing"], "neither a folder with a manifest.json nor a shipped checkpoint"),
        (["--start-from", "minilm-l6-protomaml"], "training cannot start from"),
    ],
)
def test_an_impossible_training_is_refused_with_the_reason(
    arguments: list[str], reason: str, folders: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    done = run([*command(folders, tiny_encoder, tmp_path / "out"), *arguments], check=False)
    message = " ".join(done.stderr.replace("│", " ").split())
    assert done.returncode != 0
    assert reason in message, message
    assert "Traceback" not in message


def test_a_run_without_data_is_refused(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "handful", "metatrain", "--out", str(tmp_path / "out")], check=False)
    assert done.returncode != 0
    assert "nothing to train on" in " ".join(done.stderr.replace("│", " ").split())


def test_the_options_offer_what_the_core_has() -> None:
    options = TrainingOptions(tasks=["somewhere"])
    assert options.learner in LEARNERS
    assert "gradient_descent" in UPDATE_RULES


def test_a_folder_is_not_both_trained_on_and_validated_by(folders: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    done = run(command(folders, tiny_encoder, tmp_path / "out", "--valid", str(folders / "train")), check=False)
    assert done.returncode != 0
    assert "keep validation tasks apart" in " ".join(done.stderr.split())


@pytest.mark.slow
def test_tasks_that_the_learner_does_not_do_are_left_out_and_reported(
    folders: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    scores = tmp_path / "scores"
    scores.mkdir()
    lines = [json.dumps({"text": f"worth {i}", "score": i / 10}) for i in range(30)]
    (scores / "worth.jsonl").write_text("\n".join(lines))
    alone = [
        argument if argument != str(folders / "train") else str(scores)
        for argument in command(folders, tiny_encoder, tmp_path / "alone", "--learner", "ridge", "--steps", "2")
    ]
    run(alone)
    both = command(folders, tiny_encoder, tmp_path / "both", "--tasks", str(scores), "--steps", "2")
    assert "left out: worth: regression is not what is asked for (30 rows)" in " ".join(run(both).stderr.split())
    refused = run([argument if argument != "ridge" else "prototypical" for argument in alone[:-2]], check=False)
    assert refused.returncode != 0


@pytest.mark.slow
def test_a_run_begun_with_relative_paths_goes_on_from_anywhere(
    folders: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    arguments = command(Path(), Path(os.path.relpath(tiny_encoder, folders)), tmp_path / "out", "--steps", "4")
    subprocess.run([*arguments, "--minutes", "0"], check=True, cwd=folders, env=environment, timeout=LIMIT_S)
    assert len(curves_of(tmp_path / "out", "step")) == 1
    run([sys.executable, "-m", "handful", "metatrain", "--out", str(tmp_path / "out"), "--resume", "--threads", "1"])
    assert len(curves_of(tmp_path / "out", "step")) == 4
