"""Tasks for the tests of sampling: each text holds the name of its class."""

from collections.abc import Sequence

from hypothesis import strategies as st

from metalearn.tasks.task import Task
from metalearn.types import Target, TextInput


def classes_task(sizes: Sequence[int], *, name: str = "task", group: str = "topic", labels: Sequence[str] = ()) -> Task:
    """A classification task with classes of these sizes; text ``NAME/LABEL/i`` has the label ``LABEL``."""
    names = sorted(labels) if labels else [f"k{i:03d}" for i in range(len(sizes))]
    rows = [(f"{name}/{names[label]}/{i}", label) for label, size in enumerate(sizes) for i in range(size)]
    rows = rows[::2] + rows[1::2]  # not sorted by class
    inputs = tuple(TextInput(text) for text, _ in rows)
    return Task(name, "classification", tuple(names), inputs, tuple(label for _, label in rows), group)


def label_of(text: str) -> str:
    """The label that ``classes_task`` gave the text."""
    return text.split("/")[1]


def multi_label_task(targets: Sequence[Sequence[int]], *, name: str = "many") -> Task:
    """A multi-label task: text i has the classes ``targets[i]``; all classes up to the largest exist."""
    labels = tuple(f"k{i:03d}" for i in range(1 + max((c for classes in targets for c in classes), default=0)))
    inputs = tuple(TextInput(f"{name}/{i}") for i in range(len(targets)))
    found: list[Target] = [tuple(sorted(set(classes))) for classes in targets]
    return Task(name, "multi_label", labels, inputs, tuple(found))


def scores_task(n: int, *, name: str = "scores") -> Task:
    """A regression task: text i has the score i / 2."""
    return Task(
        name, "regression", (), tuple(TextInput(f"{name}/{i}") for i in range(n)), tuple(i / 2 for i in range(n))
    )


class_sizes = st.lists(st.integers(1, 14), min_size=2, max_size=12)
"""Sizes of classes; some have too few texts for an episode."""
