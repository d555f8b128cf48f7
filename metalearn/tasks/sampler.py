"""Which task an episode comes from, and what shape it has."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol, runtime_checkable

from metalearn.errors import InvalidEpisode, InvalidTasks
from metalearn.options import Strategy
from metalearn.tasks.difficulty import Difficulty
from metalearn.tasks.episode import draw_cross_lingual_episode, draw_episode, n_groups, usable_classes
from metalearn.tasks.families import families, is_english
from metalearn.tasks.task import Skipped, Task, check_names
from metalearn.types import OUT_OF_SCOPE, Episode, LabelledTexts, TextInput

_OUT_OF_SCOPE_QUERIES = 0.25
"""Share of the queries that is replaced in an episode with out-of-scope queries."""
_ENGLISH_SUPPORT = 0.5
"""Share of the cross-lingual episodes whose support set is English at all events, where the family has it."""


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """The shape of episodes. Bounds are inclusive.

    Attributes:
        ways: Fewest and most classes, drawn uniformly between them and what the task has.
        shots: Fewest and most support examples of a class; a class with fewer texts gives all but one.
        queries: Query examples of a class; a class with fewer texts gives what is left.
        max_support: Bound on the support set; the most shots, then the most ways are lowered to meet it.
        max_query: Bound on the query set; the queries per class, then the most ways are lowered to meet it.
        strategy: How tasks are chosen.
        out_of_scope_share: Share of classification episodes that have out-of-scope queries.
        family_exponent: A family of n tasks counts as n to the power of this. 1 counts every task; 0 counts a family
            as one task.
        cross_lingual_share: Share of a family's episodes with queries in other languages than the support set's.

    Raises:
        InvalidEpisode: No episode can be of that shape.
    """

    ways: tuple[int, int] = (2, 10)
    shots: tuple[int, int] = (1, 10)
    queries: int = 5
    max_support: int = 128
    max_query: int = 128
    strategy: Strategy = "sqrt_size"
    out_of_scope_share: float = 0.0
    family_exponent: float = 1.0
    cross_lingual_share: float = 0.0

    def __post_init__(self) -> None:
        for name, (low, high), least in (("ways", self.ways, 2), ("shots", self.shots, 1)):
            if not least <= low <= high:
                raise InvalidEpisode(f"{name} from {low} to {high}: give bounds in order, from {least}")
        if self.queries < 1:
            raise InvalidEpisode(f"{self.queries} queries per class: an episode asks at least one")
        if self.max_support < self.ways[0] * self.shots[0] or self.max_query < self.ways[0]:
            raise InvalidEpisode(
                f"{self.ways[0]} ways of {self.shots[0]} shots do not fit into support sets of {self.max_support} "
                f"and query sets of {self.max_query}: raise these or lower those"
            )
        for name in ("out_of_scope_share", "family_exponent", "cross_lingual_share"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise InvalidEpisode(f"{name} is {value}; it has to be from 0 to 1")


@runtime_checkable
class Sampler(Protocol):
    """A source of episodes for meta-training."""

    def episode(self, index: int, difficulty: Difficulty | None = None) -> Episode:
        """The episode at that index: always the same for the same sampler, index and difficulty."""
        ...


class EpisodeSampler:
    """Episodes of a pool of tasks.

    An episode is a function of the tasks, the settings, the seed, its index and the difficulty: so training resumes at
    any index with no generator to save, and ranks that take different indices draw different episodes.
    """

    def __init__(self, tasks: Sequence[Task], settings: SamplerSettings, seed: int) -> None:
        """Looks over the tasks.

        Args:
            tasks: A pool; its order does not matter.
            settings: The shape of the episodes.
            seed: Separates samplers of the same tasks.

        Raises:
            InvalidTasks: Two tasks share a name, or none can give an episode of these settings.
        """
        check_names(tasks)
        reasons = {task.name: _why_unusable(task, settings) for task in tasks}
        ordered = sorted(tasks, key=lambda task: task.name)
        self.settings = settings
        self.seed = seed
        self.tasks = tuple(task for task in ordered if reasons[task.name] is None)
        self.families = families(self.tasks)
        self.unusable = tuple(
            Skipped(task.name, reason, len(task.inputs)) for task in ordered if (reason := reasons[task.name])
        )
        if not self.tasks:
            found = "; ".join(f"{skipped.file}: {skipped.reason}" for skipped in self.unusable[:3])
            raise InvalidTasks(
                f"none of {len(tasks)} tasks can give an episode of {settings.ways[0]} ways or more"
                + (f" ({found})" if found else "")
                + ": lower the fewest ways or shots, or add texts"
            )

    def probabilities(self, difficulty: Difficulty | None = None) -> dict[str, float]:
        """How likely an episode is to come of each usable task, by name.

        Args:
            difficulty: The difficulties for the strategy ``difficulty``; without it every task counts as not seen yet.
        """
        counts = [len(self.families[task.name]) ** (self.settings.family_exponent - 1) for task in self.tasks]
        of_size = [1.0 if self.settings.strategy == "uniform" else math.sqrt(len(task.inputs)) for task in self.tasks]
        sizes = [count * size for count, size in zip(counts, of_size, strict=True)]
        shares = [size / math.fsum(sizes) for size in sizes]
        if self.settings.strategy == "difficulty":
            of_loss = [(difficulty or Difficulty()).of(task.name) for task in self.tasks]
            losses = [count * loss for count, loss in zip(counts, of_loss, strict=True)]
            total = math.fsum(losses)
            # Half by size: a task that is solved for now is still looked at, and cannot be forgotten unseen
            shares = [
                (share + (loss / total if total > 0 else share)) / 2 for share, loss in zip(shares, losses, strict=True)
            ]
        return {task.name: share for task, share in zip(self.tasks, shares, strict=True)}

    def episode(self, index: int, difficulty: Difficulty | None = None) -> Episode:
        """The episode at an index; see the class for what it depends on."""
        draw = _generator(f"{self.seed}:{index}")
        cumulated = list(accumulate(self.probabilities(difficulty).values()))
        task = draw.choices(self.tasks, cum_weights=cumulated)[0]
        other: Task | None = None
        if self.settings.cross_lingual_share and draw.random() < self.settings.cross_lingual_share:
            task, other = self._two_languages(task, draw)
        ways_low, ways_high = _way_bounds(task, self.settings, other)
        ways = draw.randint(ways_low, ways_high)
        groups = n_groups(task, ways)
        shots_low, shots_high = self.settings.shots
        shots = draw.randint(shots_low, min(shots_high, self.settings.max_support // groups))
        queries = min(self.settings.queries, self.settings.max_query // groups)
        if not task.rules.has_classes:
            return draw_episode(task, (), ways * shots, ways * queries, draw)
        classes = draw.sample(_shared_classes(task, other), ways)
        if other is None:
            episode = draw_episode(task, classes, shots, queries, draw)
        else:
            others = self._more_languages(task, other, classes, queries, draw)
            episode = draw_cross_lingual_episode(task, others, classes, shots, queries, draw)
        # Drawn last, so that the share does not change what the support set holds
        if task.rules.one_class_each and draw.random() < self.settings.out_of_scope_share:
            return self._with_out_of_scope(episode, task, classes, draw)
        return episode

    def _two_languages(self, task: Task, draw: random.Random) -> tuple[Task, Task | None]:
        """A task of the family for the support set, every second time the English one, and another for the queries.

        The second is None where no other task of the family has enough of the same classes.
        """
        family = self.families[task.name]
        support = next(filter(is_english, family), task) if draw.random() < _ENGLISH_SUPPORT else task
        others = [other for other in family if other is not support and _fits(support, self.settings, other)]
        return (support, draw.choice(others)) if others else (task, None)

    def _more_languages(
        self, task: Task, other: Task, classes: Sequence[int], most: int, draw: random.Random
    ) -> list[Task]:
        """The tasks that give the queries: one, or it and some more of the family that have all the classes."""
        more = [
            member
            for member in self.families[task.name]
            if member is not task and member is not other and set(classes) <= set(_shared_classes(task, member))
        ]
        return [other, *draw.sample(more, draw.randint(0, min(len(more), most - 1)))]

    def _with_out_of_scope(self, episode: Episode, task: Task, classes: Sequence[int], draw: random.Random) -> Episode:
        """Puts texts of the task's other classes, else of another task, in the place of some queries."""
        inputs, targets = episode.query.inputs, episode.query.targets
        wanted = max(1, round(_OUT_OF_SCOPE_QUERIES * len(inputs)))
        others = sorted(set(range(len(task.labels))).difference(classes))
        rows = [row for label in others for row in task.rows_of_class[label]]
        if rows:
            strange = [task.inputs[row] for row in draw.sample(rows, min(wanted, len(rows)))]
        else:
            strange = self._texts_from_elsewhere(task, wanted, draw)
        kept = len(inputs) - len(strange)
        rows_of_query = [*zip(inputs[:kept], targets[:kept], strict=True), *((text, OUT_OF_SCOPE) for text in strange)]
        draw.shuffle(rows_of_query)
        inputs, targets = zip(*rows_of_query, strict=True)
        return replace(episode, query=LabelledTexts(inputs, targets))

    def _texts_from_elsewhere(self, task: Task, wanted: int, draw: random.Random) -> list[TextInput]:
        """Texts of a classification task of another group, pairs for pairs; none where there is no such task."""
        other_tasks = [
            other
            for other in self.tasks
            if other.rules.one_class_each
            and other.group != task.group
            and (other.inputs[0].text_pair is None) == (task.inputs[0].text_pair is None)
        ]
        if not other_tasks:
            return []
        other = draw.choice(other_tasks)
        found = draw.sample(other.inputs, min(wanted, len(other.inputs)))
        return [text for text in found if text not in task.texts]


class MixedSampler:
    """Episodes of several samplers in a stated ratio, such as labelled tasks and tasks made of unlabelled texts."""

    def __init__(self, samplers: Sequence[Sampler], shares: Sequence[float], seed: int) -> None:
        """Mixes samplers.

        Args:
            samplers: Where the episodes come from.
            shares: How many come from each, on average: every index decides for itself. They sum to 1.
            seed: Decides which index goes where.

        Raises:
            InvalidEpisode: A share is not from 0 to 1, or they do not sum to 1.
        """
        if min(shares) < 0 or not math.isclose(math.fsum(shares), 1):
            raise InvalidEpisode(f"the shares of the samplers are {list(shares)}; they have to be from 0, and sum to 1")
        self.samplers = tuple(samplers)
        self.shares = tuple(shares)
        self.seed = seed

    def episode(self, index: int, difficulty: Difficulty | None = None) -> Episode:
        """The episode at that index of the sampler that the index falls to."""
        (sampler,) = _generator(f"mix:{self.seed}:{index}").choices(self.samplers, self.shares)
        return sampler.episode(index, difficulty)


def _generator(seed: str) -> random.Random:
    # A string seeds by its SHA-512, alike in every process; hash() would be salted
    return random.Random(seed)  # noqa: S311  # nothing secret


def _shared_classes(task: Task, other: Task | None) -> list[int]:
    """The task's usable classes; with another task those that both can use."""
    usable = usable_classes(task)
    if other is None:
        return usable
    names = {other.labels[label] for label in usable_classes(other)}
    return [label for label in usable if task.labels[label] in names]


def _fits(task: Task, settings: SamplerSettings, other: Task) -> bool:
    low, high = _way_bounds(task, settings, other)
    return task.rules.has_classes and low <= high


def _way_bounds(task: Task, settings: SamplerSettings, other: Task | None = None) -> tuple[int, int]:
    """Fewest and most ways of the task's episodes; the most may be under the fewest, then there are none."""
    extra = n_groups(task, 0)
    high = min(settings.ways[1], settings.max_support // settings.shots[0] - extra, settings.max_query - extra)
    if task.rules.has_classes:
        high = min(high, len(_shared_classes(task, other)))
    return settings.ways[0], high


def _why_unusable(task: Task, settings: SamplerSettings) -> str | None:
    low, high = _way_bounds(task, settings)
    if not task.rules.has_classes:
        return "fewer than two texts" if len(task.inputs) < 2 else None
    usable = len(usable_classes(task))
    if usable < low:
        return f"{usable} classes with two texts or more, {low} ways asked for"
    return None if low <= high else f"{low} ways do not fit the bounds of support and query set"
