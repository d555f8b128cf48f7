"""The commands of README and tutorial, word by word, against a real server."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.server import running_server
from tests.waiting import LIMIT_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def code_block(language: str, containing: str, document: str = README) -> str:
    """The one code block of a document that contains a text."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", document, re.DOTALL) if containing in b]
    return str(found)


def run(command: list[str], script: str, url: str) -> str:
    """Runs a block with the server's address in place of the documented one."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "HANDFUL_URL": url, "PATH": path}
    result = subprocess.run(
        command,
        input=script.replace("http://127.0.0.1:8000", url),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the default checkpoint."""
    with running_server(tmp_path_factory.mktemp("documents")) as server:
        yield server.url


def shell(block: str) -> str:
    """A block for the environment that the tests run in."""
    return block.replace(". .venv/bin/activate\n", "")


def test_the_quickstart_prints_predictions(url: str) -> None:
    block = code_block("sh", "/v1/tasks/bank/adapt")
    assert len(block.strip().splitlines()) <= 10
    output = run(["bash", "-e"], block, url)
    assert '"version":1' in output
    assert '"label":"card_arrival"' in output
    assert '"label":"extra_charge"' in output

    assert '"label":"card arrival"' in run(["bash", "-e"], shell(code_block("sh", "handful adapt bank")), url)

    assert "positive" in run([sys.executable, "-"], code_block("python", "import Client"), url)


def test_the_tutorial_does_what_it_describes(url: str) -> None:
    blocks = [code_block("sh", part, TUTORIAL) for part in ("/bank/adapt", "/bank/predict")]
    # Another task than that of the README, since the server is shared
    output = run(["bash", "-e"], "".join(blocks).replace("/bank/", "/tutorial/"), url)
    assert '"version":1' in output
    assert '"code":"few_examples"' in output
    assert '"label":"card_arrival"' in output
    assert '"label":"extra_charge"' in output

    commands = shell(code_block("sh", "handful tasks rollback", TUTORIAL)).replace(" bank", " tutorial")
    assert '"label":"card arrival"' in run(["bash", "-e"], commands, url)

    assert "positive" in run([sys.executable, "-"], code_block("python", "import Client", TUTORIAL), url)
