"""A task's examples and queries on a plane."""

from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import TEXTS, adapt, bearer, make_key


def place(client: httpx.Client, task: str = "bank", **body: Any) -> dict[str, Any]:
    """The map, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/map", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_query_that_is_an_example_lies_where_the_example_lies(service: httpx.Client) -> None:
    adapt(service)
    found = place(service, queries=TEXTS)
    assert [(each["text"], each["label"]) for each in found["examples"]] == [(e["text"], e["label"]) for e in SUPPORT]
    for example, query in zip(found["examples"], found["queries"], strict=True):
        assert (example["x"], example["y"]) == pytest.approx((query["x"], query["y"]), abs=1e-5)
    assert 0 < found["shown"] <= 1.000001


def test_the_map_depends_on_the_version_alone(service: httpx.Client, start_service: StartService) -> None:
    adapt(service)
    first = place(service, queries=["where is my card"])
    assert place(start_service(), queries=["where is my card"]) == first
    alone = place(service, queries=["a fee", "where is my card"], examples=False)
    assert alone["examples"] == []
    assert alone["queries"][1] == pytest.approx(first["queries"][0], abs=1e-6)
    more = [{"text": "Nobody told me of this fee", "label": "extra_charge_on_statement"}]
    assert service.post("/v1/tasks/bank/examples", json={"examples": more}).status_code == 200
    assert len(place(service)["examples"]) == len(SUPPORT) + 1
    assert place(service, version=1, queries=["where is my card"]) == first


def test_a_task_of_descriptions_alone_has_no_places(service: httpx.Client) -> None:
    adapt(service, support=[], labels={"refund": "wants money back", "delivery": "asks for a parcel"})
    assert place(service, queries=["a"]) | {"shown": 1} == {
        "task": "bank", "version": 1, "examples": [], "queries": [{"x": 0, "y": 0}], "shown": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"queries": [""]}, 422, "empty_text"),
        ({"queries": [{"text": "a", "text_pair": "b"}]}, 422, "text_pair_unexpected"),
        ({"queries": ["a"] * 1001}, 422, "too_many_queries"),
        ({"version": 9}, 404, "version_not_found"),
        ({"other": 1}, 422, "invalid_request"),
    ],
)
def test_what_is_refused(service: httpx.Client, body: dict[str, Any], status: int, code: str) -> None:
    adapt(service)
    answer = service.post("/v1/tasks/bank/map", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_support_set_that_was_not_kept_has_no_map(service: httpx.Client) -> None:
    adapt(service, keep_support=False)
    answer = service.post("/v1/tasks/bank/map", json={})
    assert (answer.status_code, answer.json()["code"]) == (409, "support_not_kept")


def test_another_tenants_task_is_absent(service: httpx.Client) -> None:
    acme, other = make_key(service, "acme"), make_key(service, "other")
    adapt(service, headers=bearer(acme))
    answer = service.post("/v1/tasks/bank/map", json={}, headers=bearer(other))
    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")
    assert service.post("/v1/tasks/bank/map", json={}, headers=bearer(acme)).status_code == 200
