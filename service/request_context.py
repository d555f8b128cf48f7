"""The middleware of every request: id, timings, count, log line, and an answer to every error."""

import asyncio
import re
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.caller import start_caller
from service.errors import problem_response, server_busy, server_stopping, to_api_error
from service.metrics import Metrics
from service.path_prefix import with_prefix
from service.request_log import log_request
from service.timings import start_timings

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class RequestContext:
    """ASGI middleware for ids, timings, counts and log lines. It is the outermost, so that every answer has them."""

    def __init__(self, app: ASGIApp, metrics: Metrics, root_path: str = "") -> None:
        self._app = app
        self._metrics = metrics
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        timings = start_timings()
        request_id = _request_id(scope)
        start_caller(request_id)
        method: str = scope["method"]
        state = scope.setdefault("state", {})
        state.update(timings=timings, request_id=request_id, status=0)
        response_bytes = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal response_bytes
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["Server-Timing"] = timings.header()
                if scope["app"].state.draining:
                    headers["Connection"] = "close"  # so that no client sends its next request to a closed connection
            elif method == "HEAD":
                message = {**message, "body": b""}
            else:
                response_bytes += len(message.get("body", b""))
            await send(message)

        inner = with_prefix(scope, self._root_path)
        if method == "HEAD":
            inner = {**inner, "method": "GET"}  # every route that answers GET answers HEAD
        try:
            await self._app(inner, receive, send_with_headers)
        finally:
            # The template, not the path: paths hold tasks' names and are without bound
            route = getattr(inner.get("route"), "path", "unmatched")
            status = state["status"] or 499
            seconds = time.perf_counter() - began
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.request_duration.labels(route).observe(seconds)
            log_request(state, method=method, route=route, seconds=seconds, response_bytes=response_bytes)


class Answers:
    """ASGI middleware that limits simultaneous requests and answers every exception with a problem."""

    def __init__(self, app: ASGIApp, max_inflight_requests: int) -> None:
        self._app = app
        self._max_inflight = max_inflight_requests
        self._inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Bodies are held in memory before the queue can count them. Probes and metrics always get through
        counted = scope["method"] == "POST" or scope["path"].startswith("/v1/", len(scope.get("root_path", "")))
        self._inflight += counted
        try:
            if counted and self._inflight > self._max_inflight:
                raise server_busy(
                    f"{self._max_inflight} requests are being served, and no more at once: try again after the time in "
                    "Retry-After (HANDFUL_MAX_INFLIGHT_REQUESTS is the limit)"
                )
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if scope["state"]["status"] or not scope["app"].state.draining:
                raise
            refusal = server_stopping("The server is stopping. Retry on another replica.")
            await problem_response(refusal)(scope, receive, send)  # the time for draining is over
        except Exception as error:
            if scope["state"]["status"]:  # a part of the answer was sent: only a closed connection shows the failure
                raise
            await problem_response(to_api_error(error, scope["state"]["request_id"]))(scope, receive, send)
        finally:
            self._inflight -= counted


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return secrets.token_hex(8)
