"""What each part of the default checkpoint's recipe brings: meta-training again without it, a short run each.

python -m benchmarks.ablation --data FOLDER --steps 120 --out RUNS

FOLDER has train/, train-pairs/, unlabelled/ and valid/. Every run is judged on all classes of the tasks in valid/,
adapted and queried through HTTP. What is there already is not made again, so that it can be stopped and gone on with;
with --only some runs can be made beside others.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.accuracy_report import BASELINE, comparison, read_folder, rows_of, suite_table
from benchmarks.comparison import Outcome, run
from benchmarks.episodes import Episode
from benchmarks.methods import FrozenFeatures, FrozenRegression, Handful, handful_server
from benchmarks.suites import SUITES, Choice

WHOLE = "whole recipe"
_PAIRS = ("--tasks", "train-pairs", "--leave-out", "et_ritter_twitter", "--pairs-share", "0.3")
_TEXTS = ("--unlabelled-share", "0.1")
_RECIPE = (
    *("--trained-layers", "3", "--label-text-share", "0.5"),
    *("--out-of-scope-share", "0.1", "--splits", "3", "--max-tokens", "256", "--average", "0.99"),
    *("--shots", "1-16", "--queries", "6", "--max-support", "96", "--max-query", "64", "--meta-batch", "2"),
    *("--learning-rate", "1e-4", "--encoder-licence", "Apache-2.0"),
)
"""As in the Makefile, but for what the runs below differ in."""

_PARTS: dict[str, tuple[str, ...]] = {
    "stock features": ("--stock-view",),
    "many ways": ("--ways", "2-64"),
    "pairs": _PAIRS,
    "plain text": _TEXTS,
    "learned rates": (),
}
_WITHOUT: dict[str, tuple[str, ...]] = {"many ways": ("--ways", "2-8"), "learned rates": ("--rates", "fixed")}
"""What stands in the place of a part that is left out."""

RUNS = (WHOLE, *(f"without {part}" for part in _PARTS))


def train(name: str, data: Path, out: Path, steps: int) -> Path:
    """Meta-trains one of ``RUNS``, goes on with it, or finds that it has been made."""
    folder = out / name.replace(" ", "-")
    if (folder / "manifest.json").exists():
        return folder
    left_out = name.removeprefix("without ")
    options = [option for part, given in _PARTS.items() if part != left_out for option in given]
    options += _WITHOUT.get(left_out, ())
    options = [str(data / option) if option == "train-pairs" else option for option in options]
    if left_out != "plain text":
        options += [word for file in sorted((data / "unlabelled").iterdir()) for word in ("--unlabelled", str(file))]
    command = [sys.executable, "-m", "service", "metatrain", "--out", str(folder)]
    if (folder / "training" / "config.json").exists():
        command.append("--resume")
    else:
        command += ["--tasks", str(data / "train"), "--steps", str(steps), "--warmup-steps", str(steps // 8)]
        command += [*_RECIPE, *options]
    threads = str(torch.get_num_threads())
    print(f"training: {name}", file=sys.stderr, flush=True)
    subprocess.run([*command, "--threads", threads], check=True, stdout=subprocess.DEVNULL)
    return folder


def judge(name: str, folder: Path, episodes: Sequence[Episode], out: Path) -> None:
    """Lets a run's checkpoint answer, without label text and with it."""
    with handful_server(str(folder)) as client:
        for use_label_text in (False, True):
            method = Handful(client, name, use_label_text=use_label_text)
            run(method, episodes, out / f"{folder.name}-{'with' if use_label_text else 'without'}-label-text.jsonl")


def tables(outcomes: Sequence[Outcome]) -> str:
    """Accuracy of each run, and what it is less than with the whole recipe."""
    names = {outcome.method for outcome in outcomes}
    parts = [suite_table(rows_of(outcomes, "own"), "accuracy")]
    for ending in (", no label text", ""):
        whole = WHOLE + ending
        pairs = [(whole, BASELINE), *((name + ending, whole) for name in RUNS[1:] if name + ending in names)]
        parts.append(comparison(outcomes, ["own"], pairs, lambda outcome: outcome.accuracy))
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes what is missing, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of their outcomes")
    parser.add_argument("--steps", type=int, default=120, help="outer steps of each run")
    parser.add_argument("--shots", type=int, nargs="+", default=[5])
    parser.add_argument("--episodes", type=int, default=3, help="of each task")
    parser.add_argument("--max-queries", type=int, default=200, help="of each task")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=RUNS)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    outcomes = options.out / "outcomes"
    outcomes.mkdir(parents=True, exist_ok=True)
    choice = Choice(shots=tuple(options.shots), episodes=options.episodes, max_queries=options.max_queries)
    episodes = SUITES["own"].build(options.data / "valid", choice)
    for name in options.only:
        judge(name, train(name, options.data, options.out, options.steps), episodes, outcomes)
    run(FrozenRegression(FrozenFeatures()), episodes, outcomes / "regression.jsonl")
    (options.out / "report.md").write_text(tables(read_folder(outcomes)), encoding="utf-8")
    print((options.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
