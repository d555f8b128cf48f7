"""The use case drift: how recent queries differ from a task's examples, and from earlier queries."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import torch
from jaxtyping import Float
from torch import Tensor

from handful.wire_feedback import Distances, DriftResponse, QueryWindow
from metalearn.evidence.similarity import similarities
from service.tasks.app_parts import Parts
from service.tasks.errors import SupportNotKept
from service.tasks.examples_in_memory import KnownExamples
from service.tasks.explain import examples_of
from service.tasks.recent_queries import ENOUGH_QUERIES, WINDOW, QueriesOfTask, abstention_shift

_FAR = 0.95
"""The share of the examples that are nearer to the others than a text that counts as far."""
_ENOUGH_SAMPLED = 16
_MUCH = 0.2
"""The share of far queries from which on they are worth a sentence, where one in twenty is expected."""


async def drift(parts: Parts, tenant: str, task: str) -> DriftResponse:
    """Reports on the recent queries of a task, as this process saw them; changes nothing.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.

    Raises:
        TaskNotFound: The task is absent.
        StaleAdapter: The newest version was made from a checkpoint that is not loaded.
        AdapterCorrupt: The stored version is damaged.
        StoreUnavailable: The store does not answer.
    """
    known = None
    async with parts.adapters.lease(tenant, task, None) as leased:
        models = parts.engine.checkpoints.of(leased.adapter)
        if not models.of(leased.adapter.learner).is_deep:
            try:
                known = await examples_of(parts, leased.key, leased.adapter)
            except SupportNotKept:
                known = None
    found = parts.recent.get(tenant, task)
    sampled = list(found.sampled) if found else []
    # In a thread, since comparing thousands of examples would delay other requests
    of_queries, of_examples = await asyncio.to_thread(_distances, known, sampled)
    recent, earlier = _windows(found)
    return DriftResponse(
        task=task,
        version=leased.key.version,
        since=datetime.fromtimestamp(found.since, UTC) if found else None,
        threshold=models.checkpoint.manifest.hyperparameters.abstain_threshold,
        recent=recent,
        earlier=earlier,
        of_queries=of_queries,
        of_examples=of_examples,
        findings=_findings(recent, earlier, of_queries, of_examples),
    )


def _windows(found: QueriesOfTask | None) -> tuple[QueryWindow, QueryWindow]:
    """The last queries, and those before them."""
    if found is None:
        return _window(0, 0, 0.0), _window(0, 0, 0.0)
    below, confidence = sum(below for _, below in found.window), sum(each for each, _ in found.window)
    recent = _window(len(found.window), below, confidence)
    return recent, _window(found.total - len(found.window), found.abstained - below, found.confidence - confidence)


def _window(queries: int, below: int, confidence: float) -> QueryWindow:
    if not queries:
        return QueryWindow(queries=0, abstained=None, confidence=None)
    return QueryWindow(queries=queries, abstained=below / queries, confidence=confidence / queries)


def _distances(
    known: KnownExamples | None, sampled: Sequence[Float[Tensor, " dim"]]
) -> tuple[Distances | None, Distances | None]:
    """The distances of queries from the examples, and of each example from the others."""
    if known is None or len(known.support.examples) < 2:
        return None, None
    examples = known.features
    to_others = 1 - similarities(examples, examples).fill_diagonal_(-1.0).amax(dim=1)
    limit = float(to_others.quantile(_FAR))
    of_examples = _of(to_others, limit)
    if not sampled:
        return Distances(texts=0, median=None, far=None), of_examples
    queries = torch.stack(list(sampled)).to(examples.dtype)
    return _of(1 - similarities(examples, queries).amax(dim=1), limit), of_examples


def _of(distances: Float[Tensor, " texts"], limit: float) -> Distances:
    far = float((distances > limit).float().mean())
    return Distances(texts=len(distances), median=float(distances.median()), far=far)


def _findings(
    recent: QueryWindow, earlier: QueryWindow, of_queries: Distances | None, of_examples: Distances | None
) -> list[str]:
    if recent.queries < ENOUGH_QUERIES:
        seen = f"this process has seen {recent.queries} queries since the begin of its counts"
        return [f"Too early to tell: {seen}; {ENOUGH_QUERIES} are needed."]
    found = []
    if of_queries is not None and of_examples is not None and of_queries.texts >= _ENOUGH_SAMPLED:
        far, median = of_queries.far or 0.0, of_queries.median or 0.0
        if far >= _MUCH:
            found.append(
                f"{far:.0%} of the sampled recent queries lie further from the examples than 19 of 20 examples do from "
                f"each other (median {median:.2f} against {of_examples.median or 0.0:.2f}): the examples do not cover "
                "their wording. Give feedback on such texts, or let the report choose which to label next."
            )
    if recent.abstained is not None and earlier.abstained is not None:
        moved = abstention_shift(recent.abstained, recent.queries, earlier.abstained, earlier.queries)
        if moved:
            found.append(
                f"{recent.abstained:.0%} of the last {recent.queries} queries were below the abstention threshold, "
                f"{earlier.abstained:.0%} of the {earlier.queries} before: the task has become "
                f"{'less' if moved > 0 else 'more'} sure of its answers."
            )
    return found or [f"Nothing has moved in the last {min(recent.queries, WINDOW)} queries."]
