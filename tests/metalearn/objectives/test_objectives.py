"""Each part of the objectives' rules."""

import math
from typing import get_args

import pytest
import torch

from metalearn.losses import linear_head_gradients
from metalearn.objectives import OBJECTIVES
from metalearn.objectives.classification import CLASSIFICATION
from metalearn.objectives.multi_label import MULTI_LABEL
from metalearn.objectives.regression import REGRESSION
from metalearn.types import OUT_OF_SCOPE, Episode, LabelledTexts, Objective, Target, TextInput

PLACE = {"red": 2, "blue": 0, "green": 1}


def test_each_objective_has_rules_under_its_name() -> None:
    assert set(OBJECTIVES) == set(get_args(Objective))
    assert all(rules.name == name for name, rules in OBJECTIVES.items())


def test_what_classes_tasks_have() -> None:
    kinds = {name: (r.has_classes, r.one_class_each, r.allows_no_class) for name, r in OBJECTIVES.items()}
    assert kinds == {
        "classification": (True, True, False),
        "multi_label": (True, False, True),
        "regression": (False, False, False),
    }


def test_values_of_files_become_targets() -> None:
    assert CLASSIFICATION.target(("red",), PLACE) == 2
    assert MULTI_LABEL.target(("red", "blue"), PLACE) == (0, 2)
    assert MULTI_LABEL.target((), PLACE) == ()
    assert REGRESSION.target(-1.5, PLACE) == -1.5


def test_targets_become_those_of_an_episode_of_some_classes() -> None:
    place = {7: 0, 3: 1}
    assert CLASSIFICATION.target_among(3, place) == 1
    assert CLASSIFICATION.target_among(4, place) == OUT_OF_SCOPE
    assert MULTI_LABEL.target_among((3, 4, 7), place) == (0, 1)
    assert MULTI_LABEL.target_among((4,), place) == ()
    assert REGRESSION.target_among(3.0, place) == 3.0


def test_targets_become_what_the_losses_take() -> None:
    assert torch.equal(CLASSIFICATION.targets((0, OUT_OF_SCOPE), 3), torch.tensor([0, -1]))
    rows = MULTI_LABEL.targets(((2, 0), (), (1,)), 3)
    assert torch.equal(rows, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert torch.equal(REGRESSION.targets((1, -0.5), 1), torch.tensor([[1.0], [-0.5]]))


@pytest.mark.parametrize("name", ["classification", "multi_label", "regression"])
def test_a_set_without_texts_has_targets_as_well(name: Objective) -> None:
    assert OBJECTIVES[name].targets((), 3).shape[0] == 0


def test_losses_by_hand() -> None:
    weights = torch.tensor([1.0, 3.0])
    zeros = torch.zeros(2, 4)
    loss = CLASSIFICATION.loss(zeros, torch.tensor([1, OUT_OF_SCOPE]), weights)
    assert float(loss) == pytest.approx(math.log(4))
    assert float(MULTI_LABEL.loss(zeros, torch.zeros(2, 4), weights)) == pytest.approx(math.log(2))
    squared = REGRESSION.loss(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]]), weights)
    assert float(squared) == pytest.approx((1 * 1 + 3 * 4) / 4)


def test_activations() -> None:
    outputs = torch.tensor([[0.0, 0.0], [3.0, -3.0]])
    torch.testing.assert_close(CLASSIFICATION.activation(outputs).sum(dim=1), torch.ones(2))
    torch.testing.assert_close(MULTI_LABEL.activation(outputs), 1 / (1 + (-outputs).exp()))
    assert torch.equal(REGRESSION.activation(outputs), outputs)


def test_accuracy_counts_right_decisions() -> None:
    outputs = torch.tensor([[2.0, -1.0], [2.0, 1.0], [0.0, 5.0]])
    assert CLASSIFICATION.accuracy(outputs, torch.tensor([0, 1, OUT_OF_SCOPE])) == 0.5
    assert CLASSIFICATION.accuracy(outputs, torch.full((3,), OUT_OF_SCOPE)) is None
    decided = MULTI_LABEL.accuracy(outputs, torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert decided == pytest.approx(5 / 6)
    assert REGRESSION.accuracy(outputs, outputs) is None


@pytest.mark.parametrize(
    ("name", "targets", "expected"),
    [
        ("classification", (0, 1, 2, 0), math.log(3)),
        ("multi_label", ((0,), (1,), (2,), ()), math.log(2)),
        ("regression", (1.0, 1.0, 3.0, 3.0), 1.0),
        ("regression", (2.0, 2.0, 2.0, 2.0), 0.0),
    ],
)
def test_loss_of_guessing(name: Objective, targets: tuple[Target, ...], expected: float) -> None:
    labels = ("a", "b", "c") if OBJECTIVES[name].has_classes else ()
    texts = LabelledTexts(tuple(TextInput(word) for word in "wxyz"), targets)
    assert OBJECTIVES[name].loss_of_guessing(Episode("t", "", name, labels, texts, texts)) == pytest.approx(expected)


def test_figures_of_classes() -> None:
    outputs = torch.tensor([[4.0, 0.0], [4.0, 0.0], [0.0, 4.0], [0.0, 4.0]])
    found = CLASSIFICATION.figures(outputs, torch.tensor([0, 2, 1, OUT_OF_SCOPE]))
    assert (found.n_queries, found.mse, found.spearman) == (3, None, None)
    assert found.accuracy == pytest.approx(2 / 3), "class 2 has no output, and counts as wrong"
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.majority == pytest.approx(1 / 3)
    assert found.ece == pytest.approx(float(outputs[0].softmax(0)[0]) - 2 / 3, abs=1e-6)
    assert CLASSIFICATION.figures(outputs[:1], torch.tensor([OUT_OF_SCOPE])).n_queries == 0


def test_figures_of_label_sets() -> None:
    found = MULTI_LABEL.figures(
        torch.tensor([[3.0, -3.0], [3.0, 3.0]]), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    )
    assert (found.n_queries, found.accuracy, found.majority) == (2, 0.5, 0.5)
    assert found.macro_f1 == pytest.approx((1 + 1 + 0) / 3), "the third class has no output"
    assert (found.mse, found.spearman) == (None, None)


def test_figures_of_scores() -> None:
    found = REGRESSION.figures(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [3.0], [5.0]]))
    assert (found.n_queries, found.mse, found.spearman) == (3, pytest.approx(2 / 3), pytest.approx(1.0))
    assert (found.accuracy, found.macro_f1, found.ece, found.majority) == (None,) * 4


def test_cross_entropy_alone_has_head_gradients_in_closed_form() -> None:
    found = {name: rules.head_gradients for name, rules in OBJECTIVES.items()}
    assert found == {"classification": linear_head_gradients, "multi_label": None, "regression": None}
