"""The routes for operators: liveness, readiness, metrics and checkpoints."""

import json

from fastapi import APIRouter, Request
from prometheus_client.exposition import choose_encoder
from starlette.responses import Response

from handful.checkpoint_answers import CheckpointList, CheckpointResponse
from service.routes.request import PROBLEMS, AppParts, Tenant, json_response
from service.tasks.status import loaded_checkpoints, readiness

router = APIRouter(tags=["operations"])


@router.get("/livez", include_in_schema=False)
async def livez(parts: AppParts) -> Response:
    """Whether this process can still compute; depends on no other service. 503 means: restart it."""
    return _status({"compute": parts.engine.alive})


@router.get("/readyz", include_in_schema=False)
async def readyz(request: Request, parts: AppParts) -> Response:
    """Whether requests should be sent here now; ``?without=store`` leaves the store out."""
    without_store = request.query_params.get("without") == "store"
    return _status(await readiness(parts, draining=request.app.state.draining, without_store=without_store))


@router.get("/metrics", include_in_schema=False)
async def metrics(request: Request, parts: AppParts) -> Response:
    """The metrics for Prometheus, in the format that it asks for."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(parts.metrics.exposed), headers={"Content-Type": content_type})


@router.get("/v1/checkpoint", response_model=CheckpointResponse, responses=PROBLEMS)
async def show_checkpoint(_: Tenant, parts: AppParts) -> Response:
    """The default checkpoint and the limits on requests."""
    return json_response(loaded_checkpoints(parts).checkpoints[0])


@router.get("/v1/checkpoints", response_model=CheckpointList, responses=PROBLEMS)
async def list_checkpoints(_: Tenant, parts: AppParts) -> Response:
    """All loaded checkpoints, the default one first."""
    return json_response(loaded_checkpoints(parts))


def _status(checks: dict[str, bool]) -> Response:
    ok = all(checks.values())
    return Response(
        json.dumps({"status": "ok" if ok else "unavailable", "checks": checks}),
        status_code=200 if ok else 503,
        media_type="application/json",
        headers={} if ok else {"Retry-After": "1"},
    )
