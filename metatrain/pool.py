"""The pool of a run: tasks for training and validation, read from files."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from metalearn.encoder.batches import batch_tokens, plan_batches
from metalearn.encoder.encoder import Encoder
from metalearn.errors import InvalidTasks
from metalearn.objectives import OBJECTIVES
from metalearn.tasks.labelled import licence_of, read_tasks
from metalearn.tasks.plan import draw_validation_episodes
from metalearn.tasks.sampler import EpisodeSampler, MixedSampler, Sampler, SamplerSettings
from metalearn.tasks.task import OPEN, Skipped, Task
from metalearn.tasks.unlabelled import cluster_tasks, masked_word_tasks, read_texts
from metalearn.types import Episode, Objective, TextInput
from metatrain.label_names import TranslatedLabels, read_label_names
from metatrain.options import TrainingOptions, bounds

_VALIDATION_QUERIES = 10


@dataclass(frozen=True, slots=True)
class PlainText:
    """A file of plain text.

    Attributes:
        name: The file's.
        licence: Licence of the texts, in words.
        texts: The texts of the file.
    """

    name: str
    licence: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """Tasks to train on and tasks to validate by.

    Attributes:
        labelled: Training tasks from files.
        unlabelled: Training tasks made of plain text.
        plain_text: The plain text that those are made of.
        valid: Validation tasks.
        skipped: Files and rows that could not be used, and why.
        shared: Validation task -> how many of its texts are training texts, too; those that have any.
    """

    labelled: tuple[Task, ...]
    unlabelled: tuple[Task, ...]
    plain_text: tuple[PlainText, ...]
    valid: tuple[Task, ...]
    skipped: tuple[Skipped, ...]
    shared: dict[str, int]

    @property
    def digest(self) -> str:
        """The digest that identifies this pool."""
        content = hashlib.sha256()
        for task in (*self.labelled, *self.unlabelled, *self.valid):
            fields = (task.name, task.group, task.licence, task.language, task.labels, task.inputs, task.targets)
            content.update(repr(fields).encode())
        return content.hexdigest()


def read_pool(options: TrainingOptions, encoder: Encoder, objectives: frozenset[Objective]) -> Pool:
    """Reads task files, and makes tasks of plain text.

    Args:
        options: The options that name the files.
        encoder: Gives the features that clusters are made of.
        objectives: The objectives of the learner; other tasks are left out.

    Raises:
        InvalidTasks: A file is malformed, nothing remains to train on or to validate by, or a folder is for both.
    """
    both = {Path(folder).resolve() for folder in options.tasks} & {Path(folder).resolve() for folder in options.valid}
    if both:
        raise InvalidTasks(f"{min(both)} is given to train on and to validate by: keep validation tasks apart")
    index = Path(options.index) if options.index else None
    labelled: tuple[Task, ...] = ()
    skipped: list[Skipped] = []
    if options.tasks:
        # First what is left out by name: a task may be that and not open as well
        pool = read_tasks([Path(folder) for folder in options.tasks], index=index).without(options.leave_out)
        if options.open_licences_only:
            pool = pool.only_open()
        labelled = _learnable(pool.tasks, objectives, skipped)
        skipped += pool.skipped
        if not labelled:
            raise InvalidTasks(f"no task asks for what {options.learner} does: {', '.join(sorted(objectives))}")
    valid: tuple[Task, ...] = ()
    if options.valid:
        # A regression task has no accuracy to be compared
        with_accuracy = frozenset(name for name in objectives if OBJECTIVES[name].has_classes)
        valid = _learnable(read_tasks([Path(folder) for folder in options.valid]).tasks, with_accuracy, skipped)
        if not valid:
            raise InvalidTasks("no validation task has an accuracy: give classification tasks to --valid")
    trained_on = {text for task in labelled for text in task.inputs}
    shared = {task.name: n for task in valid if (n := sum(text in trained_on for text in task.inputs))}
    plain_text = _plain_text(options, index, skipped)
    made = _of_plain_text([text for file in plain_text for text in file.texts], options, encoder)
    return Pool(labelled, tuple(made), plain_text, valid, tuple(skipped), shared)


def make_sampler(pool: Pool, options: TrainingOptions) -> tuple[Sampler, tuple[Task, ...], tuple[Skipped, ...]]:
    """The run's sampler, the tasks that it draws from, and those that can give it no episode.

    Raises:
        InvalidTasks: None can.
    """
    settings = options.part(SamplerSettings, ways=bounds(options.ways), shots=bounds(options.shots))
    parts = [(tasks, share) for tasks, share in _parts(pool, options) if tasks]
    samplers = [EpisodeSampler(tasks, settings, options.seed) for tasks, _ in parts]
    used = tuple(task for sampler in samplers for task in sampler.tasks)
    unusable = tuple(skipped for sampler in samplers for skipped in sampler.unusable)
    sampler: Sampler = samplers[0]
    if len(samplers) > 1:
        sampler = MixedSampler(samplers, [share for _, share in parts], options.seed)
    if options.translated_labels_share:
        sampler = TranslatedLabels(sampler, used, read_label_names(), options.translated_labels_share, options.seed)
    return sampler, used, unusable


def _parts(pool: Pool, options: TrainingOptions) -> list[tuple[Sequence[Task], float]]:
    """Tasks that are drawn from together, and the share of the episodes that comes of them.

    Raises:
        InvalidTasks: A share is asked for of tasks that are not there.
    """
    of_labelled = 1 - options.unlabelled_share if pool.unlabelled else 1.0
    parts: list[tuple[Sequence[Task], float]] = [(pool.labelled, of_labelled), (pool.unlabelled, 1 - of_labelled)]
    if options.pairs_share is None:
        return parts if pool.labelled else [(pool.unlabelled, 1.0)]
    pairs = [task for task in pool.labelled if task.inputs[0].text_pair is not None]
    single = [task for task in pool.labelled if task.inputs[0].text_pair is None]
    if not pairs or not single:
        raise InvalidTasks("pairs_share needs tasks of text pairs and others, to weigh one against the other")
    of_pairs = options.pairs_share * of_labelled
    return [(single, of_labelled - of_pairs), (pairs, of_pairs), *parts[1:]]


def validation_episodes(pool: Pool, options: TrainingOptions) -> list[Episode]:
    """The episodes that every validation of the run scores; the same for all runs with the same validation tasks."""
    return draw_validation_episodes(
        pool.valid,
        ways=options.valid_ways,
        shots=options.valid_shots,
        queries=_VALIDATION_QUERIES,
        episodes=options.valid_episodes,
    )


def _learnable(tasks: Iterable[Task], objectives: frozenset[Objective], skipped: list[Skipped]) -> tuple[Task, ...]:
    kept = []
    for task in tasks:
        if task.objective in objectives:
            kept.append(task)
        else:
            skipped.append(Skipped(task.name, f"{task.objective} is not what is asked for", len(task.inputs)))
    return tuple(kept)


def _plain_text(options: TrainingOptions, index: Path | None, skipped: list[Skipped]) -> tuple[PlainText, ...]:
    """The files of plain text that may be used.

    Raises:
        InvalidTasks: A file cannot be read, or there is nothing else to train on and none is open as asked for.
    """
    used = []
    for path in map(Path, options.unlabelled):
        texts = read_texts(path)
        licence, licence_class = licence_of(path, index=index)
        if options.open_licences_only and licence_class != OPEN:
            skipped.append(Skipped(path.name, f"licence class {licence_class}", len(texts)))
        else:
            used.append(PlainText(path.name, licence, texts))
    if not (used or options.tasks):
        raise InvalidTasks(
            "no file of plain text has an open licence: name an index whose licence_class is open, or do not ask for "
            "open licences alone"
        )
    return tuple(used)


def _of_plain_text(texts: list[str], options: TrainingOptions, encoder: Encoder) -> list[Task]:
    if not texts:
        return []
    made: list[Task] = []
    if options.unlabelled_classes != "clusters":
        made += masked_word_tasks(texts, n_tasks=40, seed=options.seed)
    if options.unlabelled_classes != "words":
        made += cluster_tasks(texts, _features(texts, encoder), n_clusters=64, n_partitions=4, seed=options.seed)
    return made


def _features(texts: list[str], encoder: Encoder) -> Tensor:
    tokenized = encoder.tokenize([TextInput(text) for text in texts])
    features = torch.empty(len(texts), encoder.dim)
    for batch in plan_batches([len(text.ids) for text in tokenized], batch_tokens(encoder.device)):
        features[batch] = encoder.encode_batch([tokenized[i] for i in batch]).cpu()
    return features
