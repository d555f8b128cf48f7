"""Every learner meta-trained for the same time on the same tasks, and compared with itself untrained.

python -m benchmarks.learners --data FOLDER --minutes 10 --out FOLDER

FOLDER of data has train/ and valid/ (and unlabelled/ for the run on plain text alone). A run that is there already is
not made again, so the comparison can be stopped and gone on with.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch

from metalearn import adapting
from metalearn.body import MlpBody
from metalearn.encoder.batches import batch_tokens, plan_batches
from metalearn.encoder.encoder import Encoder
from metalearn.errors import InvalidEpisode
from metalearn.evaluation.evaluate import score
from metalearn.evaluation.intervals import Difference, paired_difference
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.support_plan import prepare_episode, prepare_episode_support
from metalearn.tasks.episode import usable_classes
from metalearn.tasks.labelled import read_tasks
from metalearn.tasks.plan import EpisodePlan
from metalearn.tasks.task import Task
from metalearn.types import Adapter, Episode, FastWeights, LabelledTexts
from metatrain.options import TrainingOptions
from metatrain.run_model import model_spec
from model_store.checkpoint import Checkpoint, read_manifest, write_checkpoint
from model_store.codec import AdapterKey, encode_adapter
from model_store.training_run import TrainingRun

SHARED = [
    *("--tuned-layers", "3", "--meta-batch", "4", "--learning-rate", "1e-4"),
    *("--schedule", "constant", "--warmup-steps", "10", "--steps", "100000"),
]
"""Alike for all: half of the encoder tuned, 4 episodes per outer step, no schedule, since time ends the run."""

ONE_LAYER = [
    *("--placement", "full", "--fast-layers", "1", "--tuned-layers", "1"),
    *("--inner-steps", "3", "--body-rate", "0.02"),
]
"""Weights below the head are adapted, in one layer: each inner step runs forward and backward through it, so that a
second one would leave too few outer steps in the time."""

SMALL_STEPS = ["--update-rule", "minibatch_sgd", "--inner-steps", "8", "--head-rate", "0.5", "--body-rate", "0.1"]
"""On mini-batches, whose gradients point many ways: whole-batch rates leave the head far from where it should be."""

LEARNERS: dict[str, list[str]] = {
    "protomaml": ["--learner", "protomaml"],
    "maml": ["--learner", "maml", *ONE_LAYER],
    "fomaml": ["--learner", "fomaml", *ONE_LAYER],
    # Whole-batch steps taught it nothing that holds (docs/log.md)
    "reptile": ["--learner", "reptile", *ONE_LAYER, *SMALL_STEPS, "--learning-rate", "2e-4"],
    "anil": ["--learner", "anil"],
    "metasgd": ["--learner", "metasgd"],
    "prototypical": ["--learner", "prototypical"],
    "prototypical_cosine": ["--learner", "prototypical_cosine"],
    "matching": ["--learner", "matching"],
    "ridge": ["--learner", "ridge"],
    "memory": ["--learner", "memory"],
    "attention": ["--learner", "attention", "--learner-learning-rate", "3e-3"],
}
VARIANTS: dict[str, list[str]] = {
    "protomaml, modulations": ["--learner", "protomaml", "--placement", "modulations", "--fast-layers", "2"],
    "protomaml, low rank": ["--learner", "protomaml", "--placement", "low_rank", "--fast-layers", "2"],
    "protomaml, rate per step": ["--learner", "protomaml", "--rates", "per_layer_per_step"],
    "prototypical, contrastive": ["--learner", "prototypical", "--contrastive-weight", "0.1"],
}
PLAIN_TEXT = {
    "protomaml, plain text alone": ["--learner", "protomaml"],
    "protomaml, masked words alone": ["--learner", "protomaml", "--unlabelled-classes", "words"],
}


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    untrained: float
    trained: float
    over_episodes: Difference
    over_tasks: Difference
    outer_steps: int
    adapt_ms: float
    adapter_bytes: int
    adapt_peak_mib: float


def train(name: str, arguments: Sequence[str], sources: Sequence[str], folder: Path, minutes: float) -> Path:
    """Runs ``handful metatrain``, or finds that it has been run."""
    out = folder / name.replace(", ", "-").replace(" ", "-")
    if (out / "manifest.json").exists():
        return out
    command = [sys.executable, "-m", "handful", "metatrain", *sources, "--out", str(out), "--minutes", str(minutes)]
    print(f"training {name} for {minutes:g} minutes", file=sys.stderr, flush=True)
    threads = str(torch.get_num_threads())
    subprocess.run(
        [*command, *SHARED, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": threads},
    )
    return out


def untrained(trained: Path) -> Path:
    """The checkpoint that the same run would have left before its first step."""
    out = trained.with_name(f"{trained.name}-untrained")
    if not (out / "manifest.json").exists():
        options = TrainingOptions(**TrainingRun(trained).config())
        manifest = read_manifest(trained)
        write_checkpoint(
            out,
            name=out.name,
            spec=model_spec(options),
            hyperparameters=manifest.hyperparameters,
            encoder_source=options.encoder,
            encoder_licence=options.encoder_licence,
            stages=read_manifest(trained).encoder.stages,
            card=f"# {out.name}\n",
        )
    return out


def accuracies(folder: Path, episodes: Mapping[tuple[str, int], Episode]) -> dict[tuple[str, int], float]:
    """Accuracy of each validation episode, without label text; 0 where an adaptation failed."""
    checkpoint = Checkpoint(folder, torch.device("cpu"))
    model: MetaModel = checkpoint.model
    steps = checkpoint.manifest.hyperparameters.steps

    prepare: Callable[[Episode], PreparedEpisode] = partial(prepare_episode, model.body)  # type: ignore[arg-type]
    if checkpoint.manifest.spec.placement == "head":
        prepare = _on_features(checkpoint.encoder, episodes.values())
        model = replace(model, body=MlpBody((model.body.dim,)))  # without layers, its features are its inputs
    found = {}
    for key, episode in episodes.items():
        prepared = prepare(episode)
        (scores,) = score(model, checkpoint.slow_weights, [prepared], steps=steps)
        found[key] = scores.accuracy or 0.0
    return found


@torch.no_grad()
def _on_features(encoder: Encoder, episodes: Iterable[Episode]) -> Callable[[Episode], PreparedEpisode]:
    """Encodes every text once, however many of the episodes it is in."""
    parts = [part for episode in episodes for part in (episode.support, episode.query)]
    texts = list(dict.fromkeys(text for part in parts for text in part.inputs))
    tokenized = encoder.tokenize(texts)
    features = torch.empty(len(texts), encoder.dim)
    for batch in plan_batches([len(text.ids) for text in tokenized], batch_tokens(encoder.device)):
        features[batch] = encoder.encode_batch([tokenized[i] for i in batch])
    place = {text: row for row, text in enumerate(texts)}

    def prepared(part: LabelledTexts, n_classes: int) -> PreparedSet:
        targets = torch.tensor(part.targets)
        return PreparedSet(
            features[[place[text] for text in part.inputs]], targets, torch.ones(len(targets)), n_classes
        )

    return lambda episode: PreparedEpisode(
        prepared(episode.support, episode.n_classes), prepared(episode.query, episode.n_classes), episode.task
    )


def draw_episodes(tasks: Sequence[Task], *, queries: int, episodes: int) -> dict[tuple[str, int], Episode]:
    """Episodes by task and index, of at most 5 ways, so that tasks of few classes count, too."""
    drawn: dict[tuple[str, int], Episode] = {}
    for task in tasks:
        if not task.rules.one_class_each:
            continue
        plan = EpisodePlan(ways=min(5, len(usable_classes(task, 6))), shots=(5,), queries=queries, episodes=episodes)
        with suppress(InvalidEpisode):  # it has fewer texts than an episode needs
            drawn |= {(task.name, index): plan.episode(task, 5, index) for index in range(episodes)}
    return drawn


def compared(
    after: Mapping[tuple[str, int], float], before: Mapping[tuple[str, int], float]
) -> tuple[Difference, Difference]:
    """The gain of training: over all episodes, and over the tasks' means, which counts tasks as the sample."""
    over_episodes = paired_difference([after[key] for key in before], list(before.values()))
    return over_episodes, paired_difference(list(task_means(after).values()), list(task_means(before).values()))


def task_means(accuracy: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """Mean over the episodes of each task."""
    found: dict[str, list[float]] = {}
    for (task, _), value in accuracy.items():
        found.setdefault(task, []).append(value)
    return {task: fmean(values) for task, values in found.items()}


def measure_adaptation(folder: Path, task: Task) -> tuple[float, int, float]:
    """The cost of a 5-way 5-shot adaptation: milliseconds, bytes of the stored adapter, MiB beyond what was there."""
    checkpoint = Checkpoint(folder, torch.device("cpu"))
    model: MetaModel = checkpoint.model
    episode = EpisodePlan(ways=5, shots=(5,), queries=1, episodes=1).episode(task, 5, 0)
    steps = checkpoint.manifest.hyperparameters.steps

    @torch.no_grad()
    def adapt() -> FastWeights:
        support = prepare_episode_support(model.body, episode)  # type: ignore[arg-type]
        return adapting.adapt(model, checkpoint.slow_weights, support, AdaptOptions(steps)).fast_weights

    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is counted anew
    before = _status("VmRSS")
    fast = adapt()
    peak = _status("VmHWM") - before
    times = []
    for _ in range(9):
        began = time.perf_counter()
        adapt()
        times.append(time.perf_counter() - began)
    adapter = Adapter(fast, episode.labels, checkpoint.fingerprint, model.learner.name)
    size = len(encode_adapter(adapter, AdapterKey("tenant", "task", 1, "0" * 32)))
    return 1000 * median(times), size, peak / 1024


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def table(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| learner | untrained | trained | difference, episodes | difference, tasks "
        "| outer steps | adapt ms | bytes | MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: -row.trained):
        differences = " | ".join(_told(difference) for difference in (row.over_episodes, row.over_tasks))
        lines.append(
            f"| {row.name} | {100 * row.untrained:.1f} | {100 * row.trained:.1f} | {differences} | {row.outer_steps} | "
            f"{row.adapt_ms:.0f} | {row.adapter_bytes:,} | {row.adapt_peak_mib:.0f} |"
        )
    return "\n".join(lines)


def _told(difference: Difference) -> str:
    low, high = difference.interval or (float("nan"), float("nan"))
    return f"{100 * difference.mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


def main() -> None:
    """Trains what is missing, evaluates everything, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, each")
    parser.add_argument("--episodes", type=int, default=10, help="per validation task")
    parser.add_argument("--queries", type=int, default=8, help="per class of an episode")
    parser.add_argument("--only", nargs="+", choices=[*LEARNERS, *VARIANTS, *PLAIN_TEXT])
    parser.add_argument("--threads", type=int, default=2, help="of training and measuring")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    labelled = ["--tasks", str(arguments.data / "train")]
    texts = [
        option for path in sorted((arguments.data / "unlabelled").glob("*.*")) for option in ("--unlabelled", str(path))
    ]
    runs = {name: (options, labelled) for name, options in {**LEARNERS, **VARIANTS}.items()}
    runs |= {name: (options, texts) for name, options in PLAIN_TEXT.items()}
    wanted = arguments.only or [*LEARNERS, *PLAIN_TEXT]
    tasks = read_tasks([arguments.data / "valid"]).tasks
    episodes = draw_episodes(tasks, queries=arguments.queries, episodes=arguments.episodes)
    names = {task for task, _ in episodes}
    five_way = next(task for task in tasks if task.name in names and len(usable_classes(task, 6)) >= 5)
    rows = []
    for name in wanted:
        options, sources = runs[name]
        trained = train(name, options, sources, arguments.out, arguments.minutes)
        after, before = accuracies(trained, episodes), accuracies(untrained(trained), episodes)
        over_episodes, over_tasks = compared(after, before)
        adapt_ms, size, peak = measure_adaptation(trained, five_way)
        state = TrainingRun(trained).load()
        rows.append(
            Row(
                name=name,
                untrained=fmean(task_means(before).values()),
                trained=fmean(task_means(after).values()),
                over_episodes=over_episodes,
                over_tasks=over_tasks,
                outer_steps=0 if state is None else int(state.numbers["step"]),
                adapt_ms=adapt_ms,
                adapter_bytes=size,
                adapt_peak_mib=peak,
            )
        )
        print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    )
    print(
        f"{len(names)} validation tasks, {arguments.episodes} episodes of {arguments.queries} queries a class "
        "each, 5-way (or as many as the task has) 5-shot, without label text\n"
    )
    print(table(rows))
    if arguments.json:
        content = [
            {**vars(row), "over_episodes": row.over_episodes._asdict(), "over_tasks": row.over_tasks._asdict()}
            for row in rows
        ]
        arguments.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
