"""Exception -> (status, code): the one table. Answers are RFC 9457 problem details."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from metalearn.errors import AdaptationDiverged, InvalidSupportSet, UnknownLearner, UnsupportedObjective
from model_store.errors import AdapterCorrupt, StaleAdapter, StoreEmptied, StoreFull, StoreUnavailable, VersionConflict
from service.auth import Unauthorized
from service.validation_messages import validation_message

log = logging.getLogger("handful")

_MAX_FIELD_ERRORS = 20
_MAX_MESSAGE_CHARS = 500
_MAX_LISTED_ERRORS = 1000
_UNIONS = ("queries", "abstain")
_RETRY_SOON_S = "1"
_RETRY_LATER_S = "30"


@dataclass(frozen=True, slots=True)
class FieldError:
    """What is wrong with one part of a request.

    Attributes:
        pointer: ``#/support/3/text`` in the body (a JSON pointer); ``path/task``, ``query/limit`` or
            ``header/Authorization`` elsewhere.
        detail: What is wrong, and what would be right.
    """

    pointer: str
    detail: str


class ApiError(Exception):
    """An answer that is not a success.

    Attributes:
        status: HTTP status.
        code: Stable, machine-readable reason.
        detail: What went wrong and what to do next.
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


class ServerStopping(ApiError):
    """The compute thread has ended, or is about to."""

    def __init__(self) -> None:
        super().__init__(
            503,
            "server_stopping",
            "this server computes no more: try again, elsewhere if you can",
            headers={"Retry-After": _RETRY_SOON_S},
        )


class ClientGone(ApiError):
    """Nobody will read the answer."""

    def __init__(self) -> None:
        super().__init__(499, "client_closed_request", "the client went away")


class ServerBusy(ApiError):
    """The queue is full, or as many requests are being served as may be."""

    def __init__(self, detail: str = "the server's queue is full: try again after the time in Retry-After") -> None:
        super().__init__(
            503,
            "server_busy",
            detail,
            headers={"Retry-After": _RETRY_SOON_S},
        )


def body_pointer(*path: str | int) -> str:
    """JSON pointer, as a URI fragment, to a place in the body. Source: RFC 6901, sections 3 and 6."""
    return "#" + "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in path)


def invalid_content(errors: Sequence[FieldError], code: str = "invalid_request") -> ApiError:
    """The 422 for given field errors."""
    shown = errors[:_MAX_FIELD_ERRORS]
    more = f" ({len(errors) - len(shown)} more not shown)" if len(errors) > len(shown) else ""
    return ApiError(422, code, f"{shown[0].pointer}: {shown[0].detail}{more}", errors=shown)


def field_errors(error: ValidationError) -> list[FieldError]:
    """Field errors of a validation of the body; the offending input is never repeated."""
    if error.error_count() > _MAX_LISTED_ERRORS:
        # Listing millions of them, a megabyte of wrong fields' worth, takes minutes and gigabytes
        return [FieldError("#", f"{error.error_count()} faults, too many to list: see /docs for the body's form")]
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path = list(detail["loc"])
        if path and path[0] in _UNIONS:
            # Parts in angle brackets name the branch of a union, not a place in the body
            path = [part for part in path if not str(part).startswith("<")]
        found.setdefault(body_pointer(*path), validation_message(detail["type"], path, detail["msg"]))
    return [FieldError(pointer, message) for pointer, message in found.items()]


def to_api_error(error: Exception, request_id: str = "") -> ApiError:  # noqa: PLR0911, PLR0912 - a table reads best as one
    """The answer for an exception; 500 without details for one that nobody foresaw.

    Args:
        error: What went wrong.
        request_id: For the log, where the server is at fault.
    """
    match error:
        case ApiError():
            return error
        case RequestValidationError():
            faults = [(e["loc"], validation_message(e["type"], e["loc"], e["msg"])) for e in error.errors()]
            return invalid_content([FieldError("/".join(map(str, path)), message) for path, message in faults])
        case HTTPException(status_code=404):
            return ApiError(
                404, "not_found", "there is no such route: see /docs", errors=[FieldError("path", "no such route")]
            )
        case HTTPException():
            detail = f"{error.detail}: see /docs"
            return ApiError(
                error.status_code,
                HTTPStatus(error.status_code).phrase.lower().replace(" ", "_"),
                detail,
                errors=[FieldError("method", detail)],
                headers=dict(error.headers or {}),
            )
        case Unauthorized():
            pointer = FieldError("header/Authorization", str(error))
            headers = {"WWW-Authenticate": "Bearer"}
            return ApiError(401, "unauthorized", str(error), errors=[pointer], headers=headers)
        case InvalidSupportSet():
            return invalid_content([FieldError(body_pointer(*error.location), str(error))], error.code)
        case UnknownLearner():
            return invalid_content([FieldError(body_pointer("learner"), str(error))], "unknown_learner")
        case UnsupportedObjective():
            return invalid_content([FieldError(body_pointer("learner"), str(error))], "unsupported_objective")
        case AdaptationDiverged():
            return invalid_content([FieldError(body_pointer("learning_rate"), str(error))], "adaptation_diverged")
        case StaleAdapter():
            return ApiError(
                409,
                "stale_adapter",
                f'{error}: POST /v1/tasks/{error.task}/readapt with {{"version": {error.version}}} makes a new version '
                "from the support set that is stored with it; where none was kept, call adapt again",
            )
        case VersionConflict():
            return ApiError(409, "version_conflict", f"{error}: look at it and try again")
        case StoreFull():
            log.error("request %s: store: %s", request_id, error)
            return ApiError(
                503, "store_full", "the store has no room left; nothing was changed", headers={"Retry-After": "60"}
            )
        case StoreEmptied():
            log.error("request %s: store: %s", request_id, error)
            return ApiError(
                503,
                "store_emptied",
                "the store has lost its data, or is another one than before; nothing was changed: the operator of this"
                " server finds in its log what to do",
                headers={"Retry-After": _RETRY_LATER_S},
            )
        case StoreUnavailable():
            log.error("request %s: store: %s", request_id, error)
            return ApiError(
                503,
                "store_unavailable",
                "the store does not answer; nothing was changed as far as is known: try again",
                headers={"Retry-After": _RETRY_SOON_S},
            )
        case AdapterCorrupt():
            log.error("request %s: corrupt adapter: %s", request_id, error)
            return ApiError(500, "adapter_corrupt", "the stored version is damaged: roll back, or call adapt again")
        case _:
            log.error("request %s: unexpected error", request_id, exc_info=error)
            return ApiError(500, "internal_error", "an unexpected error; the server's log has it under X-Request-Id")


def problem_response(error: ApiError) -> Response:
    """The problem+json answer; ASCII, so that any text in it can be sent."""
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
    """A pointer may hold a field's name, and a name may be as long as the body."""
    return text if len(text) <= _MAX_MESSAGE_CHARS else text[:_MAX_MESSAGE_CHARS] + "…"


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:  # 499 is nginx's, not the RFC's
        return "Client Closed Request"


def install_error_handlers(app: FastAPI) -> None:
    """Makes every foreseen exception a problem; the middleware takes the rest."""

    async def handle(request: Request, error: Exception) -> Response:
        return problem_response(to_api_error(error, request.state.request_id))

    for kind in (
        ApiError,
        Unauthorized,
        RequestValidationError,
        InvalidSupportSet,
        UnknownLearner,
        UnsupportedObjective,
        AdaptationDiverged,
        StaleAdapter,
        VersionConflict,
        StoreUnavailable,
        AdapterCorrupt,
    ):
        app.add_exception_handler(kind, handle)
