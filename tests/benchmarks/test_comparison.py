"""Figures of a method's answers."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.accuracy_report import report
from benchmarks.comparison import Answer, calibration_error, read_outcomes, run
from benchmarks.episodes import Episode, Row
from metalearn.evaluation.figures import expected_calibration_error

EPISODE = Episode("own", "moods", 1, 0, (Row("a", "sad"), Row("b", "glad")), (Row("c", "sad"), Row("d", "glad")))


class Sad:
    """Calls everything sad."""

    threads = 1
    setting = "sad"

    def __init__(self, name: str, confidences: list[float] | None) -> None:
        self.name = name
        self._confidences = confidences

    def answer(self, _: Episode) -> Answer:
        return Answer(["sad", "sad"], 0.1, 0.2, self._confidences)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1))
def test_the_calibration_error_is_that_of_the_learning_core(answers: list[tuple[float, bool]]) -> None:
    confidences, hits = [confidence for confidence, _ in answers], [hit for _, hit in answers]
    wanted = expected_calibration_error(torch.tensor(confidences, dtype=torch.double), torch.tensor(hits))
    pairs = [("right", "right" if hit else "wrong") for hit in hits]
    assert calibration_error(confidences, pairs) == pytest.approx(wanted, abs=1e-6)


def test_a_method_without_probabilities_has_no_calibration_error(tmp_path: Path) -> None:
    run(Sad("sure", [0.9, 0.7]), [EPISODE], tmp_path / "sure.jsonl")
    run(Sad("silent", None), [EPISODE], tmp_path / "silent.jsonl")
    outcomes = read_outcomes(tmp_path / "sure.jsonl") + read_outcomes(tmp_path / "silent.jsonl")
    assert [outcome.ece for outcome in outcomes] == [pytest.approx((0.1 + 0.7) / 2), None]
    assert "| expected calibration error |  |  |  |  | - | 40.0 |" in report(outcomes)


def test_outcomes_of_before_there_were_calibration_errors_are_read(tmp_path: Path) -> None:
    file = tmp_path / "sure.jsonl"
    run(Sad("sure", [0.9, 0.7]), [EPISODE], file)
    line = json.loads(file.read_text())
    del line["ece"]
    file.write_text(json.dumps(line) + "\n")
    assert read_outcomes(file)[0].ece is None
