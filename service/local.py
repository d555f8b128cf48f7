"""The service inside this process: the same app, reached without a socket. For ``--local``."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI

from service.app import create_app
from service.client import Client
from service.settings import Settings


class InProcessTransport(httpx.BaseTransport):
    """Calls an app that runs on a portal's event loop; may be used from several threads."""

    def __init__(self, portal: BlockingPortal, app: FastAPI) -> None:
        self._portal = portal
        self._transport = httpx.ASGITransport(app)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answers from the app."""
        return self._portal.call(self._answer, request)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        content = await response.aread()
        return httpx.Response(response.status_code, headers=response.headers, content=content)


@contextmanager
def local_client(settings: Settings) -> Iterator[Client]:
    """A client of a service that lives as long as the context.

    Raises:
        CheckpointInvalid: The checkpoint cannot be loaded.
        DeviceUnavailable: The device does not exist here.
        StoreUnavailable: The store cannot be opened.
    """
    app = create_app(settings, trusted=True)
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        Client("http://local", transport=InProcessTransport(portal, app)) as client,
    ):
        yield client
