"""A typed client for programs with an event loop: ``from handful import AsyncClient``."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from types import TracebackType
from typing import Any, Self, Unpack

import anyio
import anyio.to_thread
import httpx

from handful import calls
from handful.call_options import (
    AdaptOptions,
    ClassifyOptions,
    FileOptions,
    PredictOptions,
    ReadaptOptions,
    ReportOptions,
)
from handful.calls import Answer, Call, Page
from handful.checkpoint_answers import CheckpointResponse
from handful.forms import Examples, Queries, Query
from handful.report_answers import ReportResponse
from handful.retries import Retries
from handful.server import Server
from handful.wire import (
    AdaptResponse,
    ClassifyResponse,
    PredictResponse,
    TaskResponse,
    VersionResponse,
)
from handful.wire_examples import AddExamplesResponse, EraseResponse, StoredExample, VersionDetail, VersionDiff
from handful.wire_feedback import DriftResponse, FeedbackResponse
from handful.wire_moving import ImportResponse
from handful.wire_playground import MapResponse, ReadExamplesResponse
from handful.wire_readapt import ReadaptPreview, ReadaptResponse


class AsyncClient:
    """Talks to a Handful server as ``Client`` does, without blocking; an asynchronous context manager.

    Arguments, answers, errors, further attempts and proxies are those of ``Client``. One client may serve many calls
    at once.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Prepares a client; connects with the first call.

        Args:
            url: The server's address; None for ``HANDFUL_URL``, or ``http://127.0.0.1:8000`` where it is not set.
            api_key: The API key, needed once the server has any key; None for ``HANDFUL_API_KEY``.
            timeout_s: The timeout of each attempt.
            max_retries: How often a call is sent again where the server is busy or away; 0 for never.
            transport: A transport in place of the network.

        Raises:
            HandfulError: The address, the key, or a proxy or certificate setting cannot be used.
        """
        self._retries = Retries(max_retries)
        self._server = Server.at(url, api_key, by_network=transport is None)
        self._http = self._server.http(httpx.AsyncClient, timeout_s=timeout_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def adapt(self, task: str, support: Examples, **options: Unpack[AdaptOptions]) -> AdaptResponse:
        """Adapts a task on exactly this support set; see ``Client.adapt``."""
        return await self._answer(calls.adapt(task, support, options))

    async def predict(self, task: str, queries: Queries, **options: Unpack[PredictOptions]) -> PredictResponse:
        """Classifies texts; see ``Client.predict``."""
        return await self._answer(calls.predict(task, queries, options))

    async def classify(
        self, support: Examples, queries: Queries, **options: Unpack[ClassifyOptions]
    ) -> ClassifyResponse:
        """Adapts and classifies at once; see ``Client.classify``."""
        return await self._answer(calls.classify(support, queries, options))

    async def tasks(self) -> AsyncIterator[TaskResponse]:
        """All tasks, by name, a page at a time."""
        async for page in self._pages(calls.tasks):
            for task in page.tasks:
                yield task

    async def task(self, task: str) -> TaskResponse:
        """One task."""
        return await self._answer(calls.task(task))

    async def versions(self, task: str) -> AsyncIterator[VersionResponse]:
        """All versions, newest first, a page at a time."""
        async for page in self._pages(partial(calls.versions, task)):
            for version in page.versions:
                yield version

    async def version(self, task: str, version: int) -> VersionDetail:
        """One version of a task, with the digests of its examples; see ``Client.version``."""
        return await self._answer(calls.version(task, version))

    async def rollback(self, task: str, version: int) -> VersionResponse:
        """Brings a version back under a new number."""
        return await self._answer(calls.rollback(task, version))

    async def readapt(self, task: str, **options: Unpack[ReadaptOptions]) -> ReadaptResponse:
        """Adapts a task again on its stored support set; see ``Client.readapt``."""
        return await self._answer(calls.readapt(task, options))

    async def preview_readapt(
        self, task: str, *, version: int | None = None, checkpoint: str | None = None
    ) -> ReadaptPreview:
        """The version that a readapt would make; see ``Client.preview_readapt``."""
        return await self._answer(calls.preview_readapt(task, version, checkpoint))

    async def examples(
        self,
        task: str,
        *,
        label: str | None = None,
        source: str | None = None,
        state: str | None = None,
        text: str | None = None,
    ) -> AsyncIterator[StoredExample]:
        """The examples of a task's newest version; see ``Client.examples``."""
        filters = {"label": label, "source": source, "state": state, "text": text}
        async for page in self._pages(partial(calls.examples, task, filters)):
            for example in page.examples:
                yield example

    async def add_examples(self, task: str, examples: Examples) -> AddExamplesResponse:
        """Appends examples to a task and adapts on all of them; see ``Client.add_examples``."""
        return await self._answer(calls.add_examples(task, examples))

    async def erase_example(self, task: str, example_id: str) -> EraseResponse:
        """Adapts a task without an example and removes all that was derived from it; see ``Client.erase_example``."""
        return await self._answer(calls.erase_example(task, example_id))

    async def feedback(
        self,
        task: str,
        label: str,
        *,
        text: Query | None = None,
        id: str | None = None,  # noqa: A002 - the field's name
        force: bool = False,
    ) -> FeedbackResponse:
        """Corrects an answer of a task; see ``Client.feedback``."""
        return await self._answer(calls.feedback(task, label, text, id, force=force))

    async def drift(self, task: str) -> DriftResponse:
        """The differences of a task's recent queries from its examples; see ``Client.drift``."""
        return await self._answer(calls.drift(task))

    async def diff_versions(self, task: str, version: int, other: int) -> VersionDiff:
        """The differences of a version from another one; see ``Client.diff_versions``."""
        return await self._answer(calls.diff_versions(task, version, other))

    async def map_task(
        self, task: str, queries: Queries = (), *, version: int | None = None, examples: bool = True
    ) -> MapResponse:
        """The places of a task's examples, and of texts, on a plane; see ``Client.map_task``."""
        return await self._answer(calls.map_task(task, queries, version, examples=examples))

    async def read_examples(
        self, content: bytes, name: str = "", **options: Unpack[FileOptions]
    ) -> ReadExamplesResponse:
        """Reads labelled examples from a file; see ``Client.read_examples``."""
        return await self._answer(calls.read_examples(content, name, options))

    async def delete_version(self, task: str, version: int) -> None:
        """Removes a version that is not the newest."""
        await self._answer(calls.delete_version(task, version))

    async def export_task(self, task: str, version: int | None = None) -> bytes:
        """A version of a task as one file; see ``Client.export_task``."""
        return (await self._answer(calls.export_task(task, version))).content

    async def import_task(
        self, task: str, content: bytes, *, readapt: bool = False, ttl_seconds: int | None = None
    ) -> ImportResponse:
        """Makes the version in a file the newest version of a task; see ``Client.import_task``."""
        return await self._answer(calls.import_task(task, content, readapt=readapt, ttl_seconds=ttl_seconds))

    async def report(
        self, task: str, unlabelled: Queries | None = None, **options: Unpack[ReportOptions]
    ) -> ReportResponse:
        """Reports on a task; see ``Client.report``."""
        return await self._answer(calls.report(task, unlabelled, options))

    async def delete(self, task: str) -> None:
        """Removes a task with all it has."""
        await self._answer(calls.delete(task))

    async def checkpoint(self) -> CheckpointResponse:
        """The server's default checkpoint."""
        return await self._answer(calls.checkpoint())

    async def checkpoints(self) -> list[CheckpointResponse]:
        """All checkpoints that the server has loaded, the default one first."""
        return (await self._answer(calls.checkpoints())).checkpoints

    async def _pages(self, page_from: Callable[[Any], Call[Page]]) -> AsyncIterator[Page]:
        place = None
        while True:
            page = await self._answer(page_from(place))
            yield page
            place = page.next
            if place is None:
                return

    async def _answer(self, call: Call[Answer]) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = await self._http.request(call.method, call.path, content=call.content, headers=call.headers)
            except httpx.TransportError as error:
                pause_s = self._retries.pause_after_error_s(call, error, attempt)
                if pause_s is None:
                    # In a thread, since finding the cause may open a connection
                    raise await anyio.to_thread.run_sync(self._server.no_response, error) from error
            else:
                pause_s = self._retries.pause_after_response_s(call, response, attempt)
                if pause_s is None:
                    return self._server.answer(call, response)
            await anyio.sleep(pause_s)
