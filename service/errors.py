"""The one table of exceptions and their statuses and codes. Answers are RFC 9457 problem details."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from handful.wire import body_pointer
from handful.wire_kinds import EXAMPLE_TAGS
from metalearn.errors import AdaptationDiverged, InvalidSupportSet, UnknownLearner, UnsupportedObjective
from model_store.errors import (
    AdapterCorrupt,
    StaleAdapter,
    StoreEmptied,
    StoreFull,
    StoreUnavailable,
    TaskFileInvalid,
    UnknownCheckpoint,
    VersionConflict,
)
from service.auth import Unauthorized
from service.engine.errors import ComputeStopped, QueueFull, SupportTooLarge, TextEmpty
from service.tasks.errors import (
    CheckpointNotLoaded,
    ExampleNeeded,
    ExampleNotFound,
    FileUnreadable,
    IdempotencyKeyReused,
    InvalidContent,
    NewestVersion,
    ReadaptRefused,
    SupportNotKept,
    TaskNotFound,
    VersionNotFound,
)
from service.validation_messages import validation_message

log = logging.getLogger("handful")

_MAX_FIELD_ERRORS = 20
_MAX_MESSAGE_CHARS = 500
_MAX_LISTED_ERRORS = 1000
_UNIONS = ("queries", "abstain", "unlabelled")
_RETRY_SOON_S = "1"

IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header that holds the idempotency key."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """A fault in one part of a request.

    Attributes:
        pointer: ``#/support/3/text`` in the body (a JSON pointer); ``path/task``, ``query/limit`` or
            ``header/Authorization`` elsewhere.
        detail: The fault, and the expected value.
    """

    pointer: str
    detail: str


class ApiError(Exception):
    """An answer that is not a success.

    Attributes:
        status: HTTP status.
        code: Stable, machine-readable reason.
        detail: The failure and the remedy.
        errors: The parts of the request at fault.
        headers: Further headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


class ClientGone(ApiError):
    """The client has gone, so nobody will read the answer."""

    def __init__(self) -> None:
        super().__init__(499, "client_closed_request", "the client went away")


def server_busy(detail: str) -> ApiError:
    """The answer where the server has no room for a request."""
    return ApiError(503, "server_busy", detail, headers={"Retry-After": _RETRY_SOON_S})


def server_stopping(detail: str) -> ApiError:
    """The answer where the compute thread has stopped."""
    return ApiError(503, "server_stopping", detail, headers={"Retry-After": _RETRY_SOON_S})


def invalid_content(errors: Sequence[FieldError], code: str = "invalid_request") -> ApiError:
    """The 422 for given field errors."""
    shown = errors[:_MAX_FIELD_ERRORS]
    more = f" ({len(errors) - len(shown)} more not shown)" if len(errors) > len(shown) else ""
    return ApiError(422, code, f"{shown[0].pointer}: {shown[0].detail}{more}", errors=shown)


def field_errors(error: ValidationError) -> list[FieldError]:
    """The field errors of a body's validation. They never repeat the offending input."""
    if error.error_count() > _MAX_LISTED_ERRORS:
        # Listing millions of them, a megabyte of wrong fields' worth, takes minutes and gigabytes
        return [FieldError("#", f"{error.error_count()} faults, too many to list: see /docs for the body's form")]
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path = list(detail["loc"])
        if path and path[0] in _UNIONS:
            # Parts in angle brackets name the branch of a union, not a place in the body
            path = [part for part in path if not str(part).startswith("<")]
        if path[0:1] in (["support"], ["examples"]):
            path = [part for i, part in enumerate(path) if i != 2 or part not in EXAMPLE_TAGS]
        found.setdefault(body_pointer(*path), validation_message(detail["type"], path, detail["msg"]))
    return [FieldError(pointer, message) for pointer, message in found.items()]


def _at_fault(status: int, code: str, detail: str, pointer: str, headers: dict[str, str] | None = None) -> ApiError:
    """An answer that names one part of the request as the fault."""
    return ApiError(status, code, detail, errors=[FieldError(pointer, detail)], headers=headers)


def _invalid(error: Exception, code: str, *paths: Sequence[str | int]) -> ApiError:
    """The 422 with the error's message for each place in the body."""
    return invalid_content([FieldError(body_pointer(*path), str(error)) for path in paths], code)


def _empty_text(error: TextEmpty) -> ApiError:
    after = ("text",) if error.field == "support" else ()
    return _invalid(error, "empty_text", *((error.field, i, *after) for i in error.indices))


def _request_invalid(error: RequestValidationError) -> ApiError:
    faults = [(e["loc"], validation_message(e["type"], e["loc"], e["msg"])) for e in error.errors()]
    return invalid_content([FieldError("/".join(map(str, path)), message) for path, message in faults])


def _http_error(error: HTTPException) -> ApiError:
    if error.status_code == 404:
        detail = "there is no such route: see /docs"
        return ApiError(404, "not_found", detail, errors=[FieldError("path", "no such route")])
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    return _at_fault(error.status_code, code, f"{error.detail}: see /docs", "method", dict(error.headers or {}))


def _stale_adapter(error: StaleAdapter) -> ApiError:
    advice = error.advice or (
        f'POST /v1/tasks/{error.task}/readapt with {{"version": {error.version}}} makes a new version '
        "from the support set that is stored with it; where none was kept, call adapt again"
    )
    return ApiError(409, "stale_adapter", f"{error}: {advice}")


def _store_away(code: str, detail: str, retry_after_s: str) -> ApiError:
    return ApiError(503, code, detail, headers={"Retry-After": retry_after_s})


_ANSWERS: dict[type[Exception], Callable[[Any], ApiError]] = {
    ApiError: lambda e: e,
    # The framework's
    RequestValidationError: _request_invalid,
    HTTPException: _http_error,
    # The caller's key
    Unauthorized: lambda e: _at_fault(
        401, "unauthorized", str(e), "header/Authorization", {"WWW-Authenticate": "Bearer"}
    ),
    # The use cases'
    TaskNotFound: lambda e: ApiError(404, "task_not_found", str(e)),
    VersionNotFound: lambda e: ApiError(404, "version_not_found", str(e)),
    ExampleNotFound: lambda e: ApiError(404, "example_not_found", str(e)),
    ExampleNeeded: lambda e: ApiError(409, "example_needed", str(e)),
    NewestVersion: lambda e: ApiError(409, "newest_version", str(e)),
    CheckpointNotLoaded: lambda e: ApiError(409, "checkpoint_not_loaded", str(e)),
    SupportNotKept: lambda e: ApiError(409, "support_not_kept", str(e)),
    ReadaptRefused: lambda e: ApiError(409, "readapt_refused", str(e)),
    IdempotencyKeyReused: lambda e: _at_fault(422, "idempotency_key_reused", str(e), f"header/{IDEMPOTENCY_KEY}"),
    FileUnreadable: lambda e: invalid_content([FieldError("#", str(e))], "file_unreadable"),
    InvalidContent: lambda e: invalid_content(
        [FieldError(body_pointer(*fault.path), fault.message) for fault in e.faults], e.code
    ),
    # The engine's
    QueueFull: lambda _: server_busy("the server's queue is full: try again after the time in Retry-After"),
    ComputeStopped: lambda _: server_stopping(
        "The compute thread has stopped. Retry on another replica; this one computes nothing until it is restarted."
    ),
    TextEmpty: _empty_text,
    SupportTooLarge: lambda e: _invalid(e, e.code, ("support",)),
    # The learning core's
    InvalidSupportSet: lambda e: _invalid(e, e.code, e.location),
    UnknownLearner: lambda e: _invalid(e, "unknown_learner", ("learner",)),
    UnsupportedObjective: lambda e: _invalid(e, "unsupported_objective", ("learner",)),
    AdaptationDiverged: lambda e: _invalid(e, "adaptation_diverged", e.location),
    # The loaded checkpoints'
    UnknownCheckpoint: lambda e: _invalid(e, "unknown_checkpoint", ("checkpoint",)),
    # A task as a file
    TaskFileInvalid: lambda e: invalid_content([FieldError("#", str(e))], "invalid_task_file"),
    # The store's
    StaleAdapter: _stale_adapter,
    VersionConflict: lambda e: ApiError(409, "version_conflict", f"{e}: look at it and try again"),
    AdapterCorrupt: lambda _: ApiError(
        500, "adapter_corrupt", "the stored version is damaged: roll back, or call adapt again"
    ),
    StoreFull: lambda _: _store_away(
        "store_full",
        "the store has no room left; nothing was changed, and predictions go on: delete tasks or old versions, or ask"
        " the operator for room",
        "60",
    ),
    StoreEmptied: lambda _: _store_away(
        "store_emptied",
        "the store has lost its data, or is another one than before; nothing was changed: the operator of this"
        " server finds in its log what to do",
        "30",
    ),
    StoreUnavailable: lambda _: _store_away(
        "store_unavailable",
        "the store does not answer; nothing was changed as far as is known: try again",
        _RETRY_SOON_S,
    ),
}
"""The answer for each type of exception. A type that is absent here has the answer of its nearest base."""

_LOGGED: dict[type[Exception], str] = {StoreUnavailable: "store", AdapterCorrupt: "corrupt adapter"}
"""Errors that concern the operator, and their log messages."""


def to_api_error(error: Exception, request_id: str = "") -> ApiError:
    """The answer for an exception; 500 without details for an unexpected one.

    Args:
        error: The exception.
        request_id: The request's id, for the log where the server is at fault.
    """
    for kind, name in _LOGGED.items():
        if isinstance(error, kind):
            log.error("request %s: %s: %s", request_id, name, error)
    answer = next((_ANSWERS[kind] for kind in type(error).__mro__ if kind in _ANSWERS), None)
    if answer is not None:
        return answer(error)
    log.error("request %s: unexpected error", request_id, exc_info=error)
    return ApiError(500, "internal_error", "an unexpected error; the server's log has it under X-Request-Id")


def problem_response(error: ApiError) -> Response:
    """The problem+json answer in ASCII, so that it can hold any text."""
    content: dict[str, object] = {
        "type": f"urn:handful:problem:{error.code}",
        "title": _title(error.status),
        "status": error.status,
        "code": error.code,
        "detail": _shortened(error.detail),
    }
    if error.errors:
        content["errors"] = [{"pointer": _shortened(e.pointer), "detail": _shortened(e.detail)} for e in error.errors]
    return Response(
        json.dumps(content, ensure_ascii=True),
        status_code=error.status,
        headers=error.headers,
        media_type="application/problem+json",
    )


def _shortened(text: str) -> str:
    """Shortens a pointer, which may hold a field's name that is as long as the body."""
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[:_MAX_MESSAGE_CHARS] + "…"


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499 is nginx's, not the RFC's
        return "Client Closed Request"


def install_error_handlers(app: FastAPI) -> None:
    """Replaces the framework's own answer to validation errors. The middleware answers all other exceptions."""

    async def handle(request: Request, error: Exception) -> Response:
        return problem_response(to_api_error(error, request.state.request_id))

    app.add_exception_handler(RequestValidationError, handle)
