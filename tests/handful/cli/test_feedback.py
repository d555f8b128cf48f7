"""``handful tasks feedback`` and ``handful tasks drift``."""

import pytest

from handful.cli import feedback as module
from tests.conftest import SUPPORT
from tests.handful.cli.test_cli import Handful, as_jsonl, environment, folder, handful, lines, url

__all__ = ["environment", "folder", "handful", "url"]  # fixtures


def test_answers_are_corrected_by_text_id_and_file(handful: Handful, monkeypatch: pytest.MonkeyPatch) -> None:
    (handful.folder / "support.jsonl").write_text(as_jsonl(SUPPORT))
    (handful.folder / "texts.txt").write_text("a fee again\n")
    handful("adapt", "corrected", "--support", "support.jsonl")
    (answer,) = lines(handful("predict", "corrected", "--queries", "texts.txt", "--ids"))
    given = ("--label", "card_arrival", "--force")
    (found,) = lines(handful("tasks", "feedback", "corrected", "--id", answer["answer_id"], *given))
    assert found["label"] == "card_arrival"
    (known,) = lines(handful("tasks", "feedback", "corrected", "--text", "A FEE again", "--label", "card_arrival"))
    assert (known["outcome"], known["id"]) == ("known", found["id"])
    rows = [{"text": "a fee once more", "label": "card_arrival"}, {"text": "nonsense", "label": "no such label"}]
    (handful.folder / "corrections.jsonl").write_text(as_jsonl(rows))
    done = handful.run("tasks", "feedback", "corrected", "--file", "corrections.jsonl", "--force")
    assert (done.returncode, len(lines(done.stdout))) == (1, 1)
    assert "line 2" in done.stderr
    kept = lines(handful("tasks", "examples", "corrected", "--source", "feedback", "--state", "adapted"))
    assert {each["text"] for each in kept} == {"a fee again", "a fee once more"}
    (moved,) = lines(handful("tasks", "drift", "corrected"))
    assert moved["recent"]["queries"] == 1
    monkeypatch.setattr(type(module.stdout), "is_terminal", True)
    assert "Too early to tell" in handful("tasks", "drift", "corrected")


@pytest.mark.parametrize("options", [(), ("--text", "a"), ("--text", "a", "--id", "b", "--label", "c")])
def test_feedback_needs_one_text_and_its_label(handful: Handful, options: tuple[str, ...]) -> None:
    assert "give --" in handful.fails("tasks", "feedback", "corrected", *options, codes=(2,))
