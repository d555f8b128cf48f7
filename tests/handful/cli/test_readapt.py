"""``handful tasks readapt``, and which store a command works on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from handful.cli import progress
from handful.cli import readapt as module
from model_store.checkpoint import read_manifest
from model_store.records import StoredSupport
from service.local import LocalService, local_service
from service.settings import Settings
from tests.conftest import SUPPORT
from tests.handful.cli.test_cli import Handful, as_jsonl, environment, folder, handful, lines, url
from tests.service.conftest import OTHER_SUPPORT
from tests.service.test_several_checkpoints import INNER_WORDS

__all__ = ["environment", "folder", "handful", "url"]  # fixtures

OLD = {"acme": ["bank", "unkept"], "default": ["bank"], "globex": ["a", "b", "c"]}


@pytest.fixture
def store(store_url: str, other_checkpoint: Path, tiny_checkpoint: Path) -> Iterator[dict[str, str]]:
    """Variables that name a store with six tasks of another checkpoint, of three tenants, and one of the loaded one."""

    def settings(checkpoint: Path) -> Settings:
        return Settings(checkpoint=str(checkpoint), store=SecretStr(store_url), device="cpu", threads=1)

    with local_service(settings(other_checkpoint)) as old:
        for tenant, tasks in OLD.items():
            for task in tasks:
                with old.client(tenant) as client:
                    client.adapt(task, SUPPORT, keep_support=task != "unkept", steps=2)
    with local_service(settings(tiny_checkpoint)) as new, new.client("acme") as client:
        client.adapt("fresh", OTHER_SUPPORT)
    yield {"HANDFUL_STORE": store_url, "HANDFUL_STORE_TIMEOUT_S": "5"}


def look(store: dict[str, str], checkpoint: Path, see: Callable[[LocalService], object]) -> object:
    """The tasks that a service on the store sees."""
    settings = Settings(checkpoint=str(checkpoint), store=SecretStr(store["HANDFUL_STORE"]), device="cpu", threads=1)
    with local_service(settings) as service:
        return see(service)


def test_all_tasks_of_all_tenants_are_adapted_again(
    handful: Handful, store: dict[str, str], tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "6 of 7 tasks were made from a checkpoint that is not loaded" in handful("doctor", **store)
    planned = handful.run("tasks", "readapt", "--all", "--local", "--dry-run", **store)
    assert [(p["tenant"], p["task"], p["action"]) for p in lines(planned.stdout)] == [
        ("acme", "bank", "readapt"),
        ("acme", "unkept", "support_not_kept"),
        ("default", "bank", "readapt"),
        ("globex", "a", "readapt"),
        ("globex", "b", "readapt"),
        ("globex", "c", "readapt"),
    ]
    before = {(p["tenant"], p["task"]): p for p in lines(planned.stdout)}["acme", "bank"]
    assert 0 <= before["leave_one_out_accuracy"] <= 1
    assert 0 <= before["former_leave_one_out_accuracy"] <= 1
    assert (before["agreement"], before["reason"]) == (None, None)
    assert "5 would be adapted again, 0 would be worse, of 1 no support set is kept, 0 would fail" in planned.stderr
    (one,) = lines(handful("tasks", "readapt", "--all", "--local", "--tenant", "default", **store))
    assert one == {"tasks": 1, "readapted": 1, "not_needed": 0, "support_not_kept": 0, "refused": 0, "failed": 0}
    monkeypatch.setattr(progress, "_LINE_EVERY_S", 0)
    done = handful.run("tasks", "readapt", "--all", "--local", **store)
    assert done.returncode == 0, done.stderr
    expected = {"tasks": 7, "readapted": 4, "not_needed": 2, "support_not_kept": 1, "refused": 0, "failed": 0}
    assert lines(done.stdout) == [expected]
    assert "4 of 4 tasks adapted again" in done.stderr
    assert "acme/unkept" in done.stderr
    # Again: tasks that are done are not adapted twice
    (again,) = lines(handful("tasks", "readapt", "--all", "--local", **store))
    assert again == {**expected, "readapted": 0, "not_needed": 6}

    def see(service: LocalService) -> dict[str, list[tuple[str, int, str]]]:
        seen = {}
        for tenant in OLD:
            with service.client(tenant) as client:
                seen[tenant] = [(task.task, task.version, task.source) for task in client.tasks()]
                client.predict("bank" if tenant != "globex" else "a", ["where is my card"])
        return seen

    assert look(store, tiny_checkpoint, see) == {
        "acme": [("bank", 2, "readapt"), ("fresh", 1, "adapt"), ("unkept", 1, "adapt")],
        "default": [("bank", 2, "readapt")],
        "globex": [(task, 2, "readapt") for task in "abc"],
    }


def test_one_that_fails_does_not_keep_the_others(
    handful: Handful, store: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(service: LocalService) -> None:
        load_support = service.store.load_support

        def load(tenant: str, task: str, version: int) -> StoredSupport | None:
            return StoredSupport((), b"damaged") if task == "b" else load_support(tenant, task, version)

        load.__name__ = "load_support"
        monkeypatch.setattr(service.store, "load_support", load)

    opened = module.opened_service

    @contextmanager
    def damaged_service(store: str | None, checkpoint: str | None) -> Iterator[LocalService]:
        with opened(store, checkpoint) as service:
            damaged(service)
            yield service

    monkeypatch.setattr(module, "opened_service", damaged_service)
    done = handful.run("tasks", "readapt", "--all", "--local", **store)
    assert done.returncode == 1
    (summary,) = lines(done.stdout)
    assert (summary["readapted"], summary["failed"]) == (4, 1)
    assert "globex/b: " in done.stderr
    assert "damaged" in done.stderr


def test_through_a_server_it_is_the_tasks_of_its_tenant(handful: Handful) -> None:
    handful("adapt", "mine", "--support", "-", stdin=as_jsonl(SUPPORT))
    (made,) = lines(handful("tasks", "readapt", "mine"))
    assert made["version"] == 2
    (summary,) = lines(handful("tasks", "readapt", "--all"))
    assert (summary["readapted"], summary["failed"]) == (0, 0)
    assert summary["not_needed"] == summary["tasks"] >= 1
    assert lines(handful("tasks", "readapt", "mine", "--version", "1"))[0]["version"] == 3
    assert "no such task" in handful.fails("tasks", "readapt", "absent")
    handful("tasks", "delete", "mine", "--yes")


def test_tasks_that_would_be_worse_stay_unless_told_otherwise(
    handful: Handful, store_url: str, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    variables = {"HANDFUL_STORE": store_url, "HANDFUL_STORE_TIMEOUT_S": "5"}
    settings = Settings(checkpoint=str(tiny_checkpoint), store=SecretStr(store_url), device="cpu", threads=1)
    with local_service(settings) as old, old.client() as client:
        client.adapt("worse", INNER_WORDS, use_label_text=False)
    command = ("tasks", "readapt", "--all", "--local")
    new = {**variables, "HANDFUL_CHECKPOINT": f"{other_checkpoint}"}
    (planned,) = lines(handful(*command, "--dry-run", **new))
    assert (planned["action"], planned["former_leave_one_out_accuracy"]) == ("refused", 1.0)
    assert "would fall from 1.000 to 0.000" in planned["reason"]
    (forced,) = lines(handful(*command, "--dry-run", "--even-if-worse", **new))
    assert forced["action"] == "readapt"
    done = handful.run(*command, **new)
    assert done.returncode == 0
    assert lines(done.stdout)[0]["refused"] == 1
    assert "worse: " in done.stderr
    (summary,) = lines(handful(*command, "--even-if-worse", **new))
    assert (summary["readapted"], summary["refused"]) == (1, 0)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("bank", "--all"),
        ("bank", "--dry-run"),
        ("bank", "--even-if-worse"),
        ("--all", "--version", "1"),
        ("bank", "--tenant", "acme"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_refused(handful: Handful, words: tuple[str, ...]) -> None:
    handful.fails("tasks", "readapt", *words, codes=(2,))


# ---- which store ---------------------------------------------------------------------------------------------------


def test_a_key_in_an_empty_folder_names_the_new_store(handful: Handful) -> None:
    path = handful.folder / "handful.db"
    made = handful.run("keys", "create", "acme")
    assert f"made a new store at {path}" in made.stderr
    assert f"HANDFUL_STORE=sqlite:{path}" in made.stderr
    again = handful.run("keys", "create", "acme")
    assert "new store" not in again.stderr
    assert str(path) in again.stderr
    assert len(lines(handful("keys", "list"))) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("keys", "list"),
        ("keys", "revoke", "handful_key"),
        ("tasks", "list", "--local"),
        ("tasks", "show", "bank", "--local"),
        ("tasks", "readapt", "--all", "--local"),
        ("predict", "bank", "--local"),
    ],
    ids=" ".join,
)
def test_a_command_that_reads_makes_no_store(handful: Handful, words: tuple[str, ...]) -> None:
    message = handful.fails(*words, stdin="a text\n")
    assert f"there is no store at {handful.folder / 'handful.db'}" in message
    assert list(handful.folder.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [("keys", "create", "acme"), ("serve", "--port", "0"), ("adapt", "bank", "--local", "--support", "-")],
    ids=" ".join,
)
def test_a_folder_is_never_made(handful: Handful, words: tuple[str, ...]) -> None:
    message = handful.fails(*words, "--store", "sqlite:typo/handful.db", stdin=as_jsonl(SUPPORT))
    assert f"the folder {handful.folder / 'typo'} does not exist" in message
    assert list(handful.folder.iterdir()) == []


def test_a_url_of_sqlalchemys_means_the_working_folder(handful: Handful) -> None:
    handful("keys", "create", "acme", "--store", "sqlite:///rel.db")
    assert (handful.folder / "rel.db").is_file()
    handful("keys", "create", "acme", "--store", f"sqlite:///{handful.folder}/abs.db")
    assert (handful.folder / "abs.db").is_file()


def test_a_store_under_the_former_meaning_is_not_passed_over(handful: Handful) -> None:
    path = handful.folder / "kept.db"
    handful("keys", "create", "acme", "--store", f"sqlite:{path}")
    message = handful.fails("keys", "create", "acme", "--store", f"sqlite://{path}")
    assert f"write sqlite:{path}" in message


def test_an_adapt_that_makes_a_store_reports_it(handful: Handful) -> None:
    done = handful.run("adapt", "bank", "--local", "--support", "-", stdin=as_jsonl(SUPPORT))
    assert done.returncode == 0, done.stderr
    assert f"made a new store at {handful.folder / 'handful.db'}" in done.stderr
    listed = handful.run("tasks", "list", "--local")
    assert [task["task"] for task in lines(listed.stdout)] == ["bank"]
    assert f"in the store sqlite:{handful.folder / 'handful.db'}" in listed.stderr


# ---- several checkpoints -------------------------------------------------------------------------------------------


def test_tasks_move_to_the_checkpoint_that_is_named(
    handful: Handful, store: dict[str, str], tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    both = {**store, "HANDFUL_CHECKPOINT": f"{tiny_checkpoint},{other_checkpoint}"}
    # Tasks of a loaded checkpoint are not stale
    (none,) = lines(handful("tasks", "readapt", "--all", "--local", **both))
    assert (none["readapted"], none["not_needed"]) == (0, 7)
    (one,) = lines(handful("tasks", "readapt", "bank", "--local", "--checkpoint", str(tiny_checkpoint), **both))
    assert (one["version"], one["checkpoint"]) == (2, read_manifest(tiny_checkpoint).fingerprint)
    named = ("tasks", "readapt", "--all", "--local", "--checkpoint", str(tiny_checkpoint))
    (moved,) = lines(handful(*named, **both))
    assert moved == {"tasks": 7, "readapted": 4, "not_needed": 2, "support_not_kept": 1, "refused": 0, "failed": 0}
    chosen = handful.run("tasks", "readapt", "bank", "--local", "--checkpoint", "auto", **both)
    assert lines(chosen.stdout)[0]["version"] == 3
    assert "have the best leave-one-out accuracy" in chosen.stderr or "has the best" in chosen.stderr


def test_a_checkpoint_that_the_server_has_not_loaded_is_refused(handful: Handful) -> None:
    handful("adapt", "mine", "--support", "-", "--checkpoint", "tiny", stdin=as_jsonl(SUPPORT))
    assert lines(handful("tasks", "readapt", "mine", "--checkpoint", "tiny"))[0]["version"] == 2
    for words in (("mine",), ("--all",), ("--all", "--dry-run")):
        message = handful.fails("tasks", "readapt", *words, "--checkpoint", "absent", codes=(1, 2))
        assert "the checkpoint 'absent' is not loaded" in message
        assert "tiny" in message
    message = handful.fails("adapt", "mine", "--support", "-", "--checkpoint", "absent", stdin=as_jsonl(SUPPORT))
    assert "--checkpoint: the checkpoint 'absent' is not loaded; loaded is 'tiny'" in message
    (summary,) = lines(handful("tasks", "readapt", "--all", "--checkpoint", "tiny"))
    assert summary["not_needed"] == summary["tasks"] >= 1
    (listed,) = lines(handful("checkpoint", "list"))
    assert listed["name"] == "tiny"
    handful("tasks", "delete", "mine", "--yes")


def test_local_commands_load_the_checkpoint_that_is_named(
    handful: Handful, tiny_checkpoint: Path, other_checkpoint: Path
) -> None:
    support = as_jsonl(SUPPORT)
    adapt = ("adapt", "bank", "--local", "--support", "-")
    made = lines(handful(*adapt, "--checkpoint", str(other_checkpoint), stdin=support))[0]
    assert made["checkpoint"] == read_manifest(other_checkpoint).fingerprint
    several = {"HANDFUL_CHECKPOINT": f"{tiny_checkpoint},{other_checkpoint}"}
    done = handful.run(*adapt, "--checkpoint", "auto", stdin=support, **several)
    assert [each["name"] for each in lines(done.stdout)[0]["checkpoint_choice"]["candidates"]] == ["tiny", "other"]
    assert "leave-one-out accuracy" in done.stderr
    assert "every file as it was made" in handful("doctor", **several)
