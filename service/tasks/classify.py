"""The use case classify: adapts on a support set and answers queries at once; stores nothing."""

from handful.wire import ClassifyRequest, ClassifyResponse
from service.tasks.adapt import options_of, warnings_of
from service.tasks.app_parts import Parts
from service.tasks.checkpoint_choice import adapted
from service.tasks.examples_in_memory import KnownExamples
from service.tasks.explain import explain, nearest_examples
from service.tasks.kind_answers import kind_fields, refuse_unusable
from service.tasks.only_labels import check_labels, classes_of
from service.tasks.predict import answers_of
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
    refuse_unusable(support.kind, asked)
    check_labels(asked, support.labels)
    adaptation, choice = await adapted(parts, tenant, checked, options_of(asked), asked.checkpoint)
    adapter = adaptation.adapter
    queries = queries_of_kind(queries, asked, support.kind, parts.settings)
    tokenized = parts.engine.tokenize(parts.engine.checkpoints.of(adapter), queries.inputs)
    result = await parts.engine.predict(tenant, adapter, tokenized)
    predictions = await answers_of(support.kind, parts, adapter, result, queries, tokenized.result(), asked)
    if asked.explain:
        models = parts.engine.checkpoints.of(adapter)
        shown = [adaptation.texts[i] for i, e in enumerate(support.examples) if e.of_class]
        features = await parts.engine.features(tenant, models, shown)
        known, texts = KnownExamples(support.of_classes, features), tokenized.result()
        answers = classes_of(asked.only_labels, adapter.labels), result.probabilities
        explain(predictions, await nearest_examples(parts, tenant, adapter, known, texts, *answers))
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
