"""The one composition root."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import torch
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from pydantic.json_schema import models_json_schema

from metalearn.encoder import select_device
from metalearn.types import TextInput
from model_store.checkpoint import Checkpoint, resolve_checkpoint
from service.auth import Authenticator
from service.engine.adapter_cache import AdapterCache
from service.engine.adapters import Adapters
from service.engine.engine import Engine
from service.errors import install_error_handlers
from service.metrics import Metrics
from service.request_context import RequestContext
from service.routes import adapt, health, predict, tasks
from service.routes.request import Parts
from service.schemas import AdaptRequest, ClassifyRequest, PredictRequest, Problem, RollbackRequest
from service.settings import Settings, granted_threads
from service.store_access import StoreAccess, open_store

log = logging.getLogger("handful")

_REQUEST_MODELS = (AdaptRequest, PredictRequest, ClassifyRequest, RollbackRequest, Problem)


def create_app(settings: Settings, *, trusted: bool = False) -> FastAPI:
    """The service as an ASGI app. The checkpoint is loaded and the store opened when the app starts.

    Args:
        settings: Everything that can be configured.
        trusted: Let callers in without a key; see ``Authenticator``. Never for an app behind a socket.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts = _start(settings, metrics, trusted=trusted)
        app.state.parts = parts
        try:
            yield
        finally:
            parts.engine.close()
            parts.access.close()

    app = FastAPIOffline(
        title="Handful",
        version="1",
        summary="A handful of labelled examples in, a classifier out.",
        lifespan=lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.draining = False
    for module in (adapt, predict, tasks, health):
        app.include_router(module.router)
    install_error_handlers(app)
    app.add_middleware(RequestContext, metrics=metrics, max_inflight_requests=settings.max_inflight_requests)
    _document_bodies(app)
    return app


def _start(settings: Settings, metrics: Metrics, *, trusted: bool) -> Parts:
    torch.set_num_threads(settings.threads or granted_threads())
    checkpoint = Checkpoint(resolve_checkpoint(settings.checkpoint), select_device(settings.device))
    access = StoreAccess(open_store(settings), metrics)
    engine = Engine(checkpoint, settings, metrics)
    # The first pass is slow; the first request should not be
    checkpoint.encoder.encode_batch(checkpoint.encoder.tokenize([TextInput("warm up")]))
    cache = AdapterCache(metrics, max_bytes=settings.cache_max_bytes, max_adapters=settings.cache_max_adapters)
    device = str(checkpoint.encoder.device)
    metrics.checkpoint_info.labels(
        checkpoint.manifest.name, checkpoint.fingerprint, checkpoint.learner.name, device, health.RUNTIME
    ).set(1)
    may_be_open = settings.is_loopback or settings.allow_open
    log.info(
        "checkpoint %s (%s) on %s, store %s",
        checkpoint.manifest.name,
        checkpoint.fingerprint[:12],
        device,
        access.store.kind,
    )
    return Parts(
        settings=settings,
        metrics=metrics,
        engine=engine,
        adapters=Adapters(access, cache, checkpoint),
        access=access,
        authenticator=Authenticator(access, may_be_open=may_be_open, trusted=trusted, cache_s=settings.auth_cache_s),
    )


def _document_bodies(app: FastAPI) -> None:
    """Adds the bodies that routes read themselves to the OpenAPI document."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            _, definitions = models_json_schema(
                [(model, "validation") for model in _REQUEST_MODELS], ref_template="#/components/schemas/{model}"
            )
            document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
