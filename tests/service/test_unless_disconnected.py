"""Work is dropped when its client goes away, and not by other errors meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request
from starlette.types import Message

from service.errors import ClientGone
from service.routes import disconnecting
from service.routes.disconnecting import unless_disconnected


class Client:
    """One that may go away; counts how often somebody looked."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.looked = 0
        self.request = Request({"type": "http", "method": "POST", "path": "/", "headers": []}, self._receive)

    async def _receive(self) -> Message:
        self.looked += 1
        if self.looked == 1:
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.fixture(params=[0.0, 0.02], ids=["watched at once", "watched later"], autouse=True)
def unwatched_s(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> float:
    """The time before the first check of the connection."""
    monkeypatch.setattr(disconnecting, "_UNWATCHED_S", request.param)
    return float(request.param)


async def steps(count: int) -> str:
    for _ in range(count):
        await asyncio.sleep(0)
    return "answer"


def test_work_for_a_client_that_left_is_cancelled() -> None:
    ended: list[BaseException] = []

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            ended.append(error)
            raise

    async def scenario() -> None:
        client = Client()
        asyncio.get_running_loop().call_later(0.03, client.gone.set)
        with pytest.raises(ClientGone):
            await unless_disconnected(client.request, endless())
        # Nothing of it is left over for what the request does next
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await steps(20)

    asyncio.run(scenario())
    assert [type(error) for error in ended] == [asyncio.CancelledError]


def test_for_a_quick_answer_nobody_looks(unwatched_s: float) -> None:
    async def scenario() -> int:
        client, loop = Client(), asyncio.get_running_loop()
        began = loop.time()
        loop.time = lambda: began  # type: ignore[method-assign]  # the answer takes no time, however busy the machine is
        assert await unless_disconnected(client.request, steps(2)) == "answer"
        loop.time = lambda: began + 2 * unwatched_s  # type: ignore[method-assign]
        await steps(5)
        return client.looked

    assert asyncio.run(scenario()) <= (1 if unwatched_s == 0 else 0)


def test_an_error_of_the_work_passes() -> None:
    async def broken() -> None:
        await asyncio.sleep(0.03)
        raise KeyError("x")

    async def scenario() -> None:
        with pytest.raises(KeyError):
            await unless_disconnected(Client().request, broken())

    asyncio.run(scenario())


@pytest.mark.parametrize("after_s", [0.0, 0.05])
def test_a_cancelled_request_is_not_counted_as_a_client_that_left(after_s: float) -> None:
    async def scenario() -> None:
        serving = asyncio.create_task(_serve(Client(), lambda: asyncio.sleep(60)))
        await asyncio.sleep(after_s)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(scenario())


@pytest.mark.parametrize("leaves_after", range(12))
def test_a_client_that_leaves_with_the_answer_stops_nothing_later(leaves_after: int, unwatched_s: float) -> None:
    async def leave(client: Client) -> None:
        await asyncio.sleep(1.5 * unwatched_s)
        await steps(leaves_after)
        client.gone.set()

    async def answer() -> str:
        await asyncio.sleep(1.5 * unwatched_s)
        return await steps(6)

    async def scenario() -> None:
        client = Client()
        leaving = asyncio.create_task(leave(client))
        try:
            found: object = await unless_disconnected(client.request, answer())
        except ClientGone:
            found = None
        assert found in ("answer", None)
        assert await steps(30) == "answer", "what comes afterwards was cancelled"
        await leaving

    asyncio.run(scenario())


async def _serve(client: Client, work: Callable[[], Awaitable[None]]) -> None:
    await unless_disconnected(client.request, work())
