"""A task whose checkpoint is not loaded answers: it is adapted again at its first use, or an older version answers."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from model_store.records import NewVersion
from service import readapting
from service.settings import Settings
from service.tasks.readapt import readapt_newest
from service.tasks.readapt_comparison import Comparison
from tests.conftest import SUPPORT, StartService
from tests.model_store.conftest import new_version
from tests.service.conftest import OTHER_SUPPORT, TEXTS, adapt, bearer, make_key, parts_of, predict, store_of
from tests.service.test_metrics import scrape, value
from tests.service.test_several_checkpoints import INNER_WORDS, loaded, refused
from tests.waiting import LIMIT_S, until

WORSE: dict[str, Any] = {"support": INNER_WORDS, "use_label_text": False}
"""A task that ``tiny`` classifies correctly, and ``other`` falsely, each example left out."""

Start = Callable[..., httpx.Client]


@pytest.fixture
def start_on(start_service: StartService, store_url: str) -> Start:
    """Starts services with the given checkpoints on one store of each kind."""
    return lambda *folders, **settings: start_service(store=store_url, checkpoint=list(map(str, folders)), **settings)


def versions(client: httpx.Client, task: str = "bank", **headers: Any) -> list[dict[str, Any]]:
    """The versions of a task, newest first."""
    found: list[dict[str, Any]] = client.get(f"/v1/tasks/{task}/versions", headers=headers).json()["versions"]
    return found


def readapts(client: httpx.Client, trigger: str) -> dict[str, float]:
    """The numbers of tasks by outcome."""
    series = scrape(client)
    return {
        outcome: value(series, "handful_readapts_total", trigger=trigger, outcome=outcome)
        for outcome in ("done", "refused", "failed")
    }


# ---- the first prediction --------------------------------------------------------------------------------------------


def test_the_first_prediction_adapts_again(start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "labels": {"card_arrival": "a card that is late"}, "ttl_seconds": 3600}
    old = start_on(tiny_checkpoint)
    adapt(old, **options)
    before = old.get("/v1/tasks/bank").json()
    new = start_on(other_checkpoint)
    answer = new.post("/v1/tasks/bank/predict", json={"queries": TEXTS}, headers={"X-Request-Id": "first"}).json()
    adapt(new, "fresh", **options)
    assert (answer["version"], answer["predictions"]) == (2, predict(new, "fresh")["predictions"])
    newest = new.get("/v1/tasks/bank").json()
    assert (newest["source"], newest["asked_by"], newest["request_id"]) == ("readapt", "server", "first")
    assert newest["checkpoint"] == loaded(new)["other"]
    ends = [datetime.fromisoformat(record["expires_at"]).timestamp() for record in (before, newest)]
    assert abs(ends[0] - ends[1]) < 5, "the time to live goes on"
    assert predict(new) == answer, "once"
    assert readapts(new, "first_use") == {"done": 1, "refused": 0, "failed": 0}
    # The former server goes on with its own version, and makes none
    assert predict(old)["version"] == 1
    assert len(versions(new)) == 2
    assert readapts(old, "first_use")["done"] == 0


def test_many_at_once_adapt_once(start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path) -> None:
    adapt(start_on(tiny_checkpoint))
    new = start_on(other_checkpoint)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: predict(new), range(8)))
    assert answers == [answers[0]] * 8
    assert [version["version"] for version in versions(new)] == [2, 1]
    fingerprint = loaded(new)["other"]
    assert value(scrape(new), "handful_checkpoint_adaptations_total", fingerprint=fingerprint) == 1


def test_two_processes_make_one_version(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapt(start_on(tiny_checkpoint))
    servers = [start_on(other_checkpoint) for _ in range(2)]
    both = threading.Barrier(2, timeout=LIMIT_S)
    for server in servers:
        store = store_of(server)

        def commit(new: NewVersion, *, store_commit: Any = store.commit, **rest: Any) -> None:
            both.wait()  # both have adapted before one of them commits
            store_commit(new, **rest)

        commit.__name__ = "commit"
        monkeypatch.setattr(store, "commit", commit)
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(predict, servers))
    assert answers[0] == answers[1]
    assert [version["version"] for version in versions(servers[0])] == [2, 1]
    assert sum(readapts(server, "first_use")["done"] for server in servers) == 1


def test_a_task_is_adapted_from_the_checkpoint_that_it_was_asked_for_with(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path, deeper_checkpoint: Path
) -> None:
    old = start_on(deeper_checkpoint, other_checkpoint)
    adapt(old)
    adapt(old, "named", checkpoint="deeper")
    adapt(old, "chosen", checkpoint="auto")
    with_version = versions(old, "chosen")[0]
    assert with_version["checkpoint_asked"] == "auto"
    new = start_on(tiny_checkpoint, deeper_checkpoint)
    prints = loaded(new)
    for task in ("bank", "named"):
        assert predict(new, task)["version"] == 1
    newer = start_on(tiny_checkpoint)
    assert [predict(newer, task)["version"] for task in ("bank", "named")] == [2, 2]
    assert {versions(newer, task)[0]["checkpoint"] for task in ("bank", "named")} == {prints["tiny"]}
    assert versions(newer, "named")[0]["checkpoint_asked"] == "deeper"


# ---- what cannot be adapted again ------------------------------------------------------------------------------------


def test_without_a_support_set_an_older_version_answers_or_the_refusal_says_what_to_do(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    both = start_on(tiny_checkpoint, other_checkpoint)
    adapt(both, support=OTHER_SUPPORT)
    adapt(both, checkpoint="other", keep_support=False)
    adapt(both, "alone", checkpoint="other", keep_support=False)
    assert predict(both)["version"] == 2, "as long as its checkpoint is loaded"
    one = start_on(tiny_checkpoint)
    assert [predict(one)["version"] for _ in range(2)] == [1, 1]
    detail = refused(one.post("/v1/tasks/alone/predict", json={"queries": TEXTS}), 409, "stale_adapter")
    assert "its support set was not kept" in detail
    assert "call adapt with the examples, or have the server load that checkpoint, too" in detail
    assert "readapt" not in detail
    # The version that stands in may be removed, and a new one takes its place
    assert one.delete("/v1/tasks/bank/versions/1").status_code == 200
    refused(one.post("/v1/tasks/bank/predict", json={"queries": TEXTS}), 409, "stale_adapter")
    adapt(one)
    assert predict(one)["version"] == 3
    assert predict(both)["version"] == 3


def test_a_version_that_would_be_worse_is_refused_once_and_made_when_asked_for(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    adapt(start_on(tiny_checkpoint), **WORSE)
    new = start_on(other_checkpoint)
    for _ in range(2):
        detail = refused(new.post("/v1/tasks/bank/predict", json={"queries": TEXTS}), 409, "stale_adapter")
        assert "would fall from 1.000 to 0.000, by more than 0.1 (HANDFUL_READAPT_MAX_DROP)" in detail
        assert "POST /v1/tasks/bank/readapt makes a new version of its support set" in detail
    assert readapts(new, "first_use") == {"done": 0, "refused": 1, "failed": 0}
    detail = refused(new.post("/v1/tasks/bank/readapt", json={"unless_worse": True}), 409, "readapt_refused")
    assert "would fall from 1.000 to 0.000" in detail
    assert len(versions(new)) == 1
    made = new.post("/v1/tasks/bank/readapt").json()
    assert (made["version"], made["former_leave_one_out_accuracy"], made["leave_one_out_accuracy"]) == (2, 1.0, 0.0)
    assert predict(new)["version"] == 2

    lenient = start_on(other_checkpoint, readapt_max_drop=1)
    adapt(start_on(tiny_checkpoint), "second", **WORSE)
    assert predict(lenient, "second")["version"] == 2


def test_one_that_fails_is_tried_once(start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path) -> None:
    adapt(start_on(tiny_checkpoint), learner="matching")
    new = start_on(other_checkpoint, max_kept_texts=2)
    for _ in range(2):
        detail = refused(new.post("/v1/tasks/bank/predict", json={"queries": TEXTS}), 409, "stale_adapter")
        assert "it was not adapted again: " in detail
        assert "the learner matching takes at most 2" in detail
    assert readapts(new, "first_use") == {"done": 0, "refused": 0, "failed": 1}


# ---- the comparison --------------------------------------------------------------------------------------------------


def test_a_preview_compares_and_stores_nothing(start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path) -> None:
    both = start_on(other_checkpoint, tiny_checkpoint)
    prints = loaded(both)
    adapt(both, checkpoint="tiny", **WORSE)
    preview = both.get("/v1/tasks/bank/readapt").json()
    assert preview == {
        "task": "bank",
        "version": 1,
        "checkpoint": prints["other"],
        "leave_one_out_accuracy": 0.0,
        "former_checkpoint": prints["tiny"],
        "former_leave_one_out_accuracy": 1.0,
        "agreement": 0.0,
        "worse": preview["worse"],
    }
    assert "would fall from 1.000 to 0.000" in preview["worse"]
    same = both.get("/v1/tasks/bank/readapt", params={"checkpoint": "tiny", "version": 1}).json()
    assert (same["leave_one_out_accuracy"], same["agreement"], same["worse"]) == (1.0, None, None)
    assert len(versions(both)) == 1
    adapt(both, "second", support=SUPPORT, checkpoint="tiny")
    agreement = both.get("/v1/tasks/second/readapt").json()["agreement"]
    assert 0 <= agreement <= 1
    assert both.post("/v1/tasks/second/readapt").json()["agreement"] == agreement
    strict = start_on(other_checkpoint, tiny_checkpoint, readapt_max_drop=1, readapt_max_disagreement=0.5)
    worse = strict.get("/v1/tasks/bank/readapt").json()["worse"]
    assert worse == (
        "1.000 of the examples would be answered otherwise, more than 0.5 (HANDFUL_READAPT_MAX_DISAGREEMENT)"
    )


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(-1, 2), st.integers(-1, 2)), min_size=1, max_size=12),
    st.floats(0, 1),
)
def test_what_is_decided_without_the_agreement_is_decided_as_with_it(
    examples: list[tuple[int, int, int]], most: float
) -> None:
    asked = [each for each in examples if min(each[1:]) >= 0]
    assume(asked)
    before, accuracy = (sum(each[0] == each[i] for each in asked) / len(asked) for i in (1, 2))
    agreement = sum(each[1] == each[2] for each in asked) / len(asked)
    former = replace(new_version().version, leave_one_out_accuracy=before)
    settings = Settings(readapt_max_drop=1, readapt_max_disagreement=most)
    without, whole = (Comparison(former, accuracy, len(asked), known) for known in (None, agreement))
    if without.most_disagreement() <= most:
        assert whole.worse(settings) is None


def test_the_former_checkpoint_adapts_again_only_where_its_answers_could_decide(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    adapt(start_on(tiny_checkpoint))

    def adaptations(client: httpx.Client) -> list[float]:
        series = scrape(client)
        name, prints = "handful_checkpoint_adaptations_total", loaded(client).values()
        return [value(series, name, fingerprint=each) for each in prints]

    for most, expected in ((1, [1.0, 0.0]), (0, [1.0, 1.0])):
        both = start_on(
            other_checkpoint,
            tiny_checkpoint,
            readapt_to_default=True,
            readapt_max_drop=1,
            readapt_max_disagreement=most,
        )
        newest = store_of(both).version("default", "bank", 1)
        assert newest is not None
        both.portal.call(readapt_newest, parts_of(both), newest, None)  # type: ignore[attr-defined]
        assert adaptations(both) == expected
        store_of(both).delete("default", "bank")
        adapt(start_on(tiny_checkpoint))


# ---- in the background -----------------------------------------------------------------------------------------------


def test_tasks_move_to_the_default_checkpoint_in_the_background(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readapting, "_EVERY_S", 0.05)
    old = start_on(tiny_checkpoint)
    both = start_on(tiny_checkpoint, other_checkpoint)
    prints = loaded(both)
    keys = [bearer(make_key(old, f"tenant{i}")) for i in range(3)]
    for headers in keys:
        adapt(old, headers=headers)
    adapt(both, "named", checkpoint="tiny", headers=keys[0])
    adapt(both, "unkept", keep_support=False, headers=keys[0])
    adapt(both, "worse", headers=keys[0], **WORSE)

    new = start_on(other_checkpoint, tiny_checkpoint, readapt_tasks_per_second=1000, readapt_to_default=True)
    until(lambda: readapts(new, "background") == {"done": 3, "refused": 1, "failed": 0})
    until(lambda: value(scrape(new), "handful_readapt_pending_tasks") == 0)
    for headers in keys:
        newest, former = versions(new, **headers)
        assert (newest["version"], newest["checkpoint"], newest["asked_by"]) == (2, prints["other"], "server")
        assert newest["request_id"] is None
        assert former["checkpoint"] == prints["tiny"]
        assert predict(new, headers=headers)["version"] == 2
    for task in ("named", "unkept", "worse"):
        assert [each["checkpoint"] for each in versions(new, task, **keys[0])] == [prints["tiny"]]
        assert predict(new, task, headers=keys[0])["version"] == 1, "a loaded checkpoint answers"


def test_servers_of_two_checkpoints_do_not_adapt_a_task_to_and_fro(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readapting, "_EVERY_S", 0.05)
    rounds = dict[int, int]()
    once_through = readapting._Background.once_through

    async def counted(self: readapting._Background) -> None:
        await once_through(self)
        rounds[id(self)] = rounds.get(id(self), 0) + 1

    monkeypatch.setattr(readapting._Background, "once_through", counted)
    old = start_on(tiny_checkpoint, readapt_tasks_per_second=1000)
    adapt(old)
    new = start_on(other_checkpoint, readapt_tasks_per_second=1000)
    until(lambda: len(versions(new)) == 2)
    rounds.clear()
    until(lambda: len(rounds) == 2 and min(rounds.values()) >= 3)
    assert [predict(server)["version"] for server in (old, new)] == [1, 2]
    assert len(versions(new)) == 2


def test_a_server_keeps_its_version_where_one_is_kept(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    old = start_on(tiny_checkpoint, keep_versions=1)
    adapt(old)
    adapt(old, support=OTHER_SUPPORT)
    new = start_on(other_checkpoint, keep_versions=1)
    assert [predict(server)["version"] for server in (new, old, new, old)] == [3, 2, 3, 2]
    assert [version["version"] for version in versions(new)] == [3, 2]
    adapt(new)
    assert [version["version"] for version in versions(new)] == [4]


def test_without_a_rate_nothing_is_adapted_in_the_background(
    start_on: Start, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    adapt(start_on(tiny_checkpoint))
    new = start_on(other_checkpoint, readapt_to_default=True)
    until(lambda: value(scrape(new), "handful_stale_tasks") == 1)
    assert len(versions(new)) == 1
