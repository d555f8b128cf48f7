"""Counts of a task's recent queries, and features of a sample of them, in memory. No text is kept."""

import logging
import math
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from jaxtyping import Float
from prometheus_client import Gauge
from torch import Tensor

from model_store.store import TaskName

log = logging.getLogger("handful")

WINDOW = 200
"""The last queries, which are compared with those before them."""
_SAMPLED = 32
"""Features that are kept of a task: 24 KiB at 384 dimensions in half precision."""
SAMPLED_OF_REQUEST = 4
ENOUGH_QUERIES = 50
"""Recent queries, and as many earlier ones, from which on their rates are compared."""
_SURE = 3.0
"""Standard errors by which a rate has to move to be worth a sentence."""


def abstention_shift(recent: float, recent_queries: int, earlier: float, earlier_queries: int) -> float:
    """The change of the share of queries below the abstention threshold; 0 where it may be chance, or they are few.

    Args:
        recent: The share among the recent queries.
        recent_queries: Their number.
        earlier: The share among the queries before them.
        earlier_queries: Their number.
    """
    if min(recent_queries, earlier_queries) < ENOUGH_QUERIES:
        return 0.0
    rate = (recent * recent_queries + earlier * earlier_queries) / (recent_queries + earlier_queries)
    error = math.sqrt(max(0.0, rate * (1 - rate)) * (1 / recent_queries + 1 / earlier_queries))
    moved = recent - earlier
    return moved if abs(moved) > _SURE * error else 0.0


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
        window_abstained: How many of the last queries had a confidence below the threshold.
        is_logged: Whether the log has a line on its drift.
    """

    since: float = field(default_factory=time.time)
    total: int = 0
    abstained: int = 0
    confidence: float = 0.0
    window: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW))
    sampled: deque[Float[Tensor, " dim"]] = field(default_factory=lambda: deque(maxlen=_SAMPLED))
    window_abstained: int = 0
    is_logged: bool = False

    def add(self, confidence: float, *, below: bool) -> None:
        """Counts a query."""
        if len(self.window) == WINDOW:
            self.window_abstained -= self.window[0][1]
        self.window.append((confidence, below))
        self.window_abstained += below
        self.total += 1
        self.abstained += below
        self.confidence += confidence

    @property
    def is_less_sure(self) -> bool:
        """Whether more of the recent queries than of the earlier ones are below the threshold, beyond chance."""
        recent = len(self.window)
        earlier = self.total - recent
        if not earlier:
            return False
        before = (self.abstained - self.window_abstained) / earlier
        return abstention_shift(self.window_abstained / recent, recent, before, earlier) > 0


class RecentQueries:
    """The recent queries of the tasks that were used last; the others are dropped. Lives on the event loop."""

    def __init__(self, *, most_tasks: int, drifting: Gauge) -> None:
        """Prepares empty counts.

        Args:
            most_tasks: The most tasks; 0 counts none.
            drifting: Gets the number of tasks that have become less sure of their answers.
        """
        self._most = most_tasks
        self._tasks: OrderedDict[TaskName, QueriesOfTask] = OrderedDict()
        self._drifting: set[TaskName] = set()
        self._gauge = drifting

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
            self._drifting.discard(self._tasks.popitem(last=False)[0])
        for confidence in confidences:
            found.add(confidence, below=confidence < threshold)
        found.sampled.extend(sampled)
        is_less_sure = found.is_less_sure
        (self._drifting.add if is_less_sure else self._drifting.discard)((tenant, task))
        if is_less_sure and not found.is_logged:
            found.is_logged = True
            log.warning("task %s of %s has become less sure of its answers: see its /drift", task, tenant)
        self._gauge.set(len(self._drifting))

    def forget(self, tenant: str, task: str) -> None:
        """Drops the counts of a task that was deleted or adapted anew, or that an example was erased from."""
        self._tasks.pop((tenant, task), None)
        self._drifting.discard((tenant, task))
        self._gauge.set(len(self._drifting))

    def clear(self) -> None:
        """Drops all counts."""
        self._tasks.clear()
        self._drifting.clear()
        self._gauge.set(0)
