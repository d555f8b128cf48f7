"""The accuracy on examples that are held back, before and after a change of the support set."""

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metalearn.evidence.folds import draw_folds
from metalearn.evidence.held_back import HeldBack, compare_held_back
from metalearn.options import AdaptOptions
from metalearn.prepared import PreparedSet
from tests.metalearn.evidence.test_subsets import STEPS, model_of, one_by_one, support_of


def compared(support: PreparedSet, before: list[bool], after: list[bool], *, seed: int = 0) -> HeldBack:
    """The comparison by the default learner."""
    model, slow = model_of("protomaml")
    texts, options = range(len(support.targets)), AdaptOptions(STEPS, seed=seed)
    slices = compare_held_back(model, slow, support, texts, torch.tensor(before), torch.tensor(after), options)
    while True:
        try:
            with torch.no_grad():
                next(slices)
        except StopIteration as done:
            found: HeldBack = done.value
            return found


@pytest.mark.parametrize("seed", range(3))
def test_both_sides_are_means_over_classifiers_of_the_same_folds(seed: int) -> None:
    support = support_of(seed=seed)
    # Features that say less, so that the answers differ from fold to fold
    support = replace(support, inputs=support.inputs + torch.roll(support.inputs, 3, dims=0))
    targets = support.targets.tolist()
    # The last example comes, the first one goes: neither is asked
    before, after = torch.ones(10, dtype=torch.bool), torch.ones(10, dtype=torch.bool)
    before[9], after[0] = False, False
    found = compared(support, before.tolist(), after.tolist(), seed=seed)
    draw, classes = random.Random(seed), targets[1:9]
    first = draw_folds(classes, range(8), most=16, draw=draw)
    draws = max(1, 32 // len(first))
    folds = torch.cat([first, *(draw_folds(classes, range(8), most=16, draw=draw) for _ in range(draws - 1))])
    kept = torch.ones(len(folds), 10, dtype=torch.bool)
    kept[:, 1:9] = folds
    model, slow = model_of("protomaml")

    def right(side: Tensor) -> float:
        answers = one_by_one(model, slow, support, kept & side).argmax(dim=2) == support.targets
        shares = [float(answers[~kept[:, i], i].float().mean()) for i in range(1, 9) if bool((~kept[:, i]).any())]
        return sum(shares)

    assert found.asked == 7  # without the first example, the second is the only one of its class
    assert not found.right_before.is_integer()
    assert not found.right_after.is_integer()
    assert abs(found.right_before - right(before)) < 1e-4
    assert abs(found.right_after - right(after)) < 1e-4


def test_examples_with_another_class_label_cost_accuracy_and_right_ones_do_not() -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.eye(40)[[0] * 6 + [1] * 12]
    features = torch.nn.functional.normalize(centres + 0.2 * torch.randn(18, 40, generator=draw), dim=1)
    before, after = [True] * 12 + [False] * 6, [True] * 18
    # Six more that look like the second class, with the first one's label, and with the right one
    wrong, right = (
        compared(PreparedSet(features, torch.tensor([0] * 6 + [1] * 6 + [label] * 6), torch.ones(18), 2), before, after)
        for label in (0, 1)
    )
    assert wrong.asked == right.asked == 12
    assert wrong.right_before == right.right_before
    assert wrong.right_after < wrong.right_before - 1
    assert right.right_after > right.right_before - 0.5


def test_nothing_is_asked_where_no_class_has_two_examples_or_all_change() -> None:
    support = support_of()
    two = PreparedSet(support.inputs[:2], torch.tensor([0, 1]), torch.ones(2), 2)
    assert compared(two, [True, True], [True, True]).asked == 0
    assert compared(two, [True, True], [False, False]) == HeldBack(0, 0.0, 0.0)
