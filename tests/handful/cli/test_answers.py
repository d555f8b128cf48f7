"""Headers of every answer, unexpected errors, and the documents that describe the API."""

import functools
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import TEXTS, adapt, predict, store_of

SECRET = "the database password is hunter2"

CONTRACT = {
    ("post", "/v1/tasks/{task}/adapt"),
    ("post", "/v1/tasks/{task}/predict"),
    ("post", "/v1/classify"),
    ("get", "/v1/tasks"),
    ("get", "/v1/tasks/{task}"),
    ("delete", "/v1/tasks/{task}"),
    ("get", "/v1/tasks/{task}/versions"),
    ("post", "/v1/tasks/{task}/rollback"),
    ("get", "/v1/checkpoint"),
}
"""The documented routes."""


def raising(client: httpx.Client, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Makes one method of the store raise an unexpected error."""
    original = getattr(store_of(client), method)

    @functools.wraps(original)
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(store_of(client), method, broken)


@pytest.mark.parametrize(
    ("method", "verb", "path", "body"),
    [
        ("task", "GET", "/v1/tasks/bank", None),
        ("tasks", "GET", "/v1/tasks", None),
        ("delete", "DELETE", "/v1/tasks/bank", None),
        ("commit", "POST", "/v1/tasks/bank/adapt", {"support": SUPPORT}),
        ("current_at_once", "POST", "/v1/tasks/bank/predict", {"queries": TEXTS}),
        ("has_keys", "GET", "/v1/checkpoint", None),
        ("ping", "GET", "/readyz", None),
    ],
)
def test_an_unforeseen_error_is_a_500_without_details(
    service: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    verb: str,
    path: str,
    body: object,
) -> None:
    adapt(service)
    with monkeypatch.context() as patch:
        raising(service, patch, method)
        response = service.request(verb, path, json=body, headers={"X-Request-Id": "find-me-1"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-request-id"] == "find-me-1"
    assert "server-timing" in response.headers
    problem = response.json()
    assert problem["code"] == "internal_error"
    assert problem["status"] == 500
    for inner in (SECRET, "RuntimeError", "Traceback", "hunter2", str(Path.cwd())):
        assert inner not in response.text
    assert SECRET in caplog.text, "an operator has to find it"
    assert predict(service)["version"] == 1


def test_the_log_names_the_request_of_an_unforeseen_error(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The answer refers to the log's line under its X-Request-Id
    raising(service, monkeypatch, "tasks")
    service.get("/v1/tasks", headers={"X-Request-Id": "find-me-2"})
    assert "find-me-2" in caplog.text


def test_a_sane_request_id_is_echoed(service: httpx.Client) -> None:
    for request_id in ("a", "req-1", "0af7651916cd43dd8448eb211c80319c", "A.b_c:d/e+f=", "x" * 128):
        for path in ("/v1/tasks", "/v1/tasks/absent", "/nowhere", "/livez", "/metrics"):
            response = service.get(path, headers={"X-Request-Id": request_id})
            assert response.headers.get_list("x-request-id") == [request_id]


def test_another_request_id_is_replaced(service: httpx.Client) -> None:
    for request_id in (b"", b" ", b"a b", b"x" * 129, b"<script>", b"a;b", "é".encode(), b"a\tb", b'"', b"%0a"):
        response = service.get("/livez", headers=[(b"X-Request-Id", request_id)])
        (echoed,) = response.headers.get_list("x-request-id")
        assert re.fullmatch(r"[0-9a-f]{16,}", echoed), request_id


def test_requests_without_an_id_get_one_each(service: httpx.Client) -> None:
    assert len({service.get("/livez").headers["x-request-id"] for _ in range(50)}) == 50


def test_server_timing_lists_the_phases(service: httpx.Client) -> None:
    adapted = service.post("/v1/tasks/bank/adapt", json={"support": SUPPORT})
    predicted = service.post("/v1/tasks/bank/predict", json={"queries": TEXTS})
    for response, busy in ((adapted, ("encode", "adapt", "store")), (predicted, ("encode", "store"))):
        phases = dict(re.findall(r"(\w+);dur=([0-9.]+)", response.headers["server-timing"]))
        assert set(phases) == {"queue", "encode", "adapt", "store"}
        for phase in busy:
            assert 0 < float(phases[phase]) < 60_000, phase
    assert float(re.findall(r"adapt;dur=([0-9.]+)", predicted.headers["server-timing"])[0]) == 0


def test_health_needs_no_key_and_names_its_checks(service: httpx.Client) -> None:
    assert service.get("/livez").json() == {"status": "ok", "checks": {"compute": True}}
    ready = service.get("/readyz")
    assert ready.json() == {"status": "ok", "checks": {"compute": True, "store": True, "not_draining": True}}
    service.app.state.draining = True  # type: ignore[attr-defined]
    draining = service.get("/readyz")
    assert draining.status_code == 503
    assert draining.json()["checks"]["not_draining"] is False
    assert service.get("/livez").status_code == 200


def test_the_checkpoint_is_shown_with_the_limits_that_hold(start_service: StartService) -> None:
    client = start_service(max_queries=7, max_text_chars=50)
    shown = client.get("/v1/checkpoint").json()
    assert shown["name"] == "tiny"
    assert re.fullmatch(r"[0-9a-f]{64}", shown["fingerprint"])
    assert shown["encoder"]["dim"] == 32
    assert (shown["limits"]["max_queries"], shown["limits"]["max_text_chars"]) == (7, 50)
    adapt(client, support=[{"text": "a b", "label": "a"}, {"text": "c d", "label": "b"}])
    for n, status in ((7, 200), (8, 422)):
        response = client.post("/v1/tasks/bank/predict", json={"queries": ["a"] * n})
        assert response.status_code == status
    for n, cut in ((50, 0), (51, 1)):
        assert predict(client, queries=["a" * n])["truncated"] == cut


# ---- documents -----------------------------------------------------------------------------------------------------


def test_openapi_lists_every_route_of_the_contract(service: httpx.Client) -> None:
    document = service.get("/openapi.json").json()
    described = {(verb, path) for path, verbs in document["paths"].items() for verb in verbs}
    assert described >= CONTRACT
    for verb, path in described:
        operation = document["paths"][path][verb]
        assert operation.get("description") or operation.get("summary")
        assert {"401", "422", "503"} <= set(operation["responses"]), path
        assert all(
            "application/problem+json" in answer["content"]
            for status, answer in operation["responses"].items()
            if int(status) >= 400
        )
        assert ("requestBody" in operation) == (verb == "post"), path


def test_openapi_has_no_reference_that_leads_nowhere(service: httpx.Client) -> None:
    document = service.get("/openapi.json").json()

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for inner in node.values() for found in references(inner)]
        if isinstance(node, list):
            return [found for inner in node for found in references(inner)]
        return []

    found = references(document)
    assert len(found) > 10
    for reference in found:
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


class Assets(HTMLParser):
    """The assets that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes src and href."""
        self.found += [value for name, value in attrs if name in {"src", "href"} and value and tag != "a"]


def test_the_docs_page_loads_without_another_host(service: httpx.Client) -> None:
    page = service.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assets = Assets()
    assets.feed(page.text)
    assert len(assets.found) >= 2
    assets.found = [urljoin("/docs", asset) for asset in assets.found]
    for asset in assets.found:
        assert asset.startswith("/"), asset
        assert not asset.startswith("//")
        loaded = service.get(asset)
        assert loaded.status_code == 200, asset
        assert len(loaded.content) > 100
    assert not re.findall(r"https?://[^\s'\"<>]+", page.text)
    assert "'openapi.json'" in page.text
    for script in (asset for asset in assets.found if asset.endswith(".css")):
        assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//", service.get(script).text)


@pytest.mark.parametrize("query", [7, None, True, ["a"]])
def test_a_query_of_another_type_is_refused_with_the_allowed_types(service: httpx.Client, query: object) -> None:
    answer = service.post("/v1/classify", json={"support": SUPPORT, "queries": ["fine", query]})
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["pointer"]) == (422, "#/queries/1")
    assert error["detail"] == 'a query is a string, or an object {"text", "text_pair"} or {"tokens"}'
