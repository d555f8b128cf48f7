"""The state of the service: its readiness and its loaded checkpoints."""

from handful.checkpoint_answers import CheckpointList, CheckpointResponse
from model_store.errors import StoreEmptied, StoreUnavailable
from model_store.learner_models import Models
from service.settings import Settings
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


def loaded_checkpoints(parts: Parts) -> CheckpointList:
    """The loaded checkpoints, the default one first."""
    return CheckpointList(checkpoints=[_response(models, parts.settings) for models in parts.engine.checkpoints])


def _response(models: Models, settings: Settings) -> CheckpointResponse:
    loaded = models.checkpoint
    manifest = loaded.manifest
    return CheckpointResponse(
        name=manifest.name,
        fingerprint=manifest.fingerprint,
        learner=manifest.learner,
        placement=manifest.adaptation.placement,
        fast_layers=manifest.adaptation.fast_layers,
        steps=manifest.hyperparameters.steps if loaded.learner.descends else 0,
        languages=manifest.languages,
        encoder={
            "source": manifest.encoder.source,
            "dim": loaded.encoder.dim,
            "max_tokens": manifest.encoder.max_tokens,
            "licence": manifest.encoder.licence,
        },
        device=str(loaded.encoder.device),
        runtime=models.runtime.name,
        limits=dict(limits_of(settings)),
    )
