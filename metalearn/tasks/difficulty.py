"""The present difficulty of each task, as a value, for difficulty-aware sampling."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from metalearn.errors import InvalidTasks
from metalearn.objectives import OBJECTIVES
from metalearn.types import Episode

CHANCE = 1.0
"""Normalised loss of guessing."""

_HARDEST = 2.0  # a task that diverges, or that nobody could learn, shall not draw all episodes to itself


@dataclass(frozen=True)
class Difficulty:
    """Exponential means of the tasks' normalised query losses.

    Attributes:
        losses: By name of the task, from 0 (solved) over 1 (guessing) up to 2; a task that is not there was not seen.
    """

    losses: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def of(self, task: str) -> float:
        """The task's loss; that of guessing for a task that was not seen."""
        return self.losses.get(task, CHANCE)

    def to_json(self) -> dict[str, float]:
        """The losses as a plain dictionary, for a training state in JSON."""
        return dict(self.losses)

    @classmethod
    def from_json(cls, losses: Mapping[str, float | int]) -> "Difficulty":
        """The inverse of ``to_json``.

        Raises:
            InvalidTasks: A loss is not a number from 0 to 2.
        """
        for task, loss in losses.items():
            if not 0 <= loss <= _HARDEST:
                raise InvalidTasks(f"the difficulty of task {task} is {loss}; it has to be from 0 to {_HARDEST}")
        return cls(MappingProxyType({task: float(loss) for task, loss in losses.items()}))


def updated(difficulty: Difficulty, observations: Iterable[tuple[str, float]], *, memory: float = 0.9) -> Difficulty:
    """The difficulty after some episodes.

    Args:
        difficulty: Before them.
        observations: Name of the task and normalised query loss of each episode, in the order of the episodes. A loss
            that is not finite is left out.
        memory: Weight of the mean so far against one new loss; a task's first loss is its mean.
    """
    losses = dict(difficulty.losses)
    for task, loss in observations:
        if math.isfinite(loss):
            bounded = min(max(loss, 0.0), _HARDEST)
            losses[task] = memory * losses.get(task, bounded) + (1 - memory) * bounded
    return Difficulty(MappingProxyType(losses))


def normalised_loss(loss: float, episode: Episode) -> float:
    """A mean query loss in units of the loss of guessing, so that tasks of different shapes compare.

    Guessing costs ln(ways) nats in classification (cross-entropy), ln 2 in multi-label (binary cross-entropy per class)
    and the variance of the queries' scores in regression (mean squared error).
    """
    guessing = OBJECTIVES[episode.objective].loss_of_guessing(episode)
    return loss / guessing if guessing > 0 else CHANCE
