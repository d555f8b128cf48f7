"""HTTP as clients speak it: verbs, content codings, character sets, origins, prefixes, pages and the log."""

import gzip
import json
import logging
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
from pydantic import SecretStr, ValidationError

from service.request_log import JsonFormatter, TextFormatter
from service.settings import Settings
from tests.conftest import SUPPORT, StartService, running_service
from tests.service.conftest import TEXTS, adapt, bearer, make_key

JSON = {"Content-Type": "application/json"}
BODY = json.dumps({"support": SUPPORT, "queries": ["café, where is my card?"]}, ensure_ascii=False)


@pytest.fixture(scope="module")
def shared(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service for tests that store nothing."""
    store = f"sqlite:{tmp_path_factory.mktemp('http') / 'service.db'}"
    settings = Settings(
        checkpoint=str(tiny_checkpoint), store=SecretStr(store), device="cpu", precision="float32", threads=1
    )
    with running_service(settings) as client:
        yield client


# ---- verbs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/", "/v1/tasks"])
def test_head_answers_as_get_without_a_body(shared: httpx.Client, path: str) -> None:
    got, headed = shared.get(path), shared.head(path)
    assert headed.status_code == got.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-type"] == got.headers["content-type"]
    assert int(headed.headers["content-length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/classify", {"POST", "OPTIONS"}),
        ("PUT", "/v1/tasks/bank", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("POST", "/v1/tasks/bank", {"GET", "HEAD", "DELETE", "OPTIONS"}),
        ("PATCH", "/v1/tasks", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/livez", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_a_405_names_every_method(shared: httpx.Client, method: str, path: str, allowed: set[str]) -> None:
    answer = shared.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert answer.json()["code"] == "method_not_allowed"
    for each in allowed - {"HEAD", "OPTIONS"}:
        assert each in answer.json()["detail"]
    options = shared.options(path)
    assert options.status_code == 204
    assert set(options.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("GET", "/v1/tasks/", "/v1/tasks"),
        ("POST", "/v1/tasks/bank/adapt/", "/v1/tasks/bank/adapt"),
        ("POST", "/v1/classify//", "/v1/classify"),
        ("POST", "//v1/classify", "/v1/classify"),
        ("GET", "/livez/", "/livez"),
        ("POST", "/tasks/bank/adapt", "/v1/tasks/bank/adapt"),  # /classify is a door
        ("GET", "/tasks", "/v1/tasks"),
    ],
)
def test_the_answer_to_a_nearly_right_path_names_the_right_one(
    shared: httpx.Client, method: str, path: str, meant: str
) -> None:
    answer = shared.request(method, f"http://handful{path}")
    assert answer.status_code == 404
    assert f"do you mean {meant}?" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/tasks//adapt"])
def test_another_path_gets_no_hint(shared: httpx.Client, path: str) -> None:
    answer = shared.post(path)
    assert answer.status_code == 404
    assert answer.json()["detail"] == "there is no such route: see /docs"


# ---- bodies --------------------------------------------------------------------------------------------------------


def labels(answer: httpx.Response) -> list[str]:
    """The predicted labels."""
    assert answer.status_code == 200, answer.text
    return [prediction["label"] for prediction in answer.json()["predictions"]]


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (BODY.encode("utf-8-sig"), {}),
        (gzip.compress(BODY.encode()), {"Content-Encoding": "gzip"}),
        (gzip.compress(BODY.encode("utf-8-sig")), {"Content-Encoding": "GZIP"}),
        (gzip.compress(BODY.encode()), {"Content-Encoding": "x-gzip"}),
        (zlib.compress(BODY.encode()), {"Content-Encoding": "deflate"}),
        (BODY.encode(), {"Content-Encoding": "identity"}),
        (BODY.encode(), {"Content-Type": "application/json; charset=utf-8"}),
        (BODY.encode(), {"Content-Type": 'application/json;charset="UTF-8"'}),
        (BODY.encode(), {"Content-Type": "application/json;"}),
        (json.dumps(json.loads(BODY)).encode(), {"Content-Type": "application/json; charset=us-ascii"}),
        (BODY.encode(), {"Content-Type": "application/vnd.api+json"}),
    ],
)
def test_every_way_to_send_a_body_gives_one_answer(
    shared: httpx.Client, content: bytes, headers: dict[str, str]
) -> None:
    plain = shared.post("/v1/classify", content=BODY.encode(), headers=JSON)
    assert labels(shared.post("/v1/classify", content=content, headers={**JSON, **headers})) == labels(plain)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "compress", "utf-8", "x"])
def test_another_content_coding_is_named(shared: httpx.Client, coding: str) -> None:
    answer = shared.post("/v1/classify", content=BODY.encode(), headers={**JSON, "Content-Encoding": coding})
    assert answer.status_code == 415
    assert answer.json()["errors"][0]["pointer"] == "header/Content-Encoding"
    assert "Content-Encoding" in answer.json()["detail"]
    assert "gzip or deflate" in answer.json()["detail"]
    assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("content", "coding"),
    [
        (BODY.encode(), "gzip"),
        (gzip.compress(BODY.encode())[:-9], "gzip"),
        (gzip.compress(BODY.encode()) + b"more", "gzip"),
        (gzip.compress(BODY.encode()) * 2, "gzip"),
        (b"", "gzip"),
        (gzip.compress(BODY.encode()), "deflate"),
    ],
)
def test_a_body_that_does_not_match_its_coding_is_refused(shared: httpx.Client, content: bytes, coding: str) -> None:
    answer = shared.post("/v1/classify", content=content, headers={**JSON, "Content-Encoding": coding})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#"
    assert f"Content-Encoding: {coding}" in answer.json()["detail"]


def test_gzip_without_its_header_is_named(shared: httpx.Client) -> None:
    answer = shared.post("/v1/classify", content=gzip.compress(BODY.encode()), headers=JSON)
    assert answer.status_code == 422
    assert "Content-Encoding: gzip" in answer.json()["detail"]


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "latin-1"]
)
def test_another_encoding_is_named(shared: httpx.Client, encoding: str) -> None:
    answer = shared.post("/v1/classify", content=BODY.encode(encoding), headers=JSON)
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"
    assert "UTF-8 only" in answer.json()["detail"]


@pytest.mark.parametrize("charset", ["utf-16", "UTF-16LE", "iso-8859-1", "windows-1252", "x"])
def test_another_charset_is_refused(shared: httpx.Client, charset: str) -> None:
    headers = {"Content-Type": f"application/json; charset={charset}"}
    answer = shared.post("/v1/classify", content=b"{}", headers=headers)
    assert answer.status_code == 415
    assert answer.json()["errors"][0]["pointer"] == "header/Content-Type"
    assert "UTF-8 only" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/v1/tasks/bank/adapt", "fewer examples, or raise HANDFUL_MAX_BODY_BYTES"),
        ("/v1/classify", "fewer examples, or raise HANDFUL_MAX_BODY_BYTES"),
        ("/v1/tasks/bank/predict", "send the queries in several requests"),
        ("/v1/tasks/bank/rollback", "at most 2048 bytes"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_413_names_the_remedy(start_service: StartService, path: str, advice: str, compressed: bool) -> None:
    client = start_service(max_body_bytes=2048)
    body = b" " * 3000
    headers = {**JSON, "Content-Encoding": "gzip"} if compressed else JSON
    answer = client.post(path, content=gzip.compress(body) if compressed else body, headers=headers)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert "at most 2048 bytes" in answer.json()["detail"]
    assert advice in answer.json()["detail"]


# ---- pages of other origins ----------------------------------------------------------------------------------------

PAGE = "https://app.example.com"
EXPOSED = {"x-request-id", "server-timing", "retry-after", "idempotent-replayed", "handful-degraded"}


def listed(value: str) -> set[str]:
    """The items of a header."""
    return {item.strip().lower() for item in value.split(",")}


def test_no_other_origin_is_let_in_by_default(shared: httpx.Client) -> None:
    answer = shared.get("/v1/tasks", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("origins", ["*", PAGE, f"http://localhost:5173, {PAGE}"])
def test_an_allowed_origin_may_call(start_service: StartService, origins: str) -> None:
    client = start_service(cors_origins=origins)
    allowed = "*" if origins == "*" else PAGE
    preflight = client.options(
        "/v1/tasks/bank/adapt",
        headers={
            "Origin": PAGE,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key,x-request-id",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == allowed
    assert {"get", "post", "delete"} <= listed(preflight.headers["access-control-allow-methods"])
    named = listed(preflight.headers["access-control-allow-headers"])
    assert {"authorization", "content-type", "idempotency-key", "x-request-id"} <= named
    assert preflight.headers["x-request-id"]
    make_key(client, "acme")
    for answer, status in (
        (client.get("/livez", headers={"Origin": PAGE}), 200),
        (client.get("/v1/tasks", headers={"Origin": PAGE}), 401),
        (client.get("/nowhere", headers={"Origin": PAGE}), 404),
        (client.post("/v1/tasks/bank/predict", headers={"Origin": PAGE}), 401),
    ):
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == allowed
        assert listed(answer.headers["access-control-expose-headers"]) == EXPOSED
        assert answer.headers["x-request-id"]


def test_unforeseen_errors_and_a_full_server_are_shown_to_other_origins(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start_service(cors_origins=PAGE)

    async def broken(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("service.auth.Authenticator.tenant", broken)
    answer = client.get("/v1/tasks", headers={"Origin": PAGE})
    assert answer.status_code == 500
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_another_origin_than_the_allowed_ones_gets_no_leave(start_service: StartService) -> None:
    client = start_service(cors_origins=PAGE)
    answer = client.get("/livez", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "origins", ["app.example.com", "https://app.example.com/", "https://a.com,", "**", "https://*.a.com"]
)
def test_what_is_no_origin_is_refused_at_the_start(origins: str) -> None:
    with pytest.raises(ValidationError, match="cors_origins"):
        Settings(cors_origins=origins)


# ---- prefixes ------------------------------------------------------------------------------------------------------


def check_pages(client: httpx.Client, asked: str, shown: str, headers: dict[str, str]) -> None:
    """Checks that the pages work where a browser sees them.

    Args:
        client: The server's client.
        asked: The prefix of the paths that reach the server.
        shown: The prefix of the paths in the browser.
        headers: The proxy's headers.
    """
    page = client.get(f"{asked}/docs", headers=headers).text
    for name in ("static-offline-docs/swagger-ui-bundle.js", "static-offline-docs/swagger-ui.css", "openapi.json"):
        (found,) = {part for part in page.replace("'", '"').split('"') if part.endswith(name)}
        seen = urljoin(f"{shown}/docs", found)
        assert seen == f"{shown}/{name}"
        assert client.get(asked + seen.removeprefix(shown), headers=headers).status_code == 200
    start = client.get(f"{asked}/", headers=headers).text
    for name in ("docs", "playground/app.js", "playground/style.css"):
        (found,) = {part for part in re.findall(r'(?:href|src)="([^"]+)"', start) if part.endswith(name)}
        seen = urljoin(f"{shown}/", found)
        assert seen == f"{shown}/{name}"
        assert client.get(asked + seen.removeprefix(shown), headers=headers).status_code == 200


@pytest.mark.parametrize("asked", ["", "/tools/handful"], ids=["stripped", "left"])
def test_a_prefix_of_the_settings(start_service: StartService, asked: str) -> None:
    client = start_service(root_path="/tools/handful/")
    check_pages(client, asked, "/tools/handful", {})
    assert client.get(f"{asked}/openapi.json").json()["servers"] == [{"url": "/tools/handful"}]
    assert f"{client.base_url}".rstrip("/") + "/tools/handful/v1/tasks" in client.get(f"{asked}/").text
    assert client.post(f"{asked}/v1/tasks/bank/adapt", json={"support": SUPPORT}).status_code == 200
    assert client.post(f"{asked}/v1/tasks/bank/predict", json={"queries": TEXTS}).status_code == 200
    assert client.get(f"{asked}/livez").status_code == 200
    assert client.get(f"{asked}/nowhere").status_code == 404
    assert "/tools/handful/v1/tasks?" in client.get(f"{asked}/v1/tasks/").json()["detail"]
    answer = client.put(f"{asked}/v1/tasks/bank")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "DELETE", "OPTIONS"}
    assert client.get("/tools/handful").status_code == 200
    assert client.get("/tools/handfulness/livez").status_code == 404


@pytest.mark.parametrize("asked", ["", "/few"])
def test_predictions_under_a_prefix(start_service: StartService, asked: str) -> None:
    client = start_service(root_path="/few")
    adapt(client)
    assert client.post(f"{asked}/v1/tasks/bank/predict", json={"queries": TEXTS}).status_code == 200


@pytest.mark.parametrize("asked", ["", "/few"])
def test_the_limit_on_requests_holds_under_a_prefix(start_service: StartService, asked: str) -> None:
    client = start_service(root_path="/few", max_inflight_requests=1)
    assert client.get(f"{asked}/v1/tasks").status_code == 200
    app: Any = client.app  # type: ignore[attr-defined]
    layer = app.middleware_stack
    while type(layer).__name__ != "Answers":
        layer = getattr(layer, "app", None) or layer._app
    layer._inflight = 1
    answer = client.get(f"{asked}/v1/tasks")
    assert answer.status_code == 503
    assert answer.json()["code"] == "server_busy"
    assert answer.json()["detail"].startswith("1 requests are being served")
    assert "queue" not in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) >= 1
    assert client.get(f"{asked}/livez").status_code == 200


def test_a_prefix_that_the_proxy_took_off(service: httpx.Client) -> None:
    headers = {"X-Forwarded-Prefix": "/few/"}
    check_pages(service, "", "/few", headers)
    assert service.get("/openapi.json", headers=headers).json()["servers"] == [{"url": "/few"}]
    assert "servers" not in service.get("/openapi.json").json()
    adapt(service)
    answer = service.post("/v1/tasks/bank/predict", json={"queries": TEXTS}, headers=headers)
    assert answer.status_code == 200


def test_a_prefix_that_nobody_named(shared: httpx.Client) -> None:
    check_pages(shared, "", "/few", {})


@pytest.mark.parametrize(
    "prefix",
    [
        "//evil.example",
        "/a//b",
        "https://evil.example",
        "/../..",
        '/"><script>',
        "/a b",
        "few",
        "/",
        "",
        "/" + "a" * 99,
    ],
)
def test_a_prefix_that_is_none_changes_nothing(shared: httpx.Client, prefix: str) -> None:
    headers = {"X-Forwarded-Prefix": prefix}
    for path in ("/", "/docs", "/openapi.json", "/v1/tasks"):
        assert shared.get(path, headers=headers).content == shared.get(path).content


def test_a_prefix_of_a_header_opens_no_other_route(service: httpx.Client) -> None:
    key = make_key(service, "acme")
    for headers in ({"X-Forwarded-Prefix": "/v1"}, {"X-Forwarded-Prefix": "/livez"}):
        assert service.get("/tasks", headers={**headers, **bearer(key)}).status_code == 404
        assert service.get("/v1/tasks", headers=headers).status_code == 401


def test_a_repeated_request_may_come_through_another_prefix(start_service: StartService) -> None:
    client = start_service(root_path="/few")
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/tasks/bank/adapt", json={"support": SUPPORT}, headers=headers)
    again = client.post("/few/v1/tasks/bank/adapt", json={"support": SUPPORT}, headers=headers)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"


@pytest.mark.parametrize("path", ["few", "/a b", "/v1", "/v1/x", "//", "/a//b", "/<>"])
def test_what_is_no_prefix_is_refused_at_the_start(path: str) -> None:
    if path == "//":
        assert Settings(root_path=path).root_path == ""
        return
    with pytest.raises(ValidationError, match="root_path"):
        Settings(root_path=path)


# ---- pages, documents ----------------------------------------------------------------------------------------------


def test_the_first_page_links_the_others(shared: httpx.Client) -> None:
    page = shared.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for link in ('href="docs"', 'href="metrics"', 'href="readyz"'):
        assert link in page.text
    assert page.text.count("curl http://handful/v1/tasks") == 3
    asked = shared.get("/", headers={"Accept": "application/json"})
    assert asked.headers["content-type"] == "application/json"
    assert asked.json()["docs"] == "docs"
    hostile = shared.get("/", headers={"Host": "a<script>alert(1)</script>"})
    assert "<script>" not in hostile.text


def test_operations_have_readable_names_and_the_idempotency_key(shared: httpx.Client) -> None:
    paths = shared.get("/openapi.json").json()["paths"]
    operations = {operation["operationId"]: operation for verbs in paths.values() for operation in verbs.values()}
    assert {
        "adapt",
        "predict",
        "classify",
        "list_tasks",
        "show_task",
        "delete_task",
        "list_versions",
        "rollback",
    } <= set(operations)
    assert all(name.isidentifier() for name in operations)
    keyed = {
        name
        for name, operation in operations.items()
        for parameter in operation.get("parameters", [])
        if (parameter["name"], parameter["in"]) == ("Idempotency-Key", "header") and not parameter["required"]
    }
    assert {"adapt", "rollback"} <= keyed
    for operation in operations.values():
        assert {"400", "401", "404", "413", "415", "422", "500", "503"} <= set(operation["responses"])


# ---- draining, log -------------------------------------------------------------------------------------------------


def test_answers_close_their_connections_while_the_server_drains(service: httpx.Client) -> None:
    adapt(service)
    for draining in (False, True):
        service.app.state.draining = draining  # type: ignore[attr-defined]
        for answer in (
            service.get("/livez"),
            service.get("/nowhere"),
            service.post("/v1/tasks/bank/predict", json={"queries": TEXTS}),
            service.post("/v1/tasks/bank/predict", json={}),
        ):
            assert (answer.headers.get("connection") == "close") is draining


def logged(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The lines of requests, as they would be written."""
    records = [record for record in caplog.records if record.name == "handful.requests"]
    return [json.loads(JsonFormatter().format(record)) for record in records]


def test_a_request_is_one_line_in_the_log(service: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    key = make_key(service, "acme")
    content = json.dumps({"queries": ["a secret text"]}).encode()
    adapt(service, headers=bearer(key))
    with caplog.at_level(logging.INFO, "handful.requests"):
        headers = {**JSON, **bearer(key), "X-Request-Id": "find-me"}
        answer = service.post("/v1/tasks/bank/predict", content=content, headers=headers)
        service.get("/v1/tasks/private", headers=bearer(key))
        service.get("/v1/tasks?after=secret")
        service.get("/livez")
        service.get("/metrics")
        service.head("/readyz")
    predicted, shown, keyless = logged(caplog)
    assert predicted["ms"] > 0
    assert {name: predicted[name] for name in predicted if name not in {"ms", "time"}} == {
        "level": "info",
        "logger": "handful.requests",
        "request_id": "find-me",
        "tenant": "acme",
        "method": "POST",
        "route": "/v1/tasks/{task}/predict",
        "status": 200,
        "request_bytes": len(content),
        "response_bytes": len(answer.content),
    }
    assert (shown["status"], shown["tenant"], shown["route"]) == (404, "acme", "/v1/tasks/{task}")
    assert (keyless["status"], keyless["tenant"]) == (401, None)
    lines = [TextFormatter().format(record) for record in caplog.records if record.name == "handful.requests"]
    assert "POST /v1/tasks/{task}/predict 200" in lines[0]
    assert "tenant='acme'" in lines[0]
    for line in [*lines, json.dumps([predicted, shown, keyless])]:
        for private in ("secret", "private", key, "where is my card"):
            assert private not in line


def test_probes_are_in_the_log_for_debugging(shared: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "handful.requests"):
        shared.get("/livez")
    assert [(line["route"], line["level"]) for line in logged(caplog)] == [("/livez", "debug")]


def test_other_lines_of_the_log_are_json_too() -> None:
    try:
        raise KeyError("x")
    except KeyError as error:
        record = logging.LogRecord("a", logging.ERROR, "", 1, 'it "failed"\n%s', ("twice",), (KeyError, error, None))
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == 'it "failed"\ntwice'
    assert "KeyError" in json.loads(line)["exception"]
