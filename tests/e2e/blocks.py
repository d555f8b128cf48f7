"""The code blocks of the documents, and the folder and server that they are run in.

A comment on the line before a block is a note to the tests, and to whoever reads the source:

* ``<!-- not run: REASON -->``: the block cannot run in a test.
* ``<!-- file: NAME -->``: later blocks of the page read the block as this file.
* ``<!-- json: MODEL -->``: the model of the API that the JSON has to fit.
"""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK_LIMIT_S = 1800
"""Longest time of a block in seconds, on a starved machine."""

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"((?:^ *<!-- [a-z ]+: [^\n]* -->\n)*)^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"<!-- ([a-z ]+): ([^\n]*) -->")

_SHELL = """
handful() {
  case "$1" in
    serve) shift; python -m tests.e2e.start_and_stop "$@" ;;
    metatrain) command handful "$@" $(python -m tests.e2e.small_run "$@") ;;
    *) command handful "$@" ;;
  esac
}
make() { command make --dry-run --directory "$ROOT" "$@"; }
curl() { command curl --fail-with-body "$@"; }
"""
"""Before each block: a server starts, answers and is stopped; make shows what it would do; a refusal is an error."""

_PYTHON = """
import ast, asyncio, os, sys
from types import SimpleNamespace
from handful import Client

url = os.environ["HANDFUL_URL"]
names = {"__name__": "__main__", "url": url, "client": Client(url), "texts": ["where is my card"]}
scores = [SimpleNamespace(accuracy=value) for value in (0.5, 0.75, 0.25, None)]
evaluation = SimpleNamespace(scores={"task": {5: scores}})
names |= {"report": evaluation, "baseline": evaluation}
code = compile(sys.stdin.read(), "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
made = eval(code, names)
if asyncio.iscoroutine(made):
    asyncio.run(made)
"""
"""Runs a block that may use what a page has introduced: a client, texts, two evaluations."""


@dataclass(frozen=True)
class Block:
    """A code block of a document.

    Attributes:
        page: The document, as a path in the repository.
        line: The line of its first fence.
        language: Its info string.
        text: Its content.
        notes: The comments before it, such as ``{"not run": "needs Docker"}``.
    """

    page: str
    line: int
    language: str
    text: str
    notes: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether it is a program or commands without a reason against running it."""
        return self.language in {"sh", "python"} and "not run" not in self.notes


def blocks_of(page: str) -> list[Block]:
    """The code blocks of a document in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start(3)) + 1,
            found[3].strip(),
            textwrap.dedent(found[4]),
            dict(_NOTE.findall(found[1])),
        )
        for found in _BLOCK.finditer(text)
    ]


def run_block(block: Block, folder: Path, url: str, as_run: Mapping[str, str], checkpoint: str) -> str:
    """Runs a block in a folder and returns what it prints.

    Args:
        block: The block.
        folder: The working folder.
        url: Address of the server, which takes the place of the documented one.
        as_run: Text -> the text in its place, for placeholders and what would take hours.
        checkpoint: The checkpoint of commands that load one and name none.
    """
    text = block.text
    for written, run in as_run.items():
        text = text.replace(written, run)
    text = text.replace("http://127.0.0.1:8000", url)
    command, script = (
        (["bash", "-e", "-o", "pipefail", "-c", _SHELL + text], "")
        if block.language == "sh"
        else ([sys.executable, "-c", _PYTHON], text)
    )
    return run_command(command, folder, url, script, name=f"{block}\n{text}", checkpoint=checkpoint)


def run_command(
    command: Sequence[str], folder: Path, url: str, script: str = "", *, name: str = "", checkpoint: str = ""
) -> str:
    """Runs a command as a user of the documents would, and returns its output."""
    environment = {
        **os.environ,
        "HANDFUL_URL": url,
        **({"HANDFUL_CHECKPOINT": checkpoint} if checkpoint else {}),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "ROOT": str(ROOT),
    }
    done = subprocess.run(
        command,
        input=script,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=BLOCK_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{name or command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def code_block(language: str, containing: str, document: str) -> str:
    """The one code block of a document's text that contains a text."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", document, re.DOTALL) if containing in b]
    return str(found)


def run(command: Sequence[str], script: str, url: str) -> str:
    """Runs a block with the server's address in place of the documented one."""
    return run_command(command, ROOT, url, script.replace("http://127.0.0.1:8000", url), name=script)


_MESSAGES = {
    "delivery": ["my parcel is late", "where is the box", "it has not been sent", "when does it come", "no parcel yet"],
    "refund": ["send the money back", "I want my money", "refund the order", "you owe me a payment", "pay it back"],
    "account": ["close my account", "I cannot log in", "change my address", "the password is gone", "delete me"],
    "invoice": ["send me the bill", "the invoice is wrong", "there is no VAT", "two bills for one", "print a receipt"],
    "praise": ["well done", "you are the best", "a lovely shop", "great service", "I will come back"],
}  # fmt: skip


def write_samples(folder: Path) -> None:
    """Writes the files that the documents name."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").touch()
    shutil.copytree(ROOT / "examples", folder / "examples")
    rows = [(text, label) for label, texts in _MESSAGES.items() for text in texts]
    (folder / "intents.csv").write_text("Message;Category\n" + "".join(f"{text};{label}\n" for text, label in rows))
    (folder / "mails.csv").write_text("Body;Date\nwhere is my parcel;1 May\nI want my money;2 May\n")
    greetings = ("please", "thanks", "hello", "today", "again", "now", "really", "sorry")
    (folder / "mails.txt").write_text("".join(f"{text} {word}\n" for text, _ in rows for word in greetings))
    words = [first + vowel + last for first in "bdfgklmnprst" for vowel in "aeiou" for last in "lmnrst"]
    # Sentences of six words, no two alike, each word in less than a fiftieth of them
    steps = ((i, 1 + 7 * (i // len(words))) for i in range(2000))
    plain = (" ".join(words[(i + step * j) % len(words)] for j in range(6)) for i, step in steps)
    (folder / "plain.txt").write_text("\n".join(plain))
    (folder / "corrections.csv").write_text("text,label\nthe box is lost,card_arrival\n")
    reviews = zip(
        ("awful", "it broke", "it works", "fine", "wonderful", "the best"), ("bad", "ok", "good") * 2, strict=True
    )
    (folder / "reviews.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in reviews))
    lines = [
        f'{{"text": "{text}, {word}", "label": "{label}"}}\n' for text, label in rows for word in ("please", "thanks")
    ]
    for name in ("train/tickets", "train/reviews", "valid/mails"):
        file = folder / "tasks" / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(lines))
    episode = folder / "episodes" / "mails"
    episode.mkdir(parents=True)
    (episode / "train_0_5.jsonl").write_text("".join(lines[::2]))
    (episode / "eval.jsonl").write_text("".join(lines[1::2]))
