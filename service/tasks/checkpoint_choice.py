"""The checkpoint that adapts: the one that a request names, or the best of all loaded ones on the support set."""

from collections.abc import Sequence

from handful.checkpoint_answers import CheckpointCandidate, CheckpointChoice
from metalearn.decision import TaskKind
from metalearn.errors import MetalearnError
from metalearn.options import AdaptOptions
from model_store.learner_models import Models
from service.engine.adapt_slices import Adaptation
from service.engine.errors import SupportTooLarge, TextEmpty
from service.tasks.app_parts import Parts
from service.tasks.support_set import CheckedSupport
from service.timings import add_to_current

AUTO = "auto"


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

    ``auto`` adapts from each loaded checkpoint and takes the one with the best leave-one-out accuracy. Of several with
    the same accuracy it takes the fastest, and of equally fast ones the first. Without an accuracy it takes the first,
    the default one.

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
    best = max((accuracy for accuracy in accuracies.values() if accuracy is not None), default=None)
    tied = [models for models in made if accuracies[models] == best]
    chosen = tied[0] if best is None else min(tied, key=lambda models: models.weights_per_token)
    candidates = [
        CheckpointCandidate(
            name=models.checkpoint.manifest.name,
            fingerprint=models.checkpoint.fingerprint,
            leave_one_out_accuracy=accuracies.get(models),
            error=str(refused[models]) if models in refused else None,
        )
        for models in checkpoints
    ]
    kind = checked.support.kind
    reason = _reason(chosen, tied, best, n_loaded=len(checkpoints), kind=kind)
    return made[chosen], CheckpointChoice(reason=reason, candidates=candidates)


def _reason(chosen: Models, tied: Sequence[Models], best: float | None, *, n_loaded: int, kind: TaskKind) -> str:
    name = repr(chosen.checkpoint.manifest.name)
    if n_loaded == 1:
        return f"{name} is the only loaded checkpoint"
    if kind != "single_label":
        return (
            f"checkpoints are compared by leave-one-out accuracy, which {kind} tasks lack: {name} is the first in order"
        )
    if best is None:
        return f"no class has two examples, so that none can be left out: {name} is the first in order"
    if len(tied) == 1:
        return f"{name} has the best leave-one-out accuracy, {best:.3f}"
    same = f"{len(tied)} checkpoints have the best leave-one-out accuracy, {best:.3f}"
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
