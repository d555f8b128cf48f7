"""Adaptations on many subsets at once, beside one adaptation on each subset."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metalearn.adapting import adapt
from metalearn.body import MlpBody
from metalearn.evidence import subsets
from metalearn.evidence.subsets import logits_of_subsets, narrowed
from metalearn.learners import LEARNERS, make_learner
from metalearn.learners.interface import LearnerOptions
from metalearn.meta_model import MetaModel
from metalearn.options import AdaptOptions
from metalearn.placement import HeadOnly
from metalearn.prepared import LabelTexts, PreparedSet
from metalearn.task_view.label_text_prior import LabelTextPrior
from metalearn.types import SlowWeights

DIM, STEPS = 40, 5


def model_of(learner: str, **options: object) -> tuple[MetaModel, SlowWeights]:
    """A model on features, with every step of the task view, and its slow weights."""
    model = MetaModel(
        MlpBody((DIM,)),
        HeadOnly(),
        make_learner(learner, LearnerOptions(**options)),  # type: ignore[arg-type]
        prior=LabelTextPrior(),
        centred=make_learner(learner).linear_head,
        balanced=True,
    )
    return model, model.initial_slow_weights(steps=STEPS)


def support_of(*, texts: bool = True, seed: int = 0) -> PreparedSet:
    """Overlapping classes of two to five examples, and label texts for two of three."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.tensor([0, 0, 1, 1, 1, 2, 2, 2, 2, 2])
    centres = torch.randn(3, DIM, generator=draw)
    features = centres[targets] + 1.5 * torch.randn(len(targets), DIM, generator=draw)
    features = torch.nn.functional.normalize(features, dim=1)
    of_labels = torch.nn.functional.normalize(centres[:2] + torch.randn(2, DIM, generator=draw), dim=1)
    label_texts = LabelTexts(of_labels, torch.tensor([0, 1])) if texts else None
    return PreparedSet(features, targets, torch.ones(len(targets)), 3, label_texts=label_texts)


def kept_of(n: int) -> Tensor:
    """Each example left out in turn, then two subsets that are smaller."""
    smaller = torch.tensor([[True, False] * 5, [True, True, True, False, False, True, True, False, False, False]])
    return torch.cat([~torch.eye(n, dtype=torch.bool), smaller])


def run(*arguments: object, **options: object) -> Tensor:
    """The result of ``logits_of_subsets``."""
    slices = logits_of_subsets(*arguments, **options)  # type: ignore[arg-type]
    while True:
        try:
            with torch.no_grad():
                next(slices)
        except StopIteration as done:
            found: Tensor = done.value
            return found


def one_by_one(model: MetaModel, slow: SlowWeights, support: PreparedSet, kept: Tensor) -> Tensor:
    """The logits by an adaptation on each subset."""
    found = []
    for rows in kept:
        part = replace(
            support, inputs=support.inputs[rows], targets=support.targets[rows], weights=support.weights[rows]
        )
        own = adapt(model, slow, part, AdaptOptions(STEPS)).fast_weights
        found.append(model.learner.logits(own, support.inputs))
    return torch.stack(found)


@pytest.mark.parametrize("texts", [True, False])
@pytest.mark.parametrize("learner", sorted(LEARNERS))
def test_leaving_out_is_adapting_without(learner: str, texts: bool) -> None:
    model, slow = model_of(learner)
    support = support_of(texts=texts)
    kept = kept_of(len(support.targets))
    found = run(model, slow, support, kept, AdaptOptions(STEPS))
    expected = one_by_one(model, slow, support, kept)
    # The stored head is in half precision
    torch.testing.assert_close(found.softmax(dim=2), expected.softmax(dim=2), atol=2e-3, rtol=0)
    assert float((expected[0] - expected[-1]).abs().max()) > 1e-2, "subsets differ"


def test_a_rule_that_draws_rows_draws_them_among_those_that_are_kept() -> None:
    model, slow = model_of("protomaml", update_rule="minibatch_sgd")
    assert model.learner.rule.batch_size is not None
    support = support_of()
    support = replace(
        support,
        inputs=support.inputs.repeat(3, 1),
        targets=support.targets.repeat(3),
        weights=support.weights.repeat(3),
    )
    kept = kept_of(10)[[0, 11]].repeat(1, 3)
    expected = one_by_one(model, slow, support, kept)
    found = run(model, slow, support, kept, AdaptOptions(STEPS))
    torch.testing.assert_close(found.softmax(dim=2), expected.softmax(dim=2), atol=2e-3, rtol=0)


def test_large_heads_are_adapted_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    model, slow = model_of("protomaml")
    support = support_of()
    kept = kept_of(len(support.targets))
    together = run(model, slow, support, kept, AdaptOptions(STEPS))
    monkeypatch.setattr(subsets, "_TOGETHER", 0.0)
    slices = logits_of_subsets(model, slow, support, kept[:2], AdaptOptions(STEPS))
    assert sum(1 for _ in slices) == 2 * (STEPS + 2), "a pause after the start and after each state"
    apart = run(model, slow, support, kept, AdaptOptions(STEPS))
    torch.testing.assert_close(apart, together, atol=1e-4, rtol=0)


@pytest.mark.parametrize("texts", [True, False])
def test_narrowed_features_have_the_same_products(texts: bool) -> None:
    support = support_of(texts=texts)
    narrow = narrowed(support)
    assert narrow.inputs.shape == (10, 12 if texts else 10)
    torch.testing.assert_close(narrow.inputs @ narrow.inputs.T, support.inputs @ support.inputs.T)
    if support.label_texts is not None and narrow.label_texts is not None:
        torch.testing.assert_close(
            narrow.inputs @ narrow.label_texts.inputs.T, support.inputs @ support.label_texts.inputs.T
        )


def test_features_of_more_texts_than_columns_stay() -> None:
    support = support_of()
    inputs, targets, weights = support.inputs.repeat(5, 1), support.targets.repeat(5), support.weights.repeat(5)
    wide = replace(support, inputs=inputs, targets=targets, weights=weights)
    assert narrowed(wide) is wide
