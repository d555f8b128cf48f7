"""``/v2``: the Open Inference Protocol, with Triton's client and as plain JSON."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor, serialize_byte_tensor

from service.doors.tensors import InputTensor, OutputTensor, texts_of
from service.tasks.errors import InvalidContent
from tests.conftest import StartService
from tests.service.conftest import TEXTS, adapt
from tests.service.doors.conftest import LABELS, TEXT, Door

BOTH = [TEXT, TEXTS[0]]
PAIRS = [
    {"text": f"a {kind}", "text_pair": f"{word} of it", "label": kind}
    for kind in ("whole", "part")
    for word in ("all", "some")
]


@pytest.fixture(scope="module")
def client(door: Door) -> Iterator[Any]:
    """Triton's client, for the tenant with two tasks."""
    with triton.InferenceServerClient(door.url.removeprefix("http://")) as found:
        yield found


def headers(door: Door, key: str | None = None) -> dict[str, str]:
    """The headers of Triton's calls."""
    return {"Authorization": f"Bearer {key or door.key}"}


def tensor(texts: list[str], *, name: str = "text", shape: list[int] | None = None, binary: bool = True) -> Any:
    """A tensor of Triton's client."""
    found = triton.InferInput(name, shape or [len(texts)], "BYTES")
    array = np.array([text.encode() for text in texts], dtype=np.object_).reshape(shape or [len(texts)])
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def rows(found: Any) -> list[dict[str, float]]:
    """Label -> probability for each text."""
    labels = [label.decode() if isinstance(label, bytes) else label for label in found.as_numpy("labels")]
    return [dict(zip(labels, map(float, row), strict=True)) for row in found.as_numpy("probabilities")]


def test_the_triton_client_finds_server_and_model(door: Door, client: Any) -> None:
    known = headers(door)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata()["name"] == "handful"
    assert client.is_model_ready("bank", headers=known)
    assert client.is_model_ready("bank", "1", headers=known)
    assert not client.is_model_ready("bank", "99", headers=known)
    assert not client.is_model_ready("absent", headers=known)
    assert not client.is_model_ready("bank")  # no key
    found = client.get_model_metadata("bank", headers=known)
    assert (found["name"], found["versions"], found["labels"]) == ("bank", ["1"], LABELS)
    assert found["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert {each["name"]: each["shape"] for each in found["outputs"]} == {
        "label": [-1],
        "probabilities": [-1, len(LABELS)],
        "labels": [len(LABELS)],
    }
    assert client.get_model_metadata("bank", "1", headers=known) == found


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_the_triton_client_gets_our_own_scores(
    door: Door, client: Any, binary_in: bool, binary_out: bool | None, shape: list[int]
) -> None:
    names = ("labels", "probabilities", "label")
    outputs = None if binary_out is None else [triton.InferRequestedOutput(each, binary_out) for each in names]
    found = client.infer(
        "bank",
        [tensor(BOTH, shape=shape, binary=binary_in)],
        outputs=outputs,
        request_id="mine",
        headers=headers(door),
    )
    for text, row in zip(BOTH, rows(found), strict=True):
        assert row == pytest.approx(door.scores(text), rel=1e-6)
    labels = found.as_numpy("label")
    assert list(labels.shape) == shape
    expected = [max(row, key=row.__getitem__) for row in rows(found)]
    assert [each.decode() if isinstance(each, bytes) else each for each in labels.ravel()] == expected
    response = found.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("mine", "bank", "1")
    if outputs is not None:
        assert [each["name"] for each in response["outputs"]] == list(names)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_request_of_the_triton_client_is_read(door: Door, client: Any, algorithm: str) -> None:
    found = client.infer("bank", [tensor(BOTH)], headers=headers(door), request_compression_algorithm=algorithm)
    assert rows(found)[0] == pytest.approx(door.scores(), rel=1e-6)


def test_the_classification_extension_gives_the_first_classes(door: Door, client: Any) -> None:
    wanted = triton.InferRequestedOutput("probabilities", class_count=2)
    found = client.infer("bank", [tensor(BOTH)], outputs=[wanted], headers=headers(door)).as_numpy("probabilities")
    assert found.shape == (2, 2)
    for text, row in zip(BOTH, found, strict=True):
        scores = door.scores(text)
        for label, shown in zip(sorted(scores, key=scores.__getitem__, reverse=True), row, strict=False):
            value, index, name = shown.decode().split(":")
            assert (LABELS[int(index)], name) == (label, label)
            assert float(value) == pytest.approx(scores[label], abs=1e-6)


def test_a_version_answers(door: Door, client: Any) -> None:
    with door.client() as own:
        own.post(
            "/v1/tasks/versions/adapt", json={"support": [{"text": "a", "label": "a"}, {"text": "b", "label": "b"}]}
        )
        own.post("/v1/tasks/versions/examples", json={"examples": [{"text": "c", "label": "c"}]})
        first = client.infer("versions", [tensor(["a"])], model_version="1", headers=headers(door))
        newest = client.infer("versions", [tensor(["a"])], headers=headers(door))
        assert (set(rows(first)[0]), set(rows(newest)[0])) == ({"a", "b"}, {"a", "b", "c"})
        assert first.get_response()["model_version"] == "1"
        assert client.get_model_metadata("versions", headers=headers(door))["versions"] == ["1", "2"]
        assert client.get_model_metadata("versions", "1", headers=headers(door))["labels"] == ["a", "b"]
        with pytest.raises(InferenceServerException, match="version 9"):
            client.infer("versions", [tensor(["a"])], model_version="9", headers=headers(door))
        own.delete("/v1/tasks/versions")


def test_pairs_are_two_tensors(door: Door, client: Any) -> None:
    with door.client() as own:
        own.post("/v1/tasks/oip-pairs/adapt", json={"support": PAIRS})
        expected = door.scores({"text": "a part", "text_pair": "some of it"}, "oip-pairs")
        texts, pairs = tensor(["a part"]), tensor(["some of it"], name="text_pair")
        for inputs in ([texts, pairs], [pairs, texts]):
            found = client.infer("oip-pairs", inputs, headers=headers(door))
            assert rows(found)[0] == pytest.approx(expected, rel=1e-6)
        with pytest.raises(InferenceServerException, match="give two tensors, text and text_pair"):
            client.infer("oip-pairs", [texts], headers=headers(door))
        with pytest.raises(InferenceServerException, match="give one tensor, text"):
            client.infer("bank", [texts, pairs], headers=headers(door))
        with pytest.raises(InferenceServerException, match="as many of the one"):
            client.infer("oip-pairs", [tensor(["a", "b"]), pairs], headers=headers(door))
        own.delete("/v1/tasks/oip-pairs")


def test_the_triton_client_raises_our_sentences(door: Door, client: Any) -> None:
    for key, task, sentence in (
        (door.key, "absent", "there is no such task"),
        (door.lone_key, "other", "there is no such task"),
        ("nobody", "bank", "the API key is unknown"),
    ):
        with pytest.raises(InferenceServerException, match=sentence):
            client.infer(task, [tensor([TEXT])], headers=headers(door, key))
    with pytest.raises(InferenceServerException, match="#/inputs/0/data/1: the text is empty") as refused:
        client.infer("bank", [tensor([TEXT, ""])], headers=headers(door))
    assert refused.value.status() == "422"
    number = triton.InferInput("text", [1], "FP32")
    number.set_data_from_numpy(np.ones(1, dtype=np.float32))
    with pytest.raises(InferenceServerException, match="texts are BYTES here, not FP32"):
        client.infer("bank", [number], headers=headers(door))


def body(data: object = (TEXT,), **fields: object) -> dict[str, Any]:
    """A request as JSON."""
    return {"inputs": [{"name": "any", "shape": [1], "datatype": "BYTES", "data": data, **fields}]}


@pytest.mark.parametrize(
    ("content", "pointer", "sentence"),
    [
        (body([]), "#/inputs/0/shape", "1 texts, and there are 0"),
        (body([TEXT], shape=[2]), "#/inputs/0/shape", "2 texts, and there are 1"),
        (body([TEXT], shape=[1, 1, 1]), "#/inputs/0/shape", "[n] or [n, 1]"),
        (body([TEXT], shape=[-1]), "#/inputs/0/shape/0", ""),
        (body([3]), "#/inputs/0/data/0", "a text is a string"),
        (body(None), "#/inputs/0/data", "a list of strings"),
        (body([[[[TEXT]]]]), "#/inputs/0/data/0/0", "a text is a string"),
        (body([TEXT], parameters={"binary_data_size": 4}), "#/inputs/0/data", "not both"),
        (body(None, parameters={"binary_data_size": 4}), "#/inputs/0/parameters/binary_data_size", "left: 0"),
        ({"inputs": []}, "#/inputs", ""),
        ({**body(), "outputs": [{"name": "logits"}]}, "#/outputs/0/name", "label, probabilities, labels"),
        (
            {**body(), "outputs": [{"name": "label", "parameters": {"classification": 1}}]},
            "#/outputs/0/parameters/classification",
            "1 or more",
        ),
        ({**body(), "input": 1}, "#/input", "unknown field"),
    ],
)
def test_errors_are_the_protocols_and_name_the_place(
    door: Door, content: dict[str, object], pointer: str, sentence: str
) -> None:
    with door.client() as client:
        answer = client.post("/v2/models/bank/infer", json=content)
    assert answer.status_code == 422, answer.text
    assert set(answer.json()) == {"error", "code"}
    assert answer.json()["error"].startswith(f"{pointer}: ")
    assert sentence in answer.json()["error"]


def test_json_is_answered_with_json(door: Door) -> None:
    with door.client() as client:
        found = client.post("/v2/models/bank/infer", json=body())
        assert found.headers["content-type"] == "application/json"
        assert "inference-header-content-length" not in found.headers
        outputs = {each["name"]: each for each in found.json()["outputs"]}
        assert outputs["labels"]["data"] == LABELS
        assert dict(zip(LABELS, outputs["probabilities"]["data"], strict=True)) == door.scores()
        assert found.json()["id"] == found.headers["x-request-id"]
        cut = client.post("/v2/models/bank/infer", json=body(["a " * 500]))
        assert cut.headers["handful-truncated"] == "0"
        plain = client.post("/v2/models/bank/infer", content=b"{}", headers={"Content-Type": "text/plain"})
        assert (plain.status_code, plain.json()["code"]) == (415, "unsupported_media_type")
        long = client.post("/v2/models/bank/infer", json=body(), headers={"Inference-Header-Content-Length": "999"})
        assert long.json()["error"].startswith("header/Inference-Header-Content-Length")
        further = client.post(
            "/v2/models/bank/infer",
            content=json.dumps(body()).encode() + b"more",
            headers={"Inference-Header-Content-Length": str(len(json.dumps(body())))},
        )
        assert "4 bytes behind the JSON belong to no tensor" in further.json()["error"]


def test_a_task_of_several_labels_is_not_served(start_service: StartService) -> None:
    client = start_service()
    adapt(client, "many", [{"text": "a", "labels": ["x"]}, {"text": "b", "labels": ["x", "y"]}])
    for answer in (client.get("/v2/models/many/ready"), client.post("/v2/models/many/infer", json=body())):
        assert (answer.status_code, answer.json()["code"]) == (409, "kind_not_served")


def test_health_is_open_and_tells_of_draining(start_service: StartService) -> None:
    client = start_service()
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    client.app.state.draining = True  # type: ignore[attr-defined]
    assert client.get("/v2/health/ready").status_code == 503
    assert client.get("/v2/health/live").json() == {"live": True}
    client.app.state.parts.engine.close()  # type: ignore[attr-defined]
    assert client.get("/v2/health/live").status_code == 503


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5))
def test_binary_texts_are_read_and_written_as_triton_does(texts: list[str]) -> None:
    written = serialize_byte_tensor(np.array([text.encode() for text in texts], dtype=np.object_)).item()
    asked = InputTensor(
        name="text", shape=[len(texts)], datatype="BYTES", parameters={"binary_data_size": len(written)}
    )
    assert texts_of([asked], written) == [texts]
    _, ours = OutputTensor("label", (len(texts),), texts).written(binary=True)
    assert ours == written
    assert [each.decode() for each in deserialize_bytes_tensor(ours)] == texts


@given(st.binary(max_size=30), st.integers(0, 8))
def test_broken_bytes_are_refused_and_never_read_in_part(data: bytes, count: int) -> None:
    asked = InputTensor(name="text", shape=[count], datatype="BYTES", parameters={"binary_data_size": len(data)})
    try:
        (found,) = texts_of([asked], data)
    except InvalidContent as error:
        assert error.faults[0].path[:2] == ("inputs", 0)
    else:
        assert b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in found) == data
        assert len(found) == count


def test_no_key_no_answer(door: Door) -> None:
    answer = httpx.post(f"{door.url}/v2/models/bank/infer", json=body())
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert set(answer.json()) == {"error", "code"}
