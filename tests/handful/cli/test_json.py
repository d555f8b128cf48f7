"""``--json``: every command that prints something has it, and standard output is JSON then, one object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from handful.cli import main as module
from handful.cli import output
from tests.conftest import SUPPORT
from tests.handful.cli.test_cli import Handful, as_jsonl, environment, folder, handful, lines, url

__all__ = ["environment", "folder", "handful", "url"]

SILENT = {"serve"}
"""Commands that print nothing on standard output."""


def _commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(_commands(typer.main.get_command(module.app)))


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SILENT))
def test_every_command_that_prints_has_the_option(name: str) -> None:
    assert "--json" in {flag for parameter in COMMANDS[name].params for flag in parameter.opts}


@pytest.fixture
def on_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard output is a terminal, on which commands without ``--json`` print tables."""
    terminal = Console(force_terminal=True, width=200, color_system=None)
    for each in ("answers", "doctor", "evaluate", "feedback", "output", "report", "texts", "trial"):
        monkeypatch.setattr(f"handful.cli.{each}.stdout", terminal)
    assert output.stdout.is_terminal


@pytest.mark.usefixtures("on_terminal")
def test_on_a_terminal_too_standard_output_is_json_alone(handful: Handful, tiny_checkpoint: Path) -> None:
    store = ["--store", f"sqlite:{handful.folder}/json.db"]
    support = as_jsonl(SUPPORT)
    (key,) = lines(handful("keys", "create", "acme", *store, "--json"))
    assert key.keys() == {"key", "tenant", "created_at", "sha256"}
    (listed,) = lines(handful("keys", "list", *store, "--json"))
    assert listed["sha256"] == key["sha256"]
    assert lines(handful("keys", "revoke", key["key"], *store, "--json")) == [
        {"revoked": key["sha256"], "keys_left": 0}
    ]
    assert lines(handful("keys", "open", *store, "--json")) == [{"needs_keys": False}]
    (accepted,) = lines(handful("store", "accept", "0" * 32, *store, "--json"))
    (shown,) = lines(handful("store", "show", *store, "--json"))
    assert accepted == {"id": shown["id"], "replaces": ["0" * 32]}
    (adapted,) = lines(handful("adapt", "json", "--support", "-", "--json", stdin=support))
    assert adapted["task"] == "json"
    (predicted,) = lines(handful("predict", "json", "--json", stdin="a card\n"))
    assert predicted["text"] == "a card"
    assert len(lines(handful("tasks", "examples", "json", "--json"))) == len(SUPPORT)
    exported = handful("tasks", "export", "json", "-o", "json.zip", "--json")
    assert lines(exported) == [{"task": "json", "version": None, "format": "handful", "path": "json.zip"}]
    assert "name a file" in handful.fails("tasks", "export", "json", "-o", "-", "--json", codes=(2,))
    (manifest,) = lines(handful("checkpoint", "show", str(tiny_checkpoint), "--json"))
    assert manifest["name"] == "tiny"


@pytest.mark.usefixtures("on_terminal")
def test_on_a_terminal_people_get_words_without_it(handful: Handful, tiny_checkpoint: Path) -> None:
    store = ["--store", f"sqlite:{handful.folder}/words.db"]
    key = handful("keys", "create", "acme", *store).strip()
    assert key.startswith("handful_")
    for words in (["keys", "list", *store], ["store", "show", *store], ["checkpoint", "show", str(tiny_checkpoint)]):
        shown = handful(*words)
        assert "│" in shown
        with pytest.raises(json.JSONDecodeError):
            json.loads(shown)
