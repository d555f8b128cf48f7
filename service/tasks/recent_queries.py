"""Counts of a task's recent queries, and features of a sample of them, in memory. No text is kept."""

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

from model_store.store import TaskName

WINDOW = 200
"""The last queries, which are compared with those before them."""
_SAMPLED = 32
"""Features that are kept of a task: 24 KiB at 384 dimensions in half precision."""
SAMPLED_OF_REQUEST = 4


@dataclass(slots=True)
class QueriesOfTask:
    """Counts of a task's queries in this process.

    Attributes:
        since: When the first of them came, in seconds since the epoch.
        total: Their number.
        abstained: How many had a confidence below the checkpoint's threshold.
        confidence: The sum of their confidences.
        window: Confidence, and whether it is below the threshold, of the last queries.
        sampled: Features of some of the last queries.
    """

    since: float = field(default_factory=time.time)
    total: int = 0
    abstained: int = 0
    confidence: float = 0.0
    window: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    sampled: deque[Float[Tensor, " dim"]] = field(default_factory=lambda: deque(maxlen=_SAMPLED))


class RecentQueries:
    """The recent queries of the tasks that were used last; the others are dropped. Lives on the event loop."""

    def __init__(self, *, most_tasks: int) -> None:
        """Prepares empty counts.

        Args:
            most_tasks: The most tasks; 0 counts none.
        """
        self._most = most_tasks
        self._tasks: OrderedDict[TaskName, QueriesOfTask] = OrderedDict()

    @property
    def wanted(self) -> int:
        """Most features of a request's queries that are of use."""
        return SAMPLED_OF_REQUEST if self._most else 0

    def get(self, tenant: str, task: str) -> QueriesOfTask | None:
        """The counts of a task; None where no query was counted."""
        return self._tasks.get((tenant, task))

    def note(
        self,
        tenant: str,
        task: str,
        confidences: Sequence[float],
        sampled: Sequence[Float[Tensor, " dim"]],
        *,
        threshold: float,
    ) -> None:
        """Counts the queries of a request.

        Args:
            tenant: The owner of the task.
            task: The task's name.
            confidences: The confidence of each query.
            sampled: Features of some of them.
            threshold: The checkpoint's abstention threshold.
        """
        if not self._most:
            return
        found = self._tasks.setdefault((tenant, task), QueriesOfTask())
        self._tasks.move_to_end((tenant, task))
        if len(self._tasks) > self._most:
            self._tasks.popitem(last=False)
        for confidence in confidences:
            below = confidence < threshold
            found.total += 1
            found.abstained += below
            found.confidence += confidence
            found.window.append((confidence, below))
        found.sampled.extend(sampled)

    def forget(self, tenant: str, task: str) -> None:
        """Drops the counts of a task that was deleted or adapted anew, or that an example was erased from."""
        self._tasks.pop((tenant, task), None)

    def clear(self) -> None:
        """Drops all counts."""
        self._tasks.clear()
