"""The promises of every store, checked on SQLite and a real Valkey server alike."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis

from metalearn.types import Example, SupportSet, TextInput
from model_store import redis_removals
from model_store.codec import decode_support, encode_support
from model_store.errors import AdapterCorrupt, IdempotencyReplay, VersionConflict
from model_store.records import (
    CurrentVersion,
    IdempotentAnswer,
    NewVersion,
    StoredSupport,
    StoredTask,
    row_digest,
)
from model_store.redis_keys import task_key
from model_store.removals import Removal
from model_store.store import TaskStore
from tests.model_store.conftest import EVERY_CALL, api_key, commit, new_version, open_store, rows_in, run_out, stored
from tests.waiting import until


def _assert_absent(store: TaskStore, tenant: str = "acme", task: str = "bank") -> None:
    assert store.current(tenant, task) is None
    assert store.task(tenant, task) is None
    assert store.version(tenant, task, 1) is None
    assert store.load_adapter(tenant, task, 1) is None
    assert store.load_support(tenant, task, 1) is None
    assert list(store.versions(tenant, task)) == []
    assert task not in [record.current.task for record in store.tasks(tenant)]


# ---- commit --------------------------------------------------------------------------------------------------------


def test_an_empty_store_knows_nothing(store: TaskStore) -> None:
    store.ping()
    _assert_absent(store)
    assert store.delete("acme", "bank") is False
    assert store.idempotent_answer("acme", "key") is None
    assert list(store.keys()) == []


def test_a_commit_is_read_back_whole(store: TaskStore) -> None:
    before = time.time()
    new = commit(store, adapter=b"the weights", support=b"the texts")
    assert store.current("acme", "bank") == CurrentVersion(1, new.version.adapter_id)
    assert store.version("acme", "bank", 1) == new.version
    assert list(store.versions("acme", "bank")) == [new.version]
    assert store.load_adapter("acme", "bank", 1) == b"the weights"
    assert store.load_support("acme", "bank", 1) == stored(b"the texts")
    record = store.task("acme", "bank")
    assert record is not None
    assert list(store.tasks("acme")) == [record]
    assert record.current == new.version
    assert record.expires_at is None
    assert before <= record.created_at <= time.time()


def test_versions_count_up_and_the_newest_answers(store: TaskStore) -> None:
    written = [commit(store, version=n, adapter=b"%d" % n, support=b"s%d" % n) for n in range(1, 6)]
    made_at = store.tasks("acme")[0].created_at
    assert store.current("acme", "bank") == CurrentVersion(5, written[-1].version.adapter_id)
    assert list(store.versions("acme", "bank")) == [new.version for new in reversed(written)]
    for n, new in enumerate(written, start=1):
        assert store.version("acme", "bank", n) == new.version
        assert store.load_adapter("acme", "bank", n) == b"%d" % n
        assert store.load_support("acme", "bank", n) == stored(b"s%d" % n)
    numbers = (3, 9, 5, 3)
    assert list(store.load_adapters([("acme", "bank", n) for n in numbers])) == [b"3", None, b"5", b"3"]
    for absent in (0, 6, -1):
        assert store.version("acme", "bank", absent) is None
        assert store.load_adapter("acme", "bank", absent) is None
    (record,) = store.tasks("acme")
    assert record.current == written[-1].version
    commit(store, version=6)
    assert store.tasks("acme")[0].created_at == made_at, "a task is made once"


@pytest.mark.parametrize("expected", [0, 1, 3, 7])
def test_a_commit_on_another_version_than_the_newest_is_refused(store: TaskStore, expected: int) -> None:
    commit(store, version=1)
    second = commit(store, version=2)
    with pytest.raises(VersionConflict) as caught:
        store.commit(new_version(version=expected + 1, adapter=b"intruder"), expected_version=expected)
    assert caught.value.current_version == 2
    assert store.current("acme", "bank") == CurrentVersion(2, second.version.adapter_id)
    assert len(store.versions("acme", "bank")) == 2
    assert store.load_adapter("acme", "bank", 2) == b"adapter"
    assert all(store.load_adapter("acme", "bank", n) is None for n in (3, 4, 8))


def test_a_commit_on_a_task_that_does_not_exist_names_version_0(store: TaskStore) -> None:
    with pytest.raises(VersionConflict) as caught:
        store.commit(new_version(version=3), expected_version=2)
    assert caught.value.current_version == 0
    _assert_absent(store)


def test_a_support_set_that_is_not_kept_is_absent(store: TaskStore) -> None:
    commit(store, version=1, support=b"kept")
    commit(store, version=2, support=None)
    assert store.load_support("acme", "bank", 1) == stored(b"kept")
    assert store.load_support("acme", "bank", 2) is None


@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 3,
        b"\x00",
        b"\x00\x00NUL first",
        b"\r\n$-1\r\n",
        b"\xff\xfe lone \xed\xa0\x80 surrogate",
        b"nil",
        b"0",
        b"x" * 3_000_000,
    ],
    ids=["every byte", "nul", "leading nul", "protocol", "no utf-8", "nil", "zero", "large"],
)
def test_values_are_kept_byte_for_byte(store: TaskStore, data: bytes) -> None:
    commit(store, adapter=data, support=data[::-1], idempotent=IdempotentAnswer("key", data, 60))
    assert store.load_adapter("acme", "bank", 1) == data
    assert store.load_support("acme", "bank", 1) == stored(data[::-1])
    assert store.idempotent_answer("acme", "key") == data


def test_an_empty_adapter_is_not_an_absent_one(store: TaskStore) -> None:
    commit(store, adapter=b"")
    assert store.load_adapter("acme", "bank", 1) == b""


def test_an_empty_support_set_is_not_an_absent_one(store: TaskStore) -> None:
    commit(store, support=b"")
    assert store.load_support("acme", "bank", 1) == stored(b"")


def test_an_accuracy_that_there_is_none_of_is_kept_as_none(store: TaskStore) -> None:
    made = new_version(version=1)
    without = replace(made, version=replace(made.version, n_support=0, support_accuracy=None))
    store.commit(without, expected_version=0)
    commit(store, version=2)
    found, later = store.version("acme", "bank", 1), store.version("acme", "bank", 2)
    assert found == without.version
    assert found is not None
    assert found.support_accuracy is None
    assert later is not None
    assert later.support_accuracy == 1 / 3
    assert [version.support_accuracy for version in store.versions("acme", "bank")] == [1 / 3, None]
    record = store.task("acme", "bank")
    assert record is not None
    assert record.current.support_accuracy == 1 / 3


def test_an_empty_answer_is_kept_like_any_other(store: TaskStore) -> None:
    commit(store, idempotent=IdempotentAnswer("key", b"", 60))
    assert store.idempotent_answer("acme", "key") == b""
    with pytest.raises(IdempotencyReplay):
        commit(store, version=2, idempotent=IdempotentAnswer("key", b"", 60))


def test_what_was_committed_outlasts_the_store_object(store: TaskStore, store_url: str) -> None:
    new = commit(store, adapter=bytes(range(256)), idempotent=IdempotentAnswer("key", b"answer", 60), ttl_s=3600)
    store.add_key(api_key(1))
    record = store.task("acme", "bank")
    assert record is not None
    store.close()
    again = open_store(store_url)
    try:
        assert again.current("acme", "bank") == CurrentVersion(1, new.version.adapter_id)
        assert again.load_adapter("acme", "bank", 1) == bytes(range(256))
        assert again.idempotent_answer("acme", "key") == b"answer"
        assert list(again.keys()) == [api_key(1)]
        found = again.task("acme", "bank")
        assert found is not None
        assert found.expires_at == pytest.approx(record.expires_at, abs=0.1)
        assert replace(found, expires_at=None) == replace(record, expires_at=None)
        commit(again, version=2)
    finally:
        again.close()


def test_two_stores_on_the_same_data_see_each_others_commits_at_once(store: TaskStore, store_url: str) -> None:
    other = open_store(store_url)
    try:
        for n in range(1, 11):
            writer, reader = (store, other) if n % 2 else (other, store)
            new = commit(writer, version=n)
            assert reader.current("acme", "bank") == CurrentVersion(n, new.version.adapter_id)
    finally:
        other.close()


# ---- many at once --------------------------------------------------------------------------------------------------


def test_eight_threads_that_retry_lose_nothing(store: TaskStore) -> None:
    threads, each = 8, 6
    start = threading.Barrier(threads)

    def work(thread: int) -> list[tuple[int, str]]:
        start.wait()
        written = []
        expected = 0
        for i in range(each):
            while True:
                new = new_version(version=expected + 1, adapter=b"%d/%d" % (thread, i))
                try:
                    store.commit(new, expected_version=expected)
                except VersionConflict as conflict:
                    assert conflict.current_version != expected
                    expected = conflict.current_version
                else:
                    break
            expected += 1
            written.append((expected, new.version.adapter_id))
        return written

    with ThreadPoolExecutor(threads) as pool:
        written = dict(pair for done in pool.map(work, range(threads)) for pair in done)
    assert sorted(written) == list(range(1, threads * each + 1)), "every commit got a number of its own"
    versions = store.versions("acme", "bank", limit=1000)
    assert [version.version for version in versions] == list(range(threads * each, 0, -1))
    assert all(version.adapter_id == written[version.version] for version in versions)
    adapters = {store.load_adapter("acme", "bank", n) for n in written}
    assert adapters == {b"%d/%d" % (thread, i) for thread in range(threads) for i in range(each)}


def test_of_eight_first_commits_one_wins(store: TaskStore) -> None:
    start = threading.Barrier(8)

    def work(thread: int) -> bool:
        start.wait()
        try:
            store.commit(new_version(adapter=b"%d" % thread), expected_version=0)
        except VersionConflict as conflict:
            assert conflict.current_version == 1
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(work, range(8)))
    assert won.count(True) == 1
    assert store.load_adapter("acme", "bank", 1) == b"%d" % won.index(True)
    assert len(store.versions("acme", "bank")) == 1


def test_of_eight_requests_with_one_idempotency_key_one_is_carried_out(store: TaskStore) -> None:
    start = threading.Barrier(8)

    def work(thread: int) -> bytes:
        answer = b"%d" % thread
        start.wait()
        new = new_version(task=f"task-{thread}")
        try:
            store.commit(new, expected_version=0, idempotent=IdempotentAnswer("key", answer, 60))
        except IdempotencyReplay as replay:
            return replay.answer
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(work, range(8)))
    assert len(answers) == 1
    assert [record.current.task for record in store.tasks("acme")] == [f"task-{answers.pop().decode()}"]


def test_a_reader_never_sees_half_a_commit(store: TaskStore) -> None:
    done = threading.Event()
    last = 40

    def write() -> None:
        try:
            for n in range(1, last + 1):
                commit(store, version=n, adapter=b"a%d" % n, support=b"s%d" % n, adapter_id=f"id-{n}")
        finally:
            done.set()

    def read() -> int:
        newest = 0
        while True:
            over = done.is_set()
            found = store.current("acme", "bank")
            if found is not None:
                assert found.version >= newest
                newest = found.version
                assert found.adapter_id == f"id-{newest}"
                assert store.load_adapter("acme", "bank", newest) == b"a%d" % newest
                assert store.load_support("acme", "bank", newest) == stored(b"s%d" % newest)
                record = store.task("acme", "bank")
                assert record is not None
                assert record.current.version >= newest
            if over:
                return newest

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        pool.submit(write).result()
        assert [reader.result() for reader in readers] == [last] * 3


# ---- time to live --------------------------------------------------------------------------------------------------


def test_a_task_is_absent_everywhere_once_its_time_is_over(store: TaskStore) -> None:
    began = time.time()
    commit(store, version=1, ttl_s=3600)
    first = store.task("acme", "bank")
    assert first is not None
    assert first.expires_at is not None
    assert began + 3599 < first.expires_at < time.time() + 3601
    commit(store, task="stays")
    old = commit(store, version=2, ttl_s=1)
    until(lambda: store.task("acme", "bank") is None)
    _assert_absent(store)
    assert store.version("acme", "bank", 2) is None
    assert store.load_adapter("acme", "bank", 2) is None
    assert store.delete("acme", "bank") is False
    assert [record.current.task for record in store.tasks("acme")] == ["stays"]
    with pytest.raises(VersionConflict) as caught:
        commit(store, version=3)
    assert caught.value.current_version == 0
    new = commit(store, version=1, adapter=b"anew", support=None)
    assert new.version.adapter_id != old.version.adapter_id
    assert store.current("acme", "bank") == CurrentVersion(1, new.version.adapter_id)
    assert [version.version for version in store.versions("acme", "bank")] == [1]
    assert store.load_adapter("acme", "bank", 1) == b"anew"
    assert store.load_support("acme", "bank", 1) is None, "nothing of the task that ended may show up again"
    assert store.load_adapter("acme", "bank", 2) is None
    record = store.task("acme", "bank")
    assert record is not None
    assert record.created_at > first.created_at + 1
    assert record.expires_at is None


def test_the_newest_commit_decides_how_long_a_task_lasts(store: TaskStore) -> None:
    began = time.time()
    commit(store, task="freed", version=1, ttl_s=3600)
    commit(store, task="freed", version=2)
    commit(store, task="longer", version=1, ttl_s=60)
    commit(store, task="longer", version=2, ttl_s=3600)
    commit(store, task="limited", version=1)
    commit(store, task="limited", version=2, ttl_s=1)
    freed, longer = store.task("acme", "freed"), store.task("acme", "longer")
    assert freed is not None
    assert freed.expires_at is None
    assert longer is not None
    assert longer.expires_at is not None
    assert began + 3599 < longer.expires_at < time.time() + 3601
    until(lambda: store.task("acme", "limited") is None)
    assert [record.current.task for record in store.tasks("acme")] == ["freed", "longer"]
    assert len(store.versions("acme", "freed")) == 2
    assert store.load_adapter("acme", "freed", 1) == b"adapter"
    _assert_absent(store, task="limited")


def test_a_refused_commit_does_not_change_how_long_a_task_lasts(store: TaskStore) -> None:
    commit(store, idempotent=IdempotentAnswer("key", b"answer", 60))
    with pytest.raises(VersionConflict):
        commit(store, version=5, ttl_s=1)
    with pytest.raises(IdempotencyReplay):
        commit(store, version=2, ttl_s=1, idempotent=IdempotentAnswer("key", b"other", 60))
    record = store.task("acme", "bank")
    assert record is not None
    assert record.expires_at is None


# ---- deletion ------------------------------------------------------------------------------------------------------


def test_deleting_removes_every_version_of_this_task_alone(store: TaskStore) -> None:
    first = commit(store, version=1)
    commit(store, version=2)
    commit(store, task="bank2")
    commit(store, tenant="other")
    assert store.delete("acme", "bank") is True
    _assert_absent(store)
    assert store.load_adapter("acme", "bank", 2) is None
    assert store.load_support("acme", "bank", 2) is None
    assert store.delete("acme", "bank") is False
    assert store.load_support("acme", "bank2", 1) == stored(b"support")
    assert store.load_support("other", "bank", 1) == stored(b"support")
    again = commit(store, version=1, support=None)
    assert again.version.adapter_id != first.version.adapter_id
    assert store.current("acme", "bank") == CurrentVersion(1, again.version.adapter_id)
    assert store.load_support("acme", "bank", 1) is None
    assert store.version("acme", "bank", 2) is None


# ---- paging --------------------------------------------------------------------------------------------------------


def _names(store: TaskStore, **page: object) -> list[str]:
    return [record.current.task for record in store.tasks("acme", **page)]  # type: ignore[arg-type]


def test_tasks_are_listed_by_name_in_pages(store: TaskStore) -> None:
    names = ["Z", "a", "a.b", "a-b", "a_b", "a0", "b", "b1", "b10", "b2"]
    for name in reversed(names):
        commit(store, task=name)
    commit(store, tenant="other", task="aa")
    ordered = sorted(names)
    assert _names(store) == ordered
    for size in (1, 3, 4, len(names), 100):
        pages, after = [], ""
        while page := _names(store, after=after, limit=size):
            assert len(page) <= size
            pages += page
            after = page[-1]
        assert pages == ordered
    assert _names(store, after="a_a", limit=2) == ["a_b", "b"], "a name to start behind need not exist"
    assert _names(store, after="zzz") == []
    assert _names(store, limit=0) == []


@pytest.mark.parametrize("gone", [range(0, 12, 2), range(9), range(3, 12), range(12)])
def test_tasks_that_ended_take_no_room_in_a_page(store: TaskStore, store_url: str, gone: range) -> None:
    for n in range(12):
        commit(store, task=f"task-{n:02}", ttl_s=3600 if n in gone else None)
    for n in gone:
        run_out(store_url, "acme", f"task-{n:02}")
    alive = [f"task-{n:02}" for n in range(12) if n not in gone]
    assert _names(store, limit=2) == alive[:2]
    assert _names(store, after="task-04", limit=3) == [name for name in alive if name > "task-04"][:3]
    assert _names(store) == alive
    for n in gone:
        commit(store, task=f"task-{n:02}")
    assert len(_names(store)) == 12, "a task that is made anew is listed again"


def test_versions_are_listed_newest_first_in_pages(store: TaskStore) -> None:
    for n in range(1, 8):
        commit(store, version=n)

    def numbers(**page: int) -> list[int]:
        return [version.version for version in store.versions("acme", "bank", **page)]

    assert numbers() == [7, 6, 5, 4, 3, 2, 1]
    assert numbers(limit=3) == [7, 6, 5]
    assert numbers(before=5, limit=3) == [4, 3, 2]
    assert numbers(before=2, limit=3) == [1]
    assert numbers(before=1) == []
    assert numbers(before=0) == []
    assert numbers(before=-3) == []
    assert numbers(before=100, limit=1) == [7]
    assert numbers(limit=0) == []


# ---- idempotency ---------------------------------------------------------------------------------------------------


def test_a_key_that_was_used_gives_its_answer_and_makes_no_version(store: TaskStore) -> None:
    commit(store, version=1, idempotent=IdempotentAnswer("key", b"first", 60))
    assert store.idempotent_answer("acme", "key") == b"first"
    # also where the version would have been in conflict, and on another task
    for task, version in (("bank", 2), ("bank", 1), ("bank", 9), ("fresh", 1)):
        with pytest.raises(IdempotencyReplay) as caught:
            commit(store, task=task, version=version, idempotent=IdempotentAnswer("key", b"second", 60))
        assert caught.value.answer == b"first"
    assert store.idempotent_answer("acme", "key") == b"first"
    assert len(store.versions("acme", "bank")) == 1
    assert [record.current.task for record in store.tasks("acme")] == ["bank"]


def test_a_commit_that_was_refused_does_not_use_its_key_up(store: TaskStore) -> None:
    commit(store, version=1)
    with pytest.raises(VersionConflict):
        commit(store, version=1, idempotent=IdempotentAnswer("key", b"refused", 60))
    assert store.idempotent_answer("acme", "key") is None
    commit(store, version=2, idempotent=IdempotentAnswer("key", b"done", 60))
    assert store.idempotent_answer("acme", "key") == b"done"


def test_an_idempotency_key_expires(store: TaskStore) -> None:
    commit(store, version=1, idempotent=IdempotentAnswer("key", b"first", 1))
    until(lambda: store.idempotent_answer("acme", "key") is None)
    commit(store, version=2, idempotent=IdempotentAnswer("key", b"second", 60))
    assert store.idempotent_answer("acme", "key") == b"second"
    assert len(store.versions("acme", "bank")) == 2


@pytest.mark.parametrize(
    "key", ["a", "A", "}{", "key:with:colons", "schlüssel 日本", "*", "x" * 255, "a\x00b", "a\x00"]
)
def test_idempotency_keys_are_separate(store: TaskStore, key: str) -> None:
    commit(store, idempotent=IdempotentAnswer(key, b"answer", 60))
    assert store.idempotent_answer("acme", key) == b"answer"
    for other in ("b", key + "x", key[:-1] + "~", key.swapcase() + " "):
        assert store.idempotent_answer("acme", other) is None
    assert store.idempotent_answer("other", key) is None


# ---- tenants -------------------------------------------------------------------------------------------------------


def test_tenants_of_alike_names_do_not_meet(store: TaskStore) -> None:
    tenants = ["acme", "acme2", "Acme", "acm", "acme.task", "acme-", "acme_tasks"]
    written: dict[str, NewVersion] = {}
    for tenant in tenants:
        assert store.current(tenant, "bank") is None
        assert list(store.tasks(tenant)) == []
        idempotent = IdempotentAnswer("key", tenant.encode(), 60)
        written[tenant] = commit(store, tenant, adapter=tenant.encode(), support=b"s", idempotent=idempotent)
    asked = [*reversed(tenants), "nobody", tenants[0]]
    newest = [CurrentVersion(1, written[t].version.adapter_id) if t in written else None for t in asked]
    assert list(store.currents([(tenant, "bank") for tenant in asked])) == newest
    adapters = [tenant.encode() if tenant in written else None for tenant in asked]
    assert list(store.load_adapters([(tenant, "bank", 1) for tenant in asked])) == adapters
    for tenant in tenants:
        assert store.current(tenant, "bank") == CurrentVersion(1, written[tenant].version.adapter_id)
        assert store.load_adapter(tenant, "bank", 1) == tenant.encode()
        assert store.idempotent_answer(tenant, "key") == tenant.encode()
        assert [record.current for record in store.tasks(tenant)] == [written[tenant].version]
    assert store.delete("acme", "bank")
    for tenant in tenants[1:]:
        assert store.load_support(tenant, "bank", 1) == stored(b"s")


# ---- API keys ------------------------------------------------------------------------------------------------------


def test_keys_are_let_in_listed_and_shut_out(store: TaskStore) -> None:
    assert store.has_keys() is False
    assert store.tenants_of_keys([api_key(1).digest]) == [None]
    for key in (api_key(2, "other"), api_key(1), api_key(3)):
        store.add_key(key)
    assert store.has_keys() is True
    assert list(store.keys()) == [api_key(1), api_key(2, "other"), api_key(3)]
    digests = [api_key(2).digest, api_key(1).digest[:-1], api_key(1).digest]
    assert store.tenants_of_keys(digests) == ["other", None, "acme"]
    assert store.remove_key(api_key(2).digest) is True
    assert store.remove_key(api_key(2).digest) is False
    assert store.tenants_of_keys(digests) == [None, None, "acme"]
    assert list(store.keys()) == [api_key(1), api_key(3)]
    assert store.remove_key(api_key(1).digest)
    assert store.remove_key(api_key(3).digest)
    assert store.has_keys() is False


def test_keys_of_the_same_age_have_a_fixed_order(store: TaskStore) -> None:
    keys = [replace(api_key(n), created_at=5.0) for n in range(10)]
    for key in reversed(keys):
        store.add_key(key)
    assert list(store.keys()) == keys


def test_adding_a_key_again_changes_nothing(store: TaskStore) -> None:
    store.add_key(api_key(1))
    store.add_key(api_key(1))
    assert list(store.keys()) == [api_key(1)]
    assert store.tenants_of_keys([api_key(1).digest]) == ["acme"]


# ---- the whole protocol --------------------------------------------------------------------------------------------


def test_every_method_of_the_protocol_is_held_here(store: TaskStore) -> None:
    methods = {name for name in vars(TaskStore) if not name.startswith("_") and callable(getattr(TaskStore, name))}
    assert methods == EVERY_CALL.keys() | {"risks", "close", "purge_expired"}
    assert store.kind in {"sqlite", "redis"}


@pytest.mark.parametrize("name", EVERY_CALL)
def test_every_call_may_come_from_a_thread_of_its_own(store: TaskStore, name: str) -> None:
    commit(store)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(EVERY_CALL[name], store).result()


def test_a_task_made_anew_is_another_one_whatever_its_number(store: TaskStore) -> None:
    former = commit(store)
    store.delete("acme", "bank")
    anew = commit(store)
    with pytest.raises(VersionConflict):
        store.commit(new_version(version=2), expected_version=1, expected_adapter_id=former.version.adapter_id)
    store.commit(new_version(version=2), expected_version=1, expected_adapter_id=anew.version.adapter_id)
    assert [version.version for version in store.versions("acme", "bank")] == [2, 1]


def test_a_deleted_task_takes_its_answers_with_it(store: TaskStore) -> None:
    commit(store, idempotent=IdempotentAnswer("key", b"with the labels in it", 60))
    commit(store, task="other", idempotent=IdempotentAnswer("another", b"stays", 60))
    store.delete("acme", "bank")
    assert store.idempotent_answer("acme", "key") is None
    assert store.idempotent_answer("acme", "another") == b"stays"


def test_purging_erases_what_has_outlived_its_time_and_nothing_else(store: TaskStore, store_url: str) -> None:
    commit(store, task="mortal", ttl_s=60)
    commit(store, task="other")
    run_out(store_url, "acme", "mortal")
    store.purge_expired()
    assert [record.current.task for record in store.tasks("acme")] == ["other"]
    if store_url.startswith("sqlite:"):
        with sqlite3.connect(store_url.removeprefix("sqlite:")) as db:
            assert db.execute("SELECT task FROM versions").fetchall() == [("other",)]


# ---- examples and removed versions ---------------------------------------------------------------------------------


def test_versions_share_equal_rows(store: TaskStore, store_url: str) -> None:
    for n, own in ((1, b"a"), (2, b"b"), (3, b"b")):
        commit(store, version=n, support=own)
    commit(store, task="other", support=b"a")
    commit(store, version=4, support=None)
    shared = stored(b"").examples[1]
    bank, other = ("acme", "bank"), ("acme", "other")
    assert rows_in(store_url) == {(bank, b"a"), (bank, b"b"), (bank, shared), (other, b"a"), (other, shared)}
    for n, own in ((1, b"a"), (2, b"b"), (3, b"b")):
        assert store.load_support("acme", "bank", n) == stored(own)
    assert store.delete_versions("acme", "bank", [1, 2]) == 2
    assert {row for name, row in rows_in(store_url) if name == bank} == {b"b", shared}
    assert store.load_support("acme", "bank", 3) == stored(b"b")
    assert store.load_support("acme", "other", 1) == stored(b"a")


def test_the_order_and_the_number_of_rows_are_kept(store: TaskStore) -> None:
    many = StoredSupport(tuple(b"row %d" % (n % 1500) for n in range(3000, 0, -1)), b"rest")
    store.commit(replace(new_version(), support=many), expected_version=0)
    assert store.load_support("acme", "bank", 1) == many


def test_a_row_that_is_missing_is_damage(store: TaskStore, store_url: str) -> None:
    support = encode_support(SupportSet((Example(TextInput("a"), "x", "1"), Example(TextInput("b"), "y", "2"))))
    store.commit(replace(new_version(), support=support), expected_version=0)
    if store_url.startswith("sqlite:"):
        with sqlite3.connect(store_url.removeprefix("sqlite:")) as db:
            assert db.execute("DELETE FROM examples WHERE number = 2").rowcount == 1
        db.close()
    else:
        with redis.Redis.from_url(store_url) as server:
            assert server.hdel(task_key("acme", "bank"), b"example:" + row_digest(support.examples[1])) == 1
    found = store.load_support("acme", "bank", 1)
    assert found is not None
    with pytest.raises(AdapterCorrupt):
        decode_support(found)


def test_versions_go_in_the_same_act_as_the_one_that_comes(store: TaskStore, store_url: str) -> None:
    for n in (1, 2, 3):
        commit(store, version=n, support=b"s%d" % n, idempotent=IdempotentAnswer(f"key-{n}", b"answer", 60))
    commit(store, task="other", idempotent=IdempotentAnswer("other", b"stays", 60))
    before = rows_in(store_url)
    with pytest.raises(VersionConflict):
        commit(store, version=3, erased=[1, 2])
    assert rows_in(store_url) == before
    assert store.idempotent_answer("acme", "key-1") == b"answer"
    new = commit(store, version=4, support=b"s4", erased=[2, 3, 99], idempotent=IdempotentAnswer("own", b"kept", 60))
    assert [version.version for version in store.versions("acme", "bank")] == [4, 1]
    assert store.current("acme", "bank") == CurrentVersion(4, new.version.adapter_id)
    for absent in (2, 3):
        assert store.version("acme", "bank", absent) is None
        assert store.load_adapter("acme", "bank", absent) is None
        assert store.load_support("acme", "bank", absent) is None
    assert {row for name, row in rows_in(store_url) if name == ("acme", "bank")} == {
        b"s1",
        b"s4",
        stored(b"").examples[1],
    }
    answers = [store.idempotent_answer("acme", key) for key in ("key-1", "key-2", "key-3", "own", "other")]
    assert answers == [None, None, None, b"kept", b"stays"]
    with pytest.raises(VersionConflict):
        commit(store, version=3)
    commit(store, version=5)


def test_the_newest_version_is_not_removed(store: TaskStore) -> None:
    commit(store, version=1)
    commit(store, version=2, idempotent=IdempotentAnswer("key", b"answer", 60))
    assert store.delete_versions("acme", "bank", [1, 2, 3], keep_answers=True) == 1
    assert [version.version for version in store.versions("acme", "bank")] == [2]
    assert store.idempotent_answer("acme", "key") == b"answer"
    assert store.delete_versions("acme", "bank", [1, 2]) == 0
    assert store.idempotent_answer("acme", "key") is None
    assert store.delete_versions("acme", "absent", [1]) == 0


@pytest.mark.parametrize("at_once", [1, 3, 1000])
def test_versions_are_listed_over_gaps(store: TaskStore, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr("model_store.redis_store._NUMBERS_AT_ONCE", at_once)
    for n in range(1, 13):
        commit(store, version=n)
    store.delete_versions("acme", "bank", [1, 3, 4, 5, 6, 7, 8, 11])
    assert [version.version for version in store.versions("acme", "bank")] == [12, 10, 9, 2]
    assert [version.version for version in store.versions("acme", "bank", limit=2)] == [12, 10]
    assert [version.version for version in store.versions("acme", "bank", before=9, limit=5)] == [2]
    assert list(store.versions("acme", "bank", before=2)) == []


# ---- which store it is ---------------------------------------------------------------------------------------------


def test_an_entry_is_left_of_a_removed_version(store: TaskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_removals, "_NUMBERS_AT_ONCE", 2)
    deleted, erased = (Removal(by, "request", reason, 1.5) for by, reason in (("key", "delete"), ("acme", "erase")))
    for number in range(1, 7):
        commit(store, version=number)
    commit(store, task="other")
    assert store.removed_versions("acme", "bank") == []
    store.delete_versions("acme", "bank", [1, 4, 6, 99], removal=deleted)
    store.delete_versions("acme", "bank", [1, 2])
    store.commit(new_version(version=7), expected_version=6, erased=[3], removal=erased)
    assert list(store.removed_versions("acme", "bank")) == [(4, deleted), (3, erased), (1, deleted)]
    assert list(store.removed_versions("acme", "bank", before=4)) == [(3, erased), (1, deleted)]
    assert [version.version for version in store.versions("acme", "bank")] == [7, 6, 5]
    assert list(store.removed_versions("acme", "other")) == []
    store.delete("acme", "bank")
    commit(store)
    assert list(store.removed_versions("acme", "bank")) == []


@pytest.mark.slow
def test_entries_of_removed_versions_are_bounded(store: TaskStore) -> None:
    removal = Removal("server", None, "retention", 1.0)
    for number in (1, 2):
        commit(store, version=number)
    store.delete_versions("acme", "bank", [1], removal=removal)
    for number in range(3, 1004):
        commit(store, version=number)
    store.delete_versions("acme", "bank", range(2, 1003), removal=removal)
    left = [number for number, _ in store.removed_versions("acme", "bank")]
    assert left == list(range(1002, 2, -1))


def test_a_store_has_no_marker_until_it_is_marked(store: TaskStore, store_url: str) -> None:
    commit(store)
    store.add_key(api_key(1))
    assert store.marker() is None
    marker = store.mark()
    assert marker.replaces == ()
    again = open_store(store_url)
    assert again.marker() == again.mark() == store.marker() == marker
    again.close()


def test_many_who_mark_a_store_at_once_agree(store_url: str) -> None:
    stores = [open_store(store_url) for _ in range(8)]
    with ThreadPoolExecutor(8) as threads:
        markers = list(threads.map(lambda store: store.mark(), stores))
    assert {marker.store_id for marker in markers} == {stores[0].mark().store_id}
    for each in stores:
        each.close()


def test_a_store_stands_in_for_those_that_were_accepted_as_lost(store: TaskStore) -> None:
    made = store.accept("a" * 32)
    assert made.replaces == ("a" * 32,)
    assert made.store_id != "a" * 32
    assert store.marker() == store.mark() == made
    for lost in ("b" * 32, "a" * 32):
        accepted = store.accept(lost)
        assert accepted.store_id == made.store_id
    assert set(accepted.replaces) == {"a" * 32, "b" * 32}
    assert store.marker() == accepted


def test_a_store_remembers_that_callers_need_a_key(store: TaskStore) -> None:
    assert store.needs_keys() is False
    assert store.remove_key(api_key(1).digest) is False
    assert store.needs_keys() is False, "there was never a key"
    store.add_key(api_key(1))
    assert store.needs_keys() is True
    store.set_needs_keys(False)
    assert store.needs_keys() is True, "a key that exists is needed"
    store.remove_key(api_key(1).digest)
    assert (store.has_keys(), store.needs_keys()) == (False, True)
    store.set_needs_keys(False)
    assert store.needs_keys() is False
    store.set_needs_keys(True)
    assert store.needs_keys() is True
    assert store.has_keys() is False


# ---- all tasks of all tenants --------------------------------------------------------------------------------------


def _walk(store: TaskStore, limit: int) -> list[StoredTask]:
    found: list[StoredTask] = []
    after: str | None = ""
    while after is not None:
        page = store.all_tasks(after=after, limit=limit)
        found += page.tasks
        after = page.next
    return found


def test_a_walk_over_an_empty_store_finds_nothing(store: TaskStore) -> None:
    store.add_key(api_key(1))
    assert _walk(store, 10) == []


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_walk_finds_the_newest_version_of_every_task_of_every_tenant(store: TaskStore, limit: int) -> None:
    commit(store, "acme", "bank", idempotent=IdempotentAnswer("key", b"answer", 60))
    commit(store, "acme", "bank.2", support=None)
    commit(store, "acme2", "bank")
    commit(store, "globex", "-".join("travel"))
    moved = new_version("acme", "bank", 2, support=None)
    store.commit(replace(moved, version=replace(moved.version, checkpoint="other")), expected_version=1)
    commit(store, "acme", "deleted")
    store.delete("acme", "deleted")
    found = {(task.tenant, task.task): task for task in _walk(store, limit)}
    assert found == {
        ("acme", "bank"): StoredTask("acme", "bank", "other", False),
        ("acme", "bank.2"): StoredTask("acme", "bank.2", "97b2cd13", False),
        ("acme2", "bank"): StoredTask("acme2", "bank", "97b2cd13", True),
        ("globex", "t-r-a-v-e-l"): StoredTask("globex", "t-r-a-v-e-l", "97b2cd13", True),
    }


def test_a_walk_leaves_out_what_has_outlived_its_time(store: TaskStore, store_url: str) -> None:
    commit(store, task="mortal", ttl_s=60)
    commit(store, task="other")
    run_out(store_url, "acme", "mortal")
    assert [task.task for task in _walk(store, 10)] == ["other"]


def test_a_walk_over_many_tasks_finds_each_while_others_write(store: TaskStore) -> None:
    names = {f"task-{n}" for n in range(60)}
    for name in names:
        commit(store, task=name)
    found, after = [], ""
    while True:
        page = store.all_tasks(after=after, limit=7)
        found += page.tasks
        commit(store, task=f"new-{len(found)}", tenant="other")
        if page.next is None:
            break
        after = page.next
    assert names <= {task.task for task in found if task.tenant == "acme"}


def test_a_damaged_record_and_a_stale_one_differ(store: TaskStore) -> None:
    assert StoredTask.of("acme", "bank", b"{no json") == StoredTask("acme", "bank", None, False)
    assert StoredTask.of("acme", "bank", None) == StoredTask("acme", "bank", None, False)
