"""Two tenants: the key of one neither shows nor changes the data of the other."""

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

import httpx
import pytest
from fastapi.routing import APIRoute

import service.doors
import service.routes
from tests.conftest import SUPPORT, StartService
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, predict

TASK = "secret-project"
ABSENT = "absent-project"

TENSOR = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["where is my card"]}]}
INTERFACE = (
    '<View><Text name="text" value="$text"/><Choices name="c" toName="text"><Choice value="card_arrival"/>'
    '<Choice value="cooking"/></Choices></View>'
)
BODIES: dict[tuple[str, str], object] = {
    ("POST", "/v1/tasks/{task}/predict"): {"queries": ["where is my card"]},
    ("GET", "/v1/tasks/{task}"): None,
    ("GET", "/v1/tasks/{task}/versions"): None,
    ("POST", "/v1/tasks/{task}/rollback"): {"version": 1},
    ("POST", "/v1/tasks/{task}/readapt"): {},
    ("GET", "/v1/tasks/{task}/report"): None,
    ("POST", "/v1/tasks/{task}/report"): {"unlabelled": ["where is my card"]},
    ("POST", "/v1/tasks/{task}/examples"): {"examples": OTHER_SUPPORT},
    ("GET", "/v1/tasks/{task}/examples"): None,
    ("GET", "/v1/tasks/{task}/versions/{version}/diff"): None,
    ("DELETE", "/v1/tasks/{task}/versions/{version}"): None,
    ("DELETE", "/v1/tasks/{task}/examples/{example}"): None,
    ("POST", "/v1/tasks/{task}/feedback"): {"text": "where is my card", "label": "card_arrival"},
    ("GET", "/v1/tasks/{task}/drift"): None,
    ("GET", "/v1/tasks/{task}/readapt"): None,
    ("GET", "/v1/tasks/{task}/export"): None,
    ("POST", "/v1/tasks/{task}/map"): {"queries": ["where is my card"]},
    ("GET", "/v1/tasks/{task}/versions/{version}"): None,
    ("GET", "/v1/models/{task}"): None,
    ("DELETE", "/v1/tasks/{task}"): None,
    ("DELETE", "/v1/classifiers/{task}"): None,
    ("GET", "/v2/models/{task}"): None,
    ("GET", "/v2/models/{task}/ready"): None,
    ("GET", "/v2/models/{task}/versions/{version}"): None,
    ("GET", "/v2/models/{task}/versions/{version}/ready"): None,
    ("POST", "/v2/models/{task}/infer"): TENSOR,
    ("POST", "/v2/models/{task}/versions/{version}/infer"): TENSOR,
}
"""Every route that takes a task and finds it absent; a new route needs a line here."""

LABEL_STUDIO: dict[tuple[str, str], object] = {
    ("GET", "/label-studio/{task}"): None,
    ("GET", "/label-studio/{task}/"): None,
    ("GET", "/label-studio/{task}/health"): None,
    ("POST", "/label-studio/{task}/setup"): {"project": "1.1", "schema": INTERFACE},
    ("POST", "/label-studio/{task}/predict"): {"tasks": [{"id": 1, "data": {"text": "a"}}], "label_config": INTERFACE},
    ("POST", "/label-studio/{task}/webhook"): {
        "action": "ANNOTATION_CREATED",
        "annotation": {
            "id": 1,
            "task": 1,
            "result": [{"from_name": "c", "type": "choices", "value": {"choices": ["cooking"]}}],
        },
        "task": {"id": 1, "data": {"text": "boil the pasta"}},
        "project": {"id": 1, "label_config": INTERFACE},
    },
}
"""Every route of Label Studio's door, which makes a task where there is none."""

CREATING = {("POST", "/v1/tasks/{task}/adapt"), ("POST", "/v1/tasks/{task}/import"), *LABEL_STUDIO}
"""Routes that make a task where there is none: another tenant's name is free to them. ``adapt`` and Label Studio's are
held to it below."""

VARIANTS: dict[tuple[str, str], list[object]] = {
    ("POST", "/v1/tasks/{task}/predict"): [
        {"queries": ["where is my card"], "version": 1},
        {"queries": ["where is my card"], "version": 99},
        {"queries": ["where is my card"], "top_k": 1, "abstain": True},
        {"queries": ["where is my card"], "explain": True},
    ],
    ("POST", "/v1/tasks/{task}/rollback"): [{"version": 2}, {"version": 99}],
    ("POST", "/v1/tasks/{task}/readapt"): [{"version": 1}, {"version": 99}, {"checkpoint": "auto"}],
    ("POST", "/v1/tasks/{task}/report"): [{"version": 1}, {"version": 99}],
    ("POST", "/v1/tasks/{task}/feedback"): [{"text": "a", "label": "absent", "force": True}],
}
"""Further bodies, whose answers must not differ between an existing task and an absent one."""


@dataclass(frozen=True)
class Tenants:
    """A service, and the headers of two tenants."""

    client: httpx.Client
    owner: dict[str, str]
    stranger: dict[str, str]


@pytest.fixture
def tenants(stored_service: httpx.Client) -> Iterator[Tenants]:
    """The owner has two versions of a task; the stranger has none."""
    owner = bearer(make_key(stored_service, "acme"))
    stranger = bearer(make_key(stored_service, "globex"))
    support = [{**SUPPORT[0], "id": "own"}, *SUPPORT[1:]]
    adapt(stored_service, TASK, support, headers=owner)
    adapt(stored_service, TASK, support, headers=owner, steps=3)
    yield Tenants(stored_service, owner, stranger)


def modules_of(house: ModuleType) -> list[ModuleType]:
    """The modules of a package."""
    return [importlib.import_module(f"{house.__name__}.{each.name}") for each in pkgutil.iter_modules(house.__path__)]


def routes_with_a_task() -> set[tuple[str, str]]:
    """Method and path of every route of every module in ``service.routes`` and ``service.doors``."""
    found = set()
    for module in (each for house in (service.routes, service.doors) for each in modules_of(house)):
        router = getattr(module, "router", None)
        for route in router.routes if router else []:
            if isinstance(route, APIRoute) and "{task}" in route.path:
                found |= {(method, route.path) for method in route.methods}
    return found


def place(path: str, task: str) -> str:
    """A path of the task, of its first version or of an example of the owner's."""
    query = "?with=2" if path.endswith("/diff") else ""
    return path.format(task=task, version=1, example="own") + query


def comparable(response: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """The parts of an answer that do not differ by chance."""
    headers = {name: value for name, value in response.headers.items() if name not in {"x-request-id", "server-timing"}}
    return response.status_code, response.content, headers


def view_of_owner(tenants: Tenants) -> tuple[object, ...]:
    """The stored data that the owner sees."""
    client, headers = tenants.client, tenants.owner
    return (
        client.get("/v1/tasks", headers=headers).json(),
        client.get(f"/v1/tasks/{TASK}/versions", headers=headers).json(),
        predict(client, TASK, TEXTS, headers=headers),
    )


def test_every_route_that_takes_a_task_has_a_case_here(service: httpx.Client) -> None:
    routes = routes_with_a_task()
    assert routes == set(BODIES) | CREATING
    described = {
        (method.upper(), path)
        for path, methods in service.get("/openapi.json").json()["paths"].items()
        for method in methods
        if "{task}" in path
    }
    assert described == routes


def test_another_tenants_task_looks_like_an_absent_one(tenants: Tenants) -> None:
    before = view_of_owner(tenants)
    requests = [(route, body) for route in BODIES for body in [BODIES[route], *VARIANTS.get(route, [])]]
    assert len(requests) >= 10
    for (method, path), body in requests:
        answers = [
            tenants.client.request(method, place(path, task), json=body, headers=tenants.stranger)
            for task in (TASK, ABSENT)
        ]
        assert comparable(answers[0]) == comparable(answers[1]), path
        assert answers[0].status_code == 404, path
        assert '"task_not_found"' in answers[0].text
        assert TASK not in answers[0].text
        assert view_of_owner(tenants) == before, path


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict?task={task}", {"inputs": "a"}),
        ("/classify?task={task}", {"inputs": "a"}),
        ("/classify", {"model": "{task}", "input": "a"}),
        ("/v1/classify", {"model": "{task}", "input": "a"}),
        ("/v1/classify", {"model": "{task}", "inputs": ["a"]}),
        ("/v1/classify?task={task}", {"inputs": ["a"]}),
        ("/v1/classify", {"classifier_id": "{task}", "input": ["a"]}),
        ("/v1/train", {"classifier_id": "{task}", "input": OTHER_SUPPORT}),
    ],
)
def test_another_tenants_task_looks_absent_at_every_door(tenants: Tenants, path: str, body: dict[str, object]) -> None:
    def answer(task: str, headers: dict[str, str]) -> httpx.Response:
        sent = {name: task if value == "{task}" else value for name, value in body.items()}
        return tenants.client.post(path.format(task=task), json=sent, headers=headers)

    before = view_of_owner(tenants)
    theirs, absent = (answer(task, tenants.stranger) for task in (TASK, ABSENT))
    assert comparable(theirs) == comparable(absent)
    assert theirs.status_code == 404
    assert '"task_not_found"' in theirs.text
    assert view_of_owner(tenants) == before
    assert answer(TASK, tenants.owner).status_code == 200


def test_the_owners_own_request_finds_the_task(tenants: Tenants) -> None:
    # Else the test above would pass for a route that never finds anything
    for (method, path), body in sorted(BODIES.items(), key=lambda case: case[0][0] == "DELETE"):  # deleted last
        response = tenants.client.request(method, place(path, TASK), json=body, headers=tenants.owner)
        assert response.status_code == 200, response.text
        if method == "DELETE" and path.endswith("{task}"):
            adapt(tenants.client, TASK, headers=tenants.owner)  # for the next route that deletes it


def test_lists_show_only_the_tenants_own_tasks(tenants: Tenants) -> None:
    empty = tenants.client.get("/v1/tasks", headers=tenants.stranger)
    assert empty.json() == {"tasks": [], "next": None}
    adapt(tenants.client, "globex-task", OTHER_SUPPORT, headers=tenants.stranger)
    for headers, names in ((tenants.owner, [TASK]), (tenants.stranger, ["globex-task"])):
        for query in ("", "?limit=1", "?after=a"):
            page = tenants.client.get(f"/v1/tasks{query}", headers=headers).json()
            assert [task["task"] for task in page["tasks"]] == names
            assert page["next"] is None


def test_adapting_under_anothers_task_name_makes_a_task_of_ones_own(tenants: Tenants) -> None:
    before = view_of_owner(tenants)
    taken = adapt(tenants.client, TASK, OTHER_SUPPORT, headers=tenants.stranger)
    free = adapt(tenants.client, ABSENT, OTHER_SUPPORT, headers=tenants.stranger)
    changing = {"task", "elapsed_ms", "bytes"}
    assert {k: v for k, v in taken.items() if k not in changing} == {k: v for k, v in free.items() if k not in changing}
    assert taken["version"] == 1
    scores = predict(tenants.client, TASK, ["the train"], headers=tenants.stranger)["predictions"][0]["scores"]
    assert set(scores) == {"travel", "cooking"}
    assert view_of_owner(tenants) == before
    deleted = tenants.client.delete(f"/v1/tasks/{TASK}", headers=tenants.stranger)
    assert deleted.status_code == 200
    assert view_of_owner(tenants) == before


def test_label_studio_under_anothers_task_name_makes_a_task_of_ones_own(tenants: Tenants) -> None:
    before = view_of_owner(tenants)
    for (method, path), body in LABEL_STUDIO.items():
        answers = [
            tenants.client.request(method, place(path, task), json=body, headers=tenants.stranger)
            for task in (TASK, ABSENT)
        ]
        statuses = [answer.status_code for answer in answers]
        assert statuses[0] == statuses[1] in {200, 201}, path
        assert answers[0].text == answers[1].text.replace(ABSENT, TASK), path
        assert view_of_owner(tenants) == before, path
    gone = {"action": "ANNOTATIONS_DELETED", "annotations": [{"id": 1}], "project": {"id": 1}}
    erased = tenants.client.post(f"/label-studio/{TASK}/webhook", json=gone, headers=tenants.stranger)
    assert erased.json()["result"]["erased"] == 1
    assert view_of_owner(tenants) == before
    gone["annotations"] = [{"id": "own"}]
    tenants.client.post(f"/label-studio/{TASK}/webhook", json=gone, headers=tenants.stranger)
    assert view_of_owner(tenants) == before


def test_one_idempotency_key_serves_two_tenants(tenants: Tenants) -> None:
    once = {"Idempotency-Key": "the-same-key"}
    first = adapt(tenants.client, "shared", SUPPORT, headers={**tenants.owner, **once})
    other = tenants.client.post(
        "/v1/tasks/shared/adapt", json={"support": SUPPORT}, headers={**tenants.stranger, **once}
    )
    assert other.status_code == 200
    assert "idempotent-replayed" not in other.headers
    assert other.json()["elapsed_ms"] != first["elapsed_ms"]
    different = tenants.client.post(
        "/v1/tasks/shared2/adapt", json={"support": OTHER_SUPPORT}, headers={**tenants.stranger, **once}
    )
    assert different.status_code == 422


def test_mixed_traffic_never_answers_with_anothers_labels(start_service: StartService) -> None:
    client = start_service(cache_max_adapters=2)  # so that adapters are thrown out all the time
    keys = {tenant: bearer(make_key(client, tenant)) for tenant in ("a", "b", "c", "d")}
    for tenant, headers in keys.items():
        support = [{**example, "label": f"{tenant}-{example['label']}"} for example in SUPPORT]
        adapt(client, "same-name", support, headers=headers)
    for _ in range(10):
        for tenant, headers in keys.items():
            for prediction in predict(client, "same-name", TEXTS[:2], headers=headers)["predictions"]:
                assert all(label.startswith(f"{tenant}-") for label in prediction["scores"])


def test_no_answer_to_a_stranger_names_what_the_owner_has(tenants: Tenants) -> None:
    answers = [
        tenants.client.request(method, place(path, TASK), json=body, headers=tenants.stranger).text
        for (method, path), body in BODIES.items()
    ]
    answers += [
        tenants.client.get(path, headers=tenants.stranger).text
        for path in ("/v1/tasks", "/v1/checkpoint", "/metrics", "/readyz", "/openapi.json")
    ]
    shown = "\n".join(answers)
    for own in ("acme", TASK, json.dumps(SUPPORT[0]["text"]), 'card_arrival":'):
        assert own not in shown
