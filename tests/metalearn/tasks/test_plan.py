"""Every model is given the same episodes."""

import random
from dataclasses import replace

import pytest

from metalearn.errors import InvalidEpisode, InvalidTasks
from metalearn.tasks.episode import sample_episode
from metalearn.tasks.plan import EpisodePlan, draw_validation_episodes
from tests.metalearn.tasks.making import classes_task, multi_label_task, scores_task

TASK = classes_task([12] * 8)


def test_an_episode_is_a_function_of_seed_task_shots_and_index() -> None:
    plan = EpisodePlan(ways=3, shots=(2,), queries=4)
    drawn = sample_episode(TASK, ways=3, shots=2, queries=4, draw=random.Random("0:task:2:5"))
    assert plan.episode(TASK, 2, 5) == drawn
    assert replace(plan, episodes=7, shots=(1, 2)).episode(TASK, 2, 5) == plan.episode(TASK, 2, 5)
    others = [
        plan.episode(TASK, 2, 6),
        plan.episode(TASK, 3, 5),
        replace(plan, seed=1).episode(TASK, 2, 5),
    ]
    assert all(other.support.inputs != plan.episode(TASK, 2, 5).support.inputs for other in others)


def test_an_episode_has_the_planned_shape() -> None:
    episode = EpisodePlan(ways=3, queries=4).episode(TASK, 2, 0)
    assert (len(episode.labels), len(episode.support.inputs), len(episode.query.inputs)) == (3, 6, 12)
    everything = EpisodePlan(ways=None, queries=None).episode(TASK, 2, 0)
    assert (len(everything.labels), len(everything.query.inputs)) == (8, 80)


def test_a_task_that_is_too_small_is_refused() -> None:
    with pytest.raises(InvalidEpisode):
        EpisodePlan(ways=9).episode(TASK, 2, 0)


def test_validation_takes_small_tasks_with_the_ways_that_they_have() -> None:
    tasks = [TASK, classes_task([9, 9, 2], name="small"), classes_task([3, 3], name="tiny")]
    episodes = draw_validation_episodes(tasks, ways=5, shots=4, queries=3, episodes=2, seed=3)
    assert [(e.task, len(e.labels)) for e in episodes] == [("task", 5), ("task", 5), ("small", 2), ("small", 2)]
    assert episodes == draw_validation_episodes(tasks, ways=5, shots=4, queries=3, episodes=2, seed=3)
    assert episodes[0] != episodes[1]
    assert episodes != draw_validation_episodes(tasks, ways=5, shots=4, queries=3, episodes=2, seed=4)


def test_validation_episodes_of_every_objective() -> None:
    tasks = [scores_task(40), multi_label_task([[0], [1], [0, 1], []] * 10)]
    episodes = draw_validation_episodes(tasks, ways=5, shots=2, queries=3, episodes=1)
    assert {episode.objective for episode in episodes} == {"regression", "multi_label"}


def test_validation_without_any_usable_task_is_refused() -> None:
    with pytest.raises(InvalidTasks, match="none of 1 tasks"):
        draw_validation_episodes([classes_task([3, 3])], ways=5, shots=3, queries=3, episodes=1)
