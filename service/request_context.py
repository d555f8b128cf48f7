"""What every request gets: an id, timings, a count, and an answer even where nobody foresaw the error."""

import re
import secrets
import time
from contextvars import ContextVar

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import ServerBusy, problem_response, to_api_error
from service.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_PHASES = ("queue", "encode", "adapt", "store")


_current: ContextVar["Timings"] = ContextVar("handful_timings")


def add_to_current(phase: str, seconds: float) -> None:
    """Adds to a phase of the request that is being served, if one is."""
    timings = _current.get(None)
    if timings is not None:
        timings.add(phase, seconds)


class Timings:
    """Seconds that a request spent in each phase, for ``Server-Timing``."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(_PHASES, 0.0)

    def add(self, phase: str, seconds: float) -> None:
        """Adds to a phase."""
        self._seconds[phase] += seconds

    def header(self) -> str:
        """The header's value, in milliseconds. Source: W3C Server Timing, section 3."""
        return ", ".join(f"{phase};dur={seconds * 1000:.3f}" for phase, seconds in self._seconds.items())


class RequestContext:
    """ASGI middleware; outermost, so that no answer goes without."""

    def __init__(self, app: ASGIApp, metrics: Metrics, max_inflight_requests: int) -> None:
        self._app = app
        self._metrics = metrics
        self._max_inflight = max_inflight_requests
        self._inflight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        timings = Timings()
        _current.set(timings)
        request_id = _request_id(scope)
        scope.setdefault("state", {}).update(timings=timings, request_id=request_id)
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["Server-Timing"] = timings.header()
            await send(message)

        # Bodies are held in memory before the queue can count them. Probes and metrics always get through
        counted = scope["path"].startswith("/v1/")
        self._inflight += counted
        try:
            if counted and self._inflight > self._max_inflight:
                raise ServerBusy
            await self._app(scope, receive, send_with_headers)
        except Exception as error:
            if status:  # half an answer is out: only the connection can tell the client
                raise
            await problem_response(to_api_error(error, request_id))(scope, receive, send_with_headers)
        finally:
            self._inflight -= counted
            # The template, not the path: paths hold tasks' names and are without bound
            route = getattr(scope.get("route"), "path", "unmatched")
            self._metrics.requests.labels(route, str(status or 499)).inc()
            self._metrics.request_duration.labels(route).observe(time.perf_counter() - began)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return secrets.token_hex(8)
