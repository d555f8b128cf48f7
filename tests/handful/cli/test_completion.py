"""Shell completion, asked as a shell asks it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from handful.cli.completion import shipped_names
from service.settings import Settings
from tests.conftest import SUPPORT
from tests.handful.cli.test_cli import Handful, as_jsonl, environment, folder, handful, url
from tests.waiting import LIMIT_S

__all__ = ["environment", "folder", "handful", "url"]


def completed(handful: Handful, line: str, **variables: str) -> set[str]:
    """The words that bash is offered for the last word of a line, which may be empty."""
    words = line.split(" ")
    asked = {"_HANDFUL_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    done = handful.run(**asked, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split())


@pytest.fixture
def tasks(handful: Handful) -> Handful:
    """The command line, and a server with the tasks ``complete-1`` and ``complete-2``."""
    for name in ("complete-1", "complete-2", "other"):
        handful("adapt", name, "--support", "-", stdin=as_jsonl(SUPPORT))
    return handful


def test_commands_and_options_are_completed(handful: Handful) -> None:
    assert completed(handful, "handful ta") == {"tasks"}
    assert {"list", "show", "rollback"} <= completed(handful, "handful tasks ")
    assert completed(handful, "handful tasks list --ur") == {"--url"}
    flags = {f"--{name.replace('_', '-')}" for name in Settings.model_fields}
    assert flags <= completed(handful, "handful serve --")


def test_names_of_tasks_are_asked_of_the_server(tasks: Handful) -> None:
    assert completed(tasks, "handful predict complete") == {"complete-1", "complete-2"}
    assert completed(tasks, "handful tasks readapt complete-") == {"complete-1", "complete-2"}
    assert {"complete-1", "complete-2", "other"} <= completed(tasks, "handful tasks show ")
    assert completed(tasks, "handful predict --local complete") == set()


def test_names_of_checkpoints_are_the_loaded_or_the_shipped_ones(tasks: Handful) -> None:
    assert completed(tasks, "handful adapt x --checkpoint ") == {"tiny", "auto"}
    assert completed(tasks, "handful adapt x --local --checkpoint ") == {*shipped_names(), "auto"}
    assert completed(tasks, "handful serve --checkpoint e5") == {"e5-small-handful"}
    assert completed(tasks, "handful checkpoint show minilm-l6-h") == {"minilm-l6-handful"}
    assert completed(tasks, "handful serve --precision in") == {"int8"}


def test_where_there_is_no_server_nothing_is_offered_or_said(handful: Handful) -> None:
    assert completed(handful, "handful predict ", HANDFUL_URL="http://127.0.0.1:9") == set()
    assert completed(handful, "handful predict ", HANDFUL_URL="no address") == set()
    assert completed(handful, "handful adapt x --checkpoint ", HANDFUL_URL="http://127.0.0.1:9") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_printed(handful: Handful, shell: str) -> None:
    asked = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = handful.run(**asked, _HANDFUL_COMPLETE=f"source_{shell}")
    assert done.returncode == 0
    assert "_HANDFUL_COMPLETE=complete_" in done.stdout


def test_a_completion_loads_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys; from handful.__main__ import main; sys.argv = ['handful']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'fastapi', 'pydantic_settings', 'onnxruntime'} & set(sys.modules)))"
    )
    asked = {"_HANDFUL_COMPLETE": "complete_bash", "COMP_WORDS": "handful\ntasks\n", "COMP_CWORD": "2"}
    environment = {"PYTHONPATH": os.pathsep.join(sys.path), **asked}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert "readapt" in done.stdout.split()
    assert done.stdout.splitlines()[-1] == "[]"
