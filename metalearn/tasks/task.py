"""A task: labelled texts that episodes are sampled from; and pools of tasks."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from metalearn.errors import InvalidTasks
from metalearn.objectives import OBJECTIVES
from metalearn.objectives.objective import ObjectiveRules
from metalearn.types import Objective, Target, TextInput, classes_in

OPEN = "open"
"""Licence class of texts that anyone may use, also commercially: permissive or share-alike."""


@dataclass(frozen=True)
class Task:
    """Labelled texts of one kind.

    Attributes:
        name: Unique within a pool.
        objective: The meaning of the targets.
        labels: Names of the classes, sorted; empty in regression.
        inputs: The texts, each once: rows that differ are texts that differ.
        targets: One each: class index, class indices, or score.
        group: Kind of task, such as ``intent``; negative transfer is measured between groups.
        licence: Licence of the texts and labels, in words.
        licence_class: The class of the licence: ``open``, ``unstated`` or ``restricted``.
        language: Code of the texts' language, such as ``de`` or ``deu_Latn``; empty where it is unknown.

    Raises:
        InvalidTasks: A text occurs twice, or the targets do not fit the texts or the labels.
    """

    name: str
    objective: Objective
    labels: tuple[str, ...]
    inputs: tuple[TextInput, ...]
    targets: tuple[Target, ...]
    group: str = "ungrouped"
    licence: str = "unstated"
    licence_class: str = "unstated"
    language: str = ""

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.targets):
            raise InvalidTasks(f"task {self.name}: {len(self.inputs)} texts, but {len(self.targets)} targets")
        if len(self.texts) != len(self.inputs):
            raise InvalidTasks(f"task {self.name} holds the same text twice: support and query sets could share it")
        if self.rules.has_classes != bool(self.labels):
            raise InvalidTasks(f"task {self.name}: {len(self.labels)} labels do not fit {self.objective}")
        if self.rules.has_classes and not classes_in(self.targets) <= set(range(len(self.labels))):
            raise InvalidTasks(f"task {self.name}: a target is not the index of one of its {len(self.labels)} labels")

    @property
    def rules(self) -> ObjectiveRules:
        """The objective's rules."""
        return OBJECTIVES[self.objective]

    @cached_property
    def texts(self) -> frozenset[TextInput]:
        """The texts, to look one up."""
        return frozenset(self.inputs)

    @cached_property
    def rows_of_class(self) -> tuple[tuple[int, ...], ...]:
        """Indices of the texts of each class; a multi-label text stands in each of its classes."""
        rows: list[list[int]] = [[] for _ in self.labels]
        if self.rules.has_classes:
            for row, target in enumerate(self.targets):
                for label in target if isinstance(target, tuple) else (int(target),):
                    rows[label].append(row)
        return tuple(map(tuple, rows))


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was left out, and why.

    Attributes:
        file: Name of the file that it stands in; of the task, where a whole task is left out.
        reason: Such as ``blank text``.
        rows: How many rows are left out for that reason.
    """

    file: str
    reason: str
    rows: int


@dataclass(frozen=True, slots=True)
class TaskPool:
    """Tasks that were read together.

    Attributes:
        tasks: The tasks, by name.
        skipped: Files and rows that were left out.
    """

    tasks: tuple[Task, ...]
    skipped: tuple[Skipped, ...] = ()

    def only_open(self) -> "TaskPool":
        """The tasks whose licence class is ``open``; the others count as skipped.

        Raises:
            InvalidTasks: None is.
        """
        closed = [task for task in self.tasks if task.licence_class != OPEN]
        if len(closed) == len(self.tasks):
            raise InvalidTasks(
                f"none of {len(closed)} tasks has an open licence: name an index whose licence_class is open, "
                "or do not ask for open licences alone"
            )
        return TaskPool(
            tuple(task for task in self.tasks if task.licence_class == OPEN),
            (*self.skipped, *(Skipped(t.name, f"licence class {t.licence_class}", len(t.inputs)) for t in closed)),
        )

    def without(self, names: Collection[str]) -> "TaskPool":
        """The tasks of other names; those left out count as skipped.

        Raises:
            InvalidTasks: There is no task of such a name, or no other.
        """
        unknown = set(names).difference(task.name for task in self.tasks)
        if unknown:
            raise InvalidTasks(f"there is no task {min(unknown)!r} to leave out")
        kept = tuple(task for task in self.tasks if task.name not in names)
        if not kept:
            raise InvalidTasks("every task is left out")
        left_out = (Skipped(t.name, "left out by name", len(t.inputs)) for t in self.tasks if t.name in names)
        return TaskPool(kept, (*self.skipped, *left_out))


def check_names(tasks: Iterable[Task]) -> None:
    """Refuses tasks that share a name.

    Raises:
        InvalidTasks: Two tasks do.
    """
    seen: set[str] = set()
    for task in tasks:
        if task.name in seen:
            raise InvalidTasks(f"two tasks are called {task.name}: the names in a pool differ")
        seen.add(task.name)
