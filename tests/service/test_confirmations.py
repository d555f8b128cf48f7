"""Versions that the store has confirmed: newest, by number, bounded, and dropped where they are uncertain."""

import pytest

from model_store.codec import AdapterKey
from model_store.records import CurrentVersion
from service.tasks import confirmations
from service.tasks.confirmations import Confirmations

TASK = ("acme", "bank")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(confirmations.time, "monotonic", lambda: now[0])
    return now


def key(version: int, adapter_id: str) -> AdapterKey:
    """A version of the task."""
    return AdapterKey(*TASK, version, adapter_id)


def test_a_confirmation_is_of_use_for_the_bound_and_no_longer(clock: list[float]) -> None:
    confirmed = Confirmations(keep_s=10, most=10)
    confirmed.note(TASK, CurrentVersion(3, "c"), at=995.0)
    assert confirmed.find(*TASK, None) == confirmed.find(*TASK, 3) == (key(3, "c"), 5.0)
    assert confirmed.find(*TASK, 2) is None
    assert confirmed.find("acme", "other", None) is None
    clock[0] = 1005.0
    assert confirmed.find(*TASK, None) == (key(3, "c"), 10.0)
    clock[0] = 1005.1
    assert confirmed.find(*TASK, None) is None
    confirmed.note(TASK, CurrentVersion(3, "c"), at=1005.0)
    assert confirmed.find(*TASK, None) is not None


def test_older_versions_stay_until_the_task_was_made_anew(clock: list[float]) -> None:
    confirmed = Confirmations(keep_s=10, most=10)
    confirmed.note_version(key(1, "a"), at=1000.0)
    assert confirmed.find(*TASK, 1) is None, "nobody has confirmed that there is such a task"
    confirmed.note(TASK, CurrentVersion(2, "b"), at=1000.0)
    confirmed.note_version(key(1, "a"), at=1000.0)
    confirmed.note(TASK, CurrentVersion(3, "c"), at=1000.0)
    assert [confirmed.find(*TASK, number) for number in (1, 2, None)] == [
        (key(1, "a"), 0.0), (key(2, "b"), 0.0), (key(3, "c"), 0.0)
    ]  # fmt: skip
    confirmed.note(TASK, CurrentVersion(3, "another"), at=1000.0)
    assert confirmed.find(*TASK, 1) is None
    confirmed.note(TASK, CurrentVersion(1, "anew"), at=1000.0)
    assert confirmed.find(*TASK, None) == (key(1, "anew"), 0.0)
    assert confirmed.find(*TASK, 3) is None
    confirmed.drop(TASK)
    assert confirmed.find(*TASK, None) is None


def test_tasks_and_versions_have_a_bound(clock: list[float]) -> None:
    confirmed = Confirmations(keep_s=10, most=2)
    for task in "abca":
        confirmed.note(("acme", task), CurrentVersion(1, task), at=1000.0)
    assert len(confirmed) == 2
    assert confirmed.find("acme", "b", None) is None, "c and a were asked for last"
    confirmed.note(TASK, CurrentVersion(100, "newest"), at=1000.0)
    for number in range(1, 50):
        confirmed.note_version(key(number, str(number)), at=1000.0)
    kept = [number for number in range(1, 101) if confirmed.find(*TASK, number)]
    assert kept == [*range(50 - confirmations._MOST_OTHERS, 50), 100]


def test_0_seconds_keep_nothing() -> None:
    confirmed = Confirmations(keep_s=0, most=10)
    confirmed.note(TASK, CurrentVersion(1, "a"), at=1000.0)
    assert len(confirmed) == 0


def test_writes_of_one_task_that_overlap_know_it() -> None:
    confirmed = Confirmations(keep_s=10, most=10)
    with confirmed.writing(TASK) as first:
        pass
    with confirmed.writing(TASK) as second, confirmed.writing(("acme", "other")) as elsewhere:
        with confirmed.writing(TASK) as third:
            pass
        with confirmed.writing(TASK) as fourth:
            pass
    assert [write.overlapped for write in (first, second, elsewhere, third, fourth)] == [False, True, False, True, True]
    assert confirmed._writes == {}
