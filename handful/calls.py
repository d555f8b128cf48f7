"""The API's calls as requests that both clients send."""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel

from handful.checkpoint_answers import CheckpointList, CheckpointResponse
from handful.errors import Invalid
from handful.forms import Examples, Queries, Query, examples_of, queries_of
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
    VersionDiff,
)
from handful.wire_feedback import DriftResponse, FeedbackResponse
from handful.wire_moving import TASK_FILE_TYPE, ImportResponse, TaskFile
from handful.wire_playground import MapResponse, ReadExamplesResponse
from handful.wire_readapt import ReadaptPreview, ReadaptResponse

Answer = TypeVar("Answer", bound=BaseModel)
Page = TypeVar("Page", TaskList, VersionList, ExampleList)


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


class FileCall(Call[TaskFile]):
    """A request whose answer is an exported task."""

    def parsed(self, content: bytes) -> TaskFile:
        """The body itself."""
        return TaskFile(content=content)


def adapt(task: str, support: Examples, options: Mapping[str, Any]) -> Call[AdaptResponse]:
    """The call that adapts a task."""
    return _write(AdaptResponse, _path(task, "/adapt"), {"support": examples_of(support), **options})


def predict(task: str, queries: Queries, options: Mapping[str, Any]) -> Call[PredictResponse]:
    """The call that classifies texts."""
    return _post(PredictResponse, _path(task, "/predict"), {"queries": queries_of(queries), **_lists(options)})


def classify(support: Examples, queries: Queries, options: Mapping[str, Any]) -> Call[ClassifyResponse]:
    """The call that adapts and classifies at once."""
    body = {"support": examples_of(support), "queries": queries_of(queries), **_lists(options)}
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


def add_examples(task: str, examples: Examples) -> Call[AddExamplesResponse]:
    """The call that appends examples."""
    call = _write(AddExamplesResponse, _path(task, "/examples"), {"examples": examples_of(examples)})
    return replace(call, builds_on_newest=True)


def erase_example(task: str, example_id: str) -> Call[EraseResponse]:
    """The call that erases an example."""
    path = _path(task, f"/examples/{quote(example_id, safe='')}")
    return Call(EraseResponse, "DELETE", path, {}, None, builds_on_newest=True)


RightAnswer = str | Sequence[str] | float | Mapping[str, Any]
"""The right answer to a text: its label, its labels in a multi-label task, its score, ``{"spans"}`` or ``{"tags"}``."""


def feedback(
    task: str, label: RightAnswer, text: Query | None, answer: str | None, *, force: bool
) -> Call[FeedbackResponse]:
    """The call that corrects an answer."""
    if (text is None) == (answer is None):
        raise TypeError("give the text of the answer, or its id")
    body: dict[str, Any]
    if isinstance(label, Mapping):
        body = dict(label)
    else:
        key = "label" if isinstance(label, str) else "score" if isinstance(label, int | float) else "labels"
        body = {key: list(label) if key == "labels" else label}  # type: ignore[arg-type]
    if answer is not None:
        body["id"] = answer
    if text is not None:
        body |= {"text": text} if isinstance(text, str) else text
    call = _write(FeedbackResponse, _path(task, "/feedback"), body | ({"force": True} if force else {}))
    return replace(call, builds_on_newest=True)


def drift(task: str) -> Call[DriftResponse]:
    """The call for what moved in a task's recent queries."""
    return _get(DriftResponse, _path(task, "/drift"))


def diff_versions(task: str, version: int, other: int) -> Call[VersionDiff]:
    """The call for the differences of a version from another one."""
    return _get(VersionDiff, _path(task, f"/versions/{version}/diff"), **{"with": other})


def map_task(task: str, queries: Queries, version: int | None, *, examples: bool) -> Call[MapResponse]:
    """The call that places examples and queries on a plane."""
    body: dict[str, Any] = {"queries": queries_of(queries), "version": version, "examples": examples}
    return _post(MapResponse, _path(task, "/map"), body)


def read_examples(content: bytes, name: str, options: Mapping[str, Any]) -> Call[ReadExamplesResponse]:
    """The call that reads examples from a file."""
    path = f"/v1/examples/read{_query(name=name or None, **options)}"
    return Call(ReadExamplesResponse, "POST", path, {"Content-Type": "application/octet-stream"}, bytes(content))


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


def report(task: str, unlabelled: Queries | None, options: Mapping[str, Any]) -> Call[ReportResponse]:
    """The call for a report; a report on the examples alone is a GET."""
    if unlabelled is None and options.keys() <= {"version"}:
        return _get(ReportResponse, _path(task, "/report"), **options)
    body = {"unlabelled": queries_of([] if unlabelled is None else unlabelled), **options}
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


def _lists(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a prediction; the labels that may be answered may be one label, or in any collection."""
    only = options.get("only_labels")
    return (
        dict(options) if only is None else {**options, "only_labels": [only] if isinstance(only, str) else list(only)}
    )


def _path(task: str, rest: str = "") -> str:
    """The path of a task. A name with a slash or a dot is refused, since it would be the path of another resource."""
    if not isinstance(task, str) or not re.fullmatch(TASK_PATTERN, task):
        raise Invalid(
            f"{task!r} cannot be the name of a task: {TASK_NAME_RULE}",
            status=422,
            code="invalid_request",
            errors=[{"pointer": "path/task", "detail": TASK_NAME_RULE}],
        )
    return f"/v1/tasks/{task}{rest}"
