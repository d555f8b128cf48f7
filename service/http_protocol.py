"""HTTP/1.1 on a connection: uvicorn's protocol on llhttp, hardened against request smuggling.

llhttp reads the framing strictly: two lengths, a length beside chunks, folded headers, bare line feeds and bad chunk
sizes are errors. This module adds:

- ``Upgrade`` is ignored. The binding drops the body of a request with an upgrade, and reads it as the next request.
- A refusal is a problem document, and never comes before the answer to an earlier request.
- A client that is still sending gets its answer before the connection closes, and is cut off if it goes on.
"""

import asyncio
import logging
import secrets
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from service.errors import ApiError, problem_response

log = logging.getLogger("handful")

_MAX_HEAD_BYTES = 64 * 1024
_MAX_DISCARDED_BYTES = 64 * 2**20
_DISCARDING_S = 30.0
"""Bytes and seconds for which an unread body is drained, so that its sender sees the answer."""
_LAST_WORDS_S = 2.0
"""Seconds of draining while the server stops."""
_MAY_RETURN_S = 1.0
"""Seconds for which a connection stays open after its last use when the server stops, for one more request."""
_UPGRADE_HEADERS = {b"upgrade", b"http2-settings"}
_UPGRADE_TOKENS = {b"upgrade", b"http2-settings"}
_TLS_HANDSHAKE = b"\x16\x03"


class _Refused(Exception):
    """A request that the parser accepts and the server refuses."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.error = ApiError(status, code, detail)


class _Transport:
    """The connection's transport, with the ``close`` of ``HttpProtocol``."""

    __slots__ = ("close", "get_extra_info", "is_closing", "pause_reading", "resume_reading", "write")

    def __init__(self, transport: asyncio.Transport, protocol: "HttpProtocol") -> None:
        self.get_extra_info = transport.get_extra_info
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading
        self.write = transport.write
        self.close = protocol.close
        self.is_closing = protocol.is_closing


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connection: asyncio.Transport
        self._running: RequestResponseCycle | None = None
        self._in_head = self._in_message = False
        self._head_bytes = self._discarded_bytes = 0
        self._closing = False
        self._deaf = False  # what arrives is not read any more
        self._cut_off: asyncio.TimerHandle | None = None
        self._idle_since = self.loop.time()

    # ---- the connection --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Takes a new connection."""
        self._connection = transport
        super().connection_made(_Transport(transport, self))  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """Handles the end of the connection."""
        self._closing = self._deaf = True
        self._stop_clock()
        super().connection_lost(exc)

    def is_closing(self) -> bool:
        """Whether nothing more will be answered here."""
        return self._closing or self._connection.is_closing()

    def close(self) -> None:
        """Closes the connection, after time for a client that is still sending to read its answer.

        Closing a socket with unread data resets the connection, and the reset may overtake the answer.
        """
        if self._closing:
            return
        unread = self._in_message or self._deaf or bool(self.pipeline)
        self._closing = self._deaf = True
        if not unread:
            self._connection.close()
            return
        if self._connection.can_write_eof():
            self._connection.write_eof()
        self.flow.resume_reading()
        self._start_clock(_DISCARDING_S)

    def shutdown(self) -> None:
        """Closes an idle connection now, a busy one after its answer. Called when the server takes no more requests.

        A connection that was just used may have a request on its way, so it stays open for a moment.
        """
        if self._closing:
            self._start_clock(_LAST_WORDS_S)
        elif self._is_idle():
            wait_s = max(0.0, self._idle_since + _MAY_RETURN_S - self.loop.time())
            self.loop.call_later(wait_s, self._close_if_idle)
        elif self._running is not None and not self._running.response_complete:
            self._running.keep_alive = False
        else:
            self._start_clock(_LAST_WORDS_S)  # a head or a body that is still arriving

    def _is_idle(self) -> bool:
        return not self._in_message and (self._running is None or self._running.response_complete)

    def _close_if_idle(self) -> None:
        if self._is_idle() and not self._closing:
            self._closing = self._deaf = True
            self._connection.close()
        elif self._in_message:
            self._start_clock(_LAST_WORDS_S)

    # ---- what arrives ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parses received bytes."""
        self._unset_keepalive_if_required()
        while not self._deaf:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                data = self._without_upgrade() + data[stopped.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                continue
            except httptools.HttpParserError as error:
                self._refuse(_problem_of(error, data))
                return
            if self._in_head:
                self._head_bytes += len(data)
                if self._head_bytes > _MAX_HEAD_BYTES:
                    self._refuse(_head_too_large())
            return
        self._discard(len(data))

    def on_message_begin(self) -> None:
        """Starts a request."""
        super().on_message_begin()
        self._in_head = self._in_message = True
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header, but no trailer field of a chunked body, which could pass for a header that a proxy checks."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Starts to serve a request, once its head is checked."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _Refused(405, "method_not_allowed", "this server is no proxy: CONNECT is not possible")
            return  # the parser stops after the head; data_received goes on without the upgrade
        self._check_head()
        super().on_headers_complete()
        self._in_head = False

    def on_body(self, body: bytes) -> None:
        """Takes a part of the body, also after the answer was sent."""
        if self.cycle.response_complete:
            self._discard(len(body))
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request."""
        if self.parser.should_upgrade():
            return
        self._in_message = False
        if not self._closing:
            self._stop_clock()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Ends an answer."""
        self._idle_since = self.loop.time()
        super().on_response_complete()
        if self._in_message and not self._closing and self.cycle.response_complete:
            self._start_clock(_DISCARDING_S)  # the rest of an unread body

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, _closing_unless_read(cycle, app) if cycle.waiting_for_100_continue else app)

    def _check_head(self) -> None:
        """Refuses heads that a proxy may read differently. Source: RFC 9112, sections 3.2 and 6.1."""
        version = self.parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise _Refused(505, "http_version_not_supported", "send HTTP/1.1")
        size, hosts, lengths, codings = len(self.url), 0, 0, 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            if name == b"host":
                hosts += 1
            elif name == b"content-length":
                lengths += 1
            elif name == b"transfer-encoding":
                codings += 1
                if value.lower() != b"chunked" or version == "1.0":
                    raise _malformed("Transfer-Encoding: only 'chunked' is possible, in HTTP/1.1")
        if size > _MAX_HEAD_BYTES:
            raise _Refused(431, "request_header_fields_too_large", _HEAD_TOO_LARGE)
        if lengths + codings > 1:
            raise _malformed("the length of the body is stated twice: send Content-Length once, or chunks")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            raise _malformed("send exactly one Host header")
        if self.url.startswith((b"http://", b"https://")) and httptools.parse_url(self.url).path is None:
            self.url += b"/"

    def _without_upgrade(self) -> bytes:
        """The head of the last request, without the headers that ask for another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [self.parser.get_method() + b" " + self.url + b" HTTP/" + version]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                kept = b", ".join(token for token in tokens if token.lower() not in _UPGRADE_TOKENS)
                lines += [name + b": " + kept] if kept else []
            elif name not in _UPGRADE_HEADERS:
                lines.append(name + b": " + value)
        return b"\r\n".join([*lines, b"", b""])

    # ---- refusals --------------------------------------------------------------------------------------------------

    def _refuse(self, error: ApiError) -> None:
        """Answers with a problem if an answer is due, reads no further, and closes."""
        cycle = self._running
        log.warning("refused what %s sent: %s", self.client[0] if self.client else "a client", error.detail)
        self._deaf = True
        if cycle is not None and not cycle.response_complete:
            in_its_body = cycle is self.cycle and cycle.more_body
            if not in_its_body or cycle.response_started:
                cycle.keep_alive = False  # its answer comes first, and is the last one
                return
            cycle.disconnected = True
            cycle.message_event.set()
        elif self._in_message and not self._in_head:
            self.close()  # in the rest of a body whose request has its answer
            return
        response = problem_response(error)
        response.headers["Connection"] = "close"
        response.headers["X-Request-Id"] = secrets.token_hex(8)
        headers = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        self._connection.write(STATUS_LINE[error.status] + headers + b"\r\n" + bytes(response.body))
        self.close()

    def _discard(self, count: int) -> None:
        self._discarded_bytes += count
        if self._discarded_bytes > _MAX_DISCARDED_BYTES:
            self._connection.abort()

    def _start_clock(self, seconds: float) -> None:
        self._stop_clock()
        self._cut_off = self.loop.call_later(seconds, self._connection.abort)

    def _stop_clock(self) -> None:
        self._discarded_bytes = 0
        if self._cut_off is not None:
            self._cut_off.cancel()
            self._cut_off = None


def _closing_unless_read(cycle: RequestResponseCycle, app: Any) -> Any:
    """An app for a client that waits for ``100 Continue``.

    A client that is refused before it may send the body or leave it out, so the connection's next bytes are ambiguous.
    """

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        async def send_or_close(message: Any) -> None:
            if cycle.waiting_for_100_continue and cycle.more_body:
                cycle.keep_alive = False
            await send(message)

        await app(scope, receive, send_or_close)

    return guarded


_HEAD_TOO_LARGE = f"the request line and headers have more than {_MAX_HEAD_BYTES} bytes"


def _head_too_large() -> ApiError:
    return ApiError(431, "request_header_fields_too_large", _HEAD_TOO_LARGE)


def _malformed(detail: str) -> _Refused:
    return _Refused(400, "malformed_request", detail)


def _problem_of(error: httptools.HttpParserError, data: bytes) -> ApiError:
    """The problem for a request that the parser refuses."""
    cause = error.__context__
    if isinstance(cause, _Refused):
        return cause.error
    if data.startswith(_TLS_HANDSHAKE):
        detail = "HTTPS was sent to the HTTP port: use http://, or put a proxy that ends TLS in front"
        return ApiError(400, "https_on_http_port", detail)
    if data.startswith(b"PRI * HTTP/2"):
        return ApiError(400, "malformed_request", "HTTP/2 is not spoken here: send HTTP/1.1")
    if cause is not None or isinstance(error, httptools.HttpParserInvalidURLError):
        return ApiError(400, "malformed_request", "the request target is neither a path nor a URL")
    return ApiError(400, "malformed_request", f"this is not HTTP/1.1 as RFC 9112 has it: {error}")
