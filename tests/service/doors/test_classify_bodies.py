"""``/v1/classify`` for Cohere, Jina, vLLM and our own body; Jina's other routes."""

import json
from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import TEXTS, adapt
from tests.service.doors.conftest import LABELS, TEXT, Door

ROUTES = [*(f"/v1/classify ({name})" for name in ("cohere", "jina", "vllm")), "/v1/classify"]


def cohere_client(door: Door, key: str | None = None) -> Any:
    """Cohere's own client."""
    cohere = pytest.importorskip("cohere", reason="the client of Cohere is not installed")
    return cohere.Client(api_key=key or door.key, base_url=door.url)


def at_once(door: Door, text: str = TEXT, **fields: object) -> dict[str, float]:
    """The probabilities of our own classify."""
    with door.client() as client:
        answer = client.post("/v1/classify", json={"support": SUPPORT, "queries": [text], **fields})
    found: dict[str, float] = answer.json()["predictions"][0]["scores"]
    return found


def test_the_cohere_client_classifies_with_examples(door: Door) -> None:
    cohere = pytest.importorskip("cohere", reason="the client of Cohere is not installed")
    examples = [cohere.ClassifyExample(**example) for example in SUPPORT]
    found = cohere_client(door).classify(inputs=[TEXT, TEXTS[0]], examples=examples)
    assert [each.input for each in found.classifications] == [TEXT, TEXTS[0]]
    first = found.classifications[0]
    assert {label: each.confidence for label, each in first.labels.items()} == at_once(door)
    assert first.prediction == max(at_once(door), key=at_once(door).__getitem__)
    assert (first.predictions, first.confidences) == ([first.prediction], [first.confidence])
    assert first.classification_type == "single-label"
    with door.client() as client:
        assert [each["task"] for each in client.get("/v1/tasks").json()["tasks"]] == ["bank", "other"]  # nothing stored


def test_the_cohere_client_names_a_task_as_model(door: Door) -> None:
    client = cohere_client(door)
    found = client.classify(inputs=[TEXT], model="bank").classifications[0]
    assert {label: each.confidence for label, each in found.labels.items()} == door.scores()
    behind = cohere_client(door, f"{door.key}/bank").classify(inputs=[TEXT]).classifications[0]
    assert behind.labels == found.labels


def test_the_cohere_client_raises_our_sentences(door: Door) -> None:
    cohere = pytest.importorskip("cohere", reason="the client of Cohere is not installed")
    client = cohere_client(door)
    with pytest.raises(cohere.NotFoundError) as absent:
        client.classify(inputs=[TEXT], model="absent")
    assert absent.value.body["message"].startswith("there is no such task")
    with pytest.raises(cohere.UnprocessableEntityError) as empty:
        client.classify(inputs=["a", ""], examples=[cohere.ClassifyExample(**example) for example in SUPPORT])
    assert empty.value.body["message"] == "#/inputs/1: the text is empty"
    with pytest.raises(cohere.UnprocessableEntityError) as unlabelled:
        client.classify(inputs=["a"], examples=[cohere.ClassifyExample(text="a", label="")])
    assert unlabelled.value.body["message"].startswith("#/examples/0/label")
    with pytest.raises(cohere.UnprocessableEntityError, match="longer than the encoder reads"):
        client.classify(inputs=["a " * 500], model="bank", truncate="NONE")
    with pytest.raises(cohere.UnauthorizedError):
        cohere_client(door, "nobody").classify(inputs=[TEXT], model="bank")


def test_cohere_answers_warn_of_texts_that_were_cut_and_of_models_that_are_not_here(door: Door) -> None:
    with door.client() as client:
        body = {"inputs": ["a " * 500], "examples": SUPPORT, "model": "embed-english-v3.0"}
        answer = client.post("/v1/classify", json=body)
    assert answer.headers["x-api-warning"] == "see meta.warnings"
    warnings = " ".join(answer.json()["meta"]["warnings"])
    assert "model names no loaded checkpoint" in warnings
    assert "1 of the inputs were longer" in warnings


def test_jina_trains_adds_lists_classifies_and_deletes(door: Door) -> None:
    with door.client() as client:

        def post(path: str, **body: object) -> dict[str, Any]:
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            content: dict[str, Any] = answer.json()
            return content

        made = post("/v1/train", model="jina-embeddings-v3", input=SUPPORT[:4], num_iters=10, access="private")
        name = made["classifier_id"]
        assert made["num_samples"] == 4
        assert post("/v1/train", classifier_id=name, input=SUPPORT[4:])["classifier_id"] == name
        assert client.get(f"/v1/tasks/{name}").json()["n_support"] == len(SUPPORT)
        found = post("/v1/classify", classifier_id=name, input=[TEXT, {"text": TEXTS[0]}])["data"]
        scores = {each["label"]: each["score"] for each in found[0]["predictions"]}
        assert scores == door.scores(task=name)
        assert [found[0]["prediction"], found[0]["score"]] == list(max(scores.items(), key=lambda item: item[1]))
        assert [each["index"] for each in found] == [0, 1]
        listed = {each["classifier_id"]: each for each in client.get("/v1/classifiers").json()["classifiers"]}
        assert listed[name]["labels"] == LABELS
        assert listed[name]["updated_number"] == 2
        assert client.delete(f"/v1/classifiers/{name}").status_code == 200
        assert client.get(f"/v1/tasks/{name}").status_code == 404


def test_jina_classifies_by_labels_alone(door: Door) -> None:
    with door.client() as client:
        body = {"model": "jina-embeddings-v3", "labels": LABELS, "input": [TEXT]}
        answer = client.post("/v1/classify", json=body)
    assert answer.headers["handful-warning"].startswith("model names no loaded checkpoint")
    scores = {each["label"]: each["score"] for each in answer.json()["data"][0]["predictions"]}
    assert scores == at_once(door, support=[], labels={label: label for label in LABELS})


def test_training_again_with_the_same_idempotency_key_makes_one_task(door: Door) -> None:
    with door.client() as client:
        body = {"model": "x", "input": SUPPORT}
        names = [client.post("/v1/train", json=body, headers={"Idempotency-Key": "k"}).json() for _ in range(2)]
        assert names[0] == names[1]
        client.delete(f"/v1/classifiers/{names[0]['classifier_id']}")


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("train", {"input": SUPPORT}, 422, "give model for a new classifier"),
        ("train", {"model": "x", "input": SUPPORT, "access": "public"}, 422, "leave access out"),
        ("train", {"model": "x", "input": SUPPORT[:1]}, 422, "#/input"),
        ("train", {"classifier_id": "absent", "input": SUPPORT}, 404, "no such task"),
        ("train", {"classifier_id": "bank", "input": [{"text": "", "label": "a"}]}, 422, "#/input/0/text"),
        ("classify", {"classifier_id": "bank", "labels": ["a", "b"], "input": ["a"]}, 422, "give classifier_id, or"),
        ("classify", {"classifier_id": "bank", "input": ["a", ""]}, 422, "#/input/1"),
        ("classify", {"classifier_id": "a b", "input": ["a"]}, 422, "#/classifier_id: a task's name"),
    ],
)
def test_jina_errors_have_a_detail(door: Door, path: str, body: dict[str, object], status: int, sentence: str) -> None:
    with door.client() as client:
        answer = client.post(f"/v1/{path}", json=body)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]
    assert set(answer.json()) == {"detail", "code"}


def test_a_body_is_told_by_its_keys_and_counted_by_its_door(start_service: StartService) -> None:
    client = start_service()
    adapt(client)
    bodies: list[tuple[dict[str, object], str]] = [
        ({"inputs": [TEXT], "examples": SUPPORT}, ROUTES[0]),
        ({"inputs": [TEXT]}, ROUTES[0]),
        ({"classifier_id": "bank", "input": [TEXT]}, ROUTES[1]),
        ({"labels": LABELS, "model": "x", "input": [TEXT]}, ROUTES[1]),
        ({"model": "bank", "input": TEXT}, ROUTES[2]),
        ({"input": TEXT}, ROUTES[2]),
        ({"support": SUPPORT, "queries": [TEXT]}, ROUTES[3]),
    ]
    for body, route in bodies:
        before = client.get("/metrics").text
        answer = client.post("/v1/classify", json=body)
        assert answer.status_code == 200, (body, answer.text)
        lines = set(client.get("/metrics").text.splitlines()) - set(before.splitlines())
        assert f'handful_requests_total{{route="{route}",status="200"}}' in " ".join(lines), body


OUR_MISTAKES: list[tuple[bytes, dict[str, str]]] = [
    (b"{}", {}),
    (b"[]", {}),
    (b"support", {}),
    (b'{"support": [], "input": "a"}', {}),
    (b'{"queries": ["a"], "inputs": ["a"]}', {}),
    (b'{"support": [{"text": "a", "label": 1}], "queries": ["a"]}', {}),
    (b'{"support": "\xff"}', {}),
    (b'{"queries": [NaN]}', {}),
    (b"{}", {"Content-Type": "text/plain"}),
    (json.dumps({"support": SUPPORT, "queries": [""]}).encode(), {}),
    (json.dumps({"support": SUPPORT, "queries": ["a"]}).encode(), {"Authorization": "Bearer none"}),
    (json.dumps({"support": SUPPORT, "queries": ["a"]}).encode(), {"Authorization": "Bearer none/bank"}),
]


def test_our_own_body_is_answered_as_without_doors(start_service: StartService) -> None:
    def answer(client: httpx.Client, body: bytes, headers: dict[str, str]) -> tuple[object, ...]:
        sent = {"Content-Type": "application/json", "X-Request-Id": "mine", **headers}
        found = client.post("/v1/classify", content=body, headers=sent)
        return found.status_code, found.json(), set(found.headers)

    doors, none = start_service(), start_service(doors="none")
    for body, headers in OUR_MISTAKES:
        found = answer(doors, body, headers)
        assert found == answer(none, body, headers), body
        assert found[0] != 200
        assert "urn:handful:problem" in str(found[1])
