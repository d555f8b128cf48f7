"""Figures of several labels and of scores, against scikit-learn and scipy; their intervals against repeated draws."""

import pytest
import torch
from scipy.stats import spearmanr  # type: ignore[import-untyped]
from sklearn.metrics import f1_score  # type: ignore[import-untyped]

from metalearn.evidence.decisions import judged, learned_thresholds, quality
from metalearn.evidence.kind_figures import (
    f1_of_labels,
    mean_of_texts,
    resampled,
    spearman_of_scores,
    with_interval,
)


def test_f1_is_that_of_texts_as_often_as_they_weigh() -> None:
    draw = torch.Generator().manual_seed(0)
    predicted, actual = (torch.rand(30, 4, generator=draw) < 0.4 for _ in range(2))
    weights = torch.randint(0, 4, (3, 30), generator=draw)
    micro, macro = f1_of_labels(predicted, actual, weights.double())
    for row in range(3):
        both = [each.repeat_interleave(weights[row], dim=0) for each in (actual, predicted)]
        for name, found in (("micro", micro), ("macro", macro)):
            assert float(found[row]) == pytest.approx(f1_score(*both, average=name, zero_division=0))


def test_nothing_to_find_and_nothing_found_is_zero() -> None:
    none = torch.zeros(3, 2, dtype=torch.bool)
    assert [float(each) for each in f1_of_labels(none, none, torch.ones(1, 3))] == [0.0, 0.0]
    one = torch.tensor([[True, False]] * 3)
    assert [float(each) for each in f1_of_labels(one, one, torch.ones(1, 3))] == [1.0, 1.0]


def test_the_rank_correlation_shares_ranks_as_scipy_does() -> None:
    draw = torch.Generator().manual_seed(1)
    predicted, actual = (torch.randint(0, 6, (40,), generator=draw).double() for _ in range(2))
    found = spearman_of_scores(predicted, actual, torch.ones(1, 40, dtype=torch.float64))
    assert float(found) == pytest.approx(spearmanr(predicted, actual).statistic)
    same = torch.ones(5, dtype=torch.float64)
    assert float(spearman_of_scores(same, torch.arange(5).double(), torch.ones(1, 5).double())) == 0.0


def test_an_interval_holds_the_mean_of_all_texts() -> None:
    draw, held = torch.Generator().manual_seed(2), 0
    for seed in range(200):
        errors = -torch.rand(40, generator=draw, dtype=torch.float64).log()
        weights = torch.ones(40, dtype=torch.float64)
        value, (low, high) = with_interval(mean_of_texts(errors, resampled(weights, seed=seed)))
        assert value == pytest.approx(float(errors.mean()))
        held += low <= 1 <= high
    assert 0.88 <= held / 200 <= 0.98


def test_a_weight_counts_as_copies_in_thresholds_and_figures() -> None:
    draw = torch.Generator().manual_seed(3)
    targets = (torch.rand(30, 3, generator=draw) < 0.4).double()
    left_out = torch.randn(30, 3, generator=draw, dtype=torch.float64) + targets
    weights = torch.randint(1, 4, (30,), generator=draw)
    copies = [each.repeat_interleave(weights, dim=0) for each in (targets, left_out)]
    one, other = judged("multi_label", 3, targets, left_out, weights.double()), judged("multi_label", 3, *copies)
    assert one.decision is not None and other.decision is not None
    assert one.decision.thresholds == pytest.approx(other.decision.thresholds)
    assert one.figures == pytest.approx(other.figures)
    scores = [each[:, :1] for each in (targets, left_out)]
    one, other = (
        judged("regression", 0, *scores, weights.double()),
        judged("regression", 0, *(e[:, :1] for e in copies)),
    )
    assert one.figures is not None and other.figures is not None
    assert one.figures["mae"] == pytest.approx(other.figures["mae"])
    assert one.decision is not None and other.decision is not None
    assert one.decision.half_width == pytest.approx(other.decision.half_width)


def test_quality_is_more_where_answers_are_better() -> None:
    assert quality(None) is None
    assert quality({"micro_f1": 0.4, "macro_f1": 0.3}) == ("micro F1", 0.4)
    better, worse = (quality({"mae": mae, "mae_of_mean": 2.0}) for mae in (0.5, 1.5))
    assert better is not None and worse is not None
    assert (better[1], worse[1]) == (0.75, 0.25)
    assert quality({"mae": 0.0, "mae_of_mean": 0.0}) is None


def test_a_threshold_ignores_examples_without_weight() -> None:
    probabilities = torch.tensor([[0.9], [0.8], [0.3], [0.2], [0.95]], dtype=torch.float64)
    actual = torch.tensor([[True], [True], [False], [False], [False]])
    weights = torch.tensor([1.0, 1, 1, 1, 0], dtype=torch.float64)
    (threshold,) = learned_thresholds(probabilities, actual, weights)
    assert threshold == pytest.approx(0.55)
