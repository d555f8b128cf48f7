"""Answers to requests without a route: allowed methods, a similar path, and ``OPTIONS``."""

import re

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match, Mount

from service.errors import ApiError, FieldError, problem_response, to_api_error
from service.path_prefix import route_path

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def add_to(app: FastAPI) -> None:
    """Registers the handler of the router's exceptions."""
    app.add_exception_handler(HTTPException, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    path = route_path(request.scope)
    if status == 404:
        meant = _meant(request, path)
        hint = f"; do you mean {request.scope.get('root_path', '')}{meant}?" if meant else ""
        detail = f"there is no such route{hint or ': see /docs'}"
        return problem_response(ApiError(404, "not_found", detail, errors=[FieldError("path", detail)]))
    methods = _methods(request, path) if status == 405 else []
    if not methods:
        return problem_response(to_api_error(error, request.state.request_id))
    allow = {"Allow": ", ".join(methods)}
    if request.method == "OPTIONS":
        return Response(status_code=204, headers=allow)
    detail = f"{request.method} is not possible here: use {' or '.join(m for m in methods if m in _METHODS)}"
    refusal = ApiError(405, "method_not_allowed", detail, errors=[FieldError("method", detail)], headers=allow)
    return problem_response(refusal)


def _methods(request: Request, path: str) -> list[str]:
    """All methods of a path. The router itself stops at the first route that has the path."""
    found = [method for method in _METHODS if _takes(request, method, path)]
    return [*found, *(["HEAD"] if "GET" in found else []), "OPTIONS"] if found else []


def _takes(request: Request, method: str, path: str) -> bool:
    scope = {**request.scope, "method": method, "root_path": "", "path": path}
    return any(
        route.matches(scope)[0] is Match.FULL
        for route in request.app.router.routes
        if method == "GET" or not isinstance(route, Mount)
    )


def _meant(request: Request, path: str) -> str | None:
    """The path of a route that differs from a requested path by slashes or the version's prefix alone."""
    if path.endswith("/") and _methods(request, path.rstrip("/")):
        return path.rstrip("/")
    plain = re.sub("/+", "/", path).rstrip("/")
    return next((each for each in (plain, f"/v1{plain}") if _takes(request, request.method, each)), None)
