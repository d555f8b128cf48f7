"""The one composition root."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.middleware.cors import CORSMiddleware

from handful.report_request import ReportRequest
from handful.wire import (
    AdaptRequest,
    ClassifyRequest,
    PredictRequest,
    Problem,
    RollbackRequest,
)
from handful.wire_examples import AddExamplesRequest
from handful.wire_feedback import FeedbackRequest
from handful.wire_playground import MapRequest
from handful.wire_readapt import ReadaptRequest
from metalearn.devices import select_device
from metalearn.types import TextInput
from model_store.checkpoint import Checkpoint, Encoders, read_manifest, resolve_checkpoint
from model_store.errors import StoreUnavailable
from model_store.learner_models import Models, modulated_norms
from model_store.loaded_checkpoints import LoadedCheckpoints
from service.auth import OPEN_TENANT, Authenticator
from service.doors import every_door
from service.engine.adapter_cache import AdapterCache
from service.engine.engine import Engine
from service.engine.runtime import start_runtime
from service.errors import install_error_handlers
from service.metrics import Metrics
from service.readapting import readapt_in_background
from service.request_context import Answers, RequestContext
from service.routes import (
    adapt,
    classify,
    examples,
    feedback,
    health,
    moving,
    pages,
    playground,
    predict,
    readapt,
    report,
    unmatched,
    versions,
)
from service.settings import Settings, granted_threads
from service.stale_tasks import watch_stale_tasks
from service.store_access import StoreAccess, open_store, store_name
from service.tasks.adapters import Adapters
from service.tasks.answer_ids import AnswerIds
from service.tasks.app_parts import Parts
from service.tasks.examples_in_memory import ExamplesInMemory
from service.tasks.first_use import Readapts
from service.tasks.recent_queries import RecentQueries

log = logging.getLogger("handful")

_PURGE_EVERY_S = 60

_REQUEST_MODELS = (
    AdaptRequest,
    PredictRequest,
    ClassifyRequest,
    RollbackRequest,
    ReadaptRequest,
    ReportRequest,
    AddExamplesRequest,
    FeedbackRequest,
    MapRequest,
    Problem,
)


def create_app(settings: Settings, *, checkpoints: LoadedCheckpoints | None = None, trusted: bool = False) -> FastAPI:
    """Builds the service as an ASGI app, which opens the store when it starts.

    Args:
        settings: The settings.
        checkpoints: The loaded checkpoints; None loads those that the settings name when the app starts.
        trusted: Whether callers need no key; see ``Authenticator``. Never for an app behind a socket.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        parts, authenticator = _start(settings, metrics, checkpoints or load_checkpoints(settings), trusted=trusted)
        app.state.parts, app.state.authenticator = parts, authenticator
        background = [asyncio.create_task(_purge_expired(parts.access)), asyncio.create_task(parts.access.watch())]
        if not trusted:  # not for the moment that a command takes
            watching = watch_stale_tasks(parts.access, metrics.stale_tasks, parts.engine.checkpoints)
            background.append(asyncio.create_task(watching))
            background.append(asyncio.create_task(readapt_in_background(parts)))
        try:
            yield
        finally:
            for task in background:
                task.cancel()
            parts.engine.close()
            parts.access.close()

    app = FastAPIOffline(
        title="Handful",
        version="1",
        summary="A handful of labelled examples in, a classifier out.",
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # routes.pages has one whose links work under a prefix
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.draining = False
    predict.add_to(app)
    for module in (adapt, examples, feedback, versions, readapt, moving, report, playground, health, pages):
        app.include_router(module.router)
    if settings.doors == "none":
        app.include_router(classify.router)
    else:
        every_door.add_to(app)
    install_error_handlers(app)
    unmatched.add_to(app)
    app.add_middleware(Answers, max_inflight_requests=settings.max_inflight_requests)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"),
            allow_headers=("Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key", "X-Request-Id"),
            expose_headers=("X-Request-Id", "Server-Timing", "Retry-After", "Idempotent-Replayed", "Handful-Degraded"),
        )
    app.add_middleware(RequestContext, metrics=metrics, root_path=settings.root_path)
    _document_bodies(app, () if settings.doors == "none" else every_door.REQUESTS)
    return app


def load_checkpoints(settings: Settings) -> LoadedCheckpoints:
    """Loads all checkpoints that the settings name.

    Raises:
        CheckpointInvalid: A checkpoint is missing, incomplete or altered.
        DeviceUnavailable: The device does not exist here.
        SettingsInvalid: The runtime cannot compute a checkpoint.
    """
    folders = {read_manifest(folder).fingerprint: folder for folder in map(resolve_checkpoint, settings.checkpoint)}
    shared: Encoders = {}
    return LoadedCheckpoints([_load(folder, settings, shared) for folder in folders.values()])


def load_models(settings: Settings) -> Models:
    """Loads the models of the default checkpoint, with the device and the runtime of the settings.

    Raises:
        CheckpointInvalid: The checkpoint is missing, incomplete or altered.
        DeviceUnavailable: The device does not exist here.
        SettingsInvalid: The runtime cannot compute the checkpoint.
    """
    return _load(resolve_checkpoint(settings.checkpoint[0]), settings, {})


def _load(folder: Path, settings: Settings, shared: Encoders) -> Models:
    torch.set_num_threads(settings.threads or granted_threads())
    checkpoint = Checkpoint(folder, select_device(settings.device), shared=shared)
    norms = modulated_norms(checkpoint)
    return Models(checkpoint, start_runtime(checkpoint.encoder, settings.runtime, settings.precision, norms=norms))


def _start(
    settings: Settings, metrics: Metrics, checkpoints: LoadedCheckpoints, *, trusted: bool
) -> tuple[Parts, Authenticator]:
    store, timeout_s = open_store(settings), settings.store_timeout_s
    access = StoreAccess(store, metrics, store_id=settings.store_id or None, timeout_s=timeout_s)
    try:
        for risk in access.store.risks():
            log.warning("store: %s", risk)
        has_keys: bool | None = access.store.has_keys()
        needs_keys = access.store.needs_keys()
    except StoreUnavailable as error:  # it may come later; until then /readyz reports it
        log.warning("store: %s", error)
        has_keys, needs_keys = None, True
    metrics.checkpoint_names.update(
        {each.checkpoint.fingerprint: each.checkpoint.manifest.name for each in checkpoints}
    )
    metrics.queue_max_tokens.set(settings.max_queue_tokens)
    metrics.cache_max_bytes.set(settings.cache_max_bytes)
    engine = Engine(checkpoints, settings, metrics)
    for fingerprint, size_bytes in checkpoints.weight_bytes().items():
        metrics.checkpoint_memory(fingerprint, "weights").set(size_bytes)
    for models in checkpoints:
        _warm_up(models, metrics)
    cache = AdapterCache(metrics, max_bytes=settings.cache_max_bytes, max_adapters=settings.cache_max_adapters)
    may_be_open = settings.is_loopback or settings.allow_open
    log.info("store: %s; %s", store_name(settings), _entrance(has_keys, may_be_open=may_be_open and not needs_keys))
    adapters = Adapters(
        access,
        cache,
        checkpoints,
        max_staleness_s=settings.max_staleness_ms / 1000,
        max_recent=settings.cache_max_adapters,
        stale_if_error_s=settings.stale_if_error_s,
    )
    authenticator = Authenticator(
        access,
        may_be_open=may_be_open,
        trusted=trusted,
        cache_s=settings.auth_cache_s,
        stale_if_error_s=settings.stale_if_error_s,
        how_to_make_a_key=f"handful keys create TENANT --store {store_name(settings)}",
    )
    recent = RecentQueries(most_tasks=settings.drift_tasks, drifting=metrics.drifting_tasks)
    for forget in (adapters.forget_all, authenticator.store_replaced, recent.clear):
        access.state.when_replaced(forget)
    examples = ExamplesInMemory()
    parts = Parts(
        settings=settings,
        metrics=metrics,
        engine=engine,
        adapters=adapters,
        access=access,
        examples=examples,
        readapts=Readapts(),
        answer_ids=AnswerIds(settings.answer_id_secret.get_secret_value(), keep_s=settings.answer_id_seconds),
        recent=recent,
    )
    return parts, authenticator


def _warm_up(models: Models, metrics: Metrics) -> None:
    """Runs a first pass, which is slow, as the first request should not be; logs and exposes the checkpoint."""
    checkpoint = models.checkpoint
    models.runtime(checkpoint.encoder.tokenize([TextInput("warm up")]))
    name, fingerprint = checkpoint.manifest.name, checkpoint.fingerprint
    device, runtime = str(checkpoint.encoder.device), models.runtime.name
    metrics.checkpoint_info.labels(name, fingerprint, checkpoint.learner.name, device, runtime).set(1)
    for counter in (metrics.checkpoint_adaptations, metrics.checkpoint_batches, metrics.checkpoint_queries):
        counter.labels(fingerprint)
    log.info("checkpoint %s (%s) on %s by %s", name, fingerprint[:12], device, runtime)


def _entrance(has_keys: bool | None, *, may_be_open: bool) -> str:
    """A log message on which callers need a key."""
    if has_keys is None:
        return "whether it has API keys is not known yet"
    if has_keys:
        return "requests need an API key"
    if may_be_open:
        return f"no API key exists: open to everybody who reaches the server, as the tenant '{OPEN_TENANT}'"
    return "no API key exists: closed until `handful keys create TENANT` makes one"


async def _purge_expired(access: StoreAccess) -> None:
    """Erases expired tasks, also where nobody writes."""
    while True:
        try:
            await access.call(access.store.purge_expired)
        except StoreUnavailable as error:
            log.warning("store: %s", error)
        await asyncio.sleep(_PURGE_EVERY_S)


def _document_bodies(app: FastAPI, further: Sequence[type[BaseModel]]) -> None:
    """Adds the bodies that routes read themselves to the OpenAPI document."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = describe()
            models: list[type[BaseModel]] = [*_REQUEST_MODELS, *further]
            _, definitions = models_json_schema(
                [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
            )
            document.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
