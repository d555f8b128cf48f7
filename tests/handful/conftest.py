"""Clients of either kind, of a service and of answers that a test writes down."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from handful.async_client import AsyncClient
from handful.client import Client
from service.local import InProcessTransport
from tests.conftest import StartService

BUSY = {"type": "x", "title": "x", "status": 503, "code": "server_busy", "detail": "the queue is full"}
LIST = {"tasks": [], "next": None}
DELETED = {"task": "bank", "deleted": True}


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of a client, which does not sleep."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("handful.connection.time.sleep", slept.append)
    monkeypatch.setattr("handful.async_client.anyio.sleep", sleep)
    return slept


class Blocking:
    """An ``AsyncClient`` that is called as a ``Client`` is, so that the same tests hold both."""

    def __init__(self, portal: BlockingPortal, client: AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def __enter__(self) -> "Blocking":
        self._portal.call(self._client.__aenter__)
        return self

    def __exit__(self, *raised: Any) -> None:
        self._portal.call(self._client.__aexit__, *raised)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(arguments: Any, options: Any) -> Any:
            given = getattr(self._client, name)(*arguments, **options)
            return [item async for item in given] if isinstance(given, AsyncIterator) else await given

        return lambda *arguments, **options: self._portal.call(call, arguments, options)


Open = Callable[..., Client]


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """An event loop for asynchronous clients."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture(params=["sync", "async"])
def open_client(request: pytest.FixtureRequest, portal: BlockingPortal) -> Open:
    """Makes clients of either kind in turn."""

    def make(*arguments: Any, portal: BlockingPortal = portal, **options: Any) -> Any:
        if request.param == "sync":
            return Client(*arguments, **options)
        return Blocking(portal, AsyncClient(*arguments, **options))

    return make


class Script(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Answers with one thing after another; the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Gives the next answer."""
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        # Anew: an answer that was read by one kind of client is not read by the other
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Gives the next answer."""
        return self.handle_request(request)


Scripted = Callable[..., tuple[Client, Script]]


@pytest.fixture
def scripted(open_client: Open) -> Scripted:
    """Makes a client that gets these answers."""

    def make(*answers: httpx.Response | Exception) -> tuple[Client, Script]:
        script = Script(*answers)
        return open_client("http://handful", transport=script), script

    return make


def busy(**headers: str) -> httpx.Response:
    """A 503."""
    return httpx.Response(503, json=BUSY, headers={"X-Request-Id": "r-1", **headers})


@pytest.fixture
def connected(start_service: StartService, open_client: Open) -> Iterator[tuple[Client, httpx.Client]]:
    """A client of a real service, and the service itself."""
    service = start_service()
    transport: Any = service._transport
    assert isinstance(transport, InProcessTransport)
    if open_client("http://handful").__class__ is Blocking:
        transport = httpx.ASGITransport(service.app)  # type: ignore[attr-defined]
    with open_client("http://handful", transport=transport, portal=service.portal) as client:  # type: ignore[attr-defined]
        yield client, service


Connected = tuple[Client, httpx.Client]
