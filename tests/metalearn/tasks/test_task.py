"""Tasks are valid once they exist; pools know their licences."""

import pytest

from metalearn.errors import InvalidTasks
from metalearn.tasks.task import Skipped, Task, TaskPool
from metalearn.types import Objective, Target, TextInput
from tests.metalearn.tasks.making import classes_task, multi_label_task, scores_task

A, B = TextInput("a"), TextInput("b")


@pytest.mark.parametrize(
    ("objective", "labels", "inputs", "targets", "message"),
    [
        ("classification", ("x", "y"), (A, B), (0,), "2 texts, but 1 targets"),
        ("classification", ("x", "y"), (A, A), (0, 1), "same text twice"),
        ("classification", ("x", "y"), (A, B), (0, 2), "not the index"),
        ("classification", ("x", "y"), (A, B), (0, -1), "not the index"),
        ("multi_label", ("x", "y"), (A, B), ((0, 1), (2,)), "not the index"),
        ("classification", (), (A, B), (0, 0), "0 labels do not fit"),
        ("regression", ("x",), (A, B), (0.5, 1.5), "1 labels do not fit"),
    ],
)
def test_a_task_that_does_not_fit_together_is_refused(
    objective: Objective,
    labels: tuple[str, ...],
    inputs: tuple[TextInput, ...],
    targets: tuple[Target, ...],
    message: str,
) -> None:
    with pytest.raises(InvalidTasks, match=f"(?s)odd.*{message}"):
        Task("odd", objective, labels, inputs, targets)


def test_a_text_differs_from_itself_with_a_pair() -> None:
    task = Task("pairs", "classification", ("x", "y"), (A, TextInput("a", "b"), TextInput("a", "c")), (0, 1, 1))
    assert len(task.texts) == 3


def test_rows_of_class() -> None:
    assert multi_label_task([(0, 2), (), (2,), (1,)]).rows_of_class == ((0,), (3,), (0, 2))
    assert scores_task(3).rows_of_class == ()
    task = classes_task([3, 2])
    assert [[task.inputs[row].text for row in rows] for rows in task.rows_of_class] == [
        ["task/k000/0", "task/k000/2", "task/k000/1"],
        ["task/k001/1", "task/k001/0"],
    ]


def test_only_open_keeps_what_is_open_and_counts_the_rest() -> None:
    def of(name: str, licence_class: str) -> Task:
        return Task(name, "regression", (), (A, B), (0.0, 1.0), licence_class=licence_class)

    before = Skipped("a.jsonl", "blank text", 3)
    pool = TaskPool((of("a", "open"), of("b", "unstated"), of("c", "restricted")), (before,)).only_open()
    assert [task.name for task in pool.tasks] == ["a"]
    assert pool.skipped == (
        before,
        Skipped("b", "licence class unstated", 2),
        Skipped("c", "licence class restricted", 2),
    )
    with pytest.raises(InvalidTasks, match="none of 1 tasks has an open licence"):
        TaskPool((of("b", "unstated"),)).only_open()


def test_tasks_left_out_by_name_are_counted() -> None:
    pool = TaskPool(tuple(Task(name, "regression", (), (A, B), (0.0, 1.0)) for name in ("a", "b", "c")))
    assert pool.without([]) == pool
    fewer = pool.without(["c", "a"])
    assert [task.name for task in fewer.tasks] == ["b"]
    assert fewer.skipped == (Skipped("a", "left out by name", 2), Skipped("c", "left out by name", 2))
    with pytest.raises(InvalidTasks, match="no task 'd'"):
        pool.without(["a", "d"])
    with pytest.raises(InvalidTasks, match="every task"):
        pool.without(["a", "b", "c"])
