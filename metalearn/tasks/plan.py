"""Which episodes a model is evaluated on: a function of tasks and a seed, so that every model is given the same."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from metalearn.errors import InvalidEpisode, InvalidTasks
from metalearn.tasks.episode import sample_episode, usable_classes
from metalearn.tasks.task import Task
from metalearn.types import Episode


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """Which episodes are drawn of each task.

    Attributes:
        ways: Exactly so many classes; None for all of the task's.
        shots: Support examples of each class; each number is evaluated for itself.
        queries: At most so many queries of each class; None for all that are left.
        episodes: How many of each task and number of shots.
        seed: The same seed gives every model the same episodes.
    """

    ways: int | None = 5
    shots: tuple[int, ...] = (5,)
    queries: int | None = 15
    episodes: int = 20
    seed: int = 0

    def episode(self, task: Task, shots: int, index: int) -> Episode:
        """One episode: a function of the plan's seed, the task's name, the shots and the index.

        Raises:
            InvalidEpisode: The task has too few classes or texts.
        """
        draw = random.Random(f"{self.seed}:{task.name}:{shots}:{index}")  # noqa: S311  # nothing secret
        return sample_episode(task, ways=self.ways, shots=shots, queries=self.queries, draw=draw)


def draw_validation_episodes(
    tasks: Sequence[Task], *, ways: int, shots: int, queries: int, episodes: int, seed: int = 0
) -> list[Episode]:
    """Episodes to follow meta-training by: of every task that can give one, so that small tasks count, too.

    Args:
        tasks: Where they are drawn from.
        ways: Number of classes, or as many as the task has with enough texts.
        shots: Support examples of each class.
        queries: At most so many queries of each class.
        episodes: How many of each task.
        seed: The same seed gives the same episodes.

    Raises:
        InvalidTasks: No task can give one.
    """
    drawn: list[Episode] = []
    for task in tasks:
        usable = min(ways, len(usable_classes(task, shots + 1))) if task.rules.has_classes else ways
        plan = EpisodePlan(usable, (shots,), queries, episodes, seed)
        try:
            drawn += [plan.episode(task, shots, index) for index in range(episodes)]
        except InvalidEpisode:
            continue
    if not drawn:
        raise InvalidTasks(f"none of {len(tasks)} tasks can give an episode of {shots} shots: lower the shots")
    return drawn
