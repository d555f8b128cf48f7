"""The API's calls as requests that both clients send, and the rules by which they retry."""

import json
import random
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from handful.checkpoint_answers import CheckpointList, CheckpointResponse
from handful.errors import HandfulError
from handful.network import is_permanent
from handful.report_answers import ReportResponse
from handful.wire import (
    TASK_NAME_RULE,
    TASK_PATTERN,
    AdaptResponse,
    ClassifyResponse,
    DeleteResponse,
    PredictResponse,
    TaskList,
    TaskResponse,
    VersionList,
    VersionResponse,
)
from handful.wire_examples import (
    AddExamplesResponse,
    DeleteVersionResponse,
    EraseResponse,
    ExampleList,
    VersionDetail,
)
from handful.wire_feedback import DriftResponse, FeedbackResponse
from handful.wire_moving import TASK_FILE_TYPE, ImportResponse, TaskFile
from handful.wire_readapt import ReadaptPreview, ReadaptResponse

_ATTEMPTS = 3
_RACES = 50
"""Most attempts of a call that builds on the newest version, where others come first."""
_RACE_PAUSE_S = 0.5
_BACKOFF_S = 0.5
_MAX_RETRY_AFTER_S = 60.0

Answer = TypeVar("Answer", bound=BaseModel)
Page = TypeVar("Page", TaskList, VersionList, ExampleList)

Example = Mapping[str, Any] | tuple[str, str]
"""``{"text", "label"}`` with ``text_pair`` and ``id`` where wanted, or a pair ``(text, label)``."""

Query = str | Mapping[str, Any]
"""A text, or ``{"text", "text_pair"}``."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """A request of the API.

    Attributes:
        answer: The type of the answer.
        method: The HTTP method.
        path: The path after the server's address, with the query.
        headers: Headers of this call. A write has an idempotency key, so that a repeated write counts once.
        content: The body.
        builds_on_newest: Whether the call is to be sent again where another commit came first.
    """

    answer: type[Answer]
    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes | None
    builds_on_newest: bool = False

    def parsed(self, content: bytes) -> Answer:
        """The answer in the body of a response.

        Raises:
            ValidationError: The body is another one.
        """
        return self.answer.model_validate_json(content)

    def pause_after_error_s(self, error: httpx.TransportError, attempt: int) -> float | None:
        """The pause before a retry when no answer came; None for no retry.

        Args:
            error: The reason why no answer came.
            attempt: The number of attempts so far.
        """
        # A DELETE that was carried out but not answered would find nothing the second time
        if attempt >= _ATTEMPTS or self.method == "DELETE" or is_permanent(error):
            return None
        return _BACKOFF_S * 2.0 ** (attempt - 1)

    def pause_after_response_s(self, response: httpx.Response, attempt: int) -> float | None:
        """The pause before a retry when the server is busy or another commit came first; None for an answer.

        Args:
            response: The server's response.
            attempt: The number of attempts so far.
        """
        if self.builds_on_newest and response.status_code == httpx.codes.CONFLICT and attempt < _RACES:
            if _code(response) != "version_conflict":
                return None
            return random.uniform(0, _RACE_PAUSE_S)  # noqa: S311 - so that those who collided part
        if attempt >= _ATTEMPTS or response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            return None
        try:
            wish_s = float(response.headers.get("Retry-After", _BACKOFF_S))
        except ValueError:  # a date, from a proxy
            return _BACKOFF_S
        return min(wish_s, _MAX_RETRY_AFTER_S) if wish_s >= 0 else _BACKOFF_S


class FileCall(Call[TaskFile]):
    """A request whose answer is an exported task."""

    def parsed(self, content: bytes) -> TaskFile:
        """The body itself."""
        return TaskFile(content=content)


def adapt(task: str, support: Iterable[Example], options: Mapping[str, Any]) -> Call[AdaptResponse]:
    """The call that adapts a task."""
    return _write(AdaptResponse, _path(task, "/adapt"), {"support": _support(support), **options})


def predict(task: str, queries: Query | Iterable[Query], options: Mapping[str, Any]) -> Call[PredictResponse]:
    """The call that classifies texts."""
    return _post(PredictResponse, _path(task, "/predict"), {"queries": _queries(queries), **options})


def classify(
    support: Iterable[Example], queries: Query | Iterable[Query], options: Mapping[str, Any]
) -> Call[ClassifyResponse]:
    """The call that adapts and classifies at once."""
    body = {"support": _support(support), "queries": _queries(queries), **options}
    return _post(ClassifyResponse, "/v1/classify", body)


def tasks(after: str | None) -> Call[TaskList]:
    """The call for a page of tasks, those after a name."""
    return _get(TaskList, "/v1/tasks", after=after)


def task(name: str) -> Call[TaskResponse]:
    """The call for one task."""
    return _get(TaskResponse, _path(name))


def versions(task: str, before: int | None) -> Call[VersionList]:
    """The call for a page of versions, those before a number."""
    return _get(VersionList, _path(task, "/versions"), before=before)


def version(task: str, number: int) -> Call[VersionDetail]:
    """The call for one version."""
    return _get(VersionDetail, _path(task, f"/versions/{number}"))


def rollback(task: str, version: int) -> Call[VersionResponse]:
    """The call that brings a version back."""
    return _write(VersionResponse, _path(task, "/rollback"), {"version": version})


def readapt(task: str, options: Mapping[str, Any]) -> Call[ReadaptResponse]:
    """The call that adapts a task again."""
    return _write(ReadaptResponse, _path(task, "/readapt"), options)


def preview_readapt(task: str, version: int | None, checkpoint: str | None) -> Call[ReadaptPreview]:
    """The call for the version that a readapt would make."""
    return _get(ReadaptPreview, _path(task, "/readapt"), version=version, checkpoint=checkpoint)


def examples(task: str, filters: Mapping[str, str | None], after: str | None) -> Call[ExampleList]:
    """The call for a page of examples, those behind an id."""
    return _get(ExampleList, _path(task, "/examples"), **filters, after=after)


def add_examples(task: str, examples: Iterable[Example]) -> Call[AddExamplesResponse]:
    """The call that appends examples."""
    call = _write(AddExamplesResponse, _path(task, "/examples"), {"examples": _support(examples)})
    return replace(call, builds_on_newest=True)


def erase_example(task: str, example_id: str) -> Call[EraseResponse]:
    """The call that erases an example."""
    path = _path(task, f"/examples/{quote(example_id, safe='')}")
    return Call(EraseResponse, "DELETE", path, {}, None, builds_on_newest=True)


RightAnswer = str | Sequence[str] | float
"""The right answer to a text: its label, its labels in a multi-label task, or its score."""


def feedback(
    task: str, label: RightAnswer, text: Query | None, answer: str | None, *, force: bool
) -> Call[FeedbackResponse]:
    """The call that corrects an answer."""
    if (text is None) == (answer is None):
        raise TypeError("give the text of the answer, or its id")
    key = "label" if isinstance(label, str) else "score" if isinstance(label, int | float) else "labels"
    body: dict[str, Any] = {key: list(label) if key == "labels" else label}  # type: ignore[arg-type]
    if answer is not None:
        body["id"] = answer
    if text is not None:
        body |= {"text": text} if isinstance(text, str) else text
    call = _write(FeedbackResponse, _path(task, "/feedback"), body | ({"force": True} if force else {}))
    return replace(call, builds_on_newest=True)


def drift(task: str) -> Call[DriftResponse]:
    """The call for what moved in a task's recent queries."""
    return _get(DriftResponse, _path(task, "/drift"))


def delete_version(task: str, version: int) -> Call[DeleteVersionResponse]:
    """The call that removes a version."""
    return Call(DeleteVersionResponse, "DELETE", _path(task, f"/versions/{version}"), {}, None)


def export_task(task: str, version: int | None) -> Call[TaskFile]:
    """The call for a version as a file."""
    return FileCall(TaskFile, "GET", _path(task, f"/export{_query(version=version)}"), {}, None)


def import_task(task: str, content: bytes, *, readapt: bool, ttl_seconds: int | None) -> Call[ImportResponse]:
    """The call that makes a version of a file."""
    query = _query(readapt="true" if readapt else None, ttl_seconds=ttl_seconds)
    headers = {"Content-Type": TASK_FILE_TYPE, "Idempotency-Key": uuid.uuid4().hex}
    return Call(ImportResponse, "POST", _path(task, f"/import{query}"), headers, bytes(content))


def report(task: str, unlabelled: Query | Iterable[Query] | None, options: Mapping[str, Any]) -> Call[ReportResponse]:
    """The call for a report; a report on the examples alone is a GET."""
    if unlabelled is None and options.keys() <= {"version"}:
        return _get(ReportResponse, _path(task, "/report"), **options)
    body = {"unlabelled": _queries([] if unlabelled is None else unlabelled), **options}
    return _post(ReportResponse, _path(task, "/report"), body)


def delete(task: str) -> Call[DeleteResponse]:
    """The call that removes a task."""
    return Call(DeleteResponse, "DELETE", _path(task), {}, None)


def checkpoint() -> Call[CheckpointResponse]:
    """The call for the server's default checkpoint."""
    return _get(CheckpointResponse, "/v1/checkpoint")


def checkpoints() -> Call[CheckpointList]:
    """The call for all checkpoints that the server has loaded."""
    return _get(CheckpointList, "/v1/checkpoints")


def _get(answer: type[Answer], path: str, **query: str | int | None) -> Call[Answer]:
    return Call(answer, "GET", path + _query(**query), {}, None)


def _query(**query: str | int | None) -> str:
    """The end of a path; empty where nothing is given."""
    given = httpx.QueryParams({name: value for name, value in query.items() if value is not None})
    return f"?{given}" if given else ""


def _write(answer: type[Answer], path: str, body: Mapping[str, Any]) -> Call[Answer]:
    return _post(answer, path, body, {"Idempotency-Key": uuid.uuid4().hex})


def _post(
    answer: type[Answer], path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Call[Answer]:
    # ASCII, so that a lone surrogate reaches the server too; its error names the place
    content = json.dumps(body).encode()
    return Call(answer, "POST", path, {"Content-Type": "application/json", **(headers or {})}, content)


def _code(response: httpx.Response) -> str | None:
    try:
        return str(response.json()["code"])
    except (ValueError, KeyError, TypeError):  # a proxy's answer
        return None


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
    """The path of a task. A name with a slash or a dot is refused, since it would be the path of another resource."""
    if not isinstance(task, str) or not re.fullmatch(TASK_PATTERN, task):
        raise HandfulError(
            f"{task!r} cannot be the name of a task: {TASK_NAME_RULE}",
            status=422,
            code="invalid_request",
            errors=[{"pointer": "path/task", "detail": TASK_NAME_RULE}],
        )
    return f"/v1/tasks/{task}{rest}"
