"""The adaptation on the compute thread: from a support set to an adapter, slice by slice."""

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.adapting import Adapted, adapt_stepwise, left_out_classes
from metalearn.body import HiddenTexts, TextBody
from metalearn.devices import wait_for
from metalearn.encoder.batches import plan_batches
from metalearn.encoder.pooling import HiddenBatch
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.errors import InvalidSupportSet
from metalearn.evidence.decisions import judged
from metalearn.leave_one_out import share_right
from metalearn.objectives import OBJECTIVES
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from metalearn.support_plan import SupportPlan, prepared_support, support_accuracy
from metalearn.types import Adapter, SupportSet
from model_store.checkpoint import Checkpoint
from model_store.learner_models import LoadedModel
from service.engine.errors import TextEmpty
from service.engine.support_batches import SupportBatches
from service.engine.threads import shared_if_worth_it


@dataclass(frozen=True, slots=True)
class Adaptation:
    """The result of an adaptation.

    Attributes:
        adapter: The task's own weights.
        steps: Inner steps taken.
        losses: Support loss before the first step and after each step.
        support_accuracy: Share of the examples that the adapter classifies correctly; None without examples.
        leave_one_out_accuracy: Share of the examples that are classified correctly without themselves; None where each
            is the only one of its class.
        left_out: The class of each example without itself, -1 for the only one of its class; None where classes do not
            exclude each other.
        truncated: Number of texts that were cut.
        queue_s: Time waited.
        encode_s: Time spent encoding.
        inner_s: Time spent in the inner loop.
        plan: The class of each of ``texts``.
        texts: The examples and the label texts as the encoder reads them.
        label_text_ignored: Whether the label-text gate has closed, so that the label texts have no weight.
        figures: Figures of the answers to examples without themselves, by name; None for classifications.
    """

    adapter: Adapter
    steps: int
    losses: list[float]
    support_accuracy: float | None
    leave_one_out_accuracy: float | None
    left_out: Sequence[int] | None
    truncated: int
    queue_s: float
    encode_s: float
    inner_s: float
    plan: SupportPlan
    texts: Sequence[TokenizedText]
    label_text_ignored: bool
    figures: Mapping[str, float] | None = None


def refuse_empty(texts: Sequence[TokenizedText], field: Literal["support", "queries", "unlabelled"]) -> None:
    """Refuses texts that hold nothing for the encoder to read, such as control characters alone.

    Args:
        texts: The texts.
        field: The list of the request that they are from.

    Raises:
        TextEmpty: Some texts are empty; the error lists all of them.
    """
    indices = [i for i, text in enumerate(texts) if text.empty]
    if indices:
        raise TextEmpty(field, indices)


def readable(
    plan: SupportPlan, support: SupportSet, texts: Sequence[TokenizedText]
) -> tuple[SupportPlan, list[TokenizedText]]:
    """Drops label texts that hold nothing to read from a plan and its texts.

    Raises:
        TextEmpty: An example holds nothing to read.
        InvalidSupportSet: A class has no example, and nothing to read in its description either.
    """
    refuse_empty(texts[: plan.n_examples], "support")
    kept = [i for i, text in enumerate(texts) if not text.empty]
    label_classes = tuple(plan.label_classes[i - plan.n_examples] for i in kept[plan.n_examples :])
    for index in sorted(set(plan.label_classes) - {*support.of_classes.class_indices, *label_classes}):
        label = support.labels[index]
        raise InvalidSupportSet(
            "class_without_examples",
            f"the class {label!r} has no example, and its description holds nothing to read: add an example",
            ("labels", label),
        )
    kept_plan = replace(plan, inputs=tuple(plan.inputs[i] for i in kept), label_classes=label_classes)
    return kept_plan, [texts[i] for i in kept]


def adapt_slices(
    loaded: LoadedModel,
    checkpoint: Checkpoint,
    plan: SupportPlan,
    support: SupportSet,
    texts: Sequence[TokenizedText],
    options: AdaptOptions,
    *,
    tenant: str,
    batches: SupportBatches,
    background: bool = False,
) -> Generator[int, None, Adaptation]:
    """Encodes the texts without known features batch by batch, then takes the inner steps one by one.

    Args:
        loaded: The model that adapts.
        checkpoint: The checkpoint, with the defaults of the options.
        plan: The class of each text.
        support: The examples.
        texts: The texts, as the plan lists them.
        options: The options of the adaptation.
        tenant: The tenant whose texts these are.
        batches: Encodes the texts, together with those of other adaptations.
        background: Whether no request waits for the adaptation.

    Yields:
        The number of tokens encoded, after each slice.

    Raises:
        AdaptationDiverged: The inner loop left the finite numbers.
    """
    model, slow, device = loaded.model, loaded.slow_weights, checkpoint.encoder.device
    # Fast weights below the head start from the states of every token, which are too many to keep or to share
    examples, label_texts, encode_s = (
        yield from _own_hidden(loaded.body, texts, plan.n_examples, batches.max_batch_tokens)
        if loaded.is_deep
        else _shared_features(batches, tenant, texts, plan.n_examples, background=background)
    )
    began, inner_s = time.perf_counter(), 0.0
    prepared = prepared_support(plan, examples, label_texts)
    dim = model.body.dim
    # Multiplications of one product: of all tokens with a layer, or of all texts with a head
    products = dim * (dim * sum(len(text.ids) for text in texts) if loaded.is_deep else len(texts) * plan.n_classes)
    default_steps = checkpoint.manifest.hyperparameters.steps
    slices = adapt_stepwise(model, slow, prepared, options, default_steps=default_steps)
    while True:
        try:
            with shared_if_worth_it(products):
                next(slices)
        except StopIteration as done:
            adapted: Adapted = done.value
            break
        wait_for(device)
        inner_s += time.perf_counter() - began
        yield 0
        began = time.perf_counter()
    own = adapted.fast_weights
    with shared_if_worth_it(products), torch.no_grad():
        logits = model.outputs(slow, own, examples) if support.examples else torch.empty(0, plan.n_classes)
        left_out = left_out_classes(model, slow, prepared, adapted, n_labels=len(support.labels))
        found = judged(support.kind, len(support.labels), prepared.targets, model.left_out_outputs(slow, adapted.start))
    if support.kind == "single_label":
        of_classes = [i for i, example in enumerate(support.examples) if example.of_class]
        accuracy = support_accuracy(logits[of_classes], support.of_classes.class_indices)
    else:
        accuracy = OBJECTIVES[plan.objective].accuracy(logits, prepared.targets)
    return Adaptation(
        adapter=Adapter(
            own,
            support.labels,
            checkpoint.fingerprint,
            model.learner.name,
            support.pairs,
            plan.objective,
            support.has_out_of_scope,
            found.decision,
        ),
        steps=len(adapted.losses) - 1,
        losses=adapted.losses.tolist(),
        support_accuracy=accuracy,
        leave_one_out_accuracy=None if left_out is None else share_right(left_out, *_targets_and_weights(prepared)),
        left_out=left_out,
        truncated=sum(text.truncated for text in texts[: plan.n_examples]),
        queue_s=0.0,
        encode_s=encode_s,
        inner_s=inner_s + time.perf_counter() - began,
        plan=plan,
        texts=texts,
        label_text_ignored=adapted.ignores_label_texts,
        figures=found.figures,
    )


def _targets_and_weights(support: PreparedSet) -> tuple[list[int], list[float]]:
    """Classes and weights of the examples that have any weight."""
    kept = support.weights > 0
    return support.targets[kept].tolist(), support.weights[kept].tolist()


def _shared_features(
    batches: SupportBatches, tenant: str, texts: Sequence[TokenizedText], n_examples: int, *, background: bool
) -> Generator[int, None, tuple[HiddenTexts, HiddenTexts | None, float]]:
    """Encodes examples and label texts in shared batches; returns one feature token per text, and the seconds."""
    waiting = yield from batches.encoded(tenant, texts, background=background)
    examples, label_texts = (_as_hidden(rows) for rows in waiting.features().tensor_split([n_examples]))
    return examples, label_texts if len(texts) > n_examples else None, waiting.encode_s


def _as_hidden(features: Float[Tensor, "texts dim"]) -> HiddenTexts:
    order = torch.arange(features.shape[0], device=features.device)
    return HiddenTexts((HiddenBatch.of_features(features),), order)


def _own_hidden(
    body: TextBody, texts: Sequence[TokenizedText], n_examples: int, max_batch_tokens: int
) -> Generator[int, None, tuple[HiddenTexts, HiddenTexts | None, float]]:
    """Encodes examples and label texts with the frozen layers; returns their states, and the seconds."""
    parts, encode_s = [], 0.0
    for part in (texts[:n_examples], texts[n_examples:]):
        plan, begun = plan_batches([len(text.ids) for text in part], max_batch_tokens), []
        for rows in plan:
            began = time.perf_counter()
            begun.append(body.begin([part[i] for i in rows]))
            wait_for(body.encoder.device)
            encode_s += time.perf_counter() - began
            yield sum(len(part[i].ids) for i in rows)
        parts.append(body.joined(plan, begun))
    return parts[0], parts[1] if len(texts) > n_examples else None, encode_s
