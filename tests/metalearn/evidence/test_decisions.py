"""Decisions that leave-one-out teaches: thresholds of labels, intervals around scores."""

import pytest
import torch
from sklearn.metrics import f1_score  # type: ignore[import-untyped]

from metalearn.evidence.decisions import judged, learned_thresholds


def test_a_threshold_is_the_best_by_f1_where_all_labels_agree() -> None:
    draw = torch.Generator().manual_seed(3)
    actual = torch.rand(40, 1, generator=draw) < 0.3
    probabilities = (0.3 * actual + 0.5 * torch.rand(40, 1, generator=draw)).double()
    (threshold,) = learned_thresholds(probabilities, actual, torch.ones(len(actual)).double())
    best = max(f1_score(actual, probabilities >= each) for each in probabilities.flatten().tolist())
    assert f1_score(actual, probabilities >= threshold) == pytest.approx(best)


def test_a_label_with_few_examples_keeps_near_the_threshold_of_all() -> None:
    probabilities = torch.full((60, 2), 0.1, dtype=torch.float64)
    actual = torch.zeros(60, 2, dtype=torch.bool)
    probabilities[:30, 0], actual[:30, 0] = 0.6, True
    probabilities[0, 1], actual[0, 1] = 0.05, True
    often, seldom = learned_thresholds(probabilities, actual, torch.ones(len(actual)).double())
    assert 0.2 < seldom < often < 0.6, "alone, its one example would have every text answered"


def test_half_is_the_threshold_without_evidence() -> None:
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for left_out in (None, torch.zeros(2, 2)):
        found = judged("multi_label", 2, targets, left_out)
        assert found.decision is not None and found.figures is None
        assert (found.decision.thresholds, found.decision.learned) == ((0.5, 0.5), False)


def test_an_interval_holds_nine_in_ten_of_new_errors() -> None:
    draw = torch.Generator().manual_seed(1)
    held = []
    for _ in range(400):
        errors = torch.randn(20, 1, generator=draw)
        found = judged(
            "regression",
            0,
            torch.zeros(20, 1) + torch.arange(20.0).unsqueeze(1),
            errors + torch.arange(20.0).unsqueeze(1),
        )
        assert found.decision is not None and found.decision.half_width is not None
        held.append(float((torch.randn(100, generator=draw).abs() <= found.decision.half_width).float().mean()))
    assert sum(held) / len(held) == pytest.approx(0.905, abs=0.02)  # 19 / 21


def test_few_scores_have_no_interval() -> None:
    found = judged("regression", 0, torch.arange(8.0).unsqueeze(1), torch.zeros(8, 1))
    assert found.decision is not None and found.decision.half_width is None
    assert found.figures is not None and found.figures["mae"] == pytest.approx(3.5)
