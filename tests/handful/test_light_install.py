"""The installation without the server part: the client and its commands work, the others name the missing package."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SUPPORT
from tests.light_install import blocker
from tests.socket_server import SocketServer, socket_server
from tests.waiting import LIMIT_S

# Runs one command after another in a process that finds no module of the server part
RUN = (
    blocker()
    + """
import contextlib, io, json
from handful import AsyncClient, Client, HandfulError
from handful.cli.main import main

try:
    from handful import HandfulClassifier
except ImportError as error:
    assert "pip install 'handful[sklearn]'" in str(error)
else:
    raise AssertionError("numpy is there")

results = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["handful", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    results.append({"code": code or 0, "out": out.getvalue(), "err": err.getvalue()})
json.dump(results, sys.stdout)
"""
)

Result = dict[str, Any]


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SocketServer]:
    """A server on a socket."""
    with socket_server(tiny_checkpoint, f"sqlite:{tmp_path_factory.mktemp('store') / 'handful.db'}") as started:
        yield started


def run(folder: Path, *commands: list[str]) -> list[Result]:
    """Runs commands one after another in one process; gives the status and the output of each."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(commands),
        cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results: list[Result] = json.loads(done.stdout)
    return results


def test_commands_on_a_server_do_without_the_server_part(server: SocketServer, tmp_path: Path) -> None:
    lines = [f"{example['text']};{example['label']}" for example in SUPPORT]
    (tmp_path / "latin.csv").write_bytes("\n".join(["text;label", *lines, "Gebühr für Köln;gebühr"]).encode("latin-1"))
    (tmp_path / "nlu.yml").write_text(
        "nlu:\n- intent: greet\n  examples: |\n    - hello\n    - hi\n- intent: bye\n  examples: |\n    - see you\n"
    )
    (tmp_path / "texts.txt").write_text("hello there\n")
    to_server = ["--url", server.url]
    results = run(
        tmp_path,
        ["--version"],
        ["--help"],
        ["adapt", "bank", "--support", "latin.csv", *to_server],
        ["adapt", "talk", "--support", "nlu.yml", *to_server],
        ["predict", "talk", "--queries", "texts.txt", *to_server],
        ["classify", "--support", "nlu.yml", "--queries", "texts.txt", *to_server],
        ["try", "nlu.yml", *to_server],
        ["tasks", "list", *to_server],
        ["tasks", "readapt", "bank", *to_server],
        ["metatrain", "--help"],
    )
    assert [result["code"] for result in results] == [0] * len(results), results
    outputs = [result["out"] for result in results]
    assert outputs[0].startswith("handful ")
    assert "serve       Start the server." in outputs[1]
    assert "gebühr" in json.loads(outputs[2])["labels"]
    assert json.loads(outputs[4])["label"] in {"greet", "bye"}
    assert [json.loads(line)["task"] for line in outputs[7].splitlines()] == ["bank", "talk"]


def test_commands_of_the_server_part_name_the_package_to_install(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("text,label\na,b\nc,d\n")
    commands = [
        ["serve"],
        ["serve", "--help"],
        ["metatrain", "--tasks", ".", "--out", "run"],
        ["evaluate", "--checkpoint", "minilm-l6-handful", "--tasks", "."],
        ["checkpoint", "show", "minilm-l6-handful"],
        ["checkpoint", "create", "made"],
        ["keys", "create", "acme"],
        ["keys", "list"],
        ["store", "show"],
        ["doctor"],
        ["tasks", "list", "--local"],
        ["tasks", "readapt", "--all", "--local"],
        ["adapt", "bank", "--support", "texts.csv", "--local"],
        ["try", "texts.csv"],
    ]
    for words, result in zip(commands, run(tmp_path, *commands), strict=True):
        complaint = result["err"].splitlines()[-1]
        assert (result["code"], result["out"]) == (1, ""), words
        assert "pip install 'handful[server]'" in complaint, words
        assert result["err"].count("error:") == 1, words
    assert [path.name for path in tmp_path.iterdir()] == ["texts.csv"]
