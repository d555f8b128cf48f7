"""The use case map: a task's examples and queries on a plane."""

import asyncio

import torch

from handful.wire_playground import MapRequest, MapResponse, Place, PlacedExample
from metalearn.evidence.plane import fit_plane
from service.engine.adapt_slices import refuse_empty
from service.tasks.app_parts import Parts
from service.tasks.examples_in_memory import KnownExamples
from service.tasks.explain import examples_of
from service.tasks.queries import checked_texts


async def map_task(parts: Parts, tenant: str, task: str, asked: MapRequest) -> MapResponse:
    """Places the examples of a version, and queries, on the plane in which its classes differ most; changes nothing.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The version and the queries.

    Raises:
        InvalidContent: A query is unusable.
        TextEmpty: A query holds nothing to read.
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        SupportNotKept: The version's support set was not kept.
        StaleAdapter: The version was made from a checkpoint that is not loaded.
        StoreUnavailable: The store does not answer.
    """
    queries = checked_texts(asked.queries, parts.settings, "queries")
    async with parts.adapters.lease(tenant, task, asked.version) as leased:
        adapter = leased.adapter
        queries.check_pairs(adapter.pairs)
        models = parts.engine.checkpoints.of(adapter)
        known = await examples_of(parts, leased.key, adapter)
        texts = await parts.engine.tokenize(models, queries.inputs)
        refuse_empty(texts, "queries")
        features = await parts.engine.features(tenant, models, texts)
    # In a thread, since components of thousands of texts would delay other requests
    examples, places, shown = await asyncio.to_thread(_placed, known, features)
    return MapResponse(
        task=task,
        version=leased.key.version,
        examples=examples if asked.examples else [],
        queries=places,
        shown=shown,
    )


def _placed(known: KnownExamples, features: torch.Tensor) -> tuple[list[PlacedExample], list[Place], float]:
    if not known.support.examples:  # classes of descriptions alone
        return [], [Place(x=0, y=0) for _ in range(len(features))], 1.0
    answers = {answer: i for i, answer in enumerate(dict.fromkeys(each.answer for each in known.support.examples))}
    plane = fit_plane(known.features, [answers[each.answer] for each in known.support.examples])
    examples = [
        PlacedExample(
            id=example.id,
            label=", ".join(example.classes) if example.score is None else f"{example.score:g}",
            text=example.input.text,
            text_pair=example.input.text_pair,
            x=x,
            y=y,
        )
        for example, (x, y) in zip(known.support.examples, plane.places(known.features).tolist(), strict=True)
    ]
    places = [Place(x=x, y=y) for x, y in plane.places(features).tolist()] if len(features) else []
    return examples, places, plane.shown
