"""The path that every user walks: adapt, predict, and the life of a task."""

import httpx

from tests.conftest import SUPPORT

FIT = {"use_label_text": False, "steps": 200, "learning_rate": 20}
"""The tiny encoder knows nothing of language: its head has to learn the examples by heart."""


def test_adapt_then_predict(service: httpx.Client) -> None:
    adapted = service.post("/v1/tasks/bank/adapt", json={"support": SUPPORT, **FIT})
    assert adapted.status_code == 200, adapted.text
    answer = adapted.json()
    assert answer["version"] == 1
    assert answer["labels"] == sorted({example["label"] for example in SUPPORT})
    assert answer["n_support"] == len(SUPPORT)
    assert len(answer["losses"]) == answer["steps"] + 1
    assert answer["losses"][-1] < answer["losses"][0]

    predicted = service.post("/v1/tasks/bank/predict", json={"queries": [example["text"] for example in SUPPORT]})
    assert predicted.status_code == 200, predicted.text
    assert [p["label"] for p in predicted.json()["predictions"]] == [example["label"] for example in SUPPORT]
    for prediction in predicted.json()["predictions"]:
        assert abs(sum(prediction["scores"].values()) - 1) < 1e-5
        assert prediction["confidence"] == max(prediction["scores"].values())
