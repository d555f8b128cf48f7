"""The tools of the Model Context Protocol: list a tenant's tasks, classify with one, adapt one.

Each request has a server of its own that knows one caller, so that no call can meet another tenant.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import mcp_types as types
from fastapi import Request
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import MCPError
from pydantic import FailFast, Field
from starlette.responses import Response
from starlette.types import Message

from handful.wire import TASK_PATTERN, AdaptRequest, AnyExample, LabelledText, PredictRequest
from handful.wire_examples import AddExamplesRequest
from service.doors.door import Caller, Content, DoorRequest, check_task_name, in_fields, parsed, task_of
from service.errors import to_api_error
from service.tasks.adapt import adapt
from service.tasks.app_parts import Parts
from service.tasks.errors import Fault, InvalidContent
from service.tasks.examples import add_examples
from service.tasks.predict import predict
from service.tasks.versions import list_tasks

# One line a request is in the log already
logging.getLogger("mcp").setLevel(logging.WARNING)

_INSTRUCTIONS = (
    "Text classifiers that learn from a handful of labelled examples. list_tasks names the classifiers that are there, "
    "classify labels texts with one, adapt makes or changes one."
)
_FIELDS = {"#/queries": "#/texts", "#/support": "#/examples"}


class ListTasks(DoorRequest):
    """A page of the tasks."""

    limit: int = Field(100, ge=1, le=1000, description="Most tasks in the answer.")
    after: str | None = Field(None, pattern=TASK_PATTERN, description="`next` of the page before.")


class Classify(DoorRequest):
    """Texts to classify."""

    texts: Annotated[list[str], FailFast()] = Field(min_length=1, description="The texts.")
    task: str | None = Field(
        None, description="The task that classifies. Where it is missing, the one of the connection, or the only one."
    )
    top_k: int = Field(5, ge=1, description="How many labels to score for each text, the most probable first.")


class McpExample(DoorRequest):
    """A labelled text."""

    text: str
    label: str


class Adapt(DoorRequest):
    """Examples to adapt a task on."""

    task: str = Field(description="The task's name: letters, digits, '.', '_' and '-'. It may be a new one.")
    examples: Annotated[list[McpExample], FailFast()] = Field(
        min_length=1, description="Labelled texts, at least one for each label and two labels."
    )
    labels: dict[str, str] | None = Field(
        None, description="Descriptions of labels, which help where examples are few."
    )
    append: bool = Field(
        False, description="true adds the examples to those of the task; false replaces the task by these examples."
    )


@dataclass(frozen=True, slots=True)
class _Tool:
    name: str
    description: str
    request: type[DoorRequest]
    work: Callable[[Parts, Caller, Any], Awaitable[Content]]
    read_only: bool

    @property
    def described(self) -> types.Tool:
        return types.Tool(
            name=self.name,
            description=self.description,
            input_schema=self.request.model_json_schema(),
            annotations=types.ToolAnnotations(
                read_only_hint=self.read_only, destructive_hint=not self.read_only, open_world_hint=False
            ),
        )


async def _list(parts: Parts, caller: Caller, asked: ListTasks) -> Content:
    page = await list_tasks(parts, caller.tenant, after=asked.after, limit=asked.limit)
    shown = {"task", "version", "kind", "labels", "n_support", "leave_one_out_accuracy"}
    tasks = [each.model_dump(mode="json", include=shown) for each in page.tasks]
    return {"tasks": tasks, "next": page.next}


async def _classify(parts: Parts, caller: Caller, asked: Classify) -> Content:
    task = await task_of(parts, caller, asked.task, "#/task")
    queries = PredictRequest(queries=list(asked.texts), top_k=asked.top_k)
    answered = await predict(parts, caller.tenant, task, queries)
    return answered.response.model_dump(mode="json", exclude_none=True)


async def _adapt(parts: Parts, caller: Caller, asked: Adapt) -> Content:
    check_task_name(asked.task, "#/task")
    examples: list[AnyExample] = [LabelledText(text=each.text, label=each.label) for each in asked.examples]
    if asked.append:
        if asked.labels is not None:
            detail = "descriptions are given when a task is adapted anew: leave labels out, or append"
            raise InvalidContent("invalid_request", [Fault(("labels",), detail)])
        added = AddExamplesRequest(examples=examples)
        committed = await add_examples(parts, caller.tenant, asked.task, added, None)
    else:
        request = AdaptRequest(support=examples, labels=asked.labels)
        committed = await adapt(parts, caller.tenant, asked.task, request, None)
    made: Content = json.loads(committed.json)
    shown = ("task", "version", "labels", "n_support", "leave_one_out_accuracy", "warnings")
    return {name: made[name] for name in shown}


_TOOLS = (
    _Tool("list_tasks", "Lists the text classifiers that are there, with their labels.", ListTasks, _list, True),
    _Tool(
        "classify",
        "Classifies texts with a task: for each text the most probable label and the probabilities of the first ones.",
        Classify,
        _classify,
        True,
    ),
    _Tool(
        "adapt",
        "Makes a text classifier of labelled examples, in milliseconds, or changes one. The answer has its accuracy on "
        "its own examples, each left out, and warnings about examples that are worth a look.",
        Adapt,
        _adapt,
        False,
    ),
)


async def answered(parts: Parts, caller: Caller, request: Request, data: bytes) -> Response:
    """The answer to one message.

    Args:
        parts: The app's parts.
        caller: The caller.
        request: The request.
        data: Its body.
    """

    async def list_tools(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=[tool.described for tool in _TOOLS])

    async def call_tool(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        tool = next((each for each in _TOOLS if each.name == asked.name), None)
        if tool is None:
            known = ", ".join(each.name for each in _TOOLS)
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {asked.name[:50]!r}: the tools are {known}")
        try:
            arguments = parsed(tool.request, json.dumps(asked.arguments or {}).encode())
            result = await tool.work(parts, caller, arguments)
        except Exception as error:
            return _refusal(error, request.state.request_id)
        text = types.TextContent(text=json.dumps(result, ensure_ascii=False))
        return types.CallToolResult(content=[text], structured_content=result)

    server: Server[Any] = Server(
        "handful",
        version=request.app.version,
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )
    # One for each request: it lives no longer, so that nothing has to be ended with the app
    manager = StreamableHTTPSessionManager(
        server, json_response=True, stateless=True, max_request_body_size=parts.settings.max_body_bytes
    )
    sent: list[Message] = []
    unread = [data]

    async def receive() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await request.receive()

    async def send(message: Message) -> None:
        sent.append(message)

    async with manager.run():
        await manager.handle_request(request.scope, receive, send)
    start = next(each for each in sent if each["type"] == "http.response.start")
    body = b"".join(each.get("body", b"") for each in sent if each["type"] == "http.response.body")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in start.get("headers", ())}
    return Response(body, status_code=start["status"], headers=headers)


def _refusal(error: Exception, request_id: str) -> types.CallToolResult:
    """An error as the result of a tool, so that an agent reads what to change."""
    found = in_fields(to_api_error(error, request_id), _FIELDS)
    content: Content = {"status": found.status, "code": found.code, "detail": found.detail}
    if found.errors:
        content["errors"] = [{"pointer": each.pointer, "detail": each.detail} for each in found.errors]
    text = types.TextContent(text=f"{found.detail} ({found.code})")
    return types.CallToolResult(content=[text], structured_content=content, is_error=True)
