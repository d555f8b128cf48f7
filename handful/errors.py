"""The errors of calls to a server, by what a caller may do about them."""

from collections.abc import Mapping, Sequence
from typing import Any


class HandfulError(Exception):
    """The server refused, or could not be reached; the base of all errors of the clients.

    Attributes:
        detail: The failure and the remedy, in a sentence.
        status: The HTTP status; 0 where there was no answer.
        code: A stable reason, such as ``task_not_found``.
        errors: The pointer and the detail of each part of the request at fault.
        request_id: The id of the request in the server's log.
        retry_after_s: Seconds after which the server wishes to be asked again; None where it names none.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str,
        errors: Sequence[Mapping[str, str]] = (),
        request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.errors = errors
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        """The parts to make it of in another process; an exception's own ones lack the keyword arguments."""
        fields = {name: getattr(self, name) for name in ("status", "code", "errors", "request_id", "retry_after_s")}
        return _remade, (type(self), self.detail, fields)


class Misconfigured(HandfulError):
    """The client cannot call at all: an address, a key, a proxy or certificates that cannot be used."""


class Unreachable(HandfulError):
    """No answer came; whether the server got the request is unknown."""


class UnexpectedAnswer(HandfulError):
    """An answer that is not Handful's, such as a proxy's page."""


class Unauthorized(HandfulError):
    """The API key is missing or unknown (401)."""


class NotFound(HandfulError):
    """The task, version, example or route is absent (404)."""


class Conflict(HandfulError):
    """The request does not fit the task's present state (409)."""


class Invalid(HandfulError, ValueError):
    """The request cannot be carried out, however often it is sent (400, 405, 413, 415, 422, 431)."""


class RateLimited(HandfulError):
    """The tenant asks too much in a time (429); ``retry_after_s`` says when to ask again."""


class Unavailable(HandfulError):
    """The server cannot answer now (503), or a proxy cannot reach it (502, 504); asking again may help."""


class ServerFull(Unavailable):
    """The server has no room for the request (503 ``server_busy``)."""


class ServerFailed(HandfulError):
    """An error in the server (500); its log has the cause under ``request_id``."""


_BY_CODE: Mapping[str, type[HandfulError]] = {
    "invalid_address": Misconfigured,
    "invalid_api_key": Misconfigured,
    "server_busy": ServerFull,
    "unreachable": Unreachable,
}
_BY_STATUS: Mapping[int, type[HandfulError]] = {
    401: Unauthorized,
    404: NotFound,
    409: Conflict,
    429: RateLimited,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(detail: str, *, status: int, code: str, **fields: Any) -> HandfulError:
    """The error of a status and a code, of the class that names its meaning.

    Args:
        detail: The failure and the remedy.
        status: The HTTP status; 0 where there was no answer.
        code: The stable reason.
        fields: Further attributes of ``HandfulError``.
    """
    return class_of(status, code)(detail, status=status, code=code, **fields)


def class_of(status: int, code: str) -> type[HandfulError]:
    """The class of errors with a status and a code."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    kind = _BY_STATUS.get(status)
    if code == "unexpected_answer" and kind not in {RateLimited, Unavailable}:  # a proxy's own 404 is no absent task
        return UnexpectedAnswer
    if kind is not None:
        return kind
    return Invalid if 400 <= status < 500 else ServerFailed if status >= 500 else HandfulError


def _remade(kind: type[HandfulError], detail: str, fields: Mapping[str, Any]) -> HandfulError:
    return kind(detail, **fields)
