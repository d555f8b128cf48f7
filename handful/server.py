"""A server as the clients see it: its address, its proxy, and the meaning of its responses."""

from dataclasses import dataclass, field
from typing import Self

import httpx
from pydantic import ValidationError

from handful import environment
from handful.calls import Answer, Call
from handful.errors import HandfulError, Misconfigured, Unreachable, error_of
from handful.network import (
    AddressInvalid,
    Http,
    Proxy,
    http_client,
    https_address,
    masked,
    proxy_of,
    reason_of,
    server_address,
    speaks_https,
)
from handful.retries import retry_after_s

DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address, the key for it, and the proxy on the way.

    Attributes:
        url: The server's address.
        key: The API key; empty for none.
        proxy: The proxy; None where the server is reached directly.
    """

    url: httpx.URL
    key: str = field(repr=False)
    proxy: Proxy | None

    @classmethod
    def at(cls, url: str | None, api_key: str | None, *, by_network: bool) -> Self:
        """The server at an address.

        Args:
            url: The server's address; None for the environment's, or ``DEFAULT_URL``.
            api_key: The API key; None for the environment's, where there is one.
            by_network: Whether to use the environment, with its proxy.

        Raises:
            HandfulError: The address or the key cannot be used.
        """
        if by_network:
            url = environment.value_of(environment.URL) if url is None else url
            api_key = environment.value_of(environment.API_KEY) if api_key is None else api_key
        key = (api_key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise Misconfigured("an API key has letters, digits, '-' and '_' only", status=0, code="invalid_api_key")
        try:
            address = server_address(DEFAULT_URL if url is None else url)
            if key and address.userinfo:
                raise AddressInvalid("give an API key, or a user name in the server's address, not both")
        except AddressInvalid as error:
            raise _invalid_address(error) from None
        return cls(address, key, proxy_of(address) if by_network else None)

    def http(
        self, kind: type[Http], *, timeout_s: float, transport: httpx.BaseTransport | httpx.AsyncBaseTransport | None
    ) -> Http:
        """An HTTP client for this server.

        Args:
            kind: ``httpx.Client`` or ``httpx.AsyncClient``.
            timeout_s: The timeout of each attempt.
            transport: A transport in place of the network.

        Raises:
            HandfulError: The proxy or the certificates cannot be used.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        try:
            return http_client(kind, self.url, self.proxy, headers=headers, timeout_s=timeout_s, transport=transport)
        except AddressInvalid as error:
            raise _invalid_address(error) from None

    def no_response(self, error: httpx.TransportError) -> HandfulError:
        """The error for a call without a response. Finding the cause may open a connection for a moment."""
        return Unreachable(reason_of(error, self.url, self.proxy), status=0, code="unreachable")

    def answer(self, call: Call[Answer], response: httpx.Response) -> Answer:
        """The answer in a response.

        Raises:
            HandfulError: The server refused, or the response is not Handful's.
        """
        if not response.is_success:
            raise self._refusal(response)
        try:
            return call.parsed(response.content)
        except ValidationError:
            raise self._unexpected(response) from None

    def _refusal(self, response: httpx.Response) -> HandfulError:
        """The error for a problem document of the server."""
        try:
            problem = response.json()
            detail, code, errors = problem["detail"], problem["code"], problem.get("errors", ())
        except (ValueError, KeyError, TypeError):  # a proxy's page, not the server's answer
            return self._unexpected(response)
        if code == "not_found":  # no such route
            path = self.url.path.rstrip("/")
            hint = f"is the path {path} of its address right?" if path else "is its version older than this client's?"
            detail, errors = f"{masked(self.url)} does not know {response.url.path}: {hint}", ()
        return error_of(
            detail,
            status=response.status_code,
            code=code,
            errors=errors,
            request_id=response.headers.get("X-Request-Id", ""),
            retry_after_s=retry_after_s(response),
        )

    def _unexpected(self, response: httpx.Response) -> HandfulError:
        """The error for a response of another program, such as a proxy."""
        shown = masked(self.url)
        if self.url.scheme == "http" and speaks_https(response):
            detail = f"{shown} speaks HTTPS: use {https_address(self.url)}"
        else:
            detail = f"HTTP {response.status_code} from {shown}, but not Handful's answer: {response.text[:200]!r}"
            if self.proxy is not None:
                detail += f"; it came through the proxy from {self.proxy.source}"
        return error_of(
            detail,
            status=response.status_code,
            code="unexpected_answer",
            request_id=response.headers.get("X-Request-Id", ""),
            retry_after_s=retry_after_s(response),
        )


def _invalid_address(error: AddressInvalid) -> HandfulError:
    return Misconfigured(str(error), status=0, code="invalid_address")
