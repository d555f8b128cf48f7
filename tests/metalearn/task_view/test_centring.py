"""The common part of all texts of a task: heads adapt as if it were not there, and answer features as they come."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.encoder.encoder import Encoder
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.inner_loop import collect
from metalearn.learners import LEARNERS, make_learner
from metalearn.meta_model import MetaModel
from metalearn.model_spec import ModelSpec, make_text_model
from metalearn.options import PlacementName
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.task_view.centring import plain_head
from metalearn.task_view.label_text_prior import LabelTextPrior
from tests.metalearn.conftest import with_last_as_label_texts

WIDTH = 8
LINEAR = [name for name in sorted(LEARNERS) if make_learner(name).linear_head]
EXACT = [name for name in LINEAR if make_learner(name).order == "second"]
"""Those whose meta-gradient is that of the query loss."""


def centred(learner: str = "protomaml") -> MetaModel:
    """A head alone, on features that are the inputs."""
    return MetaModel(MlpBody((WIDTH,)), HeadOnly(), make_learner(learner), LabelTextPrior(), centred=True)


def examples(n_classes: int, shots: int, seed: int = 0, *, spread: float = 0.5) -> PreparedSet:
    """Points somewhat near their class's own, each of a weight of its own."""
    draw = torch.Generator().manual_seed(seed)
    targets = torch.arange(n_classes).repeat_interleave(shots)
    centres = torch.randn(n_classes, WIDTH, generator=draw, dtype=torch.float64) / 3
    noise = torch.randn(len(targets), WIDTH, generator=draw, dtype=torch.float64)
    weights = 0.5 + torch.rand(len(targets), generator=draw, dtype=torch.float64)
    return PreparedSet(centres[targets] + spread * noise / 3, targets, weights, n_classes)


def slow_of(model: MetaModel) -> dict[str, Tensor]:
    return {name: weight.double() for name, weight in model.initial_slow_weights(steps=3).items()}


def logits(model: MetaModel, support: PreparedSet, queries: Tensor, *, steps: int = 3) -> Tensor:
    slow = slow_of(model)
    adapted = collect(model.adapt(slow, support, model.start(slow, support), steps=steps)).fast_weights
    return model.outputs(slow, adapted, queries)


def probabilities(model: MetaModel, support: PreparedSet, queries: Tensor) -> Tensor:
    return logits(model, support, queries).softmax(dim=1)


@pytest.mark.parametrize("label_texts", [0, 3])
@pytest.mark.parametrize("learner", LINEAR)
def test_a_centred_task_is_the_task_less_its_mean(learner: str, label_texts: int) -> None:
    whole, model = examples(3, 4), centred(learner)
    whole = replace(whole, inputs=whole.inputs + 0.8)
    support = with_last_as_label_texts(whole, label_texts)
    weights = support.weights.unsqueeze(1)
    mean = (weights * support.inputs).sum(dim=0) / weights.sum()
    queries = examples(3, 2, 1).inputs + 0.8
    moved = with_last_as_label_texts(replace(whole, inputs=whole.inputs - mean), label_texts)
    by_hand = logits(replace(model, centred=False), moved, queries - mean)
    torch.testing.assert_close(logits(model, support, queries), by_hand)
    assert not torch.allclose(by_hand, logits(replace(model, centred=False), support, queries), atol=1e-3) or (
        learner
        in {"prototypical", "ridge", "ridge_cv", "softmax_regression"}  # which are the same wherever the origin is
    )


@pytest.mark.parametrize("learner", LINEAR)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), n_classes=st.integers(2, 4), size=st.floats(0, 5))
def test_what_all_texts_share_changes_nothing(learner: str, seed: int, n_classes: int, size: float) -> None:
    support, queries, model = examples(n_classes, 3, seed), examples(n_classes, 2, seed + 1).inputs, centred(learner)
    draw = torch.Generator().manual_seed(seed)
    shared = size * torch.nn.functional.normalize(torch.randn(WIDTH, generator=draw, dtype=torch.float64), dim=0)
    moved = replace(support, inputs=support.inputs + shared)
    torch.testing.assert_close(
        probabilities(model, moved, queries + shared), probabilities(model, support, queries), atol=1e-8, rtol=1e-6
    )


@pytest.mark.parametrize("learner", ["maml", "protomaml", "ridge"])
def test_an_example_that_weighs_two_is_that_example_twice(learner: str) -> None:
    support = examples(3, 3)
    counts = torch.tensor([1, 2, 3] * 3)
    weighted = replace(support, weights=counts.double())
    repeated = replace(
        support,
        inputs=support.inputs.repeat_interleave(counts, dim=0),
        targets=support.targets.repeat_interleave(counts),
        weights=torch.ones(int(counts.sum()), dtype=torch.float64),
    )
    queries = examples(3, 2, 1).inputs
    torch.testing.assert_close(logits(centred(learner), weighted, queries), logits(centred(learner), repeated, queries))


def test_steps_do_not_swing_along_what_texts_share() -> None:
    # Two classes that do not differ, in texts that are nearly alike: as those in a language the encoder cannot
    # read, and a rate that does well elsewhere
    support = examples(2, 10, spread=0.3)
    shared = torch.nn.functional.normalize(torch.ones(WIDTH, dtype=torch.float64), dim=0)
    features = torch.nn.functional.normalize(support.inputs / 4 + shared, dim=1)
    support = replace(support, inputs=features, targets=torch.arange(20) % 2, weights=torch.ones(20).double())
    last: dict[bool, Tensor] = {}
    for is_centred in (False, True):
        model = replace(centred(), centred=is_centred)
        slow = slow_of(model)
        last[is_centred] = collect(model.adapt(slow, support, model.start(slow, support), steps=20)).losses
    assert bool((last[True].diff() < 1e-9).all())
    assert float(last[True][-1]) < 0.7
    swings = last[False].diff()[-6:]
    assert bool((swings[::2] * swings[1::2] < 0).all()), "else there was nothing to mend"
    assert float(last[False].max()) > 1.5 * float(last[True].max())


def test_without_an_example_the_texts_of_labels_are_the_middle() -> None:
    texts = examples(3, 1)
    queries = examples(3, 2, 1).inputs
    shared = torch.ones(WIDTH, dtype=torch.float64)
    moved = with_last_as_label_texts(replace(texts, inputs=texts.inputs + shared), 3)
    found = probabilities(centred(), with_last_as_label_texts(texts, 3), queries)
    torch.testing.assert_close(probabilities(centred(), moved, queries + shared), found)
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("learner", EXACT)
def test_meta_gradients_go_through_the_middle(learner: str) -> None:
    # The body's features move, and the mean of the examples with them
    model = replace(centred(learner), body=MlpBody((WIDTH, WIDTH)))
    slow = {name: weight.double() for name, weight in model.initial_slow_weights(steps=2, seed=3).items()}
    # Away from where a ReLU has its bend
    slow["body.layers.0.bias"] += 2.0
    episode = PreparedEpisode(examples(3, 3), examples(3, 2, 1))
    weight = slow["body.layers.0.weight"]
    leaf = weight.clone().requires_grad_()
    loss = model.run_episode({**slow, "body.layers.0.weight": leaf}, episode, steps=2).meta_loss
    (gradient,) = torch.autograd.grad(loss, leaf)
    direction = torch.randn(weight.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def at(way: float) -> float:
        there = {**slow, "body.layers.0.weight": weight + way * direction}
        return float(model.run_episode(there, episode, steps=2).meta_loss.detach())

    slope = (at(1e-5) - at(-1e-5)) / 2e-5
    assert abs(slope) > 1e-4
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5)


def test_the_head_of_centred_features_has_the_same_logits_for_plain_ones() -> None:
    draw = torch.Generator().manual_seed(0)
    features, weight, bias, centre = (torch.randn(shape, generator=draw) for shape in ((5, 8), (4, 8), (4,), (8,)))
    plain = plain_head({HEAD_WEIGHT: weight, HEAD_BIAS: bias, "layers.0.weight": weight}, centre)
    expected = torch.nn.functional.linear(features - centre, weight, bias)
    torch.testing.assert_close(head_logits(plain, features), expected)
    assert plain["layers.0.weight"] is weight


def test_what_is_no_classification_is_left_where_it_is() -> None:
    model = centred("maml")
    scores = replace(
        examples(2, 3), targets=torch.randn(6, 1, dtype=torch.float64), n_classes=1, objective="regression"
    )
    assert model.start(slow_of(model), scores).centre is None


@pytest.mark.parametrize(
    ("learner", "placement", "is_centred"),
    [
        ("protomaml", "head", True),
        ("ridge", "head", True),
        ("prototypical_cosine", "head", False),
        ("memory", "head", False),
        ("protomaml", "modulations", False),
        ("maml", "full", False),
    ],
)
def test_heads_of_text_models_are_centred(
    learner: str, placement: PlacementName, is_centred: bool, encoder: Encoder
) -> None:
    spec = ModelSpec(learner, placement, fast_layers=0 if placement == "head" else 1)
    assert make_text_model(spec, encoder).centred is is_centred


def test_the_head_of_a_centred_task_is_moved_by_its_bias_alone() -> None:
    support = examples(3, 4)
    moved = replace(support, inputs=support.inputs + 3.0)
    model = centred()
    heads = []
    for each in (support, moved):
        slow = slow_of(model)
        heads.append(collect(model.adapt(slow, each, model.start(slow, each), steps=3)).fast_weights)
    torch.testing.assert_close(heads[0][HEAD_WEIGHT], heads[1][HEAD_WEIGHT])
