"""The log: one line per request, as JSON unless on a terminal. It never holds a text, a key or a query string."""

import json
import logging
import sys
import time
from typing import Any

_requests = logging.getLogger("handful.requests")

_QUIET = frozenset({"/livez", "/readyz", "/metrics"})
"""Routes that are requested every few seconds, and logged at level DEBUG."""
_FIELDS = "request"
"""The attribute of a log record that holds the fields of a request."""


class JsonFormatter(logging.Formatter):
    """A formatter that writes one JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's line."""
        line: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        request = getattr(record, _FIELDS, None)
        if request is None:
            line["message"] = record.getMessage()
        else:
            line |= request
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """A formatter that writes plain lines, with the fields of a request as ``name=value``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The line without its traceback."""
        request = getattr(record, _FIELDS, None)
        if request is not None:
            fields = dict(request)
            head = f"{fields.pop('method')} {fields.pop('route')} {fields.pop('status')} {fields.pop('ms')} ms"
            record.message = " ".join(
                [head, *(f"{k}={v!r}" if k == "tenant" else f"{k}={v}" for k, v in fields.items())]
            )
        return super().formatMessage(record)


def configure_logs(level: str) -> None:
    """Sends the logs to standard error: text to a terminal, JSON to anything else.

    Args:
        level: The lowest level that is logged.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter() if sys.stderr.isatty() else JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler])


def log_request(state: dict[str, Any], *, method: str, route: str, seconds: float, response_bytes: int) -> None:
    """Logs a request that was answered.

    Args:
        state: The request's state: its id and status, and if known its tenant and the size of its body.
        method: The HTTP method.
        route: The route's template.
        seconds: Time from the head of the request to the end of the answer.
        response_bytes: The size of the answer's body.
    """
    level = logging.DEBUG if route in _QUIET else logging.INFO
    if not _requests.isEnabledFor(level):
        return
    fields = {
        "request_id": state["request_id"],
        "tenant": state.get("tenant"),
        "method": method,
        "route": route,
        "status": state["status"] or 499,
        "ms": round(seconds * 1000, 2),
        "request_bytes": state.get("request_bytes", 0),
        "response_bytes": response_bytes,
    }
    # The record is made here, since a logger looks up its caller, which takes longer than all the rest
    record = logging.LogRecord(_requests.name, level, "", 0, "request", None, None)
    record.request = fields
    _requests.handle(record)
