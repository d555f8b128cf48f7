"""Ridge regression with a regulariser by leave-one-out, against leaving each row out indeed."""

import pytest
import torch

from metalearn.encoded_set import EncodedSet
from metalearn.learners.closed_form import ridge_regression
from metalearn.learners.ridge_cv import RidgeCV, chosen_by_leave_one_out, logits_of_predictions

GRID = [2.0**power for power in range(-6, 7)]


@pytest.mark.parametrize(("rows", "dim"), [(12, 30), (40, 8)])
def test_one_fit_leaves_each_row_out(rows: int, dim: int) -> None:
    draw = torch.Generator().manual_seed(rows)
    features = torch.randn(rows, dim, generator=draw, dtype=torch.float64)
    targets = features[:, :2] + 0.3 * torch.randn(rows, 2, generator=draw, dtype=torch.float64)
    weights = torch.rand(rows, generator=draw, dtype=torch.float64) + 0.2
    found = chosen_by_leave_one_out(features, targets, weights, torch.tensor(1.0, dtype=torch.float64))
    share = weights / weights.sum()
    variance = (weights.unsqueeze(1) * (targets - share @ targets).square()).sum(dim=0)
    errors = []
    for regulariser in GRID:
        left_out = torch.empty_like(targets)
        for row in range(rows):
            kept = torch.arange(rows) != row
            head = ridge_regression(features[kept], targets[kept], weights[kept], torch.tensor(regulariser))
            left_out[row] = features[row] @ head[0].T + head[1]
        errors.append(float((weights.unsqueeze(1) * (left_out - targets).square()).sum(dim=0).div(variance).mean()))
        if errors[-1] == min(errors):
            best = left_out, ridge_regression(features, targets, weights, torch.tensor(regulariser))
    torch.testing.assert_close(found.left_out, best[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.weight, best[1][0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(found.bias, best[1][1], atol=1e-6, rtol=1e-6)


def test_logits_are_sure_where_predictions_are_right() -> None:
    predictions = torch.tensor([[0.9], [0.8], [0.2], [0.1]]).repeat(20, 1)
    right, wrong = (torch.tensor(each).unsqueeze(1).repeat(20, 1) for each in ([1.0, 1, 0, 0], [1.0, 0, 1, 0]))
    of_right, _ = logits_of_predictions(predictions, right, torch.ones(80))
    of_wrong, _ = logits_of_predictions(predictions, wrong, torch.ones(80))
    assert of_right > of_wrong > 0


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("dim", [2, 8])
def test_rows_that_are_all_alike_give_the_mean_of_the_targets(rows: int, dim: int) -> None:
    targets = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 0.0]])[:rows]
    found = chosen_by_leave_one_out(torch.ones(rows, dim), targets, torch.ones(rows), torch.tensor(1.0))
    torch.testing.assert_close(found.weight, torch.zeros(2, dim))
    torch.testing.assert_close(found.bias, targets.mean(dim=0))
    assert found.left_out.isfinite().all()


def multi_label(texts: int, features: torch.Tensor, targets: torch.Tensor) -> EncodedSet:
    """A multi-label support set whose last rows are label texts."""
    return EncodedSet(
        features, targets, torch.ones(len(features)), targets.shape[1], "multi_label", n_label_texts=texts
    )


def test_label_texts_count_where_the_left_out_examples_are_the_better_for_it() -> None:
    draw, learner = torch.Generator().manual_seed(5), RidgeCV()
    slow = learner.initial_slow_weights(12, {}, steps=0, draw=draw)
    of_labels = torch.eye(4, 12)
    targets = torch.eye(4).repeat(3, 1)
    examples = targets @ of_labels + 0.4 * torch.randn(12, 12, generator=draw)
    alone = learner.with_left_out(slow, multi_label(0, examples, targets))
    both = torch.cat([targets, torch.eye(4)])
    helped = learner.with_left_out(slow, multi_label(4, torch.cat([examples, of_labels]), both))
    assert helped[1].shape == targets.shape, "label texts are never asked for"
    assert not torch.allclose(helped[0]["head.weight"], alone[0]["head.weight"])
    misleading = torch.cat([examples, 5 * of_labels.flip(0)])
    ignored = learner.with_left_out(slow, multi_label(4, misleading, both))
    for name, weight in alone[0].items():
        torch.testing.assert_close(ignored[0][name], weight)
    torch.testing.assert_close(ignored[1], alone[1])
