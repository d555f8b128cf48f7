"""Draws of an episode from one task."""

import random
from collections.abc import Sequence

from metalearn.errors import InvalidEpisode
from metalearn.tasks.task import Task
from metalearn.types import Episode, LabelledTexts


def sample_episode(task: Task, *, ways: int | None, shots: int, queries: int | None, draw: random.Random) -> Episode:
    """Draws an episode of a fixed shape, as evaluation wants it.

    In multi-label tasks a class gets ``shots`` support examples or, where they belong to other classes as well, more.

    Args:
        task: Where the texts come from.
        ways: Exactly so many classes; None for all. In regression it multiplies ``shots`` and ``queries``.
        shots: Exactly so many support examples of each class; a text is left for the query set.
        queries: At most so many query examples of each class; None for all that are left.
        draw: Decides everything else, the order of the classes too.

    Raises:
        InvalidEpisode: The task has fewer classes than ways, or a class fewer examples than shots; or no such episode
            exists for any task.
    """
    if shots < 1 or (ways is not None and ways < (2 if task.rules.has_classes else 1)):
        raise InvalidEpisode(f"there are no episodes of {ways} ways and {shots} shots")
    if queries is not None and queries < 1:
        raise InvalidEpisode(f"an episode asks something: {queries} queries per class are none")
    if not task.rules.has_classes:
        ways = ways or 1
        if len(task.inputs) <= ways * shots:
            raise InvalidEpisode(
                f"task {task.name} has {len(task.inputs)} texts: {ways * shots} shots leave none for the query set"
            )
        return draw_episode(task, (), ways * shots, None if queries is None else ways * queries, draw)
    classes = usable_classes(task, shots + 1)
    if ways is None and len(classes) < len(task.labels):
        fewest = min(range(len(task.labels)), key=lambda label: len(task.rows_of_class[label]))
        raise InvalidEpisode(
            f"task {task.name} has fewer examples than shots: {task.labels[fewest]!r} has "
            f"{len(task.rows_of_class[fewest])} examples, {shots} shots and a query need {shots + 1}"
        )
    ways = len(task.labels) if ways is None else ways
    if ways > len(classes):
        raise InvalidEpisode(
            f"task {task.name} has {len(classes)} classes with the {shots + 1} examples that {shots} shots and a "
            f"query need, of {len(task.labels)} in all; {ways} ways are asked for"
        )
    return draw_episode(task, draw.sample(classes, ways), shots, queries, draw)


def usable_classes(task: Task, fewest: int = 2) -> list[int]:
    """The classes that have at least ``fewest`` texts: by default one for the support and one for the query set."""
    return [label for label, rows in enumerate(task.rows_of_class) if len(rows) >= fewest]


def n_groups(task: Task, ways: int) -> int:
    """How many groups of texts ``draw_episode`` draws from for that many classes."""
    return ways + task.rules.allows_no_class


def draw_episode(task: Task, classes: Sequence[int], shots: int, queries: int | None, draw: random.Random) -> Episode:
    """Draws support and query set of given classes.

    Of each class ``shots`` texts go into the support set, or all but one where it has fewer; ``queries`` of the others
    go into the query set. In multi-label tasks the texts of none of the classes count as one more class: without them
    nothing would show what belongs nowhere. A text may there serve several classes at once, so that a class may end up
    with more support examples, or with none in the query set.

    Args:
        task: Where the texts come from.
        classes: Their indices, in the order that they are to have in the episode, each with two texts or more; empty
            in regression, where ``shots`` and ``queries`` are those of the whole episode.
        shots: Support examples of each class.
        queries: Query examples of each class; None for all that are left.
        draw: Decides which.
    """
    support: list[int] = []
    query: list[int] = []
    groups = _groups(task, classes)
    for rows in groups:
        taken = set(support)
        free = [row for row in rows if row not in taken]
        wanted = min(shots, len(rows) - 1) - (len(rows) - len(free))
        # Leaves one in `free`: so after the last group that took any, the query set can have at least that one
        support += draw.sample(free, max(wanted, 0))
    for rows in groups:
        taken = {*support, *query}
        free = [row for row in rows if row not in taken]
        query += free if queries is None else draw.sample(free, min(queries, len(free)))
    draw.shuffle(support)
    draw.shuffle(query)
    place = {label: i for i, label in enumerate(classes)}
    return Episode(
        task.name,
        task.group,
        task.objective,
        tuple(task.labels[label] for label in classes),
        _texts(task, support, place),
        _texts(task, query, place),
    )


def _groups(task: Task, classes: Sequence[int]) -> list[Sequence[int]]:
    if not task.rules.has_classes:
        return [range(len(task.inputs))]
    groups: list[Sequence[int]] = [task.rows_of_class[label] for label in classes]
    if task.rules.allows_no_class:
        covered = {row for rows in groups for row in rows}
        groups.append([row for row in range(len(task.inputs)) if row not in covered])
    return groups


def _texts(task: Task, rows: Sequence[int], place: dict[int, int]) -> LabelledTexts:
    targets = tuple(task.rules.target_among(task.targets[row], place) for row in rows)
    return LabelledTexts(tuple(task.inputs[row] for row in rows), targets)
