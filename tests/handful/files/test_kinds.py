"""Files of multi-label tasks and of regressions."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handful.cli.inputs import example_of
from handful.files import FileInvalid, read_support

Write = Callable[[str, str], str]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes a file."""

    def write(name: str, content: str) -> str:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return str(path)

    return write


def lines(*records: dict[str, Any]) -> str:
    """Records as JSON lines."""
    return "".join(f"{json.dumps(record)}\n" for record in records)


def test_lists_of_labels_are_read_as_they_are(written: Write) -> None:
    records = [{"text": "a", "labels": ["x", "y"]}, {"text": "b", "labels": []}, {"text": "c", "labels": ["x"]}]
    found = read_support(written("a.jsonl", lines(*records)))
    assert [example_of(row) for row in found.rows] == records


def test_lists_of_one_label_each_are_labels(written: Write) -> None:
    found = read_support(written("a.jsonl", lines({"text": "a", "labels": ["x"]}, {"text": "b", "labels": ["y"]})))
    assert [row.label for row in found.rows] == ["x", "y"]


def test_scores_are_read_where_there_is_no_label(written: Write) -> None:
    records = [{"text": "a", "score": 0.5}, {"text": "b", "score": 2.0}]
    assert [example_of(row) for row in read_support(written("a.jsonl", lines(*records))).rows] == records
    assert [row.score for row in read_support(written("a.csv", "text,score\na,0.5\nb,2\n")).rows] == [0.5, 2.0]
    labelled = read_support(written("b.csv", "text,label,score\na,x,1\nb,y,2\n"))
    assert [(row.label, row.score) for row in labelled.rows] == [("x", None), ("y", None)]


@pytest.mark.parametrize("score", ["high", "", "nan"])
def test_a_score_that_is_no_number_is_refused_with_its_line(written: Write, score: str) -> None:
    with pytest.raises(FileInvalid, match=r"line 3: the score .* is no number"):
        read_support(written("a.csv", f"text,score\na,1\nb,{score}\n"))


def test_a_record_without_labels_among_lists_is_refused(written: Write) -> None:
    with pytest.raises(FileInvalid, match="line 2: no 'labels'"):
        read_support(written("a.jsonl", lines({"text": "a", "labels": ["x", "y"]}, {"text": "b"})))
