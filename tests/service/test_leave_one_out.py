"""Leave-one-out accuracy: in answers, in records, after a rollback."""

import json

import httpx
import pytest

from model_store.records import Version
from tests.conftest import SUPPORT
from tests.model_store.conftest import new_version
from tests.service.conftest import adapt

TWICE = [{"text": text, "label": label} for label, text in (("card", "where is my card"), ("fee", "why a fee")) * 2]
"""Each example has another with the same words and the same label."""


def test_examples_that_others_repeat_are_classified_without_themselves(service: httpx.Client) -> None:
    assert adapt(service, support=TWICE, use_label_text=False)["leave_one_out_accuracy"] == 1.0


def test_examples_that_others_contradict_are_not(service: httpx.Client) -> None:
    crossed = [
        {**example, "label": label} for example, label in zip(TWICE, ("card", "fee", "fee", "card"), strict=True)
    ]
    answer = adapt(service, support=crossed, use_label_text=False)
    assert answer["leave_one_out_accuracy"] == 0.0


def test_without_a_second_example_of_any_class_it_is_null(service: httpx.Client) -> None:
    for use_label_text in (True, False):
        made = adapt(service, support=SUPPORT[::2], use_label_text=use_label_text)
        assert (made["n_support"], made["leave_one_out_accuracy"]) == (3, None)
    body = {"support": SUPPORT[::2], "queries": ["where is my card"]}
    assert service.post("/v1/classify", json=body).json()["leave_one_out_accuracy"] is None


def test_a_rollback_has_that_of_the_version_it_brings_back(service: httpx.Client) -> None:
    first = adapt(service, support=TWICE, use_label_text=False)
    adapt(service, support=SUPPORT[::2])
    back = service.post("/v1/tasks/bank/rollback", json={"version": 1}).json()
    assert back["leave_one_out_accuracy"] == first["leave_one_out_accuracy"] == 1.0
    shown = service.get("/v1/tasks/bank/versions").json()["versions"]
    assert [version["leave_one_out_accuracy"] for version in shown] == [1.0, None, 1.0]


def test_it_moves_nothing_else(service: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made = adapt(service)
    monkeypatch.setattr("service.engine.adapt_slices.left_out_classes", lambda *_, **__: None)
    again = adapt(service)
    assert again["leave_one_out_accuracy"] is None
    for name in ("losses", "support_accuracy", "bytes"):
        assert again[name] == made[name]


def test_a_record_that_is_older_than_the_figure_is_read() -> None:
    record = new_version().version
    fields = json.loads(record.to_json())
    del fields["leave_one_out_accuracy"]
    assert Version.from_json(json.dumps(fields).encode()) == record
