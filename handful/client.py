"""A typed client: ``from handful import Client``."""

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from handful.network import (
    AddressInvalid,
    http_client,
    https_address,
    is_permanent,
    masked,
    proxy_of,
    reason_of,
    server_address,
    speaks_https,
)
from handful.wire import (
    TASK_NAME_RULE,
    TASK_PATTERN,
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

Example = Mapping[str, Any] | tuple[str, str]
"""``{"text", "label"}`` with ``text_pair`` and ``id`` where wanted, or a pair ``(text, label)``."""

Query = str | Mapping[str, Any]
"""A text, or ``{"text", "text_pair"}``."""


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
    write counts once. Servers on this machine are reached without a proxy; for others the usual variables count
    (``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE``, ``SSL_CERT_DIR``).
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

        Raises:
            HandfulError: The address, the key, or a proxy or certificate setting cannot be used.
        """
        key = (api_key or "").strip()
        if not (key.isascii() and key.isprintable()):
            raise HandfulError("an API key has letters, digits, '-' and '_' only", status=0, code="invalid_api_key")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._proxy = None
        try:
            self._url = server_address(url)
            if key and self._url.userinfo:
                raise AddressInvalid("give an API key, or a user name in the server's address, not both")
            if transport is None:
                self._proxy = proxy_of(self._url)
                self._http = http_client(self._url, self._proxy, headers=headers, timeout_s=timeout_s)
            else:
                self._http = httpx.Client(base_url=self._url, headers=headers, timeout=timeout_s, transport=transport)
        except AddressInvalid as error:
            raise HandfulError(str(error), status=0, code="invalid_address") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def adapt(self, task: str, support: Iterable[Example], **options: Any) -> AdaptResponse:
        """Adapts a task on exactly this support set.

        Args:
            task: The task's name.
            support: Examples: mappings with ``text``, ``label``, and where wanted ``text_pair`` and ``id``, or pairs
                ``(text, label)``.
            options: Further fields of the request, such as ``steps`` or ``ttl_seconds``.

        Raises:
            HandfulError: The server refused or is away.
            TypeError: The support set has another form.
        """
        body = {"support": _support(support), **options}
        return self._call(AdaptResponse, "POST", _path(task, "/adapt"), body, write=True)

    def predict(self, task: str, queries: Query | Iterable[Query], **options: Any) -> PredictResponse:
        """Classifies texts.

        Args:
            task: The task's name.
            queries: One text or many; a pair of texts is ``{"text", "text_pair"}``.
            options: Further fields of the request, such as ``top_k`` or ``abstain``.

        Returns:
            A prediction for each query, in their order; one for one text.

        Raises:
            HandfulError: The server refused or is away.
            TypeError: The queries have another form.
        """
        return self._call(PredictResponse, "POST", _path(task, "/predict"), {"queries": _queries(queries), **options})

    def classify(
        self, support: Iterable[Example], queries: Query | Iterable[Query], **options: Any
    ) -> ClassifyResponse:
        """Adapts and classifies at once; the server stores nothing.

        Args:
            support: Examples, as for ``adapt``.
            queries: Texts, as for ``predict``.
            options: Further fields of the request.

        Raises:
            HandfulError: The server refused or is away.
            TypeError: The support set or the queries have another form.
        """
        body = {"support": _support(support), "queries": _queries(queries), **options}
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

    def readapt(self, task: str, **options: Any) -> AdaptResponse:
        """Adapts a task again on its stored support set, from the checkpoint that the server has loaded.

        Args:
            task: The task's name.
            options: Further fields of the request, such as ``version``.

        Raises:
            HandfulError: There is no such task, its support set was not kept, or the server is away.
        """
        return self._call(AdaptResponse, "POST", _path(task, "/readapt"), options, write=True)

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
                if last or method == "DELETE" or is_permanent(error):
                    reason = reason_of(error, self._url, self._proxy)
                    raise HandfulError(reason, status=0, code="unreachable") from error
                time.sleep(_BACKOFF_S * 2**attempt)
                continue
            if response.status_code == httpx.codes.SERVICE_UNAVAILABLE and not last:
                time.sleep(_retry_after_s(response))
                continue
            if not response.is_success:
                raise self._refusal(response)
            try:
                return answer.model_validate_json(response.content)
            except ValidationError:
                raise self._unexpected(response) from None
        raise AssertionError("unreachable")  # the last attempt returns or raises

    def _refusal(self, response: httpx.Response) -> HandfulError:
        """The server's problem as an error."""
        try:
            problem = response.json()
            detail, code, errors = problem["detail"], problem["code"], problem.get("errors", ())
        except (ValueError, KeyError, TypeError):  # a proxy's page, not the server's answer
            return self._unexpected(response)
        if code == "not_found":  # no such route
            path = self._url.path.rstrip("/")
            hint = f"is the path {path} of its address right?" if path else "is its version older than this client's?"
            detail, errors = f"{masked(self._url)} does not know {response.url.path}: {hint}", ()
        return HandfulError(
            detail,
            status=response.status_code,
            code=code,
            errors=errors,
            request_id=response.headers.get("X-Request-Id", ""),
        )

    def _unexpected(self, response: httpx.Response) -> HandfulError:
        """What is not an answer of Handful: another server, a proxy, or a page of either."""
        shown = masked(self._url)
        if self._url.scheme == "http" and speaks_https(response):
            detail = f"{shown} speaks HTTPS: use {https_address(self._url)}"
        else:
            detail = f"HTTP {response.status_code} from {shown}, but not Handful's answer: {response.text[:200]!r}"
            if self._proxy is not None:
                detail += f"; it came through the proxy from {self._proxy.source}"
        return HandfulError(
            detail,
            status=response.status_code,
            code="unexpected_answer",
            request_id=response.headers.get("X-Request-Id", ""),
        )


def _support(support: Iterable[Example]) -> list[dict[str, Any]]:
    """The examples as the server reads them."""
    form = 'a support set is a list of {"text": …, "label": …} or of pairs (text, label)'
    if isinstance(support, str | bytes | Mapping) or not isinstance(support, Iterable):
        raise TypeError(f"{form}, not a {type(support).__name__}")
    examples = []
    for i, example in enumerate(support):
        if isinstance(example, Mapping):
            examples.append(dict(example))
        elif isinstance(example, tuple) and len(example) == 2 and all(isinstance(part, str) for part in example):
            examples.append({"text": example[0], "label": example[1]})
        else:
            raise TypeError(f"{form}: support[{i}] is a {type(example).__name__}")
    return examples


def _queries(queries: Query | Iterable[Query]) -> list[str | dict[str, Any]]:
    """The queries as the server reads them; one text is a list of one."""
    form = 'queries are a text, or a list of texts or of {"text": …, "text_pair": …}'
    if isinstance(queries, str | Mapping):
        queries = [queries]
    if isinstance(queries, bytes) or not isinstance(queries, Iterable):
        raise TypeError(f"{form}, not a {type(queries).__name__}")
    texts: list[str | dict[str, Any]] = []
    for i, query in enumerate(queries):
        if not isinstance(query, str | Mapping):
            raise TypeError(f"{form}: queries[{i}] is a {type(query).__name__}")
        texts.append(query if isinstance(query, str) else dict(query))
    return texts


def _path(task: str, rest: str = "") -> str:
    """The path of a task; refused here, since a name with a slash or a dot would make the path of something else."""
    if not isinstance(task, str) or not re.fullmatch(TASK_PATTERN, task):
        raise HandfulError(
            f"{task!r} cannot be the name of a task: {TASK_NAME_RULE}",
            status=422,
            code="invalid_request",
            errors=[{"pointer": "path/task", "detail": TASK_NAME_RULE}],
        )
    return f"/v1/tasks/{task}{rest}"


def _retry_after_s(response: httpx.Response) -> float:
    """The server's wish where it is a number of seconds; bounded, whatever it is."""
    try:
        wish = float(response.headers.get("Retry-After", _BACKOFF_S))
    except ValueError:  # a date, from a proxy
        return _BACKOFF_S
    return min(wish, _MAX_RETRY_AFTER_S) if wish >= 0 else _BACKOFF_S
