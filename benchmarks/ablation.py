"""The gain of each part of the checkpoint minilm-l6-handful.

python -m benchmarks.ablation --data FOLDER --out RUNS --of shipped
python -m benchmarks.ablation --data FOLDER --out RUNS --of "short recipe" --steps 120

The inner steps are left out of the shipped checkpoint; parts of training are left out of a short run of its recipe.
FOLDER has train/, train-pairs/, unlabelled/ and valid/. All results are for all classes of the tasks in valid/, adapted
and queried through HTTP. Existing results are kept, so that the benchmark can be stopped and continued; with --only
some runs can be made beside others.
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
from benchmarks.methods import STOCK_ENCODER, FrozenFeatures, FrozenRegression, Handful, handful_server
from benchmarks.suites import SUITES, Choice

CHECKPOINT = "minilm-l6-handful"
RECIPE, SHIPPED = "short recipe", "shipped"
_PAIRS = ("--tasks", "train-pairs", "--leave-out", "et_ritter_twitter", "--pairs-share", "0.3")
_TEXTS = ("--unlabelled-share", "0.1", "--unlabelled-classes", "words")
_RECIPE = (
    *("--tuned-layers", "3", "--label-text-share", "0.5"),
    *("--out-of-scope-share", "0.1", "--splits", "3", "--max-tokens", "128", "--average", "0.99"),
    *("--shots", "1-16", "--queries", "6", "--max-support", "96", "--max-query", "64", "--meta-batch", "2"),
    *("--learning-rate", "1e-4", "--encoder", STOCK_ENCODER, "--encoder-licence", "Apache-2.0"),
)
"""The options of metatrain/recipes/minilm-l6-handful.toml, but for those that the runs below differ in."""

_RECIPE_PARTS: dict[str, tuple[str, ...]] = {
    "many ways": ("--ways", "2-64"),
    "pairs": _PAIRS,
    "plain text": _TEXTS,
    "learned rates": (),
}
_RECIPE_WITHOUT: dict[str, tuple[str, ...]] = {"many ways": ("--ways", "2-8"), "learned rates": ("--rates", "fixed")}
"""The replacement of a part that is left out."""

GROUPS = {
    SHIPPED: (SHIPPED, f"{SHIPPED}, without inner steps"),
    RECIPE: (RECIPE, *(f"{RECIPE}, without {part}" for part in _RECIPE_PARTS)),
}
"""The whole, and it without each of its parts."""


def made(name: str, data: Path, out: Path, steps: int) -> Path:
    """The checkpoint of one of ``GROUPS``: made now, gone on with, or there already."""
    folder = out / name.replace(",", "").replace("'", "").replace(" ", "-")
    whole, _, left_out = name.partition(", without ")
    if (folder / "manifest.json").exists():
        return folder
    print(f"making: {name}", file=sys.stderr, flush=True)
    command = _derived(left_out, folder) if whole == SHIPPED else _trained(left_out, data, folder, steps)
    subprocess.run([sys.executable, "-m", "handful", *command], check=True, stdout=subprocess.DEVNULL)
    return folder


def _derived(left_out: str, folder: Path) -> list[str]:
    return ["checkpoint", "derive", CHECKPOINT, str(folder), *(["--steps", "0"] if left_out else [])]


def _trained(left_out: str, data: Path, folder: Path, steps: int) -> list[str]:
    command = ["metatrain", "--out", str(folder), "--threads", str(torch.get_num_threads())]
    if (folder / "training" / "config.json").exists():
        return [*command, "--resume"]
    options = [option for part, given in _RECIPE_PARTS.items() if part != left_out for option in given]
    options += _RECIPE_WITHOUT.get(left_out, ())
    options = [str(data / option) if option == "train-pairs" else option for option in options]
    if left_out != "plain text":
        options += [word for file in sorted((data / "unlabelled").iterdir()) for word in ("--unlabelled", str(file))]
    command += ["--tasks", str(data / "train"), "--steps", str(steps), "--warmup-steps", str(steps // 8)]
    return [*command, *_RECIPE, *options]


def judge(name: str, folder: Path, episodes: Sequence[Episode], out: Path) -> None:
    """Lets a checkpoint answer, without label text and with it."""
    with handful_server(str(folder)) as client:
        for use_label_text in (False, True):
            method = Handful(client, name, use_label_text=use_label_text)
            run(method, episodes, out / f"{folder.name}-{'with' if use_label_text else 'without'}-label-text.jsonl")


def tables(outcomes: Sequence[Outcome]) -> str:
    """Accuracy of each, and what it is less than that of the whole."""
    names = {outcome.method for outcome in outcomes}
    parts = [suite_table(rows_of(outcomes, "own"), "accuracy")]
    for whole, *others in GROUPS.values():
        for ending in (", no label text", ""):
            if whole + ending in names:
                without = [name + ending for name in others if name + ending in names]
                pairs = [(whole + ending, BASELINE), *((name, whole + ending) for name in without)]
                parts.append(comparison(outcomes, ["own"], pairs, lambda outcome: outcome.accuracy))
    return "\n\n".join(parts) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes what is missing, then writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of their outcomes")
    parser.add_argument("--steps", type=int, default=120, help="outer steps of each run of the recipe")
    parser.add_argument("--shots", type=int, nargs="+", default=[5])
    parser.add_argument("--episodes", type=int, default=3, help="of each task")
    parser.add_argument("--max-queries", type=int, default=200, help="of each task")
    parser.add_argument("--of", nargs="+", choices=GROUPS, default=[*GROUPS], help="from what parts are left out")
    parser.add_argument("--only", nargs="+", choices=[name for group in GROUPS.values() for name in group])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    outcomes = options.out / "outcomes"
    outcomes.mkdir(parents=True, exist_ok=True)
    choice = Choice(shots=tuple(options.shots), episodes=options.episodes, max_queries=options.max_queries)
    episodes = SUITES["own"].build(options.data / "valid", choice)
    for name in options.only or [name for group in options.of for name in GROUPS[group]]:
        judge(name, made(name, options.data, options.out, options.steps), episodes, outcomes)
    run(FrozenRegression(FrozenFeatures()), episodes, outcomes / "regression.jsonl")
    (options.out / "report.md").write_text(tables(read_folder(outcomes)), encoding="utf-8")
    print((options.out / "report.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
