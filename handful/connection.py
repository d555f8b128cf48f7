"""The connection of ``Client``: one call at a time, tried again when the server is busy or away."""

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from handful.calls import Answer, Call, Page
from handful.retries import Retries
from handful.server import Server


class Connection:
    """A connection to a Handful server; a context manager."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        max_retries: int = 2,
        transport: httpx.BaseTransport | None = None,
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
        self._http = self._server.http(httpx.Client, timeout_s=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _pages(self, page_from: Callable[[Any], Call[Page]]) -> Iterator[Page]:
        place = None
        while True:
            page = self._answer(page_from(place))
            yield page
            place = page.next
            if place is None:
                return

    def _answer(self, call: Call[Answer]) -> Answer:
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._http.request(call.method, call.path, content=call.content, headers=call.headers)
            except httpx.TransportError as error:
                pause_s = self._retries.pause_after_error_s(call, error, attempt)
                if pause_s is None:
                    raise self._server.no_response(error) from error
            else:
                pause_s = self._retries.pause_after_response_s(call, response, attempt)
                if pause_s is None:
                    return self._server.answer(call, response)
            time.sleep(pause_s)
