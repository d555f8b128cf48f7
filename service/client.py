"""A typed client. ``from service.client import Client``."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from model_store.records import NAME_PATTERN, is_name
from service.schemas import (
    AdaptResponse,
    CheckpointResponse,
    ClassifyResponse,
    DeleteResponse,
    PredictResponse,
    TaskList,
    TaskResponse,
    VersionList,
    VersionResponse,
)

_RETRIES = 2
_BACKOFF_S = 0.5
_MAX_RETRY_AFTER_S = 60.0

Answer = TypeVar("Answer", bound=BaseModel)


class HandfulError(Exception):
    """The server refused, or could not be reached.

    Attributes:
        status: HTTP status; 0 where there was no answer.
        code: Stable reason, such as ``task_not_found``.
        errors: Parts of the request at fault: pointer and detail of each.
        request_id: Finds the request in the server's log.
    """

    def __init__(
        self, detail: str, *, status: int, code: str, errors: Sequence[Mapping[str, str]] = (), request_id: str = ""
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = errors
        self.request_id = request_id


class Client:
    """Talks to a Handful server; a context manager.

    Calls that found the server busy or away are tried again, writes under an idempotency key, so that a repeated
    write counts once.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Prepares a client; connects with the first call.

        Args:
            url: The server's address.
            api_key: Needed once the server has any key.
            timeout_s: For each attempt.
            transport: In place of the network.
        """
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def adapt(self, task: str, support: Sequence[Mapping[str, str]], **options: Any) -> AdaptResponse:
        """Adapts a task on exactly this support set.

        Args:
            task: The task's name.
            support: Examples: ``text``, ``label``, and where wanted ``text_pair`` and ``id``.
            options: Further fields of the request, such as ``steps`` or ``ttl_seconds``.

        Raises:
            HandfulError: The server refused or is away.
        """
        body = {"support": list(support), **options}
        return self._call(AdaptResponse, "POST", _path(task, "/adapt"), body, write=True)

    def predict(self, task: str, queries: Sequence[str | Mapping[str, str]], **options: Any) -> PredictResponse:
        """Classifies texts.

        Raises:
            HandfulError: The server refused or is away.
        """
        return self._call(PredictResponse, "POST", _path(task, "/predict"), {"queries": list(queries), **options})

    def classify(
        self, support: Sequence[Mapping[str, str]], queries: Sequence[str | Mapping[str, str]], **options: Any
    ) -> ClassifyResponse:
        """Adapts and classifies at once; the server stores nothing.

        Raises:
            HandfulError: The server refused or is away.
        """
        body = {"support": list(support), "queries": list(queries), **options}
        return self._call(ClassifyResponse, "POST", "/v1/classify", body)

    def tasks(self) -> Iterator[TaskResponse]:
        """All tasks, by name, a page at a time.

        Raises:
            HandfulError: The server refused or is away.
        """
        after: str | None = None
        while True:
            page = self._call(TaskList, "GET", "/v1/tasks", query={"after": after})
            yield from page.tasks
            after = page.next
            if after is None:
                return

    def task(self, task: str) -> TaskResponse:
        """One task.

        Raises:
            HandfulError: There is none, or the server is away.
        """
        return self._call(TaskResponse, "GET", _path(task))

    def versions(self, task: str) -> Iterator[VersionResponse]:
        """All versions, newest first, a page at a time.

        Raises:
            HandfulError: There is no such task, or the server is away.
        """
        before: int | None = None
        while True:
            page = self._call(VersionList, "GET", _path(task, "/versions"), query={"before": before})
            yield from page.versions
            before = page.next
            if before is None:
                return

    def rollback(self, task: str, version: int) -> VersionResponse:
        """Brings a version back under a new number.

        Raises:
            HandfulError: There is no such version, or the server is away.
        """
        return self._call(VersionResponse, "POST", _path(task, "/rollback"), {"version": version}, write=True)

    def delete(self, task: str) -> None:
        """Removes a task with all it has.

        Raises:
            HandfulError: There is none, or the server is away.
        """
        self._call(DeleteResponse, "DELETE", _path(task))

    def checkpoint(self) -> CheckpointResponse:
        """What the server answers with.

        Raises:
            HandfulError: The server refused or is away.
        """
        return self._call(CheckpointResponse, "GET", "/v1/checkpoint")

    def _call(
        self,
        answer: type[Answer],
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        write: bool = False,
    ) -> Answer:
        headers = {"Idempotency-Key": uuid.uuid4().hex} if write else {}
        # ASCII: what no encoding can express reaches the server all the same, which says where it is
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        parameters = {name: value for name, value in (query or {}).items() if value is not None}
        for attempt in range(_RETRIES + 1):
            last = attempt == _RETRIES
            try:
                response = self._http.request(method, path, content=content, params=parameters, headers=headers)
            except httpx.TransportError as error:
                # A DELETE that was carried out but not answered would find nothing the second time
                if last or method == "DELETE":
                    raise HandfulError(
                        f"no answer from {self._url}: {error or type(error).__name__}; is `handful serve` running?",
                        status=0,
                        code="unreachable",
                    ) from error
                time.sleep(_BACKOFF_S * 2**attempt)
                continue
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and not last:
                time.sleep(_retry_after_s(response))
                continue
            if not response.is_success:
                raise _refusal(response)
            try:
                return answer.model_validate_json(response.content)
            except ValidationError:
                raise _unexpected(response) from None
        raise AssertionError("unreachable")  # the last attempt returns or raises


def _path(task: str, rest: str = "") -> str:
    """The path of a task; refused here, since a name with a slash or a dot would make the path of something else."""
    if not is_name(task):
        detail = f"a task's name matches {NAME_PATTERN}"
        raise HandfulError(
            f"path/task: {detail}",
            status=422,
            code="invalid_request",
            errors=[{"pointer": "path/task", "detail": detail}],
        )
    return f"/v1/tasks/{task}{rest}"


def _retry_after_s(response: httpx.Response) -> float:
    """The server's wish where it is a number of seconds; bounded, whatever it is."""
    try:
        wish = float(response.headers.get("Retry-After", _BACKOFF_S))
    except ValueError:  # a date, from a proxy
        return _BACKOFF_S
    return min(wish, _MAX_RETRY_AFTER_S) if wish >= 0 else _BACKOFF_S


def _unexpected(response: httpx.Response) -> HandfulError:
    return HandfulError(
        f"HTTP {response.status_code}, but not Handful's answer: {response.text[:200]!r}",
        status=response.status_code,
        code="unexpected_answer",
        request_id=response.headers.get("X-Request-Id", ""),
    )


def _refusal(response: httpx.Response) -> HandfulError:
    try:
        problem = response.json()
        detail, code, errors = problem["detail"], problem["code"], problem.get("errors", ())
    except (ValueError, KeyError, TypeError):  # a proxy's page, not the server's answer
        return _unexpected(response)
    return HandfulError(
        detail,
        status=response.status_code,
        code=code,
        errors=errors,
        request_id=response.headers.get("X-Request-Id", ""),
    )
