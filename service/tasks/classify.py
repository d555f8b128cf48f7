"""The use case classify: adapts on a support set and answers queries at once; stores nothing."""

from handful.wire import ClassifyRequest, ClassifyResponse
from service.tasks.adapt import options_of, warnings_of
from service.tasks.app_parts import Parts
from service.tasks.checkpoint_choice import adapted
from service.tasks.examples_in_memory import KnownExamples
from service.tasks.explain import explain, nearest_examples
from service.tasks.kind_answers import kind_fields, refuse_unusable
from service.tasks.predict import answered
from service.tasks.queries import queries_of_kind, to_queries
from service.tasks.support_set import to_support_set
from service.tasks.support_warnings import count_truncated


async def classify(parts: Parts, tenant: str, asked: ClassifyRequest) -> ClassifyResponse:
    """Classifies texts with an adapter that is made for them and forgotten.

    Args:
        parts: The app's parts.
        tenant: The tenant of the request.
        asked: The support set and the queries.

    Raises:
        InvalidContent: A limit is passed, or a text or label is unusable.
        UnknownCheckpoint: No loaded checkpoint has the name.
    """
    checked = to_support_set(asked, parts.settings)
    support, queries = checked.support, to_queries(asked, parts.settings)
    queries.check_pairs(support.pairs)
    adaptation, choice = await adapted(parts, tenant, checked, options_of(asked), asked.checkpoint)
    adapter = adaptation.adapter
    refuse_unusable(adapter, asked)
    queries = queries_of_kind(queries, asked, support.kind, parts.settings)
    tokenized = parts.engine.tokenize(parts.engine.checkpoints.of(adapter), queries.inputs)
    result = await parts.engine.predict(tenant, adapter, tokenized)
    predictions = answered(parts, adapter, result, queries, tokenized.result(), asked)
    if asked.explain:
        models = parts.engine.checkpoints.of(adapter)
        features = await parts.engine.features(tenant, models, adaptation.texts[: adaptation.plan.n_examples])
        known, texts = KnownExamples(support, features), tokenized.result()
        explain(predictions, await nearest_examples(parts, tenant, adapter, known, texts, result.probabilities))
    return ClassifyResponse(
        labels=list(support.labels),
        predictions=predictions,
        losses=adaptation.losses,
        support_accuracy=adaptation.support_accuracy,
        leave_one_out_accuracy=adaptation.leave_one_out_accuracy,
        checkpoint=adapter.checkpoint,
        checkpoint_choice=choice,
        truncated=count_truncated(checked, adaptation) + sum(prediction.truncated for prediction in predictions),
        warnings=await warnings_of(parts, checked, adaptation),
        **kind_fields(support.kind, support.labels, adapter.decision, adaptation.figures),
    )
