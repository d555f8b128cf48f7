"""Families: tasks that ask the same in several languages."""

import re
from collections import defaultdict
from collections.abc import Iterable

from metalearn.tasks.task import Task

_ENGLISH = ("en", "eng")


def families(tasks: Iterable[Task]) -> dict[str, tuple[Task, ...]]:
    """The family of each task by the task's name, itself included; most tasks are alone in theirs.

    Tasks belong together where group, objective and name up to the language agree, as of ``topics_de``, ``topics_fr``
    and an English ``topics``, and the labels of each are among those of the task that has the most.
    """
    alike: defaultdict[tuple[str, str, str], list[Task]] = defaultdict(list)
    for task in tasks:
        alike[task.group, task.objective, task.name.removesuffix(f"_{task.language}")].append(task)
    found: dict[str, tuple[Task, ...]] = {}
    for members in alike.values():
        labels = set(max(members, key=lambda task: len(task.labels)).labels)
        family = tuple(task for task in members if labels.issuperset(task.labels))
        found |= {task.name: family if task in family else (task,) for task in members}
    return found


def base_language(code: str) -> str:
    """The language of a code without script or region: ``eng`` of ``eng_Latn``."""
    return re.split("[_-]", code)[0]


def is_english(task: Task) -> bool:
    """Whether the task's texts are known to be English."""
    return base_language(task.language) in _ENGLISH
