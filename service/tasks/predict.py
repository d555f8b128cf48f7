"""The use case predict: answers a tenant's queries; changes nothing but tasks of checkpoints that are not loaded."""

import asyncio
from dataclasses import dataclass

from handful.wire import Prediction, PredictionFields, PredictRequest, PredictResponse
from metalearn.decision import TaskKind
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.kinds import KINDS
from metalearn.types import Adapter
from service.engine.work import Predictions
from service.tasks.adapters import Degraded
from service.tasks.app_parts import Parts
from service.tasks.explain import examples_of, explain, nearest_examples
from service.tasks.first_use import lease_answering
from service.tasks.kind_answers import kind_of_adapter, refuse_unusable
from service.tasks.only_labels import check_labels, classes_of
from service.tasks.queries import Abstention, CheckedQueries, queries_of_kind, to_predictions, to_queries
from service.timings import add_to_current


@dataclass(frozen=True, slots=True)
class Answered:
    """Predictions, and their possible lag behind the store.

    Attributes:
        response: The predictions.
        degraded: Set where the store could not be asked.
    """

    response: PredictResponse
    degraded: Degraded | None


async def predict(parts: Parts, tenant: str, task: str, asked: PredictRequest) -> Answered:
    """Classifies texts with the task's newest version, or with the given one.

    Args:
        parts: The app's parts.
        tenant: The owner of the task.
        task: The task's name.
        asked: The queries and the options.

    Raises:
        InvalidContent: A query is unusable, or the task does not have a label that the request names.
        TaskNotFound: The task is absent.
        VersionNotFound: The task does not have the version.
        StaleAdapter: The version was made from a checkpoint that is not loaded, and nothing can answer in its place.
        SupportNotKept: An explanation is asked for, and the version's support set was not kept.
        StoreUnavailable: The store does not answer.
    """
    queries, engine = to_queries(asked, parts.settings), parts.engine
    checkpoints = engine.checkpoints
    # While the store is asked for the version, where the version does not decide on the tokenizer
    early = engine.tokenize(checkpoints.default, queries.inputs) if len(checkpoints) == 1 else None
    try:
        async with lease_answering(parts, tenant, task, asked.version) as leased:
            adapter = leased.adapter
            queries.check_pairs(adapter.pairs)
            kind = kind_of_adapter(adapter)
            refuse_unusable(kind, asked)
            check_labels(asked, adapter.labels)
            as_given, queries = queries, queries_of_kind(queries, asked, kind, parts.settings)
            usable = early if queries is as_given else None
            tokenized = usable or engine.tokenize(checkpoints.of(adapter), queries.inputs)
            # Texts whose words are tagged have no features of their own to sample
            wanted = parts.recent.wanted if asked.version is None and kind != "tokens" else 0
            result = await engine.predict(tenant, adapter, tokenized, sampled=wanted)
            if asked.explain:
                known = await examples_of(parts, leased.key, adapter)
                texts = tokenized.result()
                answers = classes_of(asked.only_labels, adapter.labels), result.probabilities
                nearest = await nearest_examples(parts, tenant, adapter, known, texts, *answers)
    finally:
        if early is not None:
            early.cancel()
    predictions = await answers_of(kind, parts, adapter, result, queries, tokenized.result(), asked)
    if asked.explain:
        explain(predictions, nearest)
    if asked.ids:
        for prediction, text in zip(predictions, queries.inputs, strict=True):
            prediction.id = parts.answer_ids.seal(tenant, task, text)
    if asked.version is None:
        threshold = checkpoints.of(adapter).checkpoint.manifest.hyperparameters.abstain_threshold
        # None counts as below it where the task's kind has no threshold
        threshold = threshold if KINDS[kind].abstains else 0.0
        confidences = [prediction.confidence for prediction in predictions]
        parts.recent.note(tenant, task, confidences, result.sampled, threshold=threshold)
    response = PredictResponse(
        task=task,
        version=leased.key.version,
        predictions=predictions,
        truncated=sum(prediction.truncated for prediction in predictions),
    )
    if leased.degraded is not None:
        parts.metrics.degraded_answers.inc()
    return Answered(response, leased.degraded)


async def answers_of(
    kind: TaskKind,
    parts: Parts,
    adapter: Adapter,
    result: Predictions,
    queries: CheckedQueries,
    texts: list[TokenizedText],
    asked: PredictionFields,
) -> list[Prediction]:
    """The predictions for a request to a task of a kind, see ``answered``."""
    given = (parts, adapter, result, queries, texts, asked)
    # In a thread, since finding the best tags of a thousand long texts would delay other requests
    return await asyncio.to_thread(answered, *given) if kind == "tokens" else answered(*given)


def answered(
    parts: Parts,
    adapter: Adapter,
    result: Predictions,
    queries: CheckedQueries,
    texts: list[TokenizedText],
    asked: PredictionFields,
) -> list[Prediction]:
    """The predictions for a request. Adds their time to the request's timings, and counts abstentions."""
    add_to_current("queue", result.queue_s)
    add_to_current("encode", result.encode_s)
    default = parts.engine.checkpoints.of(adapter).checkpoint.manifest.hyperparameters.abstain_threshold
    predictions = to_predictions(
        adapter,
        result.probabilities,
        queries,
        texts,
        classes=classes_of(asked.only_labels, adapter.labels),
        top_k=asked.top_k,
        abstention=Abstention.asked(asked.abstain, default, adapter.labels),
        asked=asked.queries,
    )
    parts.metrics.abstentions.inc(sum(prediction.abstained for prediction in predictions))
    return predictions
