"""The embedded store: files that are not one, other processes, full disks, erased bytes."""

import gzip
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_store.errors import StoreAbsent, StoreUnavailable, VersionConflict
from model_store.records import CurrentVersion, IdempotentAnswer, StoredSupport, Version
from model_store.sqlite_store import SqliteStore
from model_store.store import TaskStore
from tests.model_store.conftest import EVERY_CALL, REPOSITORY, api_key, commit, new_version
from tests.waiting import LIMIT_S, until


def _run(script: str, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---- files ---------------------------------------------------------------------------------------------------------


def test_a_new_file_is_made_and_known_to_be_new(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path)
    assert store.is_new
    commit(store)
    store.close()
    assert path.is_file()
    assert list(store.risks()) == []
    again = SqliteStore(path, create=False)
    assert not again.is_new
    again.close()


@pytest.mark.parametrize("create", [True, False])
def test_a_folder_is_never_made(tmp_path: Path, create: bool) -> None:
    with pytest.raises(StoreAbsent, match=f"the folder {tmp_path / 'new'} does not exist"):
        SqliteStore(tmp_path / "new" / "handful.db", create=create)
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_made_where_none_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StoreAbsent, match="there is no store at"):
        SqliteStore(tmp_path / "handful.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_store_yet(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    path.touch()
    with pytest.raises(StoreAbsent, match="the file is empty"):
        SqliteStore(path, create=False)
    SqliteStore(path).close()


@pytest.mark.parametrize("user_version", [0, 1])
def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path, user_version: int) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE users (name TEXT)")
        db.execute(f"PRAGMA user_version = {user_version}")
    db.close()
    with pytest.raises(StoreUnavailable, match="another program"):
        SqliteStore(path)
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("users",)]
    db.close()


def _a_folder(path: Path) -> None:
    path.mkdir()


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database, however one looks at it\n" * 200)


def _cut_header(path: Path) -> None:
    SqliteStore(path).close()
    path.write_bytes(b"SQLite format 3\x00" + bytes(50))


@pytest.mark.parametrize("spoil", [_a_folder, _garbage, _cut_header])
def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path = tmp_path / "handful.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreUnavailable, match=r"handful\.db"):
        SqliteStore(path)
    if before is not None:
        assert path.read_bytes() == before


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        SqliteStore(tmp_path / "file" / "handful.db")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # root may write anywhere, but in here
        folder = Path("/proc")
    with pytest.raises(StoreUnavailable, match=r"handful\.db"):
        SqliteStore(folder / "handful.db")
    with pytest.raises(StoreUnavailable, match=r"handful\.db"):
        SqliteStore(folder / "deeper" / "handful.db")


def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path)
    commit(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="newer version"):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("schema", [1, 2])
def test_a_file_of_an_older_program_keeps_its_data_and_gets_a_marker(tmp_path: Path, schema: int) -> None:
    path = tmp_path / "handful.db"
    packed = REPOSITORY / "tests" / "service" / "stores" / f"schema-{schema}.db.gz"
    path.write_bytes(gzip.decompress(packed.read_bytes()))
    key = api_key(1)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM facts") if schema > 1 else None
        connection.execute("INSERT INTO api_keys VALUES (?, ?, ?, ?)", (key.digest, key.tenant, key.hint, 1.0))
        connection.execute("INSERT INTO idempotency VALUES ('default', 'key', 'kept', ?, 1e12)", (b"an answer",))
        rows = connection.execute("SELECT task, record, adapter, support FROM versions ORDER BY task").fetchall()
    connection.close()
    assert b"card_arrival" in _bytes_anywhere(tmp_path)

    store = SqliteStore(path)
    assert store.marker() is None
    assert store.mark() == store.marker()
    for task, record, adapter, support in rows:
        version = Version.from_json(record)
        assert store.current("default", task) == CurrentVersion(1, version.adapter_id)
        assert store.version("default", task, 1) == version
        assert store.load_adapter("default", task, 1) == adapter
        assert store.load_support("default", task, 1) == (support and StoredSupport((), support))
    assert store.idempotent_answer("default", "key") == b"an answer"
    assert not any(adapter[:40] in _bytes_anywhere(tmp_path) for _, _, adapter, _ in rows)
    assert b"card_arrival" not in _bytes_anywhere(tmp_path), "what is derived from texts is sealed, in free space, too"
    SqliteStore(path).close()
    assert store.needs_keys()
    assert store.remove_key(api_key(1).digest)
    assert store.needs_keys(), "the last key was one that the older program had added"
    store.close()


def test_a_file_that_was_removed_has_no_marker_and_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path)
    marker = store.mark()
    path.rename(tmp_path / "elsewhere.db")
    assert store.marker() is None
    with ThreadPoolExecutor(1) as thread, pytest.raises(StoreUnavailable):  # one that has no connection yet
        thread.submit(store.current, "acme", "bank").result()
    assert not path.exists()
    (tmp_path / "elsewhere.db").rename(path)
    assert store.marker() == marker
    store.close()


@pytest.mark.parametrize("content", [b"", None], ids=["empty", "of another store"])
def test_a_file_that_was_exchanged_is_the_one_that_is_read(tmp_path: Path, content: bytes | None) -> None:
    path, other_path = tmp_path / "handful.db", tmp_path / "other.db"
    store = SqliteStore(path)
    commit(store)
    assert store.current_at_once("acme", "bank") is not None
    marker = store.mark()
    for file in tmp_path.glob("handful.db*"):  # the log belongs to its file
        file.rename(tmp_path / file.name.replace("handful", "elsewhere"))
    if content is None:
        other = SqliteStore(other_path)
        other_marker = other.mark()
        other.close()
        other_path.rename(path)
        assert store.marker() == other_marker != marker
        assert store.current("acme", "bank") is None
        assert store.current_at_once("acme", "bank") is None
        assert store.accept(marker.store_id).store_id == other_marker.store_id
    else:
        path.write_bytes(content)
        assert store.marker() is None
    store.close()


def test_a_file_damaged_in_the_middle_is_reported_and_never_read_as_data(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path)
    for n in range(1, 20):
        commit(store, version=n, adapter=bytes(5000))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)  # the first page has the schema
    path.write_bytes(content)
    damaged = SqliteStore(path)
    try:
        for name in (
            "current",
            "load_adapter",
            "load_support",
            "task",
            "tasks",
            "version",
            "versions",
            "commit",
            "ping",
        ):
            with pytest.raises(StoreUnavailable):
                EVERY_CALL[name](damaged)
        for name in ("currents", "load_adapters"):
            assert [type(each) for each in EVERY_CALL[name](damaged)] == [StoreUnavailable] * 2  # type: ignore[attr-defined]
    finally:
        damaged.close()


def test_a_damaged_page_is_the_trouble_of_those_alone_who_lie_on_it(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path)
    tenants = [f"tenant{number:03}" for number in range(100)]
    newest = [
        CurrentVersion(1, commit(store, tenant, adapter=tenant.encode()).version.adapter_id) for tenant in tenants
    ]
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        leaves = {
            table: connection.execute(
                "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY pageno", (table,)
            ).fetchall()
            for table in ("tasks", "versions")
        }
    connection.close()
    content = bytearray(path.read_bytes())
    for table in leaves.values():
        assert len(table) > 1
        (page,) = table[1]
        content[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(content)
    damaged = SqliteStore(path)
    try:
        found = damaged.currents([(tenant, "bank") for tenant in tenants])
        lost = [isinstance(each, StoreUnavailable) for each in found]
        assert 0 < sum(lost) < len(tenants)
        assert all(each == own for each, own, gone in zip(found, newest, lost, strict=True) if not gone)
        adapters = damaged.load_adapters([(tenant, "bank", 1) for tenant in tenants])
        lost = [isinstance(each, StoreUnavailable) for each in adapters]
        assert 0 < sum(lost) < len(tenants)
        assert all(own == t.encode() for own, t, gone in zip(adapters, tenants, lost, strict=True) if not gone)
    finally:
        damaged.close()


# ---- processes and threads -----------------------------------------------------------------------------------------

_WRITER = """
import sys
from pathlib import Path
from model_store.errors import VersionConflict
from model_store.sqlite_store import SqliteStore
from tests.model_store.conftest import new_version

store = SqliteStore(Path(sys.argv[1]), timeout_s=30)
expected = 0
for i in range(int(sys.argv[2])):
    while True:
        try:
            store.commit(new_version(version=expected + 1, adapter=b"other %d" % i), expected_version=expected)
            break
        except VersionConflict as conflict:
            expected = conflict.current_version
    expected += 1
    print(expected, flush=True)
store.close()
"""


def test_two_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path, each = tmp_path / "handful.db", 30
    store = SqliteStore(path, timeout_s=30)
    process = _run(_WRITER, path, each)
    assert process.stdout is not None
    theirs = [int(process.stdout.readline())]  # it writes from now on
    ours: list[int] = []
    expected = theirs[0]
    while len(ours) < each:
        try:
            store.commit(new_version(version=expected + 1, adapter=b"own %d" % len(ours)), expected_version=expected)
        except VersionConflict as conflict:
            expected = conflict.current_version
        else:
            expected += 1
            ours.append(expected)
    # Not by communicate, which would miss what was read ahead with the first line
    theirs += [int(line) for line in process.stdout]
    assert process.wait(timeout=LIMIT_S) == 0
    assert sorted(ours + theirs) == list(range(1, 2 * each + 1))
    assert [version.version for version in store.versions("acme", "bank")] == list(range(2 * each, 0, -1))
    assert [store.load_adapter("acme", "bank", n) for n in ours] == [b"own %d" % i for i in range(each)]
    assert [store.load_adapter("acme", "bank", n) for n in theirs] == [b"other %d" % i for i in range(each)]
    store.close()


def test_a_commit_that_returned_outlasts_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    SqliteStore(path).close()
    process = _run(_WRITER, path, 100_000)
    assert process.stdout is not None
    for _ in range(20):
        last = int(process.stdout.readline())
    process.kill()
    last = max([last, *(int(line) for line in process.communicate(timeout=LIMIT_S)[0].splitlines()[:-1])])
    store = SqliteStore(path)
    newest = store.current("acme", "bank")
    assert newest is not None
    assert newest.version >= last
    assert len(store.versions("acme", "bank", limit=100_000)) == newest.version
    assert store.load_adapter("acme", "bank", last) == b"other %d" % (last - 1)
    commit(store, version=newest.version + 1)
    store.close()


@pytest.mark.parametrize("attempt", range(5))
def test_a_new_file_may_be_opened_by_many_at_once(tmp_path: Path, attempt: int) -> None:
    start = threading.Barrier(8)

    def work(n: int) -> None:
        start.wait()
        store = SqliteStore(tmp_path / "handful.db", timeout_s=30)
        commit(store, task=f"task-{attempt}-{n}")
        store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    store = SqliteStore(tmp_path / "handful.db")
    assert len(store.tasks("acme")) == 8
    store.close()


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_opening_a_new_file_waits_for_whoever_is_just_making_it(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "handful.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute(f"BEGIN {lock}")
    release = threading.Timer(0.3, other.execute, ["COMMIT"])
    release.start()
    try:
        store = SqliteStore(path, timeout_s=60)
        commit(store)
        store.close()
    finally:
        release.join()
        other.close()


def test_behind_a_long_write_reads_answer_and_writes_give_up(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path, timeout_s=0.3)
    commit(store)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM versions")
    try:
        assert store.load_adapter("acme", "bank", 1) == b"adapter"
        for call in (lambda: commit(store, version=2), lambda: store.delete("acme", "bank")):
            with pytest.raises(StoreUnavailable, match="locked"):
                call()
    finally:
        other.execute("ROLLBACK")
        other.close()
    commit(store, version=2)
    store.close()


def test_a_disk_that_is_full_refuses_a_commit_whole_and_the_next_one_works(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    script = """
import resource, sys
from pathlib import Path
from model_store.errors import StoreUnavailable
from model_store.sqlite_store import SqliteStore
from tests.model_store.conftest import commit

path = Path(sys.argv[1])
store = SqliteStore(path)
first = commit(store)
size = Path(f"{path}-wal").stat().st_size
for room in range(0, 120_000, 10_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    try:
        commit(store, version=2, adapter=bytes(200_000))
    except StoreUnavailable:
        pass
    else:
        raise SystemExit("the disk was not full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert store.current("acme", "bank").version == 1
    assert store.version("acme", "bank", 2) is None
    assert store.load_adapter("acme", "bank", 2) is None
commit(store, version=2, adapter=bytes(200_000))
assert store.current("acme", "bank").version == 2
store.close()
store = SqliteStore(path)
assert [version.version for version in store.versions("acme", "bank")] == [2, 1]
"""
    process = _run(script, tmp_path / "handful.db")
    _, problems = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, problems


# ---- closing and erasing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY_CALL)
def test_after_close_every_call_is_refused(tmp_path: Path, name: str) -> None:
    store: TaskStore = SqliteStore(tmp_path / "handful.db")
    commit(store)
    store.close()
    with pytest.raises(StoreUnavailable):
        EVERY_CALL[name](store)
    with ThreadPoolExecutor(1) as thread, pytest.raises(StoreUnavailable):
        thread.submit(EVERY_CALL[name], store).result()
    store.close()


def test_closing_gives_back_the_connections_of_every_thread(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "handful.db")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: commit(store, task=f"task-{n}"), range(20)))
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["handful.db"], "the last to close tidies up the log"


def _bytes_anywhere(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def _secrets(folder: Path) -> set[bytes]:
    """The secrets in use; without any that a row has, the row cannot be read."""
    db = sqlite3.connect(folder / "handful.db")
    found = {secret for (secret,) in db.execute("SELECT secret FROM secrets WHERE used")}
    db.close()
    return found


@pytest.mark.parametrize("how", ["delete", "expiry"])
def test_an_erased_text_leaves_no_bytes_behind_once_closed(tmp_path: Path, how: str) -> None:
    store = SqliteStore(tmp_path / "handful.db")
    commit(store, task="stays")
    staying = _secrets(tmp_path)
    commit(store, support=b"the customer's own words", ttl_s=1 if how == "expiry" else None)
    erased = _secrets(tmp_path) - staying
    assert len(erased) == 3, "of the version, and of two examples"
    if how == "delete":
        assert store.delete("acme", "bank")
    else:
        until(lambda: store.task("acme", "bank") is None)
        commit(store, task="another")  # writing sweeps up what has expired
    store.close()
    left = _bytes_anywhere(tmp_path)
    assert not any(secret in left for secret in erased)
    assert all(secret in left for secret in staying)


def test_no_text_is_stored_in_the_clear(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "handful.db")
    words = b"the customer's own words"
    commit(store, adapter=words, support=words, idempotent=IdempotentAnswer("key", words, 60))
    assert words not in _bytes_anywhere(tmp_path)
    assert b"card_arrival" not in _bytes_anywhere(tmp_path)
    store.close()


def test_no_secret_of_a_removed_row_is_left_while_the_store_is_open(tmp_path: Path) -> None:
    """Rows come and go so that SQLite moves others from page to page, and every secret goes with its row."""
    draw = random.Random(0)
    store = SqliteStore(tmp_path / "handful.db")
    erased: set[bytes] = set()
    for n in range(1, 61):
        before = _secrets(tmp_path)
        commit(store, version=n, adapter=draw.randbytes(300), support=draw.randbytes(100))
        commit(store, task=f"other-{n}", support=draw.randbytes(5000), idempotent=IdempotentAnswer(f"{n}", b"a", 60))
        if n % 3 == 0:
            store.delete_versions("acme", "bank", draw.sample(range(1, n), 2))
            store.delete("acme", f"other-{draw.randrange(1, n)}")
        erased |= before - _secrets(tmp_path)
    left = _bytes_anywhere(tmp_path)
    assert len(erased) > 100
    assert not any(secret in left for secret in erased), "a server runs for months: its log has to forget, too"
    assert all(secret in left for secret in _secrets(tmp_path))
    store.close()


# ---- answers at once -----------------------------------------------------------------------------------------------


def test_a_commit_of_another_process_is_seen_at_once(tmp_path: Path) -> None:
    store, other = SqliteStore(tmp_path / "handful.db"), SqliteStore(tmp_path / "handful.db")
    for n in range(1, 4):
        written = commit(other, version=n)
        assert store.current_at_once("acme", "bank") == CurrentVersion(n, written.version.adapter_id)
    other.delete("acme", "bank")
    assert store.current_at_once("acme", "bank") is None
    key = api_key(1)
    assert store.tenant_of_key_at_once(key.digest) is None
    other.add_key(key)
    assert store.tenant_of_key_at_once(key.digest) == key.tenant
    other.remove_key(key.digest)
    assert store.tenant_of_key_at_once(key.digest) is None
    other.close()
    store.close()


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_writer_blocks_no_reader(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path)
    written, key = commit(store), api_key(1)
    store.add_key(key)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute(f"BEGIN {lock}")
    writer.execute("DELETE FROM tasks")
    writer.execute("DELETE FROM api_keys")
    assert store.current_at_once("acme", "bank") == CurrentVersion(1, written.version.adapter_id)
    assert store.tenant_of_key_at_once(key.digest) == key.tenant
    writer.execute("COMMIT")
    assert store.current_at_once("acme", "bank") is None
    assert store.tenant_of_key_at_once(key.digest) is None
    writer.close()
    store.close()


def test_reading_at_once_makes_no_file(tmp_path: Path) -> None:
    path = tmp_path / "handful.db"
    store = SqliteStore(path)
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(StoreUnavailable):
        store.current_at_once("acme", "bank")
    with pytest.raises(StoreUnavailable):
        store.tenant_of_key_at_once("0" * 64)
    assert not path.exists()
    store.close()
    with pytest.raises(StoreUnavailable):
        store.current_at_once("acme", "bank")
    with pytest.raises(StoreUnavailable):
        store.tenant_of_key_at_once("0" * 64)
