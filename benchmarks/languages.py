"""Accuracy in many languages: support sets and queries in one language, or support in English and queries in another.

python -m benchmarks.languages --data FOLDER --checkpoint NAME [--checkpoint …] [--stock FOLDER] [--out FILE]
python -m benchmarks.languages --data FOLDER --checkpoint NAME --across [--out FILE]

FOLDER has valid/ and valid-multilingual/; with --across also train/ and train-multilingual/, whose families (sib200,
xsid, chatbot, askubuntu) give the languages. All classes of a task, up to 20; the features are those of the runtime
that serves. Beside a checkpoint stands scikit-learn's logistic regression (C=30) on features of unit length, from which
the mean of the support set is taken off, of the checkpoint --stock: the encoder before any meta-training.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from metalearn.adapting import adapt
from metalearn.encoder.encoder import FeatureRuntime, NormsOfRows
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.errors import InvalidEpisode
from metalearn.evaluation.figures import expected_calibration_error
from metalearn.options import AdaptOptions
from metalearn.support_plan import prepare_episode_support
from metalearn.tasks.episode import sample_episode, usable_classes
from metalearn.tasks.families import families, is_english
from metalearn.tasks.labelled import read_tasks
from metalearn.tasks.task import Task
from metalearn.types import Episode, TextInput
from model_store.checkpoint import Checkpoint, resolve_checkpoint
from model_store.learner_models import Models
from service.engine.runtime import start_runtime

PARALLEL = ("sib200", "xsid")
"""Families of parallel texts; their brothers in other languages are in train-multilingual/."""

ACROSS = (*PARALLEL, "chatbot_intent", "askubuntu_intent")
"""Families that have a member in English."""

Answer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Features of queries -> confidences, classes."""

_MOST_CLASSES = 20
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Row:
    """The accuracy of a method in one episode.

    Attributes:
        method: The checkpoint's name, and what was done with it.
        task: The task of the support set.
        queries: The task of the queries.
        draw: Number of the episode.
        confidences: The probability of the answer to each query.
        right: Whether it was the right one.
    """

    method: str
    task: str
    queries: str
    draw: int
    confidences: list[float]
    right: list[bool]

    @property
    def accuracy(self) -> float:
        """Share of the queries that were answered right."""
        return sum(self.right) / len(self.right)


class Remembering:
    """A runtime that computes each text once."""

    def __init__(self, runtime: FeatureRuntime) -> None:
        self._runtime = runtime
        self.name, self.norms = runtime.name, runtime.norms
        self._known: dict[tuple[tuple[int, ...], int | None], Tensor] = {}

    def __call__(self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None) -> Tensor:
        keys = [(tuple(text.ids), text.second_from) for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        rest = sorted(missing.items(), key=lambda item: len(item[1].ids))
        for begin in range(0, len(rest), _AT_ONCE):
            chunk = rest[begin : begin + _AT_ONCE]
            rows = self._runtime([text for _, text in chunk])
            self._known |= {key: row.clone() for (key, _), row in zip(chunk, rows, strict=True)}
        return torch.stack([self._known[key] for key in keys])

    def token_states(self, texts: Sequence[TokenizedText]) -> Tensor:
        return self._runtime.token_states(texts)


class Judge:
    """A checkpoint, or logistic regression on its features, judged by episodes."""

    def __init__(self, folder: Path, *, regression: bool) -> None:
        self._checkpoint = Checkpoint(folder, torch.device("cpu"))
        runtime = Remembering(start_runtime(self._checkpoint.encoder, "auto", "auto"))
        self._loaded = Models(self._checkpoint, runtime).of()
        self._regression = regression
        self.name = self._checkpoint.manifest.name

    def rows(
        self, episode: Episode, others: Sequence[tuple[str, Sequence[TextInput], Sequence[int]]], draw: int
    ) -> Iterator[Row]:
        """The accuracy on each of several query sets, of which one adaptation answers all."""
        for method, answer in self._answers(episode):
            for task, texts, targets in others:
                confidences, classes = answer(self._features(texts))
                right = classes == torch.tensor(targets)
                yield Row(method, episode.task, task, draw, confidences.tolist(), right.tolist())

    def _answers(self, episode: Episode) -> Iterator[tuple[str, Answer]]:
        loaded = self._loaded
        if self._regression:
            yield f"{self.name}, logistic regression", self._regressed(episode)
            return
        for use_label_text in (False, True):
            support = prepare_episode_support(loaded.body, episode, use_label_text=use_label_text)
            options = AdaptOptions(self._checkpoint.manifest.hyperparameters.steps)
            fast = adapt(loaded.model, loaded.slow_weights, support, options).fast_weights
            method = f"{self.name}, {'with' if use_label_text else 'no'} label text"
            yield method, lambda rows, fast=fast: loaded.model.learner.logits(fast, rows).softmax(dim=1).max(dim=1)

    def _regressed(self, episode: Episode) -> Answer:
        from sklearn.linear_model import LogisticRegression

        examples = self._features(episode.support.inputs)
        centre = examples.mean(dim=0)

        def centred(rows: Tensor) -> Tensor:
            return torch.nn.functional.normalize(rows - centre, dim=1)

        head = LogisticRegression(C=30, max_iter=1000).fit(centred(examples).numpy(), episode.support.targets)
        return lambda rows: torch.from_numpy(head.predict_proba(centred(rows).numpy())).max(dim=1)

    def _features(self, texts: Sequence[TextInput]) -> Tensor:
        body = self._loaded.body
        return body.features({}, body.prepare(self._checkpoint.encoder.tokenize(texts)))


def drawn(task: Task, shots: int, queries: int, draw: int) -> Episode | None:
    """The episode of a task with all its classes; None where it has too few texts."""
    ways = min(_MOST_CLASSES, len(usable_classes(task, shots + 1)))
    per_class = max(2, queries // max(1, ways))
    try:
        generator = random.Random(f"{task.name}:{shots}:{draw}")
        return sample_episode(task, ways=ways, shots=shots, queries=per_class, draw=generator)
    except InvalidEpisode:
        return None


def within(judges: Sequence[Judge], data: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Support and queries of one task."""
    for folder in ("valid-multilingual", "valid"):
        for task in read_tasks([data / folder]).tasks:
            for draw in range(options.draws if task.rules.one_class_each else 0):
                episode = drawn(task, options.shots, options.queries, draw)
                if episode is not None:
                    query = episode.query
                    asked = [(f"{folder}/{task.name}", query.inputs, [int(t) for t in query.targets])]
                    for judge in judges:
                        yield from judge.rows(episode, asked, draw)


def across(judges: Sequence[Judge], data: Path, options: argparse.Namespace) -> Iterator[Row]:
    """Support in English, and in the language itself; queries in each language of a parallel family."""
    folders = [data / name for name in ("train", "train-multilingual", "valid-multilingual")]
    found = [task for task in read_tasks(folders).tasks if task.name.startswith(ACROSS)]
    for family in {members for members in families(found).values() if len(members) > 1}:
        english = next(filter(is_english, family), None)
        for task in family:
            shared = sorted(_usable(task, options.shots) & _usable(english, options.shots)) if english else []
            for draw in range(options.draws if english and len(shared) > 1 and task is not english else 0):
                own = drawn(_only(task, shared), options.shots, options.queries, draw)
                from_english = drawn(_only(english, shared), options.shots, 2 * len(shared), draw)
                if own is None or from_english is None or set(own.labels) != set(from_english.labels):
                    continue
                for judge in judges:
                    for support in (own, from_english):
                        targets = [support.labels.index(own.labels[int(t)]) for t in own.query.targets]
                        yield from judge.rows(support, [(task.name, own.query.inputs, targets)], draw)


def _usable(task: Task, shots: int) -> set[str]:
    """The labels with enough texts for examples and two queries."""
    return {task.labels[place] for place in usable_classes(task, shots + 2)}


def _only(task: Task, labels: Sequence[str]) -> Task:
    """The task with some of its classes alone."""
    kept = {task.labels.index(label): i for i, label in enumerate(labels)}
    rows = [row for row, target in enumerate(task.targets) if target in kept]
    inputs = tuple(task.inputs[row] for row in rows)
    targets = tuple(kept[task.targets[row]] for row in rows)
    return Task(task.name, task.objective, tuple(labels), inputs, targets, task.group, language=task.language)


def table(rows: Iterable[Row]) -> str:
    """Mean accuracy in percent over draws, by queries and method; where support is in another task, that is named."""
    cells: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        method = row.method if row.queries.endswith(row.task) else f"{row.method}, support {row.task}"
        cells.setdefault(row.queries, {}).setdefault(method, []).append(100 * row.accuracy)
    methods = sorted({method for found in cells.values() for method in found})
    lines = [f"| queries | {' | '.join(methods)} |", f"|---|{'---|' * len(methods)}"]
    groups = {
        "mean": list(cells),
        "mean without parallel families": [n for n in cells if not n.rpartition("/")[2].startswith(PARALLEL)],
        "mean of valid-multilingual": [n for n in cells if n.startswith("valid-multilingual/")],
        "mean of valid": [n for n in cells if n.startswith("valid/")],
    }
    for name in [*cells, *(group for group, members in groups.items() if members)]:
        values = []
        for method in methods:
            members = [cells[n][method] for n in groups.get(name, [name]) if method in cells[n]]
            means = [sum(each) / len(each) for each in members]
            values.append(f"{sum(means) / len(means):.1f}" if means else "")
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n"


def calibration(rows: Iterable[Row]) -> str:
    """The expected calibration error over all queries of a folder, which are pooled."""
    pooled: dict[tuple[str, str], tuple[list[float], list[bool]]] = {}
    for row in rows:
        confidences, right = pooled.setdefault((row.queries.partition("/")[0], row.method), ([], []))
        confidences += row.confidences
        right += row.right
    lines = ["| folder | method | queries | calibration error |", f"|{'---|' * 4}"]
    for (folder, method), (confidences, right) in sorted(pooled.items()):
        error = 100 * expected_calibration_error(torch.tensor(confidences), torch.tensor(right))
        lines.append(f"| {folder} | {method} | {len(right)} | {error:.1f} |")
    return "\n".join(lines) + "\n"


def ratios(rows: Iterable[Row]) -> str:
    """The accuracy with support in English as a share of that with support in the language itself, by family."""
    cells: dict[tuple[str, str], dict[str, tuple[list[float], list[float]]]] = {}
    for row in rows:
        family = next(name for name in ACROSS if row.queries.startswith(name))
        by_language = cells.setdefault((family, row.method), {}).setdefault(row.queries, ([], []))
        by_language[row.task != row.queries].append(row.accuracy)
    lines = ["| family | method | languages | own support | support in English | ratio | lowest |", f"|{'---|' * 7}"]
    for (family, method), languages in sorted(cells.items()):
        own = {name: sum(found) / len(found) for name, (found, _) in languages.items()}
        english = {name: sum(found) / len(found) for name, (_, found) in languages.items()}
        share = {name: english[name] / own[name] for name in languages}
        lowest = min(share, key=share.__getitem__)
        means = [100 * sum(each.values()) / len(each) for each in (own, english, share)]
        cell = " | ".join(f"{mean:.1f}" for mean in means)
        lines.append(f"| {family} | {method} | {len(own)} | {cell} | {lowest} {100 * share[lowest]:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", action="append", required=True)
    parser.add_argument("--stock", help="checkpoint without meta-training, for logistic regression")
    parser.add_argument("--across", action="store_true", help="support in English, queries in other languages")
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--out", type=Path, help="file for a JSON line of each episode")
    options = parser.parse_args()
    judges = [Judge(resolve_checkpoint(name), regression=False) for name in options.checkpoint]
    if options.stock:
        judges.append(Judge(resolve_checkpoint(options.stock), regression=True))
    with torch.no_grad():
        rows = [*(across if options.across else within)(judges, options.data, options)]
    if options.out:
        options.out.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    print(table(rows))
    print(ratios(rows) if options.across else calibration(rows))


if __name__ == "__main__":
    main()
