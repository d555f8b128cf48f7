"""The ridge regression head against scikit-learn's."""

from dataclasses import replace

import pytest
import torch
from sklearn.linear_model import Ridge as ReferenceRidge
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.encoded_set import EncodedSet
from metalearn.errors import AdaptationDiverged
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.inner_loop import collect
from metalearn.learners.closed_form import Ridge, ridge_regression
from metalearn.meta_model import MetaModel
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedSet
from tests.metalearn.conftest import clusters
from tests.pairs import pairs

SHAPES = [(3, 20), (19, 20), (20, 20), (21, 20), (200, 20), (50, 1), (1, 5)]
"""Rows and dimensions, on both sides of where the smaller system changes."""


def _slow(regulariser: float = 1.0, alpha: float = 10.0, beta: float = -5.0) -> dict[str, Tensor]:
    numbers = {"log_regulariser": regulariser, "log_alpha": alpha}
    slow = {name: torch.tensor(number, dtype=torch.float64).log() for name, number in numbers.items()}
    return {**slow, "beta": torch.tensor(beta, dtype=torch.float64)}


def _problem(rows: int, dim: int, outputs: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, dim, generator=draw, dtype=torch.float64) + 3
    targets = torch.randn(rows, outputs, generator=draw, dtype=torch.float64) - 1
    return features, targets, 0.1 + 3 * torch.rand(rows, generator=draw, dtype=torch.float64)


def _reference(x: Tensor, y: Tensor, weights: Tensor, regulariser: float) -> tuple[Tensor, Tensor]:
    fitted = ReferenceRidge(alpha=regulariser, fit_intercept=True, solver="cholesky").fit(
        x.numpy(), y.numpy(), sample_weight=weights.numpy()
    )
    return torch.from_numpy(fitted.coef_).reshape(y.shape[1], -1), torch.from_numpy(fitted.intercept_).reshape(-1)


@pytest.mark.parametrize(("shape", "outputs", "regulariser"), pairs(SHAPES, [1, 3], [0.01, 1.0, 50.0]))
def test_the_solution_is_scikit_learns(shape: tuple[int, int], outputs: int, regulariser: float) -> None:
    x, y, weights = _problem(*shape, outputs)
    found = ridge_regression(x, y, weights, torch.tensor(regulariser, dtype=torch.float64))
    for ours, theirs in zip(found, _reference(x, y, weights, regulariser), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=0)


@pytest.mark.parametrize(("rows", "dim"), [(6, 20), (60, 20)])
def test_regression_predicts_what_scikit_learn_predicts(rows: int, dim: int) -> None:
    x, y, weights = _problem(rows, dim, outputs=2)
    learner = Ridge()
    fast = learner.start(_slow(2.5), EncodedSet(x, y, weights, 2, "regression"))
    query, _, _ = _problem(9, dim, outputs=2, seed=1)
    coefficients, intercept = _reference(x, y, weights, 2.5)
    torch.testing.assert_close(learner.logits(fast, query), query @ coefficients.T + intercept, atol=1e-8, rtol=0)


@pytest.mark.parametrize("per_class", [1, 2, 12])
@pytest.mark.parametrize("objective", ["classification", "multi_label"])
def test_predicted_memberships_become_logits_by_a_scale_and_a_bias(per_class: int, objective: str) -> None:
    support = clusters(4, per_class, dtype=torch.float64)
    if objective == "multi_label":
        both = support.membership.clone()
        both[:2, 3] = 1.0
        support = replace(support, targets=both, objective="multi_label")
    coefficients, intercept = _reference(support.features, support.membership, support.weights, 0.7)
    learner, query = Ridge(), clusters(4, 3, seed=1, dtype=torch.float64).features
    fast = learner.start(_slow(0.7, alpha=3.0, beta=-1.5), support)
    expected = 3.0 * (query @ coefficients.T + intercept) - 1.5
    torch.testing.assert_close(learner.logits(fast, query), expected, atol=1e-8, rtol=0)


def test_before_meta_training_a_prediction_of_one_half_is_undecided() -> None:
    slow = Ridge().initial_slow_weights(8, {}, steps=5, draw=torch.Generator())
    assert float(slow["log_regulariser"].exp()) == 1
    assert float(slow["log_alpha"].exp() * 0.5 + slow["beta"]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("rows", "dim"), [(6, 20), (60, 20)])
def test_a_row_that_weighs_nothing_is_not_there(rows: int, dim: int) -> None:
    x, y, weights = _problem(rows, dim, outputs=2)
    weights[1::3] = 0.0
    kept = weights > 0
    one = torch.tensor(1.0, dtype=torch.float64)
    found, expected = ridge_regression(x, y, weights, one), ridge_regression(x[kept], y[kept], weights[kept], one)
    for ours, without in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, without, atol=1e-10, rtol=0)


@pytest.mark.parametrize("regulariser", [1e-30, 1e-8, 1.0])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("repeats", "dim"), [(3, 64), (30, 8)])
def test_rank_deficient_support_sets_stay_finite_in_single_precision(
    regulariser: float, length: float, repeats: int, dim: int
) -> None:
    once = clusters(4, 2, dim=dim)
    x = length * once.features.repeat(repeats, 1)
    x[:, dim // 2 :] = x[:, : dim // 2]  # columns repeat as well
    y, weights = once.membership.repeat(repeats, 1), torch.ones(8 * repeats)
    weight, intercept = ridge_regression(x, y, weights, torch.tensor(regulariser))
    assert bool(weight.isfinite().all())
    assert bool(intercept.isfinite().all())
    # what is predicted on the support set hardly depends on how little was regularised
    predicted = x @ weight.T + intercept
    doubles = (x.double(), y.double(), weights.double())
    exact_weight, exact_intercept = ridge_regression(*doubles, torch.tensor(regulariser, dtype=torch.float64))
    exact = x.double() @ exact_weight.T + exact_intercept
    torch.testing.assert_close(predicted.double(), exact, atol=0.02, rtol=0)


def test_the_same_row_everywhere_predicts_the_mean() -> None:
    x, y = torch.ones(6, 4), torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    weight, intercept = ridge_regression(x, y, torch.ones(6), torch.tensor(1e-3))
    torch.testing.assert_close(weight, torch.zeros(1, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(intercept, torch.tensor([2.5]))


@pytest.mark.parametrize(("rows", "dim"), [(3, 5), (5, 3)])
def test_gradients_of_the_solution(rows: int, dim: int) -> None:
    x, y, weights = _problem(rows, dim, outputs=2)
    regulariser = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    leaves = (x.requires_grad_(), y.requires_grad_(), weights.requires_grad_(), regulariser)
    assert torch.autograd.gradcheck(ridge_regression, leaves)


def test_features_that_are_not_numbers_are_reported_and_not_raised_from_within() -> None:
    support = clusters(2, 2)
    features = support.features.clone()
    features[0, 0] = torch.nan
    model = MetaModel(MlpBody((8,)), HeadOnly(), Ridge())
    slow, prepared = model.initial_slow_weights(steps=0), PreparedSet(features, support.targets, support.weights, 2)
    start = model.start(slow, prepared)
    assert bool(start[0][HEAD_WEIGHT].isnan().any())
    assert bool(start[0][HEAD_BIAS].isnan().any())
    with pytest.raises(AdaptationDiverged):
        collect(model.adapt(slow, prepared, start, steps=0))
