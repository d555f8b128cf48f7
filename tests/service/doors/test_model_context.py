"""``/mcp``: the Model Context Protocol, with the SDK's own client."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt
from tests.service.doors.conftest import LABELS, TEXT, Door
from tests.waiting import LIMIT_S

Result = TypeVar("Result")
MODES = ("auto", "legacy")
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream"}


@asynccontextmanager
async def connected(url: str, headers: dict[str, str], mode: str = "auto") -> AsyncIterator[Client]:
    """A client."""
    async with (
        httpx2.AsyncClient(headers=headers, timeout=LIMIT_S) as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as client,
    ):
        yield client


def use(
    url: str, work: Callable[[Client], Awaitable[Result]], key: str | None = None, mode: str = "auto", **headers: str
) -> Result:
    """The result of work with a client."""

    async def run() -> Result:
        known = {"Authorization": f"Bearer {key}"} if key else {}
        async with connected(url, {**known, **headers}, mode) as client:
            return await work(client)

    return asyncio.run(run())


def call(door: Door, tool: str, arguments: dict[str, Any], *, key: str | None = None, **headers: str) -> Any:
    """The result of a tool."""

    async def work(client: Client) -> Any:
        return await client.call_tool(tool, arguments)

    return use(door.url, work, key or door.key, **headers)


@pytest.mark.parametrize("mode", MODES)
def test_the_client_lists_classifies_and_adapts(door: Door, mode: str) -> None:
    async def work(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {"list_tasks", "classify", "adapt"}
        assert set(tools["classify"].input_schema["properties"]) == {"texts", "task", "top_k"}
        assert tools["classify"].input_schema["required"] == ["texts"]
        annotations = {name: tool.annotations for name, tool in tools.items()}
        assert [each.read_only_hint for each in annotations.values() if each] == [True, True, False]
        listed = (await client.call_tool("list_tasks", {})).structured_content
        assert [task["task"] for task in listed["tasks"]] == ["bank", "other"]
        assert listed["tasks"][0]["labels"] == LABELS
        found = (await client.call_tool("classify", {"task": "bank", "texts": [TEXT, TEXTS[0]]})).structured_content
        assert [each["scores"] for each in found["predictions"]] == [door.scores(TEXT), door.scores(TEXTS[0])]
        made = (await client.call_tool("adapt", {"task": "agent", "examples": SUPPORT})).structured_content
        assert (made["version"], made["labels"], made["n_support"]) == (1, LABELS, len(SUPPORT))
        more = {"task": "agent", "examples": [{"text": "a new thing", "label": "new"}], "append": True}
        grown = (await client.call_tool("adapt", more)).structured_content
        assert (grown["version"], grown["n_support"]) == (2, len(SUPPORT) + 1)

    try:
        use(door.url, work, door.key, mode)
    finally:
        with door.client() as own:
            own.delete("/v1/tasks/agent")


def test_the_connection_can_name_the_task(door: Door) -> None:
    for key, headers in ((door.key, {"X-Handful-Task": "bank"}), (f"{door.key}/bank", {}), (door.lone_key, {})):
        found = call(door, "classify", {"texts": [TEXT], "top_k": 1}, key=key, **headers).structured_content
        scores = door.scores()
        best = max(scores, key=scores.__getitem__)
        assert found["predictions"][0]["scores"] == {best: scores[best]}


@pytest.mark.parametrize(
    ("tool", "arguments", "code", "sentence"),
    [
        ("classify", {"texts": [TEXT]}, "task_needed", "there are several tasks"),
        ("classify", {"texts": [TEXT], "task": "absent"}, "task_not_found", "there is no such task"),
        ("classify", {"texts": [TEXT, ""], "task": "bank"}, "empty_text", "#/texts/1: the text is empty"),
        ("classify", {"texts": [], "task": "bank"}, "invalid_request", "#/texts"),
        ("classify", {"text": TEXT, "task": "bank"}, "invalid_request", "#/text"),
        ("classify", {"texts": [TEXT], "task": "a b"}, "invalid_request", "#/task: a task's name"),
        ("adapt", {"task": "agent", "examples": SUPPORT[:1]}, "too_few_classes", "#/examples"),
        ("adapt", {"task": "agent", "examples": [{"text": "a"}]}, "invalid_request", "#/examples/0/label"),
        ("adapt", {"task": "a/b", "examples": SUPPORT}, "invalid_request", "#/task: a task's name"),
        (
            "adapt",
            {"task": "bank", "examples": SUPPORT, "append": True, "labels": {"a": "b"}},
            "invalid_request",
            "leave labels out",
        ),
        ("list_tasks", {"limit": 0}, "invalid_request", "#/limit"),
    ],
)
def test_an_error_is_the_tools_result_and_says_what_to_change(
    door: Door, tool: str, arguments: dict[str, Any], code: str, sentence: str
) -> None:
    found = call(door, tool, arguments)
    assert found.is_error
    assert found.structured_content["code"] == code
    assert sentence in found.content[0].text


def test_an_unknown_tool_is_refused(door: Door) -> None:
    async def work(client: Client) -> None:
        with pytest.raises(MCPError, match="the tools are list_tasks, classify, adapt"):
            await client.call_tool("translate", {})

    use(door.url, work, door.key)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", [None, "nobody"])
def test_without_a_key_there_is_no_session(door: Door, key: str | None, mode: str) -> None:
    async def work(client: Client) -> None:
        await client.list_tools()

    with pytest.raises(BaseException):  # noqa: B017 - the SDK wraps it in groups
        use(door.url, work, key, mode)
    with httpx.Client(base_url=door.url, headers=ACCEPT) as client:
        sent = {"Authorization": f"Bearer {key}"} if key else {}
        answer = client.post("/mcp", json=INITIALIZE, headers=sent)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["data"] == {"code": "unauthorized"}


def test_another_tenants_tasks_are_absent(door: Door) -> None:
    listed = call(door, "list_tasks", {}, key=door.lone_key).structured_content
    assert [task["task"] for task in listed["tasks"]] == ["bank"]
    theirs, absent = (
        call(door, "classify", {"texts": [TEXT], "task": task}, key=door.lone_key) for task in ("other", "absent")
    )
    assert theirs.structured_content == absent.structured_content
    # Adapting under another's name makes a task of one's own
    before = door.scores(task="other")
    made = call(door, "adapt", {"task": "other", "examples": OTHER_SUPPORT}, key=door.lone_key)
    assert made.structured_content["version"] == 1
    assert door.scores(task="other") == before
    with door.client(door.lone_key) as client:
        client.delete("/v1/tasks/other")


def test_tenants_at_once_are_never_mixed(door: Door) -> None:
    async def work() -> None:
        async def ask(key: str) -> Any:
            async with connected(door.url, {"Authorization": f"Bearer {key}"}) as client:
                return (await client.call_tool("list_tasks", {})).structured_content

        keys = [door.key, door.lone_key] * 4
        found = await asyncio.gather(*(ask(key) for key in keys))
        for key, listed in zip(keys, found, strict=True):
            expected = ["bank", "other"] if key == door.key else ["bank"]
            assert [task["task"] for task in listed["tasks"]] == expected

    asyncio.run(work())


def test_pages_of_other_sites_are_refused(open_door: Door) -> None:
    with httpx.Client(base_url=open_door.url, headers=ACCEPT) as client:
        for origin, status in (
            ("http://evil.example", 403),
            ("null", 403),
            ("http://localhost:6274", 200),
            ("http://127.0.0.1:6274", 200),
        ):
            assert client.post("/mcp", json=INITIALIZE, headers={"Origin": origin}).status_code == status, origin


def test_there_is_no_stream_and_no_session_to_delete(open_door: Door) -> None:
    with httpx.Client(base_url=open_door.url, headers=ACCEPT) as client:
        for method in ("GET", "DELETE"):
            answer = client.request(method, "/mcp")
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST, OPTIONS")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"jsonrpc": "2.0"}', b"\xff", b'{"jsonrpc": "2.0", "id": 1, "method": "no"}']
)
def test_what_is_no_message_is_refused_as_json_rpc(open_door: Door, body: bytes) -> None:
    with httpx.Client(base_url=open_door.url, headers={**ACCEPT, "Content-Type": "application/json"}) as client:
        answer = client.post("/mcp", content=body)
        assert answer.json()["error"]["code"] < 0
        large = client.post("/mcp", content=b" " * 2**24)
        assert (large.status_code, large.json()["error"]["data"]["code"]) == (413, "body_too_large")


def test_without_the_extra_the_answer_names_it(start_service: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start_service()
    monkeypatch.setitem(sys.modules, "mcp", None)
    answer = client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
    assert answer.status_code == 501
    assert "pip install 'handful[mcp]'" in answer.json()["error"]["message"]
    assert answer.json()["error"]["data"]["code"] == "extra_missing"
    monkeypatch.undo()
    assert client.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 200


def test_the_door_can_be_turned_off_and_is_counted(start_service: StartService) -> None:
    client = start_service()
    adapt(client)
    client.post("/mcp", json=INITIALIZE, headers=ACCEPT)
    assert 'handful_requests_total{route="/mcp",status="200"} 1.0' in client.get("/metrics").text
    closed = start_service(doors="none")
    assert closed.post("/mcp", json=INITIALIZE, headers=ACCEPT).status_code == 404
    assert closed.get("/v2").status_code == 404
    assert closed.get("/label-studio/bank/health").status_code == 404
