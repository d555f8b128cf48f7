"""``POST /predict`` and ``POST /classify``: text-embeddings-inference, Hugging Face, gateways, vLLM."""

import base64
import json
import math
from typing import Any

import httpx
import pytest

from tests.conftest import SUPPORT, StartService
from tests.service.conftest import adapt
from tests.service.doors.conftest import LABELS, TEXT, Door

PAIRS = [
    {"text": f"a {kind}", "text_pair": f"{word} of it", "label": kind}
    for kind in ("whole", "part")
    for word in ("all", "some")
]


def as_scores(found: list[dict[str, Any]]) -> dict[str, float]:
    """Label -> score; each label once."""
    assert len({each["label"] for each in found}) == len(found)
    return {each["label"]: each["score"] for each in found}


@pytest.mark.parametrize("task", ["bank", "other"])
def test_the_hugging_face_client_gets_our_own_scores(door: Door, task: str) -> None:
    from huggingface_hub import InferenceClient

    client = InferenceClient(f"{door.url}/predict", token=door.key, headers={"X-Handful-Task": task})
    found = client.text_classification(TEXT)
    assert {each.label: each.score for each in found} == door.scores(task=task)
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
    (top,) = client.text_classification(TEXT, top_k=1)
    assert top == found[0]


def test_scores_sum_to_one_where_the_task_has_examples_out_of_scope(door: Door) -> None:
    with door.client(door.lone_key) as client:
        support = [*SUPPORT, {"text": "what is the weather like", "label": None}]
        adapt(client, "scoped", support)
        own = client.post("/v1/tasks/scoped/predict", json={"queries": [TEXT]}).json()["predictions"][0]["scores"]
        assert sum(own.values()) < 0.999
        found = as_scores(client.post("/classify", json={"inputs": TEXT}, headers={"X-Handful-Task": "scoped"}).json())
        client.delete("/v1/tasks/scoped")
    assert sum(found.values()) == pytest.approx(1)
    assert found == pytest.approx({label: score / sum(own.values()) for label, score in own.items()})


def test_the_hugging_face_client_raises_our_sentence(door: Door) -> None:
    from huggingface_hub import InferenceClient
    from huggingface_hub.errors import HfHubHTTPError

    client = InferenceClient(f"{door.url}/predict", token=door.key)
    with pytest.raises(HfHubHTTPError, match="there are several tasks") as refused:
        client.text_classification(TEXT)
    assert "X-Handful-Task" in str(refused.value)


def test_text_embeddings_inference_answers_a_text_a_pair_and_a_batch(door: Door) -> None:
    with door.client(**{"X-Handful-Task": "bank"}) as client:

        def post(inputs: object, **fields: object) -> httpx.Response:
            return client.post("/predict", json={"inputs": inputs, **fields})

        one = post(TEXT).json()
        assert as_scores(one) == door.scores()
        assert post([TEXT]).json() == one
        assert post([[TEXT], ["a virtual card"]]).json() == [one, post("a virtual card").json()]
        assert post([{"text": TEXT}]).json() == [one]
        two = post([TEXT, "a virtual card"])
        assert two.status_code == 422
        assert two.json()["error_type"] == "validation"
        assert 'send [["' in two.json()["error"]
        assert post([TEXT] * 3).status_code == 422
        # Hugging Face has no pairs of this form
        assert post([TEXT, "a virtual card"], parameters={}).json() == [one, post("a virtual card").json()]


def test_a_task_of_pairs_takes_pairs(door: Door) -> None:
    pair = {"text": "a part", "text_pair": "some of it"}
    with door.client(**{"X-Handful-Task": "pairs"}) as client:
        assert client.post("/v1/tasks/pairs/adapt", json={"support": PAIRS}).status_code == 200
        expected = door.scores(pair, "pairs")
        assert as_scores(client.post("/predict", json={"inputs": list(pair.values())}).json()) == expected
        (found,) = client.post("/predict", json={"inputs": [list(pair.values())]}).json()
        assert as_scores(found) == expected
        assert as_scores(client.post("/classify", json={"inputs": pair}).json()) == expected
        refused = client.post("/predict", json={"inputs": "a part"})
        assert (refused.status_code, refused.json()["code"]) == (422, "text_pair_missing")
        assert client.delete("/v1/tasks/pairs").status_code == 200


@pytest.mark.parametrize(
    ("body", "error_type", "sentence"),
    [
        ({"inputs": ""}, "empty", "#/inputs/0: the text is empty"),
        ({"inputs": []}, "empty", "there is no text"),
        ({"inputs": [["a"], ["a", "b", "c"]]}, "validation", "#/inputs/1: a text is a string"),
        ({"inputs": 3}, "validation", "#/inputs: a text is a string"),
        ({}, "validation", "#/inputs: Field required"),
        ({"inputs": "a", "raw_scores": True}, "validation", "leave raw_scores out"),
        ({"inputs": "a", "parameters": {"function_to_apply": "none"}}, "validation", "softmax"),
        ({"inputs": "a", "parameters": {"top_k": 0}}, "validation", "#/parameters/top_k"),
        ({"inputs": "a", "topk": 1}, "validation", "#/topk: unknown field"),
        ({"inputs": "a " * 500, "truncate": False}, "validation", "longer than the encoder reads"),
    ],
)
def test_errors_are_those_of_text_embeddings_inference(
    door: Door, body: dict[str, object], error_type: str, sentence: str
) -> None:
    with door.client(**{"X-Handful-Task": "bank"}) as client:
        answer = client.post("/predict", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error_type"] == error_type
    assert sentence in answer.json()["error"]


def test_the_task_is_named_by_header_address_or_key_and_a_lone_task_needs_no_name(door: Door) -> None:
    body = {"inputs": TEXT}
    expected = door.scores()

    def scores(answer: httpx.Response) -> dict[str, float]:
        assert answer.status_code == 200, answer.text
        return as_scores(answer.json())

    basic = base64.b64encode(f"anyone:{door.key}/bank".encode()).decode()
    with door.client() as client:
        assert client.post("/classify", json=body).json()["code"] == "task_needed"
        assert scores(client.post("/classify", json=body, headers={"X-Handful-Task": "bank"})) == expected
        assert scores(client.post("/classify?task=bank", json=body)) == expected
        behind = {"Authorization": f"Bearer {door.key}/bank"}
        assert scores(client.post("/classify", json=body, headers=behind)) == expected
        assert scores(client.post("/classify", json=body, headers={"Authorization": f"Basic {basic}"})) == expected
        # The header counts before the address, and the address before the key
        other = client.post("/classify?task=bank", json=body, headers={**behind, "X-Handful-Task": "other"})
        assert scores(other) == door.scores(task="other")
        absent = client.post("/classify?task=absent", json=body)
        assert (absent.status_code, absent.json()["code"]) == (404, "task_not_found")
        odd = client.post("/classify?task=-", json=body)
        assert (odd.status_code, odd.json()["code"]) == (422, "invalid_request")
    with door.client(door.lone_key) as client:
        assert scores(client.post("/classify", json=body)) == expected


@pytest.mark.parametrize("key", ["nobody", "nobody/bank", "none", "none/bank", "/bank"])
def test_a_wrong_key_is_refused(door: Door, key: str) -> None:
    answer = httpx.post(f"{door.url}/classify", json={"inputs": TEXT}, headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(answer.json()) == {"error", "error_type", "code"}


def test_another_tenants_task_is_absent(door: Door) -> None:
    with door.client(f"{door.lone_key}/other") as client:
        assert client.post("/classify", json={"inputs": TEXT}).json()["code"] == "task_not_found"
    # A key with a task behind it is for doors alone
    with door.client(f"{door.key}/bank") as client:
        assert client.post("/v1/tasks/bank/predict", json={"queries": [TEXT]}).status_code == 401


def test_an_open_server_takes_the_key_none(open_door: Door) -> None:
    for headers in ({}, {"Authorization": "Bearer none"}, {"Authorization": "Bearer none/bank"}):
        assert httpx.post(f"{open_door.url}/classify", json={"inputs": TEXT}, headers=headers).status_code == 200
    refused = httpx.post(f"{open_door.url}/classify", json={"inputs": TEXT}, headers={"Authorization": "Bearer x"})
    assert refused.status_code == 401


def test_a_gateway_gets_every_label_once_for_2_to_150_classes(start_service: StartService) -> None:
    client = start_service()
    for n_classes in (2, 3, 30, 150):
        support = [{"text": f"text about subject {i}", "label": f"subject {i}"} for i in range(n_classes)]
        adapt(client, "many", support)
        answer = client.post("/classify", json={"inputs": "text about subject 1"})
        scores = as_scores(answer.json())
        assert set(scores) == {example["label"] for example in support}
        assert all(math.isfinite(score) and 0 <= score <= 1 for score in scores.values())
        assert abs(sum(scores.values()) - 1) < 0.001


def test_vllm_bodies_are_taken_at_classify(door: Door) -> None:
    with door.client() as client:
        answer = client.post("/classify", json={"model": "bank", "input": [TEXT, "a virtual card"]})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert [each["index"] for each in found["data"]] == [0, 1]
        assert found["data"][0]["probs"] == [door.scores()[label] for label in LABELS]
        assert found["data"][0]["num_classes"] == len(LABELS)
        assert found["data"][0]["label"] == max(door.scores(), key=door.scores().__getitem__)
        assert found["id"] == f"classify-{answer.headers['x-request-id']}"
        ids = client.post("/classify", json={"model": "bank", "input": [1, 2]})
        assert ids.status_code == 422
        assert "token ids" in ids.json()["error"]["message"]
        empty = client.post("/classify", json={"model": "bank", "input": ["a", ""]})
        assert empty.json()["error"]["param"] == "#/input/1"


def test_our_own_body_is_sent_to_our_own_route(door: Door) -> None:
    with door.client() as client:
        answer = client.post("/classify", json={"support": SUPPORT, "queries": [TEXT]})
    assert answer.status_code == 422
    assert "send them there" in answer.json()["error"]


def test_models_are_the_tenants_tasks(door: Door) -> None:
    with door.client() as client:
        found = client.get("/v1/models").json()
        assert [(each["id"], each["object"]) for each in found["data"]] == [("bank", "model"), ("other", "model")]
        assert client.get("/v1/models/bank").json() == found["data"][0]
        assert found["data"][0]["labels"] == LABELS
        page = client.get("/v1/models?limit=1").json()
        assert (page["has_more"], len(page["data"])) == (True, 1)
        assert client.get("/v1/models?limit=1&after=bank").json()["data"] == found["data"][1:]
        absent = client.get("/v1/models/absent")
        assert (absent.status_code, absent.json()["error"]["code"]) == (404, "task_not_found")


def test_info_has_the_labels(door: Door) -> None:
    with door.client() as client:
        info = client.get("/info?task=bank").json()
    assert info["model_type"]["classifier"]["label2id"] == {label: i for i, label in enumerate(LABELS)}
    assert info["model_type"]["classifier"]["id2label"] == {str(i): label for i, label in enumerate(LABELS)}


def test_cut_and_unreadable_texts_are_listed_in_headers(door: Door) -> None:
    with door.client(**{"X-Handful-Task": "bank"}) as client:
        answer = client.post("/classify", json={"inputs": ["a", "a " * 500, "𐎀𐎁𐎂"]})
        assert answer.headers["handful-truncated"] == "1"
        assert answer.headers["handful-unreadable"] == "2"
        assert "handful-truncated" not in client.post("/classify", json={"inputs": "a"}).headers


def test_doors_are_documented_counted_and_can_be_turned_off(start_service: StartService) -> None:
    client = start_service()
    adapt(client)
    client.post("/predict", json={"inputs": "a"})
    assert 'handful_requests_total{route="/predict",status="200"} 1.0' in client.get("/metrics").text
    paths = client.get("/openapi.json").json()["paths"]
    closed = start_service(doors="none")
    for path in ("/predict", "/classify"):
        assert "TextClassificationRequest" in json.dumps(paths[path]["post"]["requestBody"])
        assert closed.post(path, json={"inputs": "a"}).status_code == 404
    assert "/classify" not in closed.get("/openapi.json").json()["paths"]
    support = {"support": SUPPORT, "queries": ["a"]}
    same = [each.post("/v1/classify", json=support).json() for each in (client, closed)]
    assert same[0] == same[1]
