"""The plain route of ``predict`` answers as the framework's own routes do."""

from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from tests.conftest import StartService
from tests.service.conftest import adapt, bearer, make_key, parts_of

JSON = {"Content-Type": "application/json"}
PREDICT, UNMATCHED = "/v1/tasks/{task}/predict", "unmatched"

REQUESTS: dict[str, tuple[str, str, bytes, dict[str, str], tuple[int, str | None, str]]] = {
    "plain": ("POST", "bank", b'{"queries": ["where is my card", "a"]}', JSON, (200, None, PREDICT)),
    "a pair": ("POST", "bank", b'{"queries": [{"text": "a", "text_pair": "b"}]}', JSON,
               (422, "text_pair_unexpected", PREDICT)),
    "an older version": ("POST", "bank", b'{"queries": ["a"], "version": 1, "top_k": 1}', JSON, (200, None, PREDICT)),
    "abstaining": ("POST", "bank", b'{"queries": ["a"], "abstain": 1.0}', JSON, (200, None, PREDICT)),
    "an absent version": ("POST", "bank", b'{"queries": ["a"], "version": 9}', JSON,
                          (404, "version_not_found", PREDICT)),
    "an absent task": ("POST", "nothing", b'{"queries": ["a"]}', JSON, (404, "task_not_found", PREDICT)),
    "another tenant's task": ("POST", "theirs", b'{"queries": ["a"]}', JSON, (404, "task_not_found", PREDICT)),
    "no task's name": ("POST", "-bank", b'{"queries": ["a"]}', JSON, (422, "invalid_request", PREDICT)),
    "a name too long": ("POST", "a" * 129, b'{"queries": ["a"]}', JSON, (422, "invalid_request", PREDICT)),
    "an escaped name": ("POST", "b%61nk", b'{"queries": ["a"]}', JSON, (200, None, PREDICT)),
    "a line break": ("POST", "bank%0A", b'{"queries": ["a"]}', JSON, (422, "invalid_request", PREDICT)),
    "a slash more": ("POST", "bank/", b'{"queries": ["a"]}', JSON, (404, "not_found", UNMATCHED)),
    "another method": ("GET", "bank", b"", JSON, (405, "method_not_allowed", PREDICT)),
    "not JSON": ("POST", "bank", b"queries", JSON, (422, "invalid_request", PREDICT)),
    "another media type": ("POST", "bank", b'{"queries": ["a"]}', {"Content-Type": "text/plain"},
                           (415, "unsupported_media_type", PREDICT)),
    "a misspelt field": ("POST", "bank", b'{"querys": ["a"]}', JSON, (422, "invalid_request", PREDICT)),
    "an empty text": ("POST", "bank", b'{"queries": ["a", "\\u200b"]}', JSON, (422, "empty_text", PREDICT)),
    "no key": ("POST", "bank", b'{"queries": ["a"]}', {**JSON, "Authorization": ""}, (401, "unauthorized", PREDICT)),
    "a wrong key": ("POST", "bank", b'{"queries": ["a"]}', {**JSON, "Authorization": "Bearer nobody"},
                    (401, "unauthorized", PREDICT)),
    "a request's id": ("POST", "bank", b'{"queries": ["a"]}', {**JSON, "X-Request-Id": "mine"}, (200, None, PREDICT)),
    "too large": ("POST", "bank", b'{"queries": ["' + b"a" * 3000 + b'"]}', JSON, (413, "body_too_large", PREDICT)),
}  # fmt: skip
"""Method, task, body, headers -> status, code, and the route that the metrics count."""


@pytest.fixture
def service(start_service: StartService) -> httpx.Client:
    """A tenant with a task of two versions, another with one."""
    client = start_service(max_body_bytes=2048)
    client.headers.update(bearer(make_key(client, "acme")))
    adapt(client)
    adapt(client, steps=2)
    adapt(client, "theirs", headers=bearer(make_key(client, "globex")))
    return client


def answer(client: httpx.Client, name: str) -> tuple[httpx.Response, str]:
    """The answer, and the route that the metrics count it under."""
    counter = parts_of(client).metrics.requests

    def counted() -> dict[str, float]:
        samples = [sample for metric in counter.collect() for sample in metric.samples]
        return {f"{sample.labels} {sample.name}": sample.value for sample in samples if sample.name.endswith("_total")}

    before = counted()
    method, task, content, headers, _ = REQUESTS[name]
    response = client.request(method, f"/v1/tasks/{task}/predict", content=content, headers=headers)
    (changed,) = [labels for labels, value in counted().items() if value != before.get(labels, 0)]
    return response, changed


def without_plain_route(client: httpx.Client) -> None:
    """Leaves the requests to the route that is there for its documentation."""
    app: Any = client.app  # type: ignore[attr-defined]
    plain = app.router.routes[0]
    assert plain.path == PREDICT
    assert not isinstance(plain, APIRoute)
    app.router.routes.remove(plain)


def test_the_plain_route_answers_as_the_frameworks_own_way_does(service: httpx.Client) -> None:
    answers = {name: answer(service, name) for name in REQUESTS}
    for name, (response, counted) in answers.items():
        status, code, route = REQUESTS[name][-1]
        assert (response.status_code, response.json().get("code")) == (status, code), name
        assert f"'{route}'" in counted, name
    without_plain_route(service)
    for name, (response, counted) in answers.items():
        again, counted_again = answer(service, name)
        assert (again.status_code, again.json(), set(again.headers)) == (
            response.status_code,
            response.json(),
            set(response.headers),
        ), name
        assert counted_again == counted, name
