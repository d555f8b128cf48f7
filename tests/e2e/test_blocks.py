"""Every code block of README and docs is run, or says why it cannot be."""

import ast
import importlib
import json
import pkgutil
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

import handful
from benchmarks.server import running_server
from handful.files.reading import read_support
from tests.conftest import random_encoder
from tests.e2e.blocks import BLOCK_LIMIT_S, Block, blocks_of, run_block, run_command, write_samples
from tests.e2e.test_documents import DOCUMENTS
from tests.other_encoders import make_encoder

LANGUAGES = {"sh", "python", "json", "yaml", "text"}
"""Info strings; ``text`` is a listing or what a program prints."""

PAGES = [name for name in DOCUMENTS if not name.startswith("benchmarks/")]
"""The documents; the commands of benchmarks/ take hours and another project's programs."""

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
WIRE = [
    importlib.import_module(f"handful.{module.name}")
    for module in pkgutil.iter_modules(handful.__path__)
    if module.name.startswith("wire")
]
"""The modules of the API's requests and answers."""


@dataclass(frozen=True)
class Setting:
    """The circumstances in which the blocks of a page run.

    Attributes:
        as_run: Text -> the text in its place, for placeholders and what would take hours.
        prints: Texts that the blocks print, in any order.
        needs: Pages whose blocks are run before.
        before: Commands that the page takes for granted.
        shipped: Whether the server has the default checkpoint, and not a tiny one of random weights.
    """

    as_run: Mapping[str, str] = field(default_factory=dict)
    prints: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    before: str = ""
    shipped: bool = False


ADAPT_BANK = "handful adapt bank --support examples/banking.jsonl"
FIRST_RUN = ("docs/meta-training-tutorial.md",)

SETTINGS: Mapping[str, Setting] = {
    "README.md": Setting(
        prints=('"version":1', '"label":"card_arrival"', '"label":"extra_charge"', "card arrival", "positive"),
        shipped=True,
    ),
    "README.zh.md": Setting(
        as_run={"/tasks/bank/": "/tasks/bank-zh/", " bank": " bank-zh", '"reviews"': '"reviews-zh"'},
        prints=('"version":1', "card_arrival", "positive"),
        shipped=True,
    ),
    "docs/tutorial.md": Setting(
        as_run={"/tasks/bank/": "/tasks/tutorial/", " bank": " tutorial"},
        prints=('"version":1', '"code":"few_examples"', '"label":"extra_charge"', "card arrival", "positive"),
        shipped=True,
    ),
    "docs/from-cohere.md": Setting(prints=("not spam",), shipped=True),
    "docs/from-jina.md": Setting(
        prints=('"classifier_id"', '"prediction": "delivery"', "Creative writing"), shipped=True
    ),
    "docs/from-rasa.md": Setting(prints=("Rasa YAML", '"label":"card_arrival"'), shipped=True),
    "docs/from-luis.md": Setting(prints=("LUIS", "Cancel", '"label":null', '"label":"Track"'), shipped=True),
    "docs/feedback.md": Setting(
        before="sed 's/card arrival/card_arrival/' examples/banking.jsonl > bank.jsonl; "
        "handful adapt bank --support bank.jsonl",
        as_run={"card_swallowed": "card_arrival"},
        prints=("outcome",),
    ),
    "docs/command-line.md": Setting(
        before=ADAPT_BANK,
        prints=("text from 'Message'",),
    ),
    "docs/report.md": Setting(before=ADAPT_BANK, prints=("accuracy",)),
    "docs/moving.md": Setting(
        before=f"{ADAPT_BANK}; handful tasks export bank --format sentence-transformers -o folder", prints=("[[",)
    ),
    "docs/operations.md": Setting(
        before=ADAPT_BANK,
        as_run={
            "handful keys create acme ": "KEY=$(handful keys create acme) ",
            "revoke KEY": 'revoke "$KEY"',
            "accept ID": "accept 00000000000000000000000000000000",
            "--checkpoint NEW": "--checkpoint checkpoints/tiny",
            "--checkpoint OLD": "--checkpoint checkpoints/other",
            "--checkpoint NAME": "--checkpoint tiny",
            "readapt TASK": "readapt bank",
        },
    ),
    "docs/meta-training-tutorial.md": Setting(
        as_run={"tasks/valid --half": "tasks/valid --half --episodes 10"}, prints=("first-calibrated",)
    ),
    "docs/another-encoder.md": Setting(
        as_run={
            "--tuned-layers 3": "--tuned-layers 1",
            "--checkpoint e5-small-handful": "--checkpoint checkpoints/tiny",
        },
        prints=("mpnet of width 32",),
    ),
    "docs/meta-training-how-to.md": Setting(
        needs=FIRST_RUN,
        as_run={
            "--tuned-layers 3": "--tuned-layers 1",
            "tasks/valid --half": "tasks/valid --half --episodes 10",
            "--max-tokens 256": "--max-tokens 64",
            "mails.txt": "plain.txt",
            "average ONE OTHER NEW": "average runs/first runs/first runs/mean",
            "runs/first runs/first-calibrated": "runs/first runs/calibrated-again",
            "--start-from e5-small-handful --tuned-layers 4": "--start-from runs/first --encoder models/tiny",
        },
    ),
    "docs/evaluation-how-to.md": Setting(
        needs=FIRST_RUN,
        as_run={
            "--checkpoint DIR": "--checkpoint runs/first",
            "--tasks FOLDER": "--tasks tasks/valid",
            "--episodes-dir FOLDER": "--episodes-dir episodes",
        },
    ),
}

_PYTHON_PAGES = "tests/e2e/test_python_pages.py"
ELSEWHERE = {
    "docs/doors.md": "tests/e2e/test_doors_page.py",
    "docs/client.md": _PYTHON_PAGES,
    "docs/sklearn.md": _PYTHON_PAGES,
    "docs/from-setfit.md": _PYTHON_PAGES,
    "docs/from-scikit-learn.md": _PYTHON_PAGES,
}
"""Pages whose blocks another test runs."""

RUN_PAGES = [page for page in PAGES if page not in ELSEWHERE and any(block.is_run for block in blocks_of(page))]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_names_its_language(block: Block) -> None:
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", [each for each in BLOCKS if "not run" in each.notes], ids=str)
def test_a_block_that_is_not_run_has_a_reason(block: Block) -> None:
    assert len(block.notes["not run"].split()) >= 3
    assert block.language in {"sh", "python"}


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language in {"python", "sh"}], ids=str)
def test_a_program_can_be_parsed(block: Block) -> None:
    if block.language == "python":
        compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    else:
        subprocess.run(["bash", "-n"], input=block.text, text=True, check=True)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "yaml"], ids=str)
def test_yaml_can_be_read(block: Block) -> None:
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.language == "json"], ids=str)
def test_json_fits_the_api(block: Block, tmp_path: Path) -> None:
    name = block.notes.get("json")
    assert name, "a comment names its model: <!-- json: AdaptRequest -->"
    if name == "read as a file of examples":
        file = tmp_path / "sample.json"
        file.write_text(block.text, encoding="utf-8")
        assert read_support(file).rows
        return
    (model,) = {getattr(module, name) for module in WIRE if hasattr(module, name)}
    assert issubclass(model, BaseModel)
    model.model_validate(json.loads(block.text))


def test_settings_are_those_of_pages_that_are_run() -> None:
    assert set(SETTINGS) <= set(RUN_PAGES)
    texts = {page: "".join(block.text for block in blocks_of(page)) for page in SETTINGS}
    assert [(page, text) for page, each in SETTINGS.items() for text in each.as_run if text not in texts[page]] == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, other_checkpoint: Path) -> Path:
    """The working folder, with the files that the documents name."""
    made = tmp_path_factory.mktemp("documents")
    write_samples(made)
    shutil.copytree(tiny_checkpoint, made / "checkpoints" / "tiny")
    shutil.copytree(other_checkpoint, made / "checkpoints" / "other")
    for name in ("tiny", "all-mpnet-base-v2", "roberta"):
        (made / "models" / name).mkdir(parents=True)
    random_encoder(made / "models" / "tiny", layers=4)
    make_encoder(made / "models" / "all-mpnet-base-v2", "mpnet")
    make_encoder(made / "models" / "roberta", "roberta")
    for published in ("all-mpnet-base-v2", "roberta"):
        (made / "models" / published / "sentence_bert_config.json").write_text('{"max_seq_length": 64}')
    return made


@pytest.fixture(scope="module")
def tiny_server(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("tiny"), "--checkpoint", str(tiny_checkpoint)) as server:
        yield server.url


@pytest.fixture(scope="module")
def shipped_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_server(tmp_path_factory.mktemp("shipped")) as server:
        yield server.url


Run = Callable[[str], str]


@pytest.fixture(scope="module")
def run(folder: Path, request: pytest.FixtureRequest) -> Run:
    """Runs the blocks of a page, once, and returns what they print."""
    printed: dict[str, str] = {}

    def run_page(page: str) -> str:
        if page not in printed:
            setting = SETTINGS.get(page, Setting())
            for needed in setting.needs:
                run_page(needed)
            url = request.getfixturevalue("shipped_server" if setting.shipped else "tiny_server")
            checkpoint = "" if setting.shipped else "checkpoints/tiny"
            if setting.before:
                run_command(["bash", "-e", "-c", setting.before], folder, url, checkpoint=checkpoint)
            outputs = []
            for block in blocks_of(page):
                if "file" in block.notes:
                    (folder / block.notes["file"]).write_text(block.text, encoding="utf-8")
                if block.is_run:
                    outputs.append(run_block(block, folder, url, setting.as_run, checkpoint))
            printed[page] = "".join(outputs)
        return printed[page]

    return run_page


@pytest.mark.slow
@pytest.mark.timeout(2 * BLOCK_LIMIT_S)
@pytest.mark.parametrize("page", RUN_PAGES)
def test_the_blocks_of_a_page_run(run: Run, page: str) -> None:
    output = run(page)
    assert [text for text in SETTINGS.get(page, Setting()).prints if text not in output] == [], output


def test_the_example_of_the_readme_is_short() -> None:
    (block,) = [each for each in blocks_of("README.md") if "/v1/tasks/bank/adapt" in each.text]
    assert len(block.text.strip().splitlines()) <= 10
