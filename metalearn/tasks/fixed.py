"""Fixed episodes: support sets and queries that somebody else drew, so that figures compare with theirs."""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from metalearn.errors import InvalidTasks
from metalearn.objectives.objective import ObjectiveRules, Value
from metalearn.tasks.labelled import RULES_OF_KIND, is_blank, labelled_texts
from metalearn.tasks.lines import Kind, read_lines
from metalearn.tasks.task import Skipped
from metalearn.types import Episode, LabelledTexts, Target, TextInput, classes_in

_TRAIN_FILE = re.compile(r"train_(\d+)_(\d+)\.jsonl")
_QUERY_FILE = "eval.jsonl"
_Row = tuple[TextInput, Value]


@dataclass(frozen=True)
class FixedEpisode:
    """An episode from files.

    Attributes:
        episode: Its classes are those of the support set; a query of another class is ``OUT_OF_SCOPE`` in it.
        index: I of ``train_I_K.jsonl``.
        shots: K of ``train_I_K.jsonl``.
        unseen: Classes of the queries that have no example in the support set.
        truth: Target of each query, in which ``unseen`` counts on after the episode's classes.
    """

    episode: Episode
    index: int
    shots: int
    unseen: tuple[str, ...]
    truth: tuple[Target, ...]

    @property
    def n_unseen_queries(self) -> int:
        """Queries of a class that has no example in the support set."""
        if not self.unseen:
            return 0
        return sum(max(classes_in((target,)), default=0) >= len(self.episode.labels) for target in self.truth)


@dataclass(frozen=True)
class FixedTask:
    """A task's fixed episodes.

    Attributes:
        name: The folder's.
        episodes: By shots, then by index.
        skipped: Rows that were left out of its files.
    """

    name: str
    episodes: tuple[FixedEpisode, ...]
    skipped: tuple[Skipped, ...] = ()


def read_fixed_tasks(
    folder: Path, *, episodes: int | None = None, max_queries: int | None = None, seed: int = 0
) -> tuple[FixedTask, ...]:
    """Reads fixed episodes, in the layout of Bansal et al. 2020 (LEOPARD).

    A task is a folder that holds ``train_I_K.jsonl``, the support set of episode I with K shots, and ``eval.jsonl``,
    the queries of all of them. The lines are those of files of tasks. Unlike there a text may occur twice: what was
    published stands.

    Args:
        folder: A task, or a folder of tasks.
        episodes: Only those with I under this.
        max_queries: So many queries at most, drawn once for all episodes of a task.
        seed: Decides which.

    Returns:
        The tasks sorted by name.

    Raises:
        InvalidTasks: A folder or file cannot be read or lacks something, or a line is malformed; the message names
            it.
    """
    if not folder.is_dir():
        raise InvalidTasks(f"{folder} is not a folder: name one whose folders hold train_I_K.jsonl and {_QUERY_FILE}")
    folders = [folder] if _train_files(folder) else sorted(inner for inner in folder.iterdir() if _train_files(inner))
    if not folders:
        raise InvalidTasks(
            f"neither {folder} nor a folder in it holds fixed episodes: files train_I_K.jsonl, such as train_0_4.jsonl"
        )
    return tuple(_read_task(inner, episodes, max_queries, seed) for inner in folders)


def _train_files(folder: Path) -> list[tuple[int, int, Path]]:
    """(Shots, index, file) of each support set, in that order."""
    if not folder.is_dir():
        return []
    found = [(match, path) for path in folder.iterdir() if (match := _TRAIN_FILE.fullmatch(path.name))]
    return sorted((int(match[2]), int(match[1]), path) for match, path in found)


def _read_task(folder: Path, episodes: int | None, max_queries: int | None, seed: int) -> FixedTask:
    name = folder.resolve().name
    query_file = folder / _QUERY_FILE
    kind, queries, skipped = _read_rows(query_file)
    if max_queries is not None and len(queries) > max_queries:
        draw = random.Random(f"{seed}:{name}:queries")  # noqa: S311  # nothing secret
        queries = [queries[row] for row in sorted(draw.sample(range(len(queries)), max_queries))]
    read = []
    for shots, index, path in _train_files(folder):
        if episodes is not None and index >= episodes:
            continue
        support_kind, support, left_out = _read_rows(path)
        if support_kind != kind:
            raise InvalidTasks(f"{path} holds {support_kind!r}, but {query_file} holds {kind!r}")
        read.append(_episode(name, path, (index, shots), RULES_OF_KIND[kind], support, queries))
        skipped += left_out
    if not read:
        raise InvalidTasks(f"{folder} holds no episode with a number under {episodes}")
    return FixedTask(name, tuple(read), tuple(skipped))


def _episode(
    name: str, path: Path, number: tuple[int, int], rules: ObjectiveRules, support: list[_Row], queries: list[_Row]
) -> FixedEpisode:
    labels = tuple(sorted(_labels(support)))
    if rules.has_classes and len(labels) < 2:
        raise InvalidTasks(f"{path} has {len(labels)} classes; a support set needs two or more")
    unseen = tuple(sorted(_labels(queries) - set(labels)))
    place = {label: i for i, label in enumerate(labels + unseen)}
    truth = tuple(rules.target(value, place) for _, value in queries)
    seen = {i: i for i in range(len(labels))}
    episode = Episode(
        name,
        "fixed",
        rules.name,
        labels,
        LabelledTexts(tuple(text for text, _ in support), tuple(rules.target(value, place) for _, value in support)),
        LabelledTexts(tuple(text for text, _ in queries), tuple(rules.target_among(target, seen) for target in truth)),
    )
    return FixedEpisode(episode, *number, unseen, truth)


def _labels(rows: list[_Row]) -> set[str]:
    return {label for _, value in rows if isinstance(value, tuple) for label in value}


def _read_rows(path: Path) -> tuple[Kind, list[_Row], list[Skipped]]:
    """Texts with their values; blank ones are left out, since nothing could be read of them."""
    lines = read_lines(path)
    usable = [line for line in lines if not is_blank(line)]
    rows = list(labelled_texts(usable))
    if not rows:
        raise InvalidTasks(f"{path} holds no text with what is asked for: give it lines with a text and a label")
    blank = [Skipped(path.name, "blank text", len(lines) - len(usable))] if len(usable) < len(lines) else []
    return lines[0].kind, rows, blank
