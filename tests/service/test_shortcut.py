"""The short way to ``predict`` answers as the framework's own way does."""

import re
from typing import Any

import httpx
import pytest

from service.routes import shortcut
from tests.conftest import StartService
from tests.service.conftest import adapt, bearer, make_key, parts_of

JSON = {"Content-Type": "application/json"}

REQUESTS: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "plain": ("POST", "bank", b'{"queries": ["where is my card", "a"]}', JSON),
    "a pair": ("POST", "bank", b'{"queries": [{"text": "a", "text_pair": "b"}]}', JSON),
    "an older version": ("POST", "bank", b'{"queries": ["a"], "version": 1, "top_k": 1}', JSON),
    "abstaining": ("POST", "bank", b'{"queries": ["a"], "abstain": 1.0}', JSON),
    "an absent version": ("POST", "bank", b'{"queries": ["a"], "version": 9}', JSON),
    "an absent task": ("POST", "nothing", b'{"queries": ["a"]}', JSON),
    "another tenant's task": ("POST", "theirs", b'{"queries": ["a"]}', JSON),
    "no task's name": ("POST", "-bank", b'{"queries": ["a"]}', JSON),
    "a name too long": ("POST", "a" * 129, b'{"queries": ["a"]}', JSON),
    "an escaped name": ("POST", "b%61nk", b'{"queries": ["a"]}', JSON),
    "a line break": ("POST", "bank%0A", b'{"queries": ["a"]}', JSON),
    "a slash more": ("POST", "bank/", b'{"queries": ["a"]}', JSON),
    "another method": ("GET", "bank", b"", JSON),
    "not JSON": ("POST", "bank", b"queries", JSON),
    "another media type": ("POST", "bank", b'{"queries": ["a"]}', {"Content-Type": "text/plain"}),
    "a misspelt field": ("POST", "bank", b'{"querys": ["a"]}', JSON),
    "an empty text": ("POST", "bank", b'{"queries": ["a", "\\u200b"]}', JSON),
    "no key": ("POST", "bank", b'{"queries": ["a"]}', {**JSON, "Authorization": ""}),
    "a wrong key": ("POST", "bank", b'{"queries": ["a"]}', {**JSON, "Authorization": "Bearer nobody"}),
    "a request's id": ("POST", "bank", b'{"queries": ["a"]}', {**JSON, "X-Request-Id": "mine"}),
    "too large": ("POST", "bank", b'{"queries": ["' + b"a" * 3000 + b'"]}', JSON),
}


@pytest.fixture
def service(start_service: StartService) -> httpx.Client:
    """A tenant with a task of two versions, another with one."""
    client = start_service(max_body_bytes=2048)
    client.headers.update(bearer(make_key(client, "acme")))
    adapt(client)
    adapt(client, steps=2)
    adapt(client, "theirs", headers=bearer(make_key(client, "globex")))
    return client


def asked(client: httpx.Client, name: str) -> tuple[int, Any, set[str], str]:
    """Status, body, names of headers, and where the metrics count it."""
    counter = parts_of(client).metrics.requests

    def counted() -> dict[str, float]:
        samples = [sample for metric in counter.collect() for sample in metric.samples]
        return {str(sorted(sample.labels.items())): sample.value for sample in samples}

    before = counted()
    method, task, content, headers = REQUESTS[name]
    response = client.request(method, f"/v1/tasks/{task}/predict", content=content, headers=headers)
    (route,) = [labels for labels, value in counted().items() if value != before.get(labels, 0)]
    return response.status_code, response.json(), set(response.headers), route


@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_give_one_answer(service: httpx.Client, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = asked(service, name)
    with monkeypatch.context() as patch:
        patch.setattr(shortcut, "_PATH", re.compile("nothing"))
        assert asked(service, name) == short


def test_the_short_way_is_taken(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the router was asked")

    monkeypatch.setattr("fastapi.routing.APIRouter.app", refuse)
    assert asked(service, "plain")[0] == 200
