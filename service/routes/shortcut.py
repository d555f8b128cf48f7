"""Requests to ``predict`` go straight to it.

The framework's routing and dependencies take more of the event loop's time than all else that a prediction does there;
of all routes this is the one that is asked most. What does not look like a plain request to it goes the usual way.
"""

import re
from types import SimpleNamespace

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from handful.wire import TASK_PATTERN, PredictRequest
from service.routes.predict import SEND_IN_PARTS, answered, router
from service.routes.request import json_body, parts_of, tenant_of

_PATH = re.compile(rf"/v1/tasks/(?P<task>{TASK_PATTERN.strip('^$')})/predict")
_ROUTE = SimpleNamespace(path=router.routes[0].path)  # type: ignore[attr-defined]
_read = json_body(PredictRequest, too_large=SEND_IN_PARTS)


class PredictShortcut:
    """ASGI middleware; what is inside it raises, and what is around it makes answers of that."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        match = None
        if scope["type"] == "http" and scope["method"] == "POST":
            match = _PATH.fullmatch(scope["path"], len(scope.get("root_path", "")))
        if match is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE
        request = Request(scope, receive, send)
        parts = parts_of(request)
        tenant = await tenant_of(request)
        response = await answered(request, parts, tenant, match["task"], await _read(request))
        await response(scope, receive, send)
