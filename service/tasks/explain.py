"""The examples behind predictions: those that are most similar to a query."""

from collections.abc import Sequence

from handful.report_answers import NearExample
from handful.wire import Prediction
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.evidence.similarity import similarities
from metalearn.types import Adapter, SupportSet
from model_store.codec import AdapterKey
from model_store.errors import VersionConflict
from service.tasks.app_parts import Parts
from service.tasks.examples_in_memory import KnownExamples
from service.tasks.kept_support import load_kept_support

_OF_CLASS = 2
"""Examples of the most probable class, and of the second."""


async def examples_of(parts: Parts, key: AdapterKey, adapter: Adapter) -> KnownExamples:
    """The examples of a version, encoded once and then kept.

    Args:
        parts: The app's parts.
        key: The version.
        adapter: Its adapter.

    Raises:
        SupportNotKept: The version's support set was not kept.
        TaskNotFound: The task was deleted meanwhile.
        VersionNotFound: The version was removed meanwhile.
        VersionConflict: The task was deleted and made anew meanwhile.
        StoreUnavailable: The store does not answer.
    """
    found, forgotten = parts.examples.get(key), parts.examples.forgotten
    if found is None:
        kept = await load_kept_support(parts, key.tenant, key.task, key.version)
        if kept.source.adapter_id != key.adapter_id:
            raise VersionConflict(0)
        support = kept.checked().support
        models = parts.engine.checkpoints.of(adapter)
        texts = await parts.engine.tokenize(models, [example.input for example in support.examples])
        found = KnownExamples(support, await parts.engine.features(key.tenant, models, texts))
        parts.examples.put(key, found, forgotten=forgotten)
    return found


async def nearest_examples(
    parts: Parts,
    tenant: str,
    adapter: Adapter,
    examples: KnownExamples,
    queries: Sequence[TokenizedText],
    probabilities: Sequence[Sequence[float]],
) -> list[list[NearExample]]:
    """The examples nearest to each query: of its most probable class, and then of the second.

    Args:
        parts: The app's parts.
        tenant: The tenant of the queries.
        adapter: The adapter that answered.
        examples: The examples that it was adapted on.
        queries: The queries.
        probabilities: The class probabilities of each query.
    """
    if not examples.support.examples:
        return [[] for _ in queries]
    features = await parts.engine.features(tenant, parts.engine.checkpoints.of(adapter), queries)
    alike = similarities(examples.features, features).tolist()
    rows_of_class: list[list[int]] = [[] for _ in adapter.labels]
    for i, target in enumerate(examples.support.class_indices):
        rows_of_class[target].append(i)
    found = []
    for row, of_query in zip(probabilities, alike, strict=True):
        best = sorted(range(len(row)), key=lambda kind: -row[kind])[:2]
        chosen = [sorted(rows_of_class[kind], key=lambda i: -of_query[i])[:_OF_CLASS] for kind in best]
        found.append([_near(examples.support, i, of_query[i]) for rows in chosen for i in rows])
    return found


def explain(predictions: Sequence[Prediction], nearest: Sequence[list[NearExample]]) -> None:
    """Gives each prediction its nearest examples."""
    for prediction, examples in zip(predictions, nearest, strict=True):
        prediction.nearest = examples


def _near(support: SupportSet, index: int, similarity: float) -> NearExample:
    example = support.examples[index]
    return NearExample(
        id=example.id,
        label=example.label,
        text=example.input.text,
        text_pair=example.input.text_pair,
        similarity=similarity,
    )
