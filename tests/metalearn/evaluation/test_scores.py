"""Scores of a model's outputs for the queries of one episode, objective by objective."""

import pytest
import torch
from sklearn.metrics import f1_score

from metalearn.errors import AdaptationDiverged, InvalidEpisode
from metalearn.evaluation import figures
from metalearn.evaluation.scores import judge
from metalearn.types import OUT_OF_SCOPE


def test_classes_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    targets = torch.tensor([0, 1, 1, 1])
    found = judge(probabilities.log(), targets, "classification", task="mood")
    assert (found.task, found.n_queries, found.failure) == ("mood", 4, "")
    assert found.accuracy == pytest.approx(0.5)
    # F1: class 0 has 1 hit, 1 false alarm; class 1 has 1 hit, 2 misses; class 2 only a false alarm
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 4 + 0) / 3)
    assert found.majority == pytest.approx(0.75)
    by_hand = (abs(1 - 0.9) + abs(1 - 0.7) + abs(0 - 0.5) + abs(0 - 0.8)) / 4
    assert found.ece == pytest.approx(by_hand, abs=1e-6)
    assert (found.mse, found.spearman) == (None, None)


def test_queries_out_of_scope_are_left_out() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [9.0, 0.0]])
    with_others = judge(logits, torch.tensor([0, 0, OUT_OF_SCOPE]), "classification")
    assert with_others == judge(logits[:2], torch.tensor([0, 0]), "classification")
    assert with_others.n_queries == 2
    with pytest.raises(InvalidEpisode, match="no query"):
        judge(logits, torch.full((3,), OUT_OF_SCOPE), "classification")


def test_a_class_that_the_model_lacks_is_always_wrong() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 3.0], [9.0, 0.0], [9.0, 0.0]])
    targets = torch.tensor([0, 1, 2, 3])
    found = judge(logits, targets, "classification")
    assert found.n_queries == 4
    assert found.accuracy == pytest.approx(0.5)
    wanted = f1_score(targets, [0, 1, 0, 0], average="macro", labels=range(4), zero_division=0)
    assert found.macro_f1 == pytest.approx(wanted)
    assert found.ece and found.ece > 0.4


def test_label_sets_by_hand() -> None:
    logits = torch.tensor([[2.0, -2.0], [2.0, 2.0], [-1.0, -0.1], [1.0, -3.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
    found = judge(logits, targets, "multi_label")
    assert found.n_queries == 4
    assert found.accuracy == pytest.approx(0.5)  # whole sets
    assert found.majority == pytest.approx(0.5)  # the set of the first class alone
    assert found.macro_f1 == pytest.approx((2 * 2 / (2 * 2 + 1) + 0) / 2)
    confidence = torch.maximum(logits.sigmoid(), 1 - logits.sigmoid()).flatten()
    correct = ((logits > 0) == (targets > 0.5)).flatten()
    assert found.ece == pytest.approx(figures.expected_calibration_error(confidence, correct), abs=1e-6)


def test_a_class_that_the_model_lacks_is_missing_from_its_label_sets() -> None:
    targets = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    found = judge(torch.tensor([[2.0, -2.0], [2.0, -2.0]]), targets, "multi_label")
    assert found.accuracy == pytest.approx(0.5)
    assert found.macro_f1 == pytest.approx(1 / 3)


def test_scores_by_hand() -> None:
    found = judge(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [3.0], [2.0]]), "regression")
    assert found.mse == pytest.approx(5 / 3)
    assert found.spearman == pytest.approx(0.5)
    assert found.n_queries == 3
    assert (found.accuracy, found.macro_f1, found.ece, found.majority) == (None, None, None, None)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_outputs_that_are_no_numbers_are_a_failed_adaptation(bad: float) -> None:
    with pytest.raises(AdaptationDiverged):
        judge(torch.tensor([[bad, 0.0]]), torch.tensor([0]), "classification")
