"""Plain text -> tasks: classes of sentences with the same masked word, and clusters."""

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.errors import InvalidTasks
from metalearn.tasks.k_means import k_means
from metalearn.tasks.lines import numbered_lines, read_object, read_string
from metalearn.tasks.task import Task
from metalearn.types import TextInput

MASK = "[MASK]"
"""The text in the place of a masked word; tokenizers of the BERT family make their special token of it."""

WORDS_GROUP = "unlabelled-words"
CLUSTERS_GROUP = "unlabelled-clusters"

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


def read_texts(path: Path) -> tuple[str, ...]:
    """The texts of a plain file, one a line, or of a ``.jsonl`` file, the field ``text`` of each line.

    Blank texts are passed over; labels play no part.

    Raises:
        InvalidTasks: The file cannot be read, a line is malformed, or there is no text.
    """
    texts = []
    for number, line in numbered_lines(path):
        try:
            texts.append(
                read_string(read_object(line).get("text"), "'text'") if path.suffix == ".jsonl" else line.strip()
            )
        except ValueError as error:
            raise InvalidTasks(f"{path}:{number}: {error}") from error
    texts = [text for text in texts if text]
    if not texts:
        raise InvalidTasks(f'{path} holds no text: give it one text a line, or in .jsonl one {{"text": "…"}} a line')
    return tuple(texts)


def masked_word_tasks(
    texts: Sequence[str],
    *,
    n_tasks: int,
    words_per_task: int = 16,
    min_count: int = 20,
    max_share: float = 0.02,
    max_per_word: int = 200,
    min_words: int = 5,
    seed: int = 0,
    name: str = "words",
    licence: str = "unstated",
    licence_class: str = "unstated",
) -> tuple[Task, ...]:
    """Makes tasks of asking which word was masked.

    Each task draws some words; a word's class is the sentences that hold it, with every occurrence masked. Words may
    come again in another task, beside others. A sentence that holds two of a task's words is in none of its classes,
    and one that becomes the same for two of them is not either.

    Source: Bansal et al. 2020, "Self-Supervised Meta-Learning for Few-Shot Natural Language Classification Tasks".

    Args:
        texts: Sentences or paragraphs; these are split where sentences end.
        n_tasks: How many tasks to make; one with fewer than two classes is left out.
        words_per_task: Classes of a task, before those with fewer than two sentences are dropped; two at least.
        min_count: A rarer word, by sentences that hold it, is not chosen.
        max_share: A word in a larger share of the sentences is not chosen: it is no sign of their topic.
        max_per_word: Most sentences of a class.
        min_words: Shorter sentences are not used.
        seed: Decides which words go together.
        name: The tasks are called ``NAME-0``, ``NAME-1`` and so on.
        licence: Licence of the texts.
        licence_class: The class of that licence.

    Raises:
        InvalidTasks: The texts hold too few words of such frequency.
    """
    if n_tasks < 1 or words_per_task < 2:
        raise InvalidTasks(f"{n_tasks} tasks of {words_per_task} words: give at least one task of two words")
    sentences = [(sentence, words) for sentence in _sentences(texts) if len(words := _words(sentence)) >= min_words]
    found: dict[str, list[int]] = {}
    for row, (_, words) in enumerate(sentences):
        for word in dict.fromkeys(words):
            found.setdefault(word, []).append(row)
    most = max_share * len(sentences)
    candidates = sorted(word for word, rows in found.items() if max(min_count, 2) <= len(rows) <= most)
    if len(candidates) < words_per_task:
        raise InvalidTasks(
            f"{len(candidates)} words stand in {min_count} to {int(most)} of {len(sentences)} sentences; a task needs "
            f"{words_per_task}: give more text, lower min_count or words_per_task, or raise max_share"
        )
    draw = random.Random(f"masked words:{seed}")  # noqa: S311  # nothing secret
    tasks = []
    for index in range(n_tasks):
        chosen = draw.sample(candidates, words_per_task)
        occurrences = Counter(row for word in chosen for row in found[word])
        classes = []
        for word in chosen:
            rows = [row for row in found[word] if occurrences[row] == 1]
            rows = draw.sample(rows, min(max_per_word, len(rows)))
            classes.append([_masked(sentences[row][0], word) for row in rows])
        task = _task_of(f"{name}-{index}", _apart(classes), WORDS_GROUP, licence, licence_class)
        if task:
            tasks.append(task)
    if not tasks:
        raise InvalidTasks("no two masked words have sentences of their own: give more text, or lower words_per_task")
    return tuple(tasks)


def cluster_tasks(
    texts: Sequence[str],
    features: Float[Tensor, "texts dim"],
    *,
    n_clusters: int,
    n_partitions: int = 1,
    min_texts: int = 10,
    seed: int = 0,
    name: str = "clusters",
    licence: str = "unstated",
    licence_class: str = "unstated",
) -> tuple[Task, ...]:
    """Makes tasks of separating clusters: each partition of the texts is a task, its clusters are the classes.

    Partitions differ by a random scaling of each feature dimension and by where the clustering starts.

    Source: Hsu et al. 2019, "Unsupervised Learning via Meta-Learning" (CACTUs).

    Args:
        texts: The texts to cluster; of a text that occurs several times the first is taken.
        features: Their features by an encoder. Clustering runs on the CPU, so that a seed gives the same tasks.
        n_clusters: Clusters of a partition, before those with too few texts are dropped.
        n_partitions: How many tasks to make; one with fewer than two large clusters is left out.
        min_texts: A smaller cluster is dropped.
        seed: Decides scalings and starts.
        name: The tasks are called ``NAME-0``, ``NAME-1`` and so on.
        licence: Licence of the texts.
        licence_class: The class of that licence.

    Raises:
        InvalidTasks: Features do not match the texts or are not finite, or there are too few texts.
    """
    if len(texts) != len(features) or not bool(features.isfinite().all()):
        raise InvalidTasks(
            f"{len(features)} rows of features, for {len(texts)} texts, have to match them and be finite"
        )
    first_rows = list({text: row for row, text in reversed(list(enumerate(texts)))}.values())[::-1]
    if n_partitions < 1 or n_clusters < 2:
        raise InvalidTasks(f"{n_partitions} partitions of {n_clusters} clusters: give at least one of two clusters")
    if len(first_rows) < n_clusters * min_texts:
        raise InvalidTasks(
            f"{len(first_rows)} different texts make no {n_clusters} clusters of {min_texts} or more: "
            "give more texts, or lower n_clusters or min_texts"
        )
    points = features.detach()[first_rows].cpu().float()
    draw = torch.Generator().manual_seed(seed)
    tasks = []
    for index in range(n_partitions):
        clusters = k_means(points * torch.rand(points.shape[1], generator=draw), n_clusters, draw)
        classes: list[list[str]] = [[] for _ in range(n_clusters)]
        for row, cluster in zip(first_rows, clusters.tolist(), strict=True):
            classes[cluster].append(texts[row])
        large = [members for members in classes if len(members) >= min_texts]
        task = _task_of(f"{name}-{index}", large, CLUSTERS_GROUP, licence, licence_class)
        if task:
            tasks.append(task)
    if not tasks:
        raise InvalidTasks(f"no partition has two clusters of {min_texts} texts: lower n_clusters or min_texts")
    return tuple(tasks)


def _sentences(texts: Sequence[str]) -> Iterator[str]:
    """The different sentences of the texts. One form of each character, so that a word is spelled in one way."""
    seen: set[str] = set()
    for text in texts:
        for part in _SENTENCE_END.split(unicodedata.normalize("NFC", text)):
            sentence = part.strip()
            if sentence and sentence not in seen and MASK not in sentence:
                seen.add(sentence)
                yield sentence


def _words(sentence: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(sentence)]


def _masked(sentence: str, word: str) -> str:
    return _WORD.sub(lambda match: MASK if match.group().lower() == word else match.group(), sentence)


def _apart(classes: Sequence[Sequence[str]]) -> list[list[str]]:
    """The classes, each text once, without the texts that two of them share."""
    holders = Counter(text for texts in classes for text in dict.fromkeys(texts))
    return [[text for text in dict.fromkeys(texts) if holders[text] == 1] for texts in classes]


def _task_of(name: str, classes: Sequence[Sequence[str]], group: str, licence: str, licence_class: str) -> Task | None:
    """A task of the classes that have two texts or more; None where there is no second one.

    The labels are ``c00``, ``c01`` and so on: label text is a prior for a class (``metalearn.label_text``), and a label
    that named the masked word would give the answer away.
    """
    kept = [texts for texts in classes if len(texts) >= 2]
    if len(kept) < 2:
        return None
    width = len(str(len(kept) - 1))
    labels = tuple(f"c{i:0{width}}" for i in range(len(kept)))
    inputs = tuple(TextInput(text) for texts in kept for text in texts)
    targets = tuple(i for i, texts in enumerate(kept) for _ in texts)
    return Task(name, "classification", labels, inputs, targets, group, licence, licence_class)
