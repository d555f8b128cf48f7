"""Feedback: corrections that join the support set, wait, or change nothing."""

from typing import Any

import httpx

from tests.conftest import SUPPORT
from tests.service.conftest import adapt, predict


def give(client: httpx.Client, task: str = "bank", headers: Any = None, **body: Any) -> dict[str, Any]:
    """Gives feedback, which has to succeed."""
    response = client.post(f"/v1/tasks/{task}/feedback", json=body, headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_x(stored_service: httpx.Client) -> None:
    client = stored_service
    adapt(client)
    p = predict(client, queries=["hello there my friend"], ids=True)
    print(p)
    wrong = next(l for l in sorted(p["predictions"][0]["scores"]) if l != p["predictions"][0]["label"])
    for force in (False, True):
        print(give(client, id=p["predictions"][0]["id"], label=wrong, force=force))
    print(give(client, text="hello there my Friend", label=p["predictions"][0]["label"], force=True))
    print(client.get("/v1/tasks/bank/examples").json())
    print(client.get("/v1/tasks/bank/drift").json())
    print(client.post("/v1/tasks/bank/feedback", json={"text": "a", "label": "card_arival"}).json())
    print(client.post("/v1/tasks/bank/feedback", json={"id": "a", "label": "card_arrival"}).json())
    print(client.post("/v1/tasks/bank/feedback", json={"label": "card_arrival"}).json())
