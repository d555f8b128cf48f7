"""Every door that lists labels: each label once, and probabilities that sum to 1, for 2 to 150 classes."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.settings import Settings
from tests.conftest import running_service
from tests.service.conftest import adapt

TEXT = "text about subject 1"
CLASSES = (2, 3, 30, 150)

Pairs = list[tuple[str, float]]


def _scored(found: list[dict[str, Any]]) -> Pairs:
    return [(each["label"], each["score"]) for each in found]


def _vllm(found: dict[str, Any], labels: list[str]) -> Pairs:
    return list(zip(labels, found["data"][0]["probs"], strict=True))


def _tensors(found: dict[str, Any], _: list[str]) -> Pairs:
    data = {each["name"]: each["data"] for each in found["outputs"]}
    return list(zip(data["labels"], data["probabilities"], strict=True))


TENSOR = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]}
DOORS: dict[str, tuple[str, dict[str, Any], Callable[[Any, list[str]], Pairs]]] = {
    "gateway": ("/classify", {"inputs": TEXT}, lambda found, _: _scored(found)),
    "gateway batch": ("/classify", {"inputs": [TEXT]}, lambda found, _: _scored(found[0])),
    "tei": ("/predict", {"inputs": TEXT}, lambda found, _: _scored(found)),
    "hugging face": ("/predict", {"inputs": TEXT, "parameters": {}}, lambda found, _: _scored(found[0])),
    "vllm": ("/classify", {"model": "TASK", "input": TEXT}, _vllm),
    "vllm v1": ("/v1/classify", {"model": "TASK", "input": TEXT}, _vllm),
    "cohere": (
        "/v1/classify",
        {"model": "TASK", "inputs": [TEXT]},
        lambda found, _: [(label, each["confidence"]) for label, each in found["classifications"][0]["labels"].items()],
    ),
    "jina": (
        "/v1/classify",
        {"classifier_id": "TASK", "input": [TEXT]},
        lambda found, _: _scored(found["data"][0]["predictions"]),
    ),
    "open inference": ("/v2/models/TASK/infer", TENSOR, _tensors),
}
"""Door -> its path and body, and what makes labels and probabilities of its answer; TASK is the task's name."""


@pytest.fixture(scope="module")
def tasks(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service with a task for each number of classes, and one more with an example out of scope."""
    store = SecretStr(f"sqlite:{tmp_path_factory.mktemp('classes') / 'service.db'}")
    settings = Settings(checkpoint=str(tiny_checkpoint), store=store, device="cpu", threads=1, store_timeout_s=5)
    with running_service(settings) as client:
        for count in CLASSES:
            adapt(client, f"many-{count}", support(count))
        adapt(client, "scoped-3", [*support(3), {"text": "what is the weather like", "label": None}])
        yield client


def support(count: int) -> list[dict[str, str | None]]:
    """An example of each class."""
    return [{"text": f"text about subject {i}", "label": f"subject {i}"} for i in range(count)]


@pytest.mark.parametrize("task", [*(f"many-{count}" for count in CLASSES), "scoped-3"])
@pytest.mark.parametrize("door", DOORS)
def test_every_label_stands_once_and_scores_sum_to_one(tasks: httpx.Client, door: str, task: str) -> None:
    path, body, read = DOORS[door]
    labels = sorted(str(example["label"]) for example in support(int(task.rpartition("-")[2])))
    sent = {key: task if value == "TASK" else value for key, value in body.items()}
    answer = tasks.post(path.replace("TASK", task), json=sent, headers={"X-Handful-Task": task})
    assert answer.status_code == 200, answer.text
    found = read(answer.json(), labels)
    assert sorted(label for label, _ in found) == labels
    assert all(math.isfinite(score) and 0 <= score <= 1 for _, score in found)
    # A gateway refuses an answer whose sum is off by more than 0.02
    assert abs(sum(score for _, score in found) - 1) < 0.001
