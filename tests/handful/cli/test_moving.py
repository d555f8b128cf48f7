"""``handful tasks export`` and ``import``, and datasets that read back as they were."""

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handful.cli.dataset_file import write_dataset
from handful.errors import HandfulError
from handful.files import read_support
from model_store.codec import ExampleRow, encode_rows
from model_store.stored_zip import zipped
from tests.conftest import SUPPORT
from tests.handful.cli.test_cli import Handful, as_jsonl, environment, folder, handful, lines, url

__all__ = ["environment", "folder", "handful", "url"]  # fixtures


@pytest.fixture(autouse=True)
def _support(handful: Handful) -> None:
    (handful.folder / "support.jsonl").write_text(as_jsonl(SUPPORT))
    (handful.folder / "labels.json").write_text(json.dumps({"refund": "asks for money back"}))
    (handful.folder / "texts.txt").write_text("a fee again\nwhere is my card\n")


def test_a_task_moves_by_a_file(handful: Handful) -> None:
    handful("adapt", "here", "--support", "support.jsonl", "--steps", "1")
    handful("adapt", "here", "--support", "support.jsonl", "--labels", "labels.json")
    handful("tasks", "export", "here", "-o", "here.zip", "--version", "1")
    (made,) = lines(handful("tasks", "import", "there", "here.zip", "--ttl-seconds", "600"))
    assert (made["task"], made["version"], made["steps"], made["readapted"]) == ("there", 1, 1, False)
    (made,) = lines(handful("tasks", "import", "there", "here.zip", "--readapt"))
    assert (made["version"], made["readapted"]) == (2, False)
    handful("tasks", "rollback", "here", "1")
    both = [lines(handful("predict", task, "--queries", "texts.txt")) for task in ("here", "there")]
    assert both[0] == both[1]
    content = (handful.folder / "here.zip").read_bytes()
    (handful.folder / "cut.zip").write_bytes(content[:-1])
    assert "not as it was exported" in handful.fails("tasks", "import", "there", "cut.zip")
    assert "No such file" in handful.fails("tasks", "import", "there", "absent.zip")
    assert "no such task" in handful.fails("tasks", "export", "absent", "-o", "x.zip")
    assert not (handful.folder / "x.zip").exists()


@pytest.mark.parametrize("name", ["examples.jsonl", "examples.json", "examples.csv"])
def test_a_dataset_is_adapted_on_again_to_the_same_answers(handful: Handful, name: str) -> None:
    handful("adapt", "data", "--support", "support.jsonl")
    handful("tasks", "export", "data", "-o", name, "--format", "dataset")
    handful("adapt", "again", "--support", name)
    both = [lines(handful("predict", task, "--queries", "texts.txt")) for task in ("data", "again")]
    assert both[0] == both[1]
    ids = [
        {each["id"]: each["text"] for each in lines(handful("tasks", "examples", task))} for task in ("data", "again")
    ]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("name", ["kinds.jsonl", "kinds.json", "kinds.csv"])
@pytest.mark.parametrize(
    "examples",
    [
        [
            {"text": "a fee", "labels": ["fee"]},
            {"text": "a card", "labels": ["card", "fee"]},
            {"text": "hi", "labels": []},
        ],
        [{"text": "good", "score": 1.5}, {"text": "bad", "score": -2.0}],
        [{"text": "a", "label": "x", "weight": 2.5}, {"text": "b", "label": "y"}],
        [
            {"text": "to Paris", "spans": [{"start": 3, "end": 8, "label": "city"}]},
            {"text": "hi", "spans": [], "weight": 2.0},
        ],
        [{"tokens": ["to-do", "New York"], "tags": ["O", "B-city"]}, {"tokens": ["hi-fi"], "tags": ["O"]}],
    ],
    ids=["labels", "scores", "weights", "spans", "tokens"],
)
def test_a_dataset_has_the_answers_of_every_kind(handful: Handful, examples: list[dict[str, Any]], name: str) -> None:
    (handful.folder / "given.jsonl").write_text(as_jsonl(examples))
    handful("adapt", "kinds", "--support", "given.jsonl")
    words = ("tasks", "export", "kinds", "-o", name, "--format", "dataset")
    if name.endswith(".csv") and examples[0].keys() & {"labels", "spans", "tokens"}:
        assert "choose a name that ends in .json" in handful.fails(*words)
        return
    handful(*words)
    given, found = (read_support(str(handful.folder / file)).rows for file in ("given.jsonl", name))
    answers = [
        [(row.text, row.label, row.labels, row.score, row.weight, row.tagged) for row in rows]
        for rows in (given, found)
    ]
    assert answers[0] == answers[1]


def test_descriptions_go_along_in_json_alone(handful: Handful) -> None:
    handful("adapt", "data", "--support", "support.jsonl", "--labels", "labels.json")
    done = handful.run("tasks", "export", "data", "-o", "examples.jsonl", "--format", "dataset")
    assert "1 descriptions of labels are not in it" in done.stderr
    done = handful.run("tasks", "export", "data", "-o", "examples.json", "--format", "dataset")
    assert "not in it" not in done.stderr
    (made,) = lines(handful("adapt", "again", "--support", "examples.json"))
    assert "refund" in made["labels"]
    handful("adapt", "weights", "--support", "support.jsonl", "--no-keep-support")
    words = ("tasks", "export", "weights", "-o", "none.jsonl", "--format", "dataset")
    assert "were not kept" in handful.fails(*words)
    assert not (handful.folder / "none.jsonl").exists()


def test_a_head_and_a_folder_are_written(handful: Handful, tiny_checkpoint: Path) -> None:
    handful("adapt", "other", "--support", "support.jsonl")
    handful("tasks", "export", "other", "-o", "head.onnx", "--format", "onnx")
    session = onnxruntime.InferenceSession(handful.folder / "head.onnx")
    assert session.get_inputs()[0].shape == ["texts", 32]
    form = ("--format", "sentence-transformers")
    handful("tasks", "export", "other", "-o", "folder", *form)
    named = ("--checkpoint", str(tiny_checkpoint))
    handful("tasks", "export", "other", "-o", "again", *form, *named)
    for each in ("folder", "again"):
        assert (handful.folder / each / "modules.json").is_file()
    assert "exists" in handful.fails("tasks", "export", "other", "-o", "folder", *form)
    named = ("--checkpoint", "minilm-l6-handful")
    assert "is not here" in handful.fails("tasks", "export", "other", "-o", "third", *form, *named)
    assert "needs the name" in handful.fails("tasks", "export", "other", "-o", "-", *form, codes=(2,))


def test_an_example_that_is_set_aside_is_not_in_a_dataset(folder: Path) -> None:
    rows = [{"id": "a", "label": "x", "text": "kept"}, {"id": "b", "label": "x", "text": "not", "state": "pending"}]
    files = {"examples.jsonl": as_jsonl(rows).encode(), "support.json": b'{"descriptions": {}}'}
    write_dataset(zipped(files), folder / "kept.jsonl")
    assert (folder / "kept.jsonl").read_text() == as_jsonl(rows[:1])


CHARACTERS = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(CHARACTERS, min_size=1, max_size=30).filter(lambda text: text.strip())
LABELS = st.text(CHARACTERS, min_size=1, max_size=10).map(str.strip).filter(bool)


@settings(max_examples=60, deadline=None)
@given(
    given_rows=st.lists(st.tuples(LABELS, TEXTS, TEXTS), min_size=1, max_size=5),
    has_pairs=st.booleans(),
    kind=st.sampled_from(["jsonl", "json", "csv"]),
)
def test_a_dataset_reads_back_as_it_was_or_is_refused(
    folder: Path, given_rows: list[tuple[str, str, str]], has_pairs: bool, kind: str
) -> None:
    rows = [
        ExampleRow(id=f"row-{i}", label=label, text=text, text_pair=second if has_pairs else None)
        for i, (label, text, second) in enumerate(given_rows)
    ]
    stored = encode_rows(rows, {})
    files = {"examples.jsonl": b"".join(row + b"\n" for row in stored.examples), "support.json": stored.rest}
    path = folder / f"examples.{kind}"
    try:
        write_dataset(zipped(files), path)
    except HandfulError as error:
        assert kind == "csv", str(error)
        assert "choose a name that ends in .json" in str(error)
        return
    found: list[Any] = [ExampleRow(id=r.id or "", label=r.label or "", text=r.text, text_pair=r.text_pair)
                        for r in read_support(str(path)).rows]  # fmt: skip
    assert found == rows
