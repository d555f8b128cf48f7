"""Draws of an episode from one task."""

import random
from collections.abc import Collection, Sequence
from dataclasses import replace

from metalearn.errors import InvalidEpisode
from metalearn.tasks.task import Task
from metalearn.types import Episode, LabelledTexts, Target, TextInput


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
    groups = _groups(task, classes)
    for rows in groups:
        taken = set(support)
        free = [row for row in rows if row not in taken]
        wanted = min(shots, len(rows) - 1) - (len(rows) - len(free))
        # Leaves one in `free`: so after the last group that took any, the query set can have at least that one
        support += draw.sample(free, max(wanted, 0))
    query = _query_rows(groups, queries, support, draw)
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


def draw_cross_lingual_episode(
    task: Task, others: Sequence[Task], classes: Sequence[int], shots: int, queries: int, draw: random.Random
) -> Episode:
    """Draws the support set from one task of a family and the query set from others.

    A text of the support set is not asked for, nor its translation where that is known: tasks whose rows have the same
    targets throughout count as translated row by row.

    Args:
        task: Where the support set comes from.
        others: Where the queries come from, in equal parts; not more than ``queries``.
        classes: Indices in ``task``; each of the others has two texts or more of each.
        shots: Support examples of each class.
        queries: Query examples of each class.
        draw: Decides which.
    """
    episode = draw_episode(task, classes, shots, queries, draw)
    query: dict[TextInput, Target] = {}
    for other in others:
        place = {other.labels.index(label): i for i, label in enumerate(episode.labels)}
        known = _rows_known_from(episode.support, task, other)
        rows = _query_rows(_groups(other, list(place)), queries // len(others), known, draw)
        texts = _texts(other, rows, place)
        query |= zip(texts.inputs, texts.targets, strict=True)
    if not query:
        return episode
    order = draw.sample(list(query), len(query))
    return replace(episode, query=LabelledTexts(tuple(order), tuple(query[text] for text in order)))


def _rows_known_from(support: LabelledTexts, task: Task, other: Task) -> set[int]:
    """The rows of another task that a support set gives away: the same texts, and translations row by row."""
    shown = set(support.inputs)
    translated = (task.labels, task.targets) == (other.labels, other.targets)
    return {row for row, text in enumerate(other.inputs) if text in shown or (translated and task.inputs[row] in shown)}


def _query_rows(
    groups: Sequence[Sequence[int]], queries: int | None, withheld: Collection[int], draw: random.Random
) -> list[int]:
    """So many rows of each group, or all, without those that are withheld."""
    query: list[int] = []
    for rows in groups:
        taken = {*withheld, *query}
        free = [row for row in rows if row not in taken]
        query += free if queries is None else draw.sample(free, min(queries, len(free)))
    return query


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
