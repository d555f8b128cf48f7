"""The compute thread dies: waiting work fails, the process reports it, and nothing hangs."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from service.engine.compute import ComputeThread
from tests.conftest import SUPPORT
from tests.faults.conftest import ADAPT, PREDICT, TEXTS
from tests.waiting import LIMIT_S, until


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, MemoryError, RuntimeError])
def test_pending_requests_fail_and_the_process_is_not_alive(
    service: httpx.Client, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    assert service.post(ADAPT, json={"support": SUPPORT}).status_code == 200
    assert service.get("/livez").status_code == 200
    gathered, compute = threading.Event(), service.app.state.parts.engine._compute  # type: ignore[attr-defined]

    def dying(_: ComputeThread) -> None:
        assert gathered.wait(LIMIT_S)
        raise error("the compute thread dies")

    monkeypatch.setattr(ComputeThread, "_take_batch", dying)
    with ThreadPoolExecutor(8) as threads:
        pending = [threads.submit(service.post, PREDICT, json={"queries": TEXTS}) for _ in range(6)]
        until(lambda: len(compute._predictions) == 6)
        pending.append(threads.submit(service.post, ADAPT, json={"support": SUPPORT}))
        until(lambda: compute._sliced)
        gathered.set()
        for future in pending:
            answer = future.result(timeout=LIMIT_S)
            assert answer.status_code in {500, 503}
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["x-request-id"]
            assert "the compute thread dies" not in answer.text
    until(lambda: service.get("/livez").status_code == 503)
    assert service.get("/livez").json()["checks"] == {"compute": False}
    assert service.get("/readyz").status_code == 503
    assert service.get("/readyz").json()["checks"]["compute"] is False
    assert "handful_queue_tokens 0.0" in service.get("/metrics").text
    # What comes later fails at once; what needs no computation works on
    assert service.post(PREDICT, json={"queries": TEXTS}).status_code in {500, 503}
    assert service.post(ADAPT, json={"support": SUPPORT}).status_code in {500, 503}
    assert service.get("/v1/tasks/bank").json()["version"] == 1
    assert service.delete("/v1/tasks/bank").status_code == 200


def test_requests_that_a_dead_or_stopping_engine_refuses_may_be_tried_elsewhere(service: httpx.Client) -> None:
    service.post(ADAPT, json={"support": SUPPORT})
    service.app.state.parts.engine._compute.close()  # type: ignore[attr-defined]
    answer = service.post(PREDICT, json={"queries": TEXTS})
    assert answer.status_code == 503
    assert answer.json()["code"] == "server_stopping"
    assert answer.json()["detail"].startswith("The compute thread has stopped. Retry on another replica")
    assert int(answer.headers["retry-after"]) >= 1
