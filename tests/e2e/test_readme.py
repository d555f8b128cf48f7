"""The README's commands, word by word, against a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks.server import running_server
from tests.waiting import LIMIT_S

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def code_block(language: str, containing: str) -> str:
    """The README's one code block that contains a text."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in b]
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


def test_the_quickstart_prints_predictions(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        block = code_block("sh", "/v1/tasks/bank/adapt")
        assert len(block.strip().splitlines()) <= 10
        output = run(["bash", "-e"], block, server.url)
        assert '"version":1' in output
        assert '"label":"card_arrival"' in output
        assert '"label":"extra_charge"' in output

        # The environment is the one that the tests run in
        shell = code_block("sh", "handful adapt bank").replace(". .venv/bin/activate\n", "")
        assert '"label":"card arrival"' in run(["bash", "-e"], shell, server.url)

        assert "positive" in run([sys.executable, "-"], code_block("python", "from handful"), server.url)
