"""Tasks of another checkpoint are counted: in the log, and in a gauge."""

import logging
from pathlib import Path

import pytest

from service import stale_tasks
from service.stale_tasks import TaskCount
from tests.conftest import StartService
from tests.service.conftest import adapt, predict
from tests.service.test_metrics import scrape, value
from tests.waiting import until


def test_stale_tasks_are_counted_at_the_start_and_again_later(
    start_service: StartService,
    store_url: str,
    other_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(stale_tasks, "_EVERY_S", 0.05)
    monkeypatch.setattr(stale_tasks, "_PAGE", 1)
    caplog.set_level(logging.INFO, "handful")
    old = start_service(store=store_url)
    for task in ("one", "two"):
        adapt(old, task)
    new = start_service(store=store_url, checkpoint=str(other_checkpoint))
    adapt(new, "three")
    until(lambda: value(scrape(new), "handful_stale_tasks") == 2)
    warned = "tasks were made from a checkpoint that is not loaded: each is adapted again at its first"
    until(lambda: warned in caplog.text)
    for task in ("one", "two"):
        assert new.post(f"/v1/tasks/{task}/readapt").status_code == 200
        assert predict(new, task)["version"] == 2
    until(lambda: value(scrape(new), "handful_stale_tasks") == 0)
    until(lambda: "no task is made from another checkpoint any more" in caplog.text)
    # To the server with the old checkpoint all of them are stale by now
    until(lambda: value(scrape(old), "handful_stale_tasks") == 3)


def test_a_count_reports_stale_and_all_tasks() -> None:
    assert str(TaskCount(1300, 1204)) == "1,204 of 1,300 tasks were made from a checkpoint that is not loaded"
    assert str(TaskCount(1300, 0)) == "1,300 tasks, none made from another checkpoint"
