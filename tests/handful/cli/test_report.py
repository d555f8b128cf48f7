"""``handful tasks report``, and predictions with explanations."""

import pytest

from handful.cli import report as module
from tests.conftest import SUPPORT
from tests.handful.cli.test_cli import Handful, as_jsonl, environment, folder, handful, lines, url

__all__ = ["environment", "folder", "handful", "url"]  # fixtures


def test_a_report_is_json_and_a_page(handful: Handful, monkeypatch: pytest.MonkeyPatch) -> None:
    (handful.folder / "support.jsonl").write_text(as_jsonl(SUPPORT))
    (handful.folder / "texts.txt").write_text("a fee again\nwhere is my virtual card\n")
    handful("adapt", "reported", "--support", "support.jsonl")
    (found,) = lines(
        handful("tasks", "report", "reported", "--html", "report.html", "--unlabelled", "texts.txt", "--next", "1")
    )
    assert (found["task"], found["version"], found["examples"]) == ("reported", 1, 6)
    assert len(found["next_to_label"]) == 1
    page = (handful.folder / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "What can I do if my card still" in page
    (older,) = lines(handful("tasks", "report", "reported", "--version", "1"))
    assert older["next_to_label"] == []
    monkeypatch.setattr(type(module.stdout), "is_terminal", True)
    monkeypatch.setattr(module.stdout, "width", 200)
    shown = handful("tasks", "report", "reported")
    assert "card_arrival" in shown
    assert "recall" in shown
    assert "no such task" in handful.fails("tasks", "report", "absent")


def test_predictions_are_explained(handful: Handful) -> None:
    (handful.folder / "support.jsonl").write_text(as_jsonl(SUPPORT))
    (handful.folder / "texts.txt").write_text("a fee again\n")
    handful("adapt", "explained", "--support", "support.jsonl")
    for words in (("predict", "explained"), ("classify", "--support", "support.jsonl")):
        (answer,) = lines(handful(*words, "--queries", "texts.txt", "--explain"))
        assert {near["text"] for near in answer["nearest"]} <= {example["text"] for example in SUPPORT}
        assert answer["nearest"][0]["label"] == answer["label"]
        (plain,) = lines(handful(*words, "--queries", "texts.txt"))
        assert "nearest" not in plain
