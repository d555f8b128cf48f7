"""Few-shot accuracy and the time of an adaptation, beside other methods on the same encoder and the same episodes.

python -m benchmarks.accuracy --data FOLDER

FOLDER has NAME.train.jsonl and NAME.test.jsonl (or NAME.jsonl), and for the suite of that name leopard/TASK/ with
train_I_K.jsonl and eval.jsonl. Each method has a file of outcomes, one line an episode; what is there is not computed
again, so that the comparison can be stopped, gone on with, and widened: fewer tasks, shots or episodes are some of the
same ones.
"""

import argparse
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from benchmarks.accuracy_plot import draw
from benchmarks.accuracy_report import MEASURES, methods_of, read_folder, report
from benchmarks.comparison import Method, Mismatch, run
from benchmarks.episodes import Episode
from benchmarks.methods import (
    FrozenFeatures,
    FrozenLearner,
    FrozenRegression,
    Handful,
    handful_server,
)
from benchmarks.peer_process import PEERS, run_peer
from benchmarks.suites import SUITES, Choice
from metalearn.errors import InvalidTasks
from model_store.checkpoint import DEFAULT_CHECKPOINT
from service.settings import granted_threads

_FROZEN = ("regression", "ridge", "prototypical")
_OURS = ("handful", "handful-no-label-text")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs what is missing, then writes the tables and the picture."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.data is None and not options.report:
        parser.error("--data is missing: give the folder of the sets, or --report for tables of what is there")
    try:
        if not options.report:
            options.out.mkdir(parents=True, exist_ok=True)
            torch.set_num_threads(granted_threads())
            _run_all(parser, options, _episodes(parser, options))
        outcomes = read_folder(options.out)
    except Mismatch as error:
        parser.error(str(error))
    if not outcomes:
        parser.error(f"{options.out} holds no outcomes")
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, {os.cpu_count()} CPU cores"
    text = f"{machine}; {options.measure}, %\n\n{report(outcomes, options.measure)}"
    (options.out / "report.md").write_text(text, encoding="utf-8")
    draw(outcomes, options.out / "accuracy.png", options.measure)
    print(text)
    print(f"{len(methods_of(outcomes))} methods; files in {options.out}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, help="folder of the sets")
    add("--out", type=Path, default=Path("benchmarks/out/accuracy"), help="files of outcomes, tables and the picture")
    add("--report", action="store_true", help="compute nothing: tables and the picture of the outcomes in --out")
    add("--measure", choices=list(MEASURES), default="accuracy", help="what the tables and the picture show")
    add("--suites", nargs="+", choices=list(SUITES), default=["fullway", "fiveway"])
    add("--tasks", nargs="+", help="of these suites; all of them where it is missing")
    add("--shots", nargs="+", metavar="SUITE=K,K", default=[], help="examples per class, where not the suite's own")
    add("--episodes", type=int, help="most episodes of each task and number of shots")
    add("--max-queries", type=int, help="most queries of a task, drawn by the seed; all where it is missing")
    add("--seed", type=int, default=0)
    add("--methods", nargs="+", choices=[*_FROZEN, *_OURS, *PEERS], help="by default all but peers without a Python")
    add("--checkpoint", default=DEFAULT_CHECKPOINT, help="a folder, or the name of a shipped one")
    add(
        "--label", default="handful", help="names the column of the checkpoint, where several are compared in one --out"
    )
    for peer in PEERS:
        add(f"--{peer}-python", metavar="PATH", help=f"Python of an environment with peers/requirements-{peer}.txt")
    add("--setfit-max-pairs", type=int, metavar="N", help="SetFit leaves out episodes of more pairs an epoch")
    add("--setfit-iterations", type=int, metavar="N", help="SetFit makes N pairs of either kind for each example")
    return parser


def _episodes(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[Episode]:
    shots = {}
    for text in options.shots:
        suite, _, numbers = text.partition("=")
        if suite not in SUITES or not all(number.isdecimal() and int(number) for number in numbers.split(",")):
            parser.error(f"--shots: {text!r} is not SUITE=K,K")
        shots[suite] = tuple(sorted({int(number) for number in numbers.split(",")}))
    episodes: list[Episode] = []
    for name in options.suites:
        choice = Choice(
            tasks=tuple(options.tasks) if options.tasks else None,
            shots=shots.get(name),
            episodes=options.episodes,
            max_queries=options.max_queries,
            seed=options.seed,
        )
        try:
            episodes += SUITES[name].build(options.data, choice)
        except FileNotFoundError as error:
            parser.error(f"the suite {name} needs {error.filename}")
        except InvalidTasks as error:
            parser.error(str(error))
    unknown = sorted(set(options.tasks or ()) - {episode.task for episode in episodes})
    if unknown:
        parser.error(f"--tasks: the suites have no task {unknown[0]!r}")
    return episodes


def _run_all(parser: argparse.ArgumentParser, options: argparse.Namespace, episodes: Sequence[Episode]) -> None:
    pythons = {peer: getattr(options, f"{peer}_python") for peer in PEERS}
    wanted = options.methods or [*_FROZEN, *_OURS, *(peer for peer in PEERS if pythons[peer])]
    for peer in PEERS:
        if peer in wanted and not pythons[peer]:
            parser.error(f"{peer} runs in an environment of its own: give --{peer}-python")
    for method in _frozen(wanted):
        run(method, episodes, _file(options.out, method))
    for name in (name for name in _OURS if name in wanted):
        # A server each, so that none has read the texts before
        with handful_server(options.checkpoint) as client:
            method = Handful(client, options.label, use_label_text=name == "handful")
            run(method, episodes, _file(options.out, method))
    given = {"--max-pairs": options.setfit_max_pairs, "--iterations": options.setfit_iterations}
    of_setfit = [word for name, number in given.items() if number for word in (name, str(number))]
    for peer in (peer for peer in PEERS if peer in wanted):
        run_peer(peer, pythons[peer], episodes, options.out, *(of_setfit if peer == "setfit" else ()))


def _frozen(wanted: Sequence[str]) -> Iterator[Method]:
    if not any(name in wanted for name in _FROZEN):
        return
    features = FrozenFeatures()
    if "regression" in wanted:
        yield FrozenRegression(features)
    for learner in ("ridge", "prototypical"):
        if learner in wanted:
            yield FrozenLearner(features, learner)


def _file(folder: Path, method: Method) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in method.name)
    return folder / f"{name}.jsonl"


if __name__ == "__main__":
    main()
