"""The evidence about a task on the compute thread, slice by slice."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.adapting import adapt
from metalearn.body import MlpBody
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.evidence.held_back import HeldBack, compare_held_back
from metalearn.evidence.left_out import LeftOut, answer_left_out
from metalearn.evidence.left_out_outputs import LeftOutOutputs, compare_left_out, outputs_left_out
from metalearn.meta_model import MetaModel
from metalearn.objectives import OBJECTIVES
from metalearn.options import AdaptOptions
from metalearn.placement import HeadOnly
from metalearn.prepared import LabelTexts, PreparedSet
from metalearn.support_plan import SupportPlan
from metalearn.types import SupportSet
from model_store.checkpoint import Checkpoint
from model_store.learner_models import LoadedModel
from service.engine.support_batches import SupportBatches
from service.engine.threads import shared_if_worth_it


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evidence about a task, on the CPU.

    Attributes:
        left_out: Answers to the examples without themselves.
        features: Features of the examples.
        texts: The examples as the encoder reads them.
        unlabelled: Features of the unlabelled texts.
        probabilities: Class probabilities of the unlabelled texts by a head of all examples.
        queue_s: Time waited.
    """

    left_out: LeftOut
    features: Float[Tensor, "examples dim"]
    texts: Sequence[TokenizedText]
    unlabelled: Float[Tensor, "texts dim"]
    probabilities: Float[Tensor, "texts classes"]
    queue_s: float = 0.0


@dataclass(frozen=True, slots=True)
class KindEvidence:
    """The evidence about a task of several labels, scores or places, on the CPU.

    Attributes:
        left_out: Outputs for the examples without themselves.
        features: Features of the examples.
        texts: The examples as the encoder reads them.
        queue_s: Time waited.
    """

    left_out: LeftOutOutputs
    features: Float[Tensor, "examples dim"]
    texts: Sequence[TokenizedText]
    queue_s: float = 0.0


def feature_slices(
    batches: SupportBatches, tenant: str, texts: Sequence[TokenizedText]
) -> Generator[int, None, Float[Tensor, "texts dim"]]:
    """Features of texts, on the CPU.

    Yields:
        The number of tokens encoded, after each slice.
    """
    encoded = yield from batches.encoded(tenant, texts)
    return encoded.features().cpu() if texts else torch.empty(0, 0)


def evidence_slices(
    loaded: LoadedModel,
    checkpoint: Checkpoint,
    plan: SupportPlan,
    texts: Sequence[TokenizedText],
    same_texts: Sequence[int],
    options: AdaptOptions,
    *,
    tenant: str,
    batches: SupportBatches,
) -> Generator[int, None, Evidence]:
    """Encodes the texts without known features, then adapts on many subsets of the examples.

    Args:
        loaded: The model that adapts; of its fast weights the head alone counts.
        checkpoint: The checkpoint, with the defaults of the options.
        plan: The classes of the first texts: of the examples, and then of the label texts.
        texts: The texts as the plan lists them, and then the unlabelled ones.
        same_texts: A number of each example's text, the same for copies.
        options: The options of the adaptation.
        tenant: The tenant whose texts these are.
        batches: Encodes the texts, together with those of adaptations.

    Yields:
        The number of tokens encoded, after each slice.
    """
    features = (yield from batches.encoded(tenant, texts)).features()
    n = plan.n_examples
    support, unlabelled = _prepared(plan, features)
    examples, model = support.inputs, _on_features(loaded)
    steps = checkpoint.manifest.hyperparameters.steps
    products = examples.numel() * plan.n_classes
    slices = answer_left_out(model, loaded.slow_weights, support, same_texts, options, default_steps=steps)
    while True:
        try:
            with shared_if_worth_it(products), torch.no_grad():
                next(slices)
        except StopIteration as done:
            left_out: LeftOut = done.value
            break
        yield 0
    probabilities = unlabelled.new_zeros(unlabelled.shape[0], plan.n_classes)
    if len(unlabelled):
        with shared_if_worth_it(products), torch.no_grad():
            own = adapt(model, loaded.slow_weights, support, options, default_steps=steps).fast_weights
            probabilities = model.learner.logits(own, unlabelled).softmax(dim=1)
    return Evidence(left_out, examples.cpu(), texts[:n], unlabelled.cpu(), probabilities.cpu())


def held_back_slices(
    loaded: LoadedModel,
    checkpoint: Checkpoint,
    plan: SupportPlan,
    texts: Sequence[TokenizedText],
    same_texts: Sequence[int],
    sides: tuple[Sequence[bool], Sequence[bool]],
    options: AdaptOptions,
    *,
    tenant: str,
    batches: SupportBatches,
) -> Generator[int, None, HeldBack]:
    """Encodes the texts without known features, then adapts on subsets of the support set before and after a change.

    Args:
        loaded: The model that adapts; of its fast weights the head alone counts.
        checkpoint: The checkpoint, with the defaults of the options.
        plan: The classes of the texts: of the examples, and then of the label texts.
        texts: The texts as the plan lists them.
        same_texts: A number of each example's text, the same for copies.
        sides: Whether each example is in the support set before the change, and after it.
        options: The options of the adaptation.
        tenant: The tenant whose texts these are.
        batches: Encodes the texts, together with those of adaptations.

    Yields:
        The number of tokens encoded, after each slice.
    """
    support, _ = _prepared(plan, (yield from batches.encoded(tenant, texts)).features())
    before, after = (torch.tensor(side, dtype=torch.bool) for side in sides)
    slices = compare_held_back(
        _on_features(loaded),
        loaded.slow_weights,
        support,
        same_texts,
        before,
        after,
        options,
        default_steps=checkpoint.manifest.hyperparameters.steps,
    )
    while True:
        try:
            with shared_if_worth_it(support.inputs.numel() * plan.n_classes), torch.no_grad():
                next(slices)
        except StopIteration as done:
            result: HeldBack = done.value
            return result
        yield 0


def kind_evidence_slices(
    loaded: LoadedModel,
    plan: SupportPlan,
    texts: Sequence[TokenizedText],
    support: SupportSet,
    *,
    tenant: str,
    batches: SupportBatches,
) -> Generator[int, None, KindEvidence]:
    """Encodes the texts without known features, then asks for each example of another kind than one label without it.

    Args:
        loaded: The model that adapts.
        plan: The targets of the texts.
        texts: The texts as the plan lists them.
        support: The examples, all with a weight.
        tenant: The tenant whose texts these are.
        batches: Encodes the texts, together with those of adaptations.

    Yields:
        The number of tokens encoded, after each slice.
    """
    prepared, _ = _prepared(plan, (yield from batches.encoded(tenant, texts)).features())
    with shared_if_worth_it(prepared.inputs.numel() * plan.n_classes), torch.no_grad():
        found = outputs_left_out(
            _on_features(loaded), loaded.slow_weights, prepared, kind=support.kind, n_labels=len(support.labels)
        )
    outputs = None if found.outputs is None else found.outputs.cpu()
    left_out = replace(found, outputs=outputs, by_ridge=found.by_ridge.cpu())
    return KindEvidence(left_out, prepared.inputs.cpu(), texts[: plan.n_examples])


def kind_held_back_slices(
    loaded: LoadedModel,
    plan: SupportPlan,
    texts: Sequence[TokenizedText],
    support: SupportSet,
    sides: tuple[Sequence[bool], Sequence[bool]],
    *,
    tenant: str,
    batches: SupportBatches,
) -> Generator[int, None, HeldBack]:
    """Encodes the texts without known features, then asks for examples left out before and after a change.

    Args:
        loaded: The model that adapts.
        plan: The targets of the texts.
        texts: The texts as the plan lists them.
        support: The examples of both sides, of another kind than one label.
        sides: Whether each example is in the support set before the change, and after it.
        tenant: The tenant whose texts these are.
        batches: Encodes the texts, together with those of adaptations.

    Yields:
        The number of tokens encoded, after each slice.
    """
    prepared, _ = _prepared(plan, (yield from batches.encoded(tenant, texts)).features())
    before, after = (torch.tensor(side, dtype=torch.bool, device=prepared.weights.device) for side in sides)
    model, slow, n_labels = _on_features(loaded), loaded.slow_weights, len(support.labels)
    with shared_if_worth_it(prepared.inputs.numel() * plan.n_classes), torch.no_grad():
        return compare_left_out(model, slow, prepared, before, after, kind=support.kind, n_labels=n_labels)


def _prepared(
    plan: SupportPlan, features: Float[Tensor, "texts dim"]
) -> tuple[PreparedSet, Float[Tensor, "others dim"]]:
    """The support set of a plan's features, and the features behind those."""
    n, n_labels = plan.n_examples, len(plan.label_classes)
    examples, of_labels, others = features.tensor_split([n, n + n_labels])
    device = features.device
    label_texts = LabelTexts(of_labels, torch.tensor(plan.label_classes, device=device)) if n_labels else None
    targets = OBJECTIVES[plan.objective].targets(plan.targets, plan.n_classes).to(device)
    weights = torch.tensor(plan.weights or (1.0,) * n, dtype=torch.float32, device=device)
    return PreparedSet(examples, targets, weights, plan.n_classes, plan.objective, label_texts), others


def _on_features(loaded: LoadedModel) -> MetaModel:
    """The model on features, with a head alone."""
    return replace(loaded.model, body=MlpBody((loaded.model.body.dim,)), placement=HeadOnly())
