"""``handful store``, and the messages of ``handful keys`` on access, on each kind of store."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from handful.cli.main import app
from model_store.store import TaskStore
from service.settings import load_settings
from service.store_access import store_name

LOST = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def own_store(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands work on the test's store."""
    monkeypatch.setenv("HANDFUL_STORE", store_url)


def run(*words: str, fails: bool = False) -> Result:
    """Runs a command."""
    result = CliRunner().invoke(app, words)
    assert (result.exit_code != 0) == fails, result.output
    return result


def test_the_first_key_and_the_last_one_are_remarked_on(store: TaskStore) -> None:
    first = run("keys", "create", "acme")
    assert "from now on every request needs a key: callers without one get 401" in " ".join(first.stderr.split())
    assert first.stdout.strip().startswith("handful_")
    second = run("keys", "create", "acme")
    assert "from now on" not in second.stderr
    assert "no key is left" not in run("keys", "revoke", first.stdout.strip()).stderr
    assert "there are keys" in run("keys", "open", fails=True).output
    last = " ".join(run("keys", "revoke", second.stdout.strip()).stderr.split())
    assert "no key is left: every request is refused until one is made" in last
    assert "handful keys create" in last
    assert "handful keys open" in last
    assert store.needs_keys()
    assert "from now on" not in run("keys", "create", "acme").stderr, "callers need one already"
    store.remove_key(store.keys()[0].digest)
    run("keys", "open")
    assert not store.needs_keys()


def test_a_store_is_shown_and_accepted(store: TaskStore) -> None:
    assert json.loads(run("store", "show").stdout) == {
        "id": None, "replaces": [], "created_at": None, "needs_keys": False
    }  # fmt: skip
    assert store.marker() is None, "showing makes nothing"
    run("store", "accept", LOST)
    shown = json.loads(run("store", "show").stdout)
    marker = store.marker()
    assert marker is not None
    assert (shown["id"], shown["replaces"]) == (marker.store_id, [LOST])
    assert "was not lost" in " ".join(run("store", "accept", marker.store_id, fails=True).output.split())
    for wrong in ("", "x" * 32, LOST[:12], LOST.upper()):
        run("store", "accept", wrong, fails=True)
    assert store.marker() == marker


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("redis://user:secret@example.org:6380/2", "redis://example.org:6380/2"),
        ("rediss://:secret@[::1]:6380/0?password=secret", "rediss://[::1]:6380/0"),
        ("unix://:secret@/run/redis.sock", "unix:///run/redis.sock"),
        ("sqlite:some.db", f"sqlite:{Path('some.db').absolute()}"),
    ],
)
def test_a_stores_name_has_no_secrets(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANDFUL_STORE")
    assert store_name(load_settings(store=url)) == name
