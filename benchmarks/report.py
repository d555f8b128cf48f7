"""Evidence on tiny data: how near a report's estimates are to the truth, and which flipped labels it finds.

python -m benchmarks.report --data FOLDER --part accuracy [--episodes 200] [--keep FILE]
python -m benchmarks.report --data FOLDER --part suspects --task banking77.train [--episodes 3] [--keep FILE]
python -m benchmarks.report --data FOLDER --part time --task banking77.train

``accuracy`` compares the accuracy that a report estimates with that on the texts that were not drawn, over episodes of
all classification tasks in a folder, and what twice the examples bring with what they were expected to bring.
``suspects`` flips 10 % of the labels of 8-shot support sets of all classes at random, and counts which of the flipped
and which of the other examples are suspects. ``time`` reports on 5 classes of 25 examples, through HTTP in this
process. ``--keep`` keeps features between runs. Features are those of the runtime that serves.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import SecretStr
from torch import Tensor

from benchmarks.episodes import read_rows
from metalearn.adapting import adapt
from metalearn.body import MlpBody
from metalearn.encoder.batches import plan_batches
from metalearn.evidence.estimates import accuracy_on_new_texts, after_doubling
from metalearn.evidence.findings import answers_of, suspects
from metalearn.evidence.left_out import LeftOut, answer_left_out
from metalearn.label_text import words_of_labels
from metalearn.leave_one_out import leave_one_out_accuracy
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.prepared import LabelTexts, PreparedSet
from metalearn.tasks.labelled import read_tasks
from metalearn.tasks.task import Task
from metalearn.types import TextInput
from model_store.learner_models import Models
from service.app import load_models
from service.local import local_client
from service.settings import Settings

_MOST_CLASSES, _MOST_ROWS, _MOST_CHARS = 20, 600, 250
_SHOTS, _WAYS, _FEWEST_QUERIES = (2, 3, 5, 8, 10, 15, 25), (2, 3, 5, 10, 20), 8
_FLIPPED, _FLIPPED_SHOTS = 0.1, 8


@dataclass(frozen=True)
class Encoded:
    """Rows of a task as features.

    Attributes:
        features: Features of the texts.
        rows_of_class: Their indices by class.
        texts: Class -> features of the words of its name.
    """

    features: Tensor
    rows_of_class: list[list[int]]
    texts: dict[int, Tensor]

    def support(self, rows: Sequence[Sequence[int]], classes: Sequence[int], *, texts: bool) -> PreparedSet:
        """A support set of rows of each class, with label texts if wanted."""
        targets = torch.tensor([i for i, members in enumerate(rows) for _ in members])
        features = self.features[[row for members in rows for row in members]]
        named = [i for i, kind in enumerate(classes) if kind in self.texts] if texts else []
        words = torch.stack([self.texts[classes[i]] for i in named]) if named else None
        label_texts = None if words is None else LabelTexts(words, torch.tensor(named))
        return PreparedSet(features, targets, torch.ones(len(targets)), len(classes), label_texts=label_texts)


@dataclass(frozen=True)
class Head:
    """The default checkpoint's model on features."""

    models: Models
    model: MetaModel
    steps: int

    @classmethod
    def load(cls) -> "Head":
        """The model as it is served."""
        models = load_models(Settings())
        own = models.of().model
        model = replace(own, body=MlpBody((own.body.dim,)))
        return cls(models, model, models.checkpoint.manifest.hyperparameters.steps)

    def encode(self, inputs: Sequence[TextInput]) -> Tensor:
        """Features of texts, of which the beginning counts."""
        encoder = self.models.checkpoint.encoder
        cut = [TextInput(t.text[:_MOST_CHARS], t.text_pair and t.text_pair[:_MOST_CHARS]) for t in inputs]
        texts = encoder.tokenize(cut)
        features = torch.empty(len(texts), encoder.dim)
        for batch in plan_batches([len(text.ids) for text in texts], 1024):
            features[batch] = self.models.runtime([texts[i] for i in batch])
        return features

    def encoded(self, rows: Sequence[tuple[TextInput, str]], *, pairs: bool) -> Encoded:
        """A task of (text, label) rows as features."""
        labels = sorted({label for _, label in rows})
        words = words_of_labels(labels, pairs=pairs)
        of_class = [[i for i, (_, other) in enumerate(rows) if other == label] for label in labels]
        texts = dict(zip(words, self.encode(list(words.values())), strict=True)) if words else {}
        return Encoded(self.encode([text for text, _ in rows]), of_class, texts)

    def left_out(self, support: PreparedSet) -> LeftOut:
        """The answers to the examples without themselves."""
        slow, texts = self.models.of().slow_weights, range(len(support.targets))
        slices = answer_left_out(self.model, slow, support, texts, AdaptOptions(), default_steps=self.steps)
        while True:
            try:
                next(slices)
            except StopIteration as done:
                found: LeftOut = done.value
                return found

    def accuracy(self, support: PreparedSet, task: Encoded, queries: Sequence[Sequence[int]]) -> float:
        """The accuracy on queries of each class, as a mean over the classes."""
        own = adapt(self.model, self.models.of().slow_weights, support, AdaptOptions(), default_steps=self.steps)
        best = [
            self.model.learner.logits(own.fast_weights, task.features[list(rows)]).argmax(dim=1) for rows in queries
        ]
        return statistics.mean(float((found == kind).float().mean()) for kind, found in enumerate(best))

    def class_means(self, support: PreparedSet) -> float:
        """The estimate that adapt answers."""
        start = self.model.start(self.models.of().slow_weights, support)
        plain = replace(start.support, features=self.model.inputs_of_all(support))
        return leave_one_out_accuracy(plain, start.n_examples) or 0.0


@dataclass(frozen=True)
class Estimated:
    """An episode of the part ``accuracy``."""

    shots: int
    truth: float
    estimate: float
    interval: tuple[float, float]
    class_means: float
    expected_gain: float
    gain: float | None


def estimate(head: Head, task: Encoded, draw: random.Random) -> Estimated:
    """Draws a support set, and compares estimates with the accuracy on all other rows."""
    shots = draw.choice(_SHOTS)
    while sum(len(rows) >= shots + _FEWEST_QUERIES for rows in task.rows_of_class) < 2:
        shots = max(2, shots // 2)
    usable = [kind for kind, rows in enumerate(task.rows_of_class) if len(rows) >= shots + _FEWEST_QUERIES]
    classes = sorted(draw.sample(usable, min(len(usable), draw.choice(_WAYS))))
    rows = [draw.sample(task.rows_of_class[kind], len(task.rows_of_class[kind])) for kind in classes]
    texts = draw.random() < 0.5
    support = task.support([each[:shots] for each in rows], classes, texts=texts)
    truth = head.accuracy(support, task, [each[shots:] for each in rows])
    left_out = head.left_out(support)
    answers = answers_of(support.targets.tolist(), left_out.asked.tolist(), left_out.probabilities.tolist())
    found = accuracy_on_new_texts(sum(answer.right for answer in answers), len(answers), shots)
    twice, gain = after_doubling(found.value, left_out.curve), None
    if min(map(len, rows)) >= 2 * shots + _FEWEST_QUERIES:
        queries = [each[2 * shots :] for each in rows]
        more = task.support([each[: 2 * shots] for each in rows], classes, texts=texts)
        gain = head.accuracy(more, task, queries) - head.accuracy(support, task, queries)
    expected = 0.0 if twice is None else twice.value - found.value
    return Estimated(shots, truth, found.value, found.interval, head.class_means(support), expected, gain)


def accuracy(head: Head, tasks: Sequence[Encoded], episodes: int, seed: int) -> None:
    """Prints how far estimates are from the truth, and how often the interval holds it."""
    found = [estimate(head, tasks[i % len(tasks)], random.Random(f"{seed}:{i}")) for i in range(episodes)]
    print("| shots | episodes | accuracy | bias | mean absolute error | interval holds | class means: bias | error |")
    print("|---|---|---|---|---|---|---|---|")
    for name, shots in (
        ("2 and 3", (2, 3)),
        ("4 to 9", range(4, 10)),
        ("10 and more", range(10, 99)),
        ("all", range(99)),
    ):
        some = [each for each in found if each.shots in shots]
        if not some:
            continue
        off = [100 * (each.estimate - each.truth) for each in some]
        by_means = [100 * (each.class_means - each.truth) for each in some]
        held = statistics.mean(each.interval[0] <= each.truth <= each.interval[1] for each in some)
        print(
            f"| {name} | {len(some)} | {100 * statistics.mean(each.truth for each in some):.1f} "
            f"| {statistics.mean(off):+.1f} | {statistics.mean(map(abs, off)):.1f} | {100 * held:.0f} % "
            f"| {statistics.mean(by_means):+.1f} | {statistics.mean(map(abs, by_means)):.1f} |"
        )
    widths = [100 * (each.interval[1] - each.interval[0]) for each in found]
    print(f"\nThe interval is {statistics.mean(widths):.0f} points wide on average.")
    gains = [(100 * each.expected_gain, 100 * each.gain) for each in found if each.gain is not None]
    if gains:
        expected, gain = (statistics.mean(each) for each in zip(*gains, strict=True))
        error = statistics.mean(abs(one - other) for one, other in gains)
        print(
            f"Twice the examples bring {gain:.1f} points, expected are {expected:.1f}; {error:.1f} off in {len(gains)}."
        )


def flip(head: Head, task: Encoded, draw: random.Random, *, texts: bool) -> tuple[float, float]:
    """The shares of flipped and of other examples that are suspects."""
    classes = range(len(task.rows_of_class))
    rows = [draw.sample(members, min(len(members), _FLIPPED_SHOTS)) for members in task.rows_of_class]
    support = task.support(rows, classes, texts=texts)
    targets = support.targets.tolist()
    flipped = set(draw.sample(range(len(targets)), round(_FLIPPED * len(targets))))
    for i in flipped:
        targets[i] = draw.choice([kind for kind in classes if kind != targets[i]])
    left_out = head.left_out(replace(support, targets=torch.tensor(targets)))
    named = {a.example for a in suspects(answers_of(targets, left_out.asked.tolist(), left_out.probabilities.tolist()))}
    return len(named & flipped) / len(flipped), len(named - flipped) / (len(targets) - len(flipped))


def find_flipped(head: Head, task: Encoded, episodes: int, seed: int) -> None:
    """Prints the shares of flipped and of other examples that are suspects."""
    print("| label texts | flipped labels that are suspects | others that are |\n|---|---|---|")
    for texts in (True, False):
        shares = [flip(head, task, random.Random(f"flip:{seed}:{i}"), texts=texts) for i in range(episodes)]
        flipped, others = (100 * statistics.mean(share) for share in zip(*shares, strict=True))
        print(f"| {'yes' if texts else 'no'} | {flipped:.1f} % | {others:.1f} % |")


def measure_time(path: Path, seed: int, repeats: int = 7) -> None:
    """Prints how long a report on 5 classes of 25 examples takes, in wall time and in time of all cores."""
    rows, draw = read_rows(path), random.Random(seed)
    labels = draw.sample(sorted({row.label for row in rows}), 5)
    support = [(row.text, label) for label in labels for row in draw.sample([r for r in rows if r.label == label], 25)]
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(store=SecretStr(f"sqlite:{folder}/handful.db"), log_level="error")
        with local_client(settings) as client:
            client.adapt("time", support)
            client.report("time")
            spent = []
            for _ in range(repeats):
                began, cpu_began = time.perf_counter(), time.process_time()
                client.report("time")
                spent.append((time.perf_counter() - began, time.process_time() - cpu_began))
    wall, cpu = (sorted(1000 * seconds for seconds in each)[repeats // 2] for each in zip(*spent, strict=True))
    print(f"A report on 5 x 25 examples: median {wall:.0f} ms, {cpu:.0f} ms of processor time.")


def rows_of(task: Task) -> list[tuple[TextInput, str]]:
    """Some rows of some classes of a task, always the same."""
    draw = random.Random(task.name)
    classes = [kind for kind, rows in enumerate(task.rows_of_class) if len(rows) >= 2 + _FEWEST_QUERIES]
    classes = draw.sample(classes, min(_MOST_CLASSES, len(classes)))
    most = _MOST_ROWS // max(1, len(classes))
    rows = [(kind, row) for kind in classes for row in task.rows_of_class[kind]]
    chosen = [
        (kind, row)
        for each in classes
        for kind, row in draw.sample(
            [pair for pair in rows if pair[0] == each], min(most, len(task.rows_of_class[each]))
        )
    ]
    return [(task.inputs[row], task.labels[kind]) for kind, row in chosen]


def encoded_tasks(head: Head, data: Path, names: Sequence[str], keep: Path | None) -> Iterator[Encoded]:
    """Classification tasks of a folder as features: those of the names, or all."""
    kept: dict[str, Encoded] = torch.load(keep, weights_only=False) if keep is not None and keep.exists() else {}
    for task in read_tasks([data]).tasks:
        if not task.rules.one_class_each or (names and task.name not in names):
            continue
        if task.name not in kept and len({label for _, label in rows_of(task)}) > 1:
            kept[task.name] = head.encoded(rows_of(task), pairs=task.inputs[0].text_pair is not None)
            if keep is not None:
                torch.save(kept, keep)
        if task.name in kept:
            yield kept[task.name]


def main() -> None:
    """Runs one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with files of tasks")
    parser.add_argument("--part", choices=("accuracy", "suspects", "time"), required=True)
    parser.add_argument(
        "--task", nargs="*", default=[], help="tasks by name; of the other parts one file, without .jsonl"
    )
    parser.add_argument("--episodes", type=int, help="200, or 3 for suspects")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="file that keeps features between runs")
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    if asked.part == "accuracy":
        head = Head.load()
        accuracy(head, list(encoded_tasks(head, asked.data, asked.task, asked.keep)), asked.episodes or 200, asked.seed)
    elif asked.part == "time":
        measure_time(asked.data / f"{asked.task[0]}.jsonl", asked.seed)
    else:
        head, rows = Head.load(), read_rows(asked.data / f"{asked.task[0]}.jsonl")
        draw, some = random.Random(asked.seed), []
        for label in sorted({row.label for row in rows}):
            of_label = [row for row in rows if row.label == label]
            # Each episode draws half of them
            some += draw.sample(of_label, min(len(of_label), 2 * _FLIPPED_SHOTS))
        pairs = some[0].text_pair is not None
        task = head.encoded([(TextInput(row.text, row.text_pair), row.label) for row in some], pairs=pairs)
        find_flipped(head, task, asked.episodes or 3, asked.seed)


if __name__ == "__main__":
    main()
