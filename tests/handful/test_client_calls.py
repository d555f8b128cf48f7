"""The calls of the clients: every route of the server has one, and both clients have the same."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import httpx
import pytest
from pydantic import BaseModel

from handful import call_options
from handful.async_client import AsyncClient
from handful.client import Client
from handful.errors import HandfulError
from handful.report_request import ReportRequest
from handful.wire import AdaptRequest, ClassifyRequest, PredictRequest
from handful.wire_readapt import ReadaptRequest
from tests.conftest import StartService
from tests.handful.conftest import BUSY, Open, Script, Scripted

PAIRS = [("a", "x"), ("b", "y")]
CALLS: dict[str, Callable[[Client], Any]] = {
    "POST /v1/tasks/{task}/adapt": lambda client: client.adapt("t", PAIRS),
    "POST /v1/tasks/{task}/predict": lambda client: client.predict("t", "a"),
    "POST /v1/classify": lambda client: client.classify(PAIRS, "a"),
    "GET /v1/tasks": lambda client: list(client.tasks()),
    "GET /v1/tasks/{task}": lambda client: client.task("t"),
    "DELETE /v1/tasks/{task}": lambda client: client.delete("t"),
    "GET /v1/tasks/{task}/versions": lambda client: list(client.versions("t")),
    "GET /v1/tasks/{task}/versions/{version}": lambda client: client.version("t", 2),
    "DELETE /v1/tasks/{task}/versions/{version}": lambda client: client.delete_version("t", 2),
    "GET /v1/tasks/{task}/versions/{version}/diff": lambda client: client.diff_versions("t", 2, 1),
    "POST /v1/tasks/{task}/rollback": lambda client: client.rollback("t", 1),
    "POST /v1/tasks/{task}/readapt": lambda client: client.readapt("t"),
    "GET /v1/tasks/{task}/readapt": lambda client: client.preview_readapt("t"),
    "POST /v1/tasks/{task}/examples": lambda client: client.add_examples("t", PAIRS),
    "GET /v1/tasks/{task}/examples": lambda client: list(client.examples("t")),
    "DELETE /v1/tasks/{task}/examples/{example}": lambda client: client.erase_example("t", "e"),
    "POST /v1/tasks/{task}/feedback": lambda client: client.feedback("t", "x", text="a"),
    "GET /v1/tasks/{task}/drift": lambda client: client.drift("t"),
    "GET /v1/tasks/{task}/report": lambda client: client.report("t"),
    "POST /v1/tasks/{task}/report": lambda client: client.report("t", ["a"]),
    "POST /v1/tasks/{task}/map": lambda client: client.map_task("t", "a"),
    "POST /v1/examples/read": lambda client: client.read_examples(b"a;b"),
    "GET /v1/tasks/{task}/export": lambda client: client.export_task("t"),
    "POST /v1/tasks/{task}/import": lambda client: client.import_task("t", b"PK"),
    "GET /v1/checkpoint": lambda client: client.checkpoint(),
    "GET /v1/checkpoints": lambda client: client.checkpoints(),
}
"""A route -> the call of it."""


def test_every_route_has_a_call(start_service: StartService) -> None:
    # Other APIs have their own clients
    paths = start_service(doors="none").get("/openapi.json").json()["paths"]
    routes = {f"{method.upper()} {path}" for path, known in paths.items() for method in known if path.startswith("/v1")}
    assert routes == set(CALLS)


@pytest.mark.parametrize("route", CALLS)
def test_a_call_is_sent_to_its_route(pauses: list[float], route: str, scripted: Scripted) -> None:
    client, script = scripted(httpx.Response(500, json={**BUSY, "status": 500, "code": "internal_error"}))
    with pytest.raises(HandfulError):
        CALLS[route](client)
    (request,) = script.requests
    pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(route))
    assert re.fullmatch(pattern, f"{request.method} {request.url.path}")


def test_both_clients_have_the_same_calls() -> None:
    def calls_of(client: type) -> dict[str, Mapping[str, inspect.Parameter]]:
        found = inspect.getmembers(client, inspect.isfunction)
        public = {name: inspect.signature(call).parameters for name, call in found if not name.startswith("_")}
        return {name: parameters for name, parameters in public.items() if name not in {"close", "aclose"}}

    assert calls_of(Client) == calls_of(AsyncClient)
    start, begin = (inspect.signature(client.__init__).parameters for client in (Client, AsyncClient))
    assert list(start) == list(begin)
    assert [each.default for each in start.values()] == [each.default for each in begin.values()]


@pytest.mark.parametrize(
    ("options", "request_model", "arguments"),
    [
        (call_options.AdaptOptions, AdaptRequest, {"support"}),
        (call_options.ClassifyOptions, ClassifyRequest, {"support", "queries"}),
        (call_options.PredictOptions, PredictRequest, {"queries"}),
        (call_options.ReadaptOptions, ReadaptRequest, set()),
        (call_options.ReportOptions, ReportRequest, {"unlabelled"}),
    ],
)
def test_the_options_of_a_call_are_the_fields_of_its_request(
    options: type, request_model: type[BaseModel], arguments: set[str]
) -> None:
    assert set(get_type_hints(options)) == set(request_model.model_fields) - arguments


@pytest.mark.parametrize(
    ("support", "sent"),
    [
        ({"x": ["a", "b"], "y": ("c",)}, [("a", "x"), ("b", "x"), ("c", "y")]),
        ({"x": "a text", "y": "another"}, [("a text", "x"), ("another", "y")]),
        ({"text": ["a"], "y": ["b"]}, [("a", "text"), ("b", "y")]),
        ({None: ["a"], "y": ["b"]}, [("a", None), ("b", "y")]),
        (lambda: {"x": iter(["a"]), "y": []}, [("a", "x")]),
        ([("a", "x"), {"text": "b", "label": "y"}], [("a", "x"), ("b", "y")]),
        ({"text": "a", "label": "x"}, [("a", "x")]),
        (("a", "x"), [("a", "x")]),
        (lambda: zip(["a", "b"], ["x", "y"], strict=True), [("a", "x"), ("b", "y")]),
    ],
    ids=["lists", "lone-texts", "a-class-called-text", "out-of-scope", "iterators", "mixed", "one", "one-pair", "zip"],
)
def test_the_forms_of_examples(pauses: list[float], support: Any, sent: list[Any], open_client: Open) -> None:
    script = Script(httpx.Response(500, json={**BUSY, "status": 500, "code": "internal_error"}))
    with open_client("http://handful", transport=script) as client, pytest.raises(HandfulError):
        client.add_examples("t", support() if callable(support) else support)
    body = httpx.Response(200, content=script.requests[0].content).json()
    assert body["examples"] == [{"text": text, "label": label} for text, label in sent]


def test_pairs_of_texts_may_stand_under_their_label(pauses: list[float], scripted: Scripted) -> None:
    client, script = scripted(httpx.Response(500, json={**BUSY, "status": 500, "code": "internal_error"}))
    with pytest.raises(HandfulError):
        client.add_examples("t", {"same": [{"text": "a", "text_pair": "b"}], "other": {"text": "c", "text_pair": "d"}})
    assert httpx.Response(200, content=script.requests[0].content).json()["examples"] == [
        {"text": "a", "text_pair": "b", "label": "same"},
        {"text": "c", "text_pair": "d", "label": "other"},
    ]


@pytest.mark.parametrize("only", ["card", ("card",), {"card"}, ["card"]], ids=str)
def test_one_label_may_be_answered(pauses: list[float], only: Any, scripted: Scripted) -> None:
    client, script = scripted(httpx.Response(500, json={**BUSY, "status": 500, "code": "internal_error"}))
    with pytest.raises(HandfulError):
        client.predict("t", "a", only_labels=only)
    assert httpx.Response(200, content=script.requests[0].content).json()["only_labels"] == ["card"]


def test_the_environment_names_server_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANDFUL_URL", "http://127.0.0.1:7777")
    monkeypatch.setenv("HANDFUL_API_KEY", "of-the-environment")
    client = Client()
    assert (str(client._server.url), client._server.key) == ("http://127.0.0.1:7777", "of-the-environment")
    client = Client("http://127.0.0.1:9999", api_key="own")
    assert (str(client._server.url), client._server.key) == ("http://127.0.0.1:9999", "own")
    assert Client("http://127.0.0.1:9999", api_key="")._server.key == ""
    for name in ("HANDFUL_URL", "HANDFUL_API_KEY"):
        monkeypatch.delenv(name)
    client = Client()
    assert (str(client._server.url), client._server.key) == ("http://127.0.0.1:8000", "")
