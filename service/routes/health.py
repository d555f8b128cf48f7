"""What operators ask: alive, ready, metrics, checkpoint."""

import json

from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from handful.wire import CheckpointResponse
from model_store.errors import StoreEmptied, StoreUnavailable
from service.conversion import limits_of
from service.routes.request import PROBLEMS, AppParts, Parts, Tenant, json_response

router = APIRouter(tags=["operations"])


@router.get("/livez", include_in_schema=False)
async def livez(parts: AppParts) -> Response:
    """Whether this process can still do its work; asks nobody else. 503 means: start it anew."""
    return _status({"compute": parts.engine.alive})


@router.get("/readyz", include_in_schema=False)
async def readyz(request: Request, parts: AppParts) -> Response:
    """Whether requests should be sent here now; with ``?without=store`` whatever the store does."""
    without_store = request.query_params.get("without") == "store"
    return _status(await readiness(parts, draining=request.app.state.draining, without_store=without_store))


async def readiness(parts: Parts, *, draining: bool, without_store: bool = False) -> dict[str, bool]:
    """What has to hold for requests to be served, and whether it does."""
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


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, parts: AppParts) -> Response:
    """For Prometheus, in the format that it asks for."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(parts.metrics.exposed), headers={"Content-Type": content_type})


@router.get("/v1/checkpoint", response_model=CheckpointResponse, responses=PROBLEMS)
async def show_checkpoint(_: Tenant, parts: AppParts) -> Response:
    """What answers, and what it accepts."""
    loaded = parts.engine.checkpoint
    manifest = loaded.manifest
    return json_response(
        CheckpointResponse(
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
    )


def _status(checks: dict[str, bool]) -> Response:
    ok = all(checks.values())
    return Response(
        json.dumps({"status": "ok" if ok else "unavailable", "checks": checks}),
        status_code=200 if ok else 503,
        media_type="application/json",
        headers={} if ok else {"Retry-After": "1"},
    )
