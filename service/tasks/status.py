"""The state of the service: its readiness and its loaded checkpoint."""

from handful.wire import CheckpointResponse
from model_store.errors import StoreEmptied, StoreUnavailable
from service.tasks.app_parts import Parts
from service.tasks.checks import limits_of


async def readiness(parts: Parts, *, draining: bool, without_store: bool = False) -> dict[str, bool]:
    """The conditions for serving requests, and whether each of them holds."""
    checks = {"compute": parts.engine.alive, "not_draining": not draining}
    if without_store:
        return checks
    store, emptied = True, False
    try:
        await parts.access.call(parts.access.store.ping)
        await parts.access.confirm()
    except StoreEmptied:
        emptied = True
    except StoreUnavailable:
        store = False
    checks["store"] = store
    return checks | ({"store_not_emptied": False} if emptied else {})


def loaded_checkpoint(parts: Parts) -> CheckpointResponse:
    """The checkpoint that answers, and the limits on requests."""
    loaded = parts.engine.checkpoint
    manifest = loaded.manifest
    return CheckpointResponse(
        name=manifest.name,
        fingerprint=manifest.fingerprint,
        learner=manifest.learner,
        placement=manifest.adaptation.placement,
        fast_layers=manifest.adaptation.fast_layers,
        steps=manifest.hyperparameters.steps if loaded.learner.descends else 0,
        encoder={
            "source": manifest.encoder.source,
            "dim": loaded.encoder.dim,
            "max_tokens": manifest.encoder.max_tokens,
            "licence": manifest.encoder.licence,
        },
        device=str(loaded.encoder.device),
        runtime=parts.engine.models.runtime.name,
        limits=dict(limits_of(parts.settings)),
    )
