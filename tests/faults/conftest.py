"""Checks of all fault tests."""

import httpx

from tests.conftest import SUPPORT

TEXTS = [example["text"] for example in SUPPORT]
ADAPT, PREDICT = "/v1/tasks/bank/adapt", "/v1/tasks/bank/predict"


def problem(response: httpx.Response, status: int, code: str) -> None:
    """Checks that an answer is this refusal."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    if status == 503:
        assert int(response.headers["retry-after"]) >= 1
