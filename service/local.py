"""The service inside this process, for ``--local`` and the estimator: the same app, reached without a socket."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import anyio
import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from handful.client import Client
from model_store.store import TaskStore
from service.app import create_app
from service.auth import OPEN_TENANT, Authenticator
from service.settings import Settings
from service.tasks.app_parts import Parts


class InProcessTransport(httpx.BaseTransport):
    """A transport to an app on a portal's event loop; may be used from several threads."""

    def __init__(self, portal: BlockingPortal, app: FastAPI) -> None:
        self._portal = portal
        self._transport = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Returns the app's answer to a request."""
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


class _TenantByName(Authenticator):
    """An authenticator that takes the key for the tenant's name, since the process may read the store anyway."""

    def __init__(self) -> None:
        """Prepares the authenticator."""

    async def tenant(self, authorization: str | None) -> str:
        return (authorization or "").removeprefix("Bearer ") or OPEN_TENANT


class LocalService:
    """A service in this process, for any tenant of its store.

    Attributes:
        parts: The app's parts.
    """

    def __init__(self, portal: BlockingPortal, app: FastAPI) -> None:
        self._transport = InProcessTransport(portal, app)
        self.parts: Parts = app.state.parts

    @property
    def store(self) -> TaskStore:
        """The store, for reads from other threads than the service's own."""
        return self.parts.access.store

    def client(self, tenant: str = OPEN_TENANT) -> Client:
        """A client for a tenant."""
        return Client("http://local", api_key=tenant, transport=self._transport)


@contextmanager
def local_service(settings: Settings) -> Iterator[LocalService]:
    """A service that lives as long as the context.

    Raises:
        CheckpointInvalid: The checkpoint cannot be loaded.
        DeviceUnavailable: The device does not exist here.
        StoreUnavailable: The store cannot be opened.
    """
    app = create_app(settings, trusted=True)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(app.router.lifespan_context(app)):
        app.state.authenticator = _TenantByName()
        yield LocalService(portal, app)


@contextmanager
def local_client(settings: Settings, tenant: str = OPEN_TENANT) -> Iterator[Client]:
    """A client of a service that lives as long as the context.

    Raises:
        CheckpointInvalid: The checkpoint cannot be loaded.
        DeviceUnavailable: The device does not exist here.
        StoreUnavailable: The store cannot be opened.
    """
    with local_service(settings) as service, service.client(tenant) as client:
        yield client


def lasting_service(settings: Settings) -> LocalService:
    """A service that lives as long as the process, on an event loop in a thread of its own.

    The thread ends with the process without closing the store, so that a program need not say when it is done: the
    store is for what may be lost.

    Raises:
        CheckpointInvalid: The checkpoint cannot be loaded.
        DeviceUnavailable: The device does not exist here.
        StoreUnavailable: The store cannot be opened.
    """
    started: Future[LocalService] = Future()

    async def serve() -> None:
        app = create_app(settings, trusted=True)
        async with app.router.lifespan_context(app), BlockingPortal() as portal:
            app.state.authenticator = _TenantByName()
            started.set_result(LocalService(portal, app))
            await portal.sleep_until_stopped()

    def run() -> None:
        try:
            anyio.run(serve)
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    # A daemon: threads of start_blocking_portal would be waited for at the end of the process, for ever
    threading.Thread(target=run, name="handful-service", daemon=True).start()
    return started.result()
