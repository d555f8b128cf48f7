"""The cost of one request for the others."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from handful.wire import LabelledText
from metalearn.types import Example, TextInput
from service.engine.support_batches import SupportTexts
from service.tasks.support_set import with_ids
from tests.conftest import SUPPORT
from tests.waiting import until

ADAPT = "/v1/tasks/bank/adapt"


def test_equal_examples_get_names_of_their_own_whatever_names_are_given() -> None:
    def named(examples: list[LabelledText]) -> tuple[Example, ...]:
        return with_ids(examples, [Example(TextInput(each.text), each.label) for each in examples])

    (plain,) = named([LabelledText(text="a", label="b")])
    given = LabelledText(text="c", label="d", id=f"{plain.id}-3")
    examples = named([*[LabelledText(text="a", label="b")] * 2000, given])
    assert len({example.id for example in examples}) == 2001
    assert [example.id for example in examples[:4]] == [plain.id, f"{plain.id}-2", f"{plain.id}-4", f"{plain.id}-5"]
    assert examples[-1].id == f"{plain.id}-3"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"support": SUPPORT, "labels": {str(i): i for i in range(5000)}}, "#"),
        ({"support": SUPPORT, **{f"unknown{i}": i for i in range(5000)}}, "#"),
        ({"support": [1] * 100_000}, "#/support/0"),
    ],
)
def test_masses_of_faults_are_refused_without_listing_them(
    service: httpx.Client, body: dict[str, object], pointer: str
) -> None:
    answer = service.post(ADAPT, json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


def test_a_request_larger_than_the_queue_leaves_room_for_others(
    start_service: Callable[..., httpx.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = start_service(max_queue_tokens=200)
    assert service.post("/v1/tasks/small/adapt", json={"support": SUPPORT}).status_code == 200
    large = [{"text": f"text number {i}, of some more words than one", "label": str(i % 5)} for i in range(1500)]
    (batches,) = service.app.state.parts.engine._support_batches.values()  # type: ignore[attr-defined]
    encode_next, small_answered = batches.encode_next, threading.Event()

    def encode_next_later(support: SupportTexts) -> None:
        """The large request stays in the queue until the small one has its answer."""
        if small_answered.is_set():
            encode_next(support)

    monkeypatch.setattr(batches, "encode_next", encode_next_later)
    with ThreadPoolExecutor(1) as threads:
        adapting = threads.submit(service.post, ADAPT, json={"support": large, "use_label_text": False})
        until(lambda: "handful_queue_tokens 100.0" in service.get("/metrics").text)
        assert service.post("/v1/tasks/small/predict", json={"queries": ["short"]}).status_code == 200
        small_answered.set()
        assert adapting.result().status_code == 200
    assert "handful_queue_tokens 0.0" in service.get("/metrics").text


def test_a_rollback_does_not_bring_a_deleted_task_back(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    service.post(ADAPT, json={"support": SUPPORT})
    store = service.app.state.parts.access.store  # type: ignore[attr-defined]
    load_support = store.load_support
    others = [{"text": "one", "label": "new"}, {"text": "two", "label": "newer"}]

    def load_support_while_the_task_is_made_anew(*key: object) -> object:
        found = load_support(*key)
        service.delete("/v1/tasks/bank")
        assert service.post(ADAPT, json={"support": others}).json()["version"] == 1
        return found

    load_support_while_the_task_is_made_anew.__name__ = "load_support"
    monkeypatch.setattr(store, "load_support", load_support_while_the_task_is_made_anew)
    answer = service.post("/v1/tasks/bank/rollback", json={"version": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "version_conflict")
    task = service.get("/v1/tasks/bank").json()
    assert (task["version"], task["labels"]) == (1, ["new", "newer"])


def test_what_puts_data_at_risk_is_logged_at_the_start(
    start_service: Callable[..., httpx.Client], redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        start_service(store=redis_url)
    assert "append-only file is off" in caplog.text
