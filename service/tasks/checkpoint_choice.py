"""The checkpoint that adapts: the one that a request names, or the best of all loaded ones on the support set."""

from collections.abc import Mapping, Sequence

from handful.checkpoint_answers import CheckpointCandidate, CheckpointChoice
from metalearn.decision import TaskKind
from metalearn.errors import MetalearnError
from metalearn.evidence.decisions import quality
from metalearn.options import AdaptOptions
from model_store.learner_models import Models
from service.engine.adapt_slices import Adaptation
from service.engine.errors import SupportTooLarge, TextEmpty
from service.tasks.app_parts import Parts
from service.tasks.support_set import CheckedSupport
from service.timings import add_to_current

AUTO = "auto"
_TOO_FEW = "there are too few examples, or another learner, so that none can be left out"
_NOTHING_LEFT_OUT: Mapping[TaskKind, str] = {
    "single_label": "no class has two examples, so that none can be left out",
    "tokens": "there is one sentence alone, or there are too many to leave each out",
}


async def adapted(
    parts: Parts,
    tenant: str,
    checked: CheckedSupport,
    options: AdaptOptions,
    checkpoint: str | None,
    *,
    background: bool = False,
) -> tuple[Adaptation, CheckpointChoice | None]:
    """An adaptation on the compute thread, its time noted for the request, and the choice behind ``auto``.

    ``auto`` adapts from each loaded checkpoint and takes the one with the best leave-one-out accuracy, or the best
    ``quality`` where several labels, scores or places are answered. Of several with the same it takes the fastest, and
    of equally fast ones the first. Without a figure it takes the first, the default one.

    Args:
        parts: The app's parts.
        tenant: The tenant of the support set.
        checked: The support set.
        options: The options of the adaptation.
        checkpoint: The name or fingerprint of a loaded checkpoint, or ``auto``; None for the default one.
        background: Whether no request waits for it.

    Raises:
        UnknownCheckpoint: No loaded checkpoint has the name.
    """
    checkpoints = parts.engine.checkpoints
    if checkpoint != AUTO:
        return await _adapted(parts, tenant, checkpoints.named(checkpoint), checked, options, background), None
    made: dict[Models, Adaptation] = {}
    refused: dict[Models, Exception] = {}
    for models in checkpoints:
        try:
            made[models] = await _adapted(parts, tenant, models, checked, options, background)
        except (MetalearnError, SupportTooLarge, TextEmpty) as error:  # another checkpoint may accept this support set
            refused[models] = error
    if not made:
        raise refused[checkpoints.default]
    accuracies = {models: adaptation.leave_one_out_accuracy for models, adaptation in made.items()}
    measured = {models: _measured(adaptation) for models, adaptation in made.items()}
    best = max((found for found in measured.values() if found is not None), default=None)
    tied = [models for models in made if measured[models] == best]
    chosen = tied[0] if best is None else min(tied, key=lambda models: models.weights_per_token)
    candidates = [
        CheckpointCandidate(
            name=models.checkpoint.manifest.name,
            fingerprint=models.checkpoint.fingerprint,
            leave_one_out_accuracy=accuracies.get(models),
            leave_one_out=made[models].figures if models in made else None,
            error=str(refused[models]) if models in refused else None,
        )
        for models in checkpoints
    ]
    kind = checked.support.kind
    reason = _reason(chosen, tied, best, n_loaded=len(checkpoints), kind=kind)
    return made[chosen], CheckpointChoice(reason=reason, candidates=candidates)


def _measured(adaptation: Adaptation) -> tuple[str, float] | None:
    """The figure by which checkpoints are compared, with its name: the same name for all on one support set."""
    accuracy = adaptation.leave_one_out_accuracy
    return quality(adaptation.figures) if accuracy is None else ("accuracy", accuracy)


def _reason(
    chosen: Models, tied: Sequence[Models], best: tuple[str, float] | None, *, n_loaded: int, kind: TaskKind
) -> str:
    name = repr(chosen.checkpoint.manifest.name)
    if n_loaded == 1:
        return f"{name} is the only loaded checkpoint"
    if best is None:
        return f"{_NOTHING_LEFT_OUT.get(kind, _TOO_FEW)}: {name} is the first in order"
    measure = f"leave-one-out {best[0]}, {best[1]:.3f}"
    if len(tied) == 1:
        return f"{name} has the best {measure}"
    same = f"{len(tied)} checkpoints have the best {measure}"
    if sum(models.weights_per_token == chosen.weights_per_token for models in tied) == 1:
        return f"{same}: {name} is the fastest of them"
    return f"{same}: {name} is the fastest of them, or the first of equally fast ones"


async def _adapted(
    parts: Parts, tenant: str, models: Models, checked: CheckedSupport, options: AdaptOptions, background: bool
) -> Adaptation:
    adaptation = await parts.engine.adapt(tenant, models, checked.support, options, background=background)
    add_to_current("queue", adaptation.queue_s)
    add_to_current("encode", adaptation.encode_s)
    add_to_current("adapt", adaptation.inner_s)
    return adaptation
