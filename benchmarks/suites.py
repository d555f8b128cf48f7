"""The suites of the accuracy comparison: which tasks, and how their episodes are drawn.

An episode depends on the seed and on its own name alone: asking for fewer tasks, shots or episodes gives some of the
same ones.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks.episodes import Episode, Row, Rows, read_rows
from metalearn.tasks.labelled import read_tasks
from metalearn.tasks.task import Task

_INTENTS = ("banking77", "clinc150", "hwu64")
_WAYS = 5
_HELD_OUT = 3
"""In a set of one file, one row in so many of each class is a query."""
_FEWEST_ROWS = 2 * _HELD_OUT
"""Classes with fewer rows are left out of tasks of one's own."""


@dataclass(frozen=True)
class Choice:
    """Which episodes of a suite are wanted.

    Attributes:
        tasks: Names of tasks; None for all.
        shots: Support examples per class; None for the suite's own.
        episodes: So many of each task and number of shots; None for the suite's own number.
        max_queries: So many queries of a task at most, drawn once for all its episodes; None for all.
        seed: Decides every draw.
    """

    tasks: tuple[str, ...] | None = None
    shots: tuple[int, ...] | None = None
    episodes: int | None = None
    max_queries: int | None = None
    seed: int = 0


Draw = Callable[[Path, str, Sequence[int], int, Choice], Iterator[Episode]]


@dataclass(frozen=True)
class Suite:
    """A collection of tasks.

    Attributes:
        name: Names it on the command line and in tables.
        title: The heading of the suite.
        tasks: Its tasks; None for all classification tasks that the folder has.
        shots: Support examples per class.
        episodes: Episodes of each task and number of shots.
        draw: The episodes of one task: of the data folder, the task, the shots, how many, the choice.
    """

    name: str
    title: str
    tasks: tuple[str, ...] | None
    shots: tuple[int, ...]
    episodes: int
    draw: Draw

    def build(self, data: Path, choice: Choice) -> list[Episode]:
        """Draws the episodes.

        Args:
            data: Folder with the files of tasks.
            choice: Which are wanted.

        Raises:
            FileNotFoundError: A task has no file there.
            InvalidTasks: A file is malformed.
        """
        known = _tasks_in(data) if self.tasks is None else self.tasks
        tasks = [task for task in known if choice.tasks is None or task in choice.tasks]
        count = self.episodes if choice.episodes is None else min(choice.episodes, self.episodes)
        return [e for task in tasks for e in self.draw(data, task, choice.shots or self.shots, count, choice)]


def _full_way(data: Path, task: str, shots: Sequence[int], count: int, choice: Choice) -> Iterator[Episode]:
    train, test = read_rows(data / f"{task}.train.jsonl"), read_rows(data / f"{task}.test.jsonl")
    queries = _bounded(test, task, choice)
    for k in shots:
        for index in range(count):
            # The draws of the full-way figures that were published first
            support = _per_class(train, k, random.Random(choice.seed + index))
            yield Episode("fullway", task, k, index, support, queries)


def _five_way(data: Path, task: str, shots: Sequence[int], count: int, choice: Choice) -> Iterator[Episode]:
    train, test = _by_class(read_rows(data / f"{task}.train.jsonl")), read_rows(data / f"{task}.test.jsonl")
    asked = {row.label for row in test}
    for k in shots:
        usable = sorted(label for label, rows in train.items() if len(rows) >= k and label in asked)
        for index in range(count):
            draw = random.Random(f"{choice.seed}:fiveway:{task}:{k}:{index}")
            labels = set(draw.sample(usable, _WAYS))
            support = _per_class([row for label in sorted(labels) for row in train[label]], k, draw)
            queries = _bounded([row for row in test if row.label in labels], f"{task}:{k}:{index}", choice)
            yield Episode("fiveway", task, k, index, support, queries)


def _leopard(data: Path, task: str, shots: Sequence[int], count: int, choice: Choice) -> Iterator[Episode]:
    folder = data / "leopard" / task
    queries = _bounded(read_rows(folder / "eval.jsonl"), task, choice)
    for k in shots:
        for index in range(count):
            yield Episode("leopard", task, k, index, tuple(read_rows(folder / f"train_{index}_{k}.jsonl")), queries)


def _setfit(data: Path, task: str, shots: Sequence[int], count: int, choice: Choice) -> Iterator[Episode]:
    if (data / f"{task}.jsonl").exists():
        train, test = _held_out(read_rows(data / f"{task}.jsonl"), random.Random(f"{choice.seed}:{task}:split"))
    else:
        train, test = read_rows(data / f"{task}.train.jsonl"), read_rows(data / f"{task}.test.jsonl")
    queries = _bounded(test, task, choice)
    for k in shots:
        for index in range(count):
            support = _per_class(train, k, random.Random(f"{choice.seed}:setfit:{task}:{k}:{index}"))
            yield Episode("setfit", task, k, index, support, queries)


def _own(name: str, size: Callable[[int, random.Random], int]) -> Draw:
    """Tasks of one's own with ``size`` examples of a class, of the shots asked for and what decides the draw."""

    def draw_episodes(data: Path, task: str, shots: Sequence[int], count: int, choice: Choice) -> Iterator[Episode]:
        train, queries = _own_rows(data, task, choice)
        classes = [rows for _, rows in sorted(_by_class(train).items())]
        for k in shots:
            for index in range(count):
                draw = random.Random(f"{choice.seed}:{name}:{task}:{k}:{index}")
                support = tuple(row for rows in classes for row in _per_class(rows, size(k, draw), draw))
                yield Episode(name, task, k, index, support, queries)

    return draw_episodes


def _own_rows(data: Path, task: str, choice: Choice) -> tuple[list[Row], Rows]:
    (found,) = (each for each in _read_tasks(data) if each.name == task)
    rows = [
        Row(found.inputs[place].text, found.labels[label], found.inputs[place].text_pair)
        for label, places in enumerate(found.rows_of_class)
        if len(places) >= _FEWEST_ROWS
        for place in places
    ]
    train, test = _held_out(rows, random.Random(f"{choice.seed}:{task}:split"))
    return train, _bounded(test, task, choice)


def _tasks_in(data: Path) -> list[str]:
    tasks = [task for task in _read_tasks(data) if task.rules.one_class_each]
    return [task.name for task in tasks if sum(len(rows) >= _FEWEST_ROWS for rows in task.rows_of_class) > 1]


@cache
def _read_tasks(data: Path) -> tuple[Task, ...]:
    return read_tasks([data]).tasks


def _held_out(rows: Sequence[Row], draw: random.Random) -> tuple[list[Row], list[Row]]:
    """Rows to draw support sets from, and queries, of a set that comes as one file; each class divided alike."""
    kept, queries = [], []
    for _, members in sorted(_by_class(list(dict.fromkeys(rows))).items()):
        shuffled = draw.sample(members, len(members))
        cut = len(members) // _HELD_OUT
        queries += shuffled[:cut]
        kept += shuffled[cut:]
    return kept, queries


def _per_class(rows: Sequence[Row], shots: int, draw: random.Random) -> Rows:
    """``shots`` rows of every class, or all of a class that has fewer."""
    return tuple(
        row for _, members in sorted(_by_class(rows).items()) for row in draw.sample(members, min(shots, len(members)))
    )


def _bounded(rows: Sequence[Row], name: str, choice: Choice) -> Rows:
    if choice.max_queries is None or len(rows) <= choice.max_queries:
        return tuple(rows)
    draw = random.Random(f"{choice.seed}:{name}:queries")
    return tuple(rows[place] for place in sorted(draw.sample(range(len(rows)), choice.max_queries)))


def _by_class(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.label].append(row)
    return dict(found)


_LEOPARD = ("airline", "conll", "rating_books", "restaurant", "scitail", "sentiment_books", "sentiment_electronics")

SUITES = {
    suite.name: suite
    for suite in (
        Suite("fullway", "all classes of three intent sets", _INTENTS, (1, 5, 10), 3, _full_way),
        Suite("fiveway", "five classes of three intent sets", _INTENTS, (1, 5, 10), 10, _five_way),
        Suite("leopard", "LEOPARD's fixed episodes (Bansal et al. 2020)", _LEOPARD, (4, 8, 16), 10, _leopard),
        Suite(
            "setfit",
            "sets of SetFit's paper (Tunstall et al. 2022)",
            ("cr", "ag_news", "emotion_dair_sample", "amazon_counterfactual_en"),
            (8, 64),
            10,
            _setfit,
        ),
        Suite(
            "own",
            "all classes of every classification task in the folder",
            None,
            (1, 5, 10),
            3,
            _own("own", lambda k, _: k),
        ),
        Suite(
            "unequal",
            "the same with one to so many examples of each class, at random",
            None,
            (4, 10),
            3,
            _own("unequal", lambda k, draw: draw.randint(1, k)),
        ),
    )
}
"""The suites by name."""
