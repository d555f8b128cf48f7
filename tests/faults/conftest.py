"""What the fault tests share."""

import time
from collections.abc import Callable

import httpx

from tests.conftest import SUPPORT

TEXTS = [example["text"] for example in SUPPORT]
ADAPT, PREDICT = "/v1/tasks/bank/adapt", "/v1/tasks/bank/predict"


def until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Waits for what another thread or process is about to do."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.02)


def problem(response: httpx.Response, status: int, code: str) -> None:
    """A refusal has to be this one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == code
    if status == 503:
        assert int(response.headers["retry-after"]) >= 1
