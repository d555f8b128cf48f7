"""The service held to its own OpenAPI document, with requests made from it: good ones and bad ones."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from service.app import create_app
from service.settings import Settings

pytestmark = pytest.mark.slow

schemathesis.serializer.alias("application/zip", "application/octet-stream")

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BOUNDED = settings(
    max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def described() -> FastAPI:
    """The app, for its document alone: nothing is loaded."""
    return create_app(Settings(store=SecretStr("sqlite:nothing.db")))


OPERATIONS: dict[str, APIOperation[Any, Any, Any, Any]] = {
    operation.ok().label: operation.ok()
    for operation in schemathesis.openapi.from_dict(described().openapi()).get_all_operations()
}


def send(client: httpx.Client, case: Case) -> httpx.Response:
    """Sends a case through the app."""
    prepared = case.as_transport_kwargs(base_url="http://handful")
    content: bytes | None = None
    headers = {str(name): str(value) for name, value in prepared["headers"].items()}
    if "json" in prepared:
        content = json.dumps(prepared["json"]).encode()
        headers["Content-Type"] = "application/json"
    elif prepared.get("data") is not None:
        data = prepared["data"]
        content = data if isinstance(data, bytes) else str(data).encode()
    response = client.request(
        prepared["method"],
        prepared["url"],
        params=prepared.get("params") or None,
        content=content,
        headers=[
            (name.encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers.items()
        ],
    )
    response.elapsed = timedelta(0)  # schemathesis reads it; a transport without a stream does not set it
    return response


def test_every_operation_is_here() -> None:
    assert len(OPERATIONS) >= 9
    assert "POST /v1/tasks/{task}/adapt" in OPERATIONS


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", sorted(OPERATIONS))
def test_answers_are_as_described(limited_service: httpx.Client, label: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[label]
    seen: list[int] = []

    @seed(0)
    @BOUNDED
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Case) -> None:
        response = send(limited_service, case)
        seen.append(response.status_code)
        assert response.headers["x-request-id"]
        case.validate_response(response, checks=CHECKS)

    run()
    assert len(seen) > 3


TOKENS = st.sampled_from(
    ["support", "queries", "text", "label", "text_pair", "id", "steps", "learning_rate", "learner", "labels",
     "use_label_text", "seed", "keep_support", "ttl_seconds", "top_k", "abstain", "version", "a", ""]
)  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(10**40), max_value=10**40)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["card", "\x00", "\u202e", "é", "👩‍👩‍👧", "a" * 1001])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TOKENS | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)
EXAMPLES = st.lists(
    st.fixed_dictionaries(
        {"text": st.text(min_size=1, max_size=40), "label": st.sampled_from(["a", "b", "c"]) | st.text(max_size=8)},
        optional={"text_pair": st.text(max_size=20) | st.none(), "id": st.text(max_size=8)},
    ),
    max_size=6,
)
NEARLY_GOOD = st.fixed_dictionaries(
    {},
    optional={
        "support": EXAMPLES | ANYTHING,
        "queries": st.lists(st.text(max_size=30) | ANYTHING, max_size=4),
        "steps": st.integers(-1, 31) | LEAVES,
        "learning_rate": st.floats() | LEAVES,
        "labels": st.dictionaries(st.text(max_size=8), st.text(max_size=20) | LEAVES, max_size=3),
        "top_k": st.integers() | LEAVES,
        "abstain": st.floats() | LEAVES,
        "version": st.integers() | LEAVES,
        "seed": st.integers() | LEAVES,
        "ttl_seconds": st.integers() | LEAVES,
    },
)


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/tasks/fuzzed/adapt", "/v1/tasks/bank/predict"])
def test_no_json_body_is_a_server_error(limited_service: httpx.Client, path: str) -> None:
    statuses: set[int] = set()

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(body=ANYTHING | NEARLY_GOOD, ascii_only=st.booleans())
    def run(body: object, ascii_only: bool) -> None:
        content = json.dumps(body, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        response = limited_service.post(path, content=content, headers={"Content-Type": "application/json"})
        statuses.add(response.status_code)
        assert response.status_code < 500, response.text
        json.loads(response.content)

    run()
    assert 422 in statuses


@pytest.mark.parametrize("path", ["/v1/tasks/bank/rollback", "/v1/tasks/bank/predict", "/v1/tasks/absent/predict"])
def test_no_number_is_a_server_error(limited_service: httpx.Client, path: str) -> None:
    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(version=st.integers() | st.integers(-(2**80), 2**80) | LEAVES)
    def run(version: object) -> None:
        body = {"version": version, **({"queries": ["a"]} if path.endswith("predict") else {})}
        content = json.dumps(body).encode()
        response = limited_service.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code < 500, response.text

    run()


@pytest.mark.parametrize("path", ["/v1/classify", "/v1/tasks/bank/predict"])
def test_no_bytes_are_a_server_error(limited_service: httpx.Client, path: str) -> None:
    good = json.dumps(
        {"support": [{"text": "a", "label": "b"}, {"text": "c", "label": "d"}], "queries": ["a"]}
    ).encode()

    @settings(max_examples=150, deadline=None, database=None, derandomize=True)
    @given(noise=st.binary(max_size=60), at=st.integers(0, len(good)), cut=st.integers(0, 20))
    def run(noise: bytes, at: int, cut: int) -> None:
        content = good[:at] + noise + good[at + cut :]
        response = limited_service.post(path, content=content, headers={"Content-Type": "application/json"})
        assert response.status_code < 500, response.text

    run()
