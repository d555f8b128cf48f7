"""The duties of every learner: found by name, finite, reading its support set, and differentiable."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metalearn.body import MlpBody
from metalearn.encoded_set import EncodedSet
from metalearn.errors import InvalidModel, UnknownLearner, UnknownUpdateRule, UnsupportedObjective
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT, head_logits
from metalearn.inner_loop import collect
from metalearn.learners import LEARNERS, Learner, make_learner
from metalearn.learners.interface import LearnerOptions, ReadingLearner
from metalearn.meta_model import MetaModel
from metalearn.placement import HeadOnly
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.types import FastWeights
from tests.metalearn.conftest import clusters
from tests.pairs import pairs

NAMES = sorted(LEARNERS)
READING = [name for name in NAMES if not make_learner(name).descends]
DESCENDING = [name for name in NAMES if make_learner(name).descends]
EXACT = [name for name in NAMES if make_learner(name).order == "second"]
"""Learners whose meta-gradient is that of the query loss; the others' is theirs by definition."""

SHARED_ROW = {"maml", "anil", "fomaml", "reptile"}
"""Learners whose own slow weights are the row that all classes start from. What all classes share means nothing to a
softmax: in classification these learners teach the body alone, and their row stays where it is."""

FEATURES = MlpBody((8,))
"""Inputs are the features."""


def _prepared(encoded: EncodedSet) -> PreparedSet:
    return PreparedSet(encoded.features, encoded.targets, encoded.weights, encoded.n_classes, encoded.objective)


def _slow(model: MetaModel, steps: int = 3, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    return {name: weight.to(dtype) for name, weight in model.initial_slow_weights(steps=steps).items()}


def _adapted(name: str, support: EncodedSet, *, steps: int = 3) -> tuple[MetaModel, FastWeights]:
    model = MetaModel(FEATURES, HeadOnly(), make_learner(name))
    slow, prepared = _slow(model, steps, support.features.dtype), _prepared(support)
    states = model.adapt(slow, prepared, model.start(slow, prepared), steps=steps)
    return model, collect(states).fast_weights


def _logits(name: str, support: EncodedSet, query: Tensor) -> Tensor:
    model, fast = _adapted(name, support)
    return model.learner.logits(fast, query)


def _query(n_rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.nn.functional.normalize(
        torch.randn(n_rows, 8, generator=torch.Generator().manual_seed(9), dtype=dtype), dim=1
    )


def _with_targets(objective: str) -> EncodedSet:
    """Some features with targets of the objective's kind."""
    support = clusters(3, 3, dtype=torch.float64)
    if objective == "regression":
        return replace(support, targets=support.features[:, :1] * 2, n_classes=1, objective=objective)
    if objective == "multi_label":
        both = support.membership.clone()
        both[0, 2] = 1.0
        return replace(support, targets=both, objective=objective)
    return support


@pytest.mark.parametrize("name", NAMES)
def test_every_registered_learner_has_its_own_name_and_the_interface(name: str) -> None:
    learner = make_learner(name)
    assert isinstance(learner, Learner)
    assert learner.name == name
    assert "classification" in learner.objectives


def test_there_are_learners_of_every_family() -> None:
    assert set(DESCENDING) == {"maml", "fomaml", "reptile", "anil", "metasgd", "protomaml"}
    assert set(READING) == {
        "prototypical",
        "prototypical_cosine",
        "matching",
        "ridge",
        "ridge_cv",
        "softmax_regression",
        "memory",
        "attention",
    }
    assert all(isinstance(make_learner(name), ReadingLearner) for name in READING)


def test_an_unknown_learner_is_answered_with_those_that_there_are() -> None:
    with pytest.raises(UnknownLearner) as caught:
        make_learner("no-such-learner")
    assert "'no-such-learner'" in str(caught.value)
    for name in LEARNERS:
        assert name in str(caught.value)


@pytest.mark.parametrize("name", DESCENDING)
def test_options_reach_a_learner_that_descends(name: str) -> None:
    # Reptile learns a start alone
    rates, order = ("fixed", "detached") if name == "reptile" else ("per_parameter", "first")
    options = LearnerOptions(rates=rates, update_rule="adam", order=order, head_rate=0.25, body_rate=0.5)
    learner = make_learner(name, options)
    assert (learner.rates, learner.order) == (rates, order)
    assert (learner.head_rate, learner.body_rate) == (0.25, 0.5)
    assert learner.rule.batch_size is None
    assert make_learner(name, LearnerOptions(update_rule="minibatch_sgd")).rule.batch_size is not None
    with pytest.raises(UnknownUpdateRule):
        make_learner(name, LearnerOptions(update_rule="no-such-rule"))


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize(
    "options", [LearnerOptions(rates="learned"), LearnerOptions(update_rule="adam"), LearnerOptions(head_rate=0.0)]
)
def test_options_are_refused_where_they_mean_nothing(name: str, options: LearnerOptions) -> None:
    with pytest.raises(InvalidModel, match=name):
        make_learner(name, options)
    assert make_learner(name, LearnerOptions()).name == name


@pytest.mark.parametrize(
    ("name", "shape", "dtype"),
    pairs(NAMES, [(2, 1), (3, 4), (20, 1), (77, 1), (77, 3)], [torch.float32, torch.float64]),
)
def test_logits_are_finite_for_any_number_of_classes_and_one_shot(
    name: str, shape: tuple[int, int], dtype: torch.dtype
) -> None:
    n_classes, shots = shape
    support = clusters(n_classes, shots, dtype=dtype)
    model, fast = _adapted(name, support)
    logits = model.learner.logits(fast, _query(6, dtype))
    assert logits.shape == (6, n_classes)
    assert logits.dtype == dtype
    assert bool(logits.isfinite().all())
    for weight in fast.values():
        assert weight.dtype == dtype
        assert bool(weight.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_classes", [2, 77])
def test_duplicates_and_zero_vectors_are_no_trouble(name: str, n_classes: int) -> None:
    once = clusters(n_classes, 1)
    features = torch.cat([once.features, once.features, once.features, torch.zeros(2, 8)])
    targets = torch.cat([once.targets, once.targets, once.targets, torch.tensor([0, 1])])
    same_everywhere = torch.ones_like(features) / 8**0.5
    for rows in (features, same_everywhere, torch.zeros_like(features)):
        support = EncodedSet(rows, targets, torch.ones(len(targets)), n_classes)
        logits = _logits(name, support, torch.cat([_query(3, torch.float32), torch.zeros(1, 8), once.features[:1]]))
        assert bool(logits.isfinite().all())


@pytest.mark.parametrize("name", NAMES)
def test_separable_classes_are_separated(name: str) -> None:
    # maml's head starts at the same row for each class and needs its steps
    support, query = clusters(5, 3, seed=4, dtype=torch.float64), clusters(5, 6, seed=4, dtype=torch.float64)
    assert torch.equal(_logits(name, support, support.features).argmax(dim=1), support.targets)
    hits = _logits(name, support, query.features).argmax(dim=1) == query.targets
    assert float(hits.double().mean()) > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_what_is_adapted_depends_on_the_support_set_alone(name: str) -> None:
    query = _query(5)
    first, second = clusters(3, 2, seed=1, dtype=torch.float64), clusters(3, 2, seed=2, dtype=torch.float64)
    before = _logits(name, first, query)
    other = _logits(name, second, query)
    assert not torch.allclose(before.softmax(dim=1), other.softmax(dim=1), atol=1e-3)
    assert torch.equal(_logits(name, first, query), before)


@pytest.mark.parametrize("name", [name for name in NAMES if name in READING or name == "protomaml"])
def test_the_start_depends_on_the_support_set(name: str) -> None:
    learner = make_learner(name)
    slow = learner.initial_slow_weights(8, {}, steps=3, draw=torch.Generator())
    starts = [learner.start(slow, clusters(3, 2, seed=seed)) for seed in (1, 2)]
    assert any(not torch.equal(starts[0][weight], starts[1][weight]) for weight in starts[0])


@pytest.mark.parametrize("name", NAMES)
def test_each_query_is_answered_alone(name: str) -> None:
    model, fast = _adapted(name, clusters(4, 3, dtype=torch.float64))
    query = _query(7)
    together = model.learner.logits(fast, query)
    for row in range(7):
        alone = model.learner.logits(fast, query[row : row + 1])[0]
        torch.testing.assert_close(alone, together[row], atol=1e-12, rtol=0)


# Without one of two equal examples, ridge_cv still sees the other, and chooses another regulariser
@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"memory", "attention", "ridge_cv"}])
def test_an_example_that_weighs_two_is_that_example_twice(name: str) -> None:
    support = clusters(4, 3, dtype=torch.float64)
    counts = torch.tensor([1, 2, 3] * 4)
    repeated = EncodedSet(
        support.features.repeat_interleave(counts, dim=0),
        support.targets.repeat_interleave(counts),
        torch.ones(int(counts.sum()), dtype=torch.float64),
        4,
    )
    weighted = replace(support, weights=counts.double())
    query = _query(6)
    found, expected = _logits(name, weighted, query), _logits(name, repeated, query)
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    assert not torch.allclose(found, _logits(name, support, query), atol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"memory", "attention"}])
def test_the_order_of_the_examples_does_not_matter_where_they_are_not_read_in_order(name: str) -> None:
    support, query = clusters(4, 3, dtype=torch.float64), _query(6)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    shuffled = replace(support, features=support.features[order], targets=support.targets[order])
    torch.testing.assert_close(_logits(name, shuffled, query), _logits(name, support, query), atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_renaming_the_classes_renames_the_logits(name: str) -> None:
    support, query = clusters(5, 2, dtype=torch.float64), _query(6)
    new_index = torch.tensor([3, 0, 4, 1, 2])
    renamed = replace(support, targets=new_index[support.targets])
    expected = _logits(name, support, query)
    torch.testing.assert_close(_logits(name, renamed, query)[:, new_index], expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_a_linear_head_is_one(name: str) -> None:
    model, fast = _adapted(name, clusters(3, 2, dtype=torch.float64))
    if model.learner.linear_head:
        assert set(fast) == {HEAD_WEIGHT, HEAD_BIAS}
        torch.testing.assert_close(model.learner.logits(fast, _query(4)), head_logits(fast, _query(4)))
    else:
        assert not {HEAD_WEIGHT, HEAD_BIAS} & set(fast)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("objective", ["classification", "multi_label", "regression"])
def test_a_learner_does_the_objectives_that_it_names_and_refuses_the_others(name: str, objective: str) -> None:
    model = MetaModel(FEATURES, HeadOnly(), make_learner(name))
    slow, support = _slow(model), _with_targets(objective)
    if objective not in model.learner.objectives:
        with pytest.raises(UnsupportedObjective, match=objective):
            model.start(slow, _prepared(support))
        return
    episode = PreparedEpisode(_prepared(support), _prepared(support))
    result = model.run_episode(slow, episode, steps=3)
    assert result.query_outputs.shape == (9, support.n_classes)
    assert bool(result.query_outputs.isfinite().all())
    assert bool(result.meta_loss.isfinite())


def _episode(seed: int, objective: str = "classification") -> PreparedEpisode:
    if objective != "classification":
        both = _prepared(_with_targets(objective))
        return PreparedEpisode(both, both)
    support = clusters(3, 3, seed=seed, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    noise = 0.3 * torch.randn(support.features.shape, generator=draw, dtype=torch.float64)
    weights = 0.5 + torch.rand(9, generator=draw, dtype=torch.float64)
    return PreparedEpisode(
        _prepared(replace(support, weights=weights)), _prepared(replace(support, features=support.features + noise))
    )


def _gradients(loss: Tensor, slow: Mapping[str, Tensor]) -> list[Tensor]:
    """Zeros where the loss is no function of a slow weight, or of none."""
    if not loss.requires_grad:
        return [torch.zeros_like(weight) for weight in slow.values()]
    return list(torch.autograd.grad(loss, list(slow.values()), allow_unused=True, materialize_grads=True))


def _moved_from_the_start(slow: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Off the special points (zeros, identities) that training starts from."""
    draw = torch.Generator().manual_seed(5)
    return {
        name: weight + 0.05 * torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
        for name, weight in slow.items()
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("body", [FEATURES, MlpBody((8, 16, 8))], ids=["features", "mlp"])
def test_the_meta_gradient_is_finite_and_reaches_the_slow_weights(name: str, body: MlpBody) -> None:
    model = MetaModel(body, HeadOnly(), make_learner(name))
    for objective in sorted(model.learner.objectives):
        slow = {key: weight.requires_grad_() for key, weight in _slow(model).items()}
        gradients = _gradients(model.run_episode(slow, _episode(1, objective), steps=3).meta_loss, slow)
        assert all(bool(gradient.isfinite().all()) for gradient in gradients)
        longest = {"learner.": 0.0, "body.": 0.0}
        for key, gradient in zip(slow, gradients, strict=True):
            part = key[: key.index(".") + 1]
            longest[part] = max(longest[part], float(gradient.norm()))
        if name in SHARED_ROW and objective == "classification":
            assert longest["learner."] == 0
        else:
            assert longest["learner."] > 1e-4
        if body is not FEATURES and name != "reptile":  # Reptile's body learns where it has fast weights, and not here
            assert longest["body."] > 1e-4


@pytest.mark.parametrize(
    ("name", "objective"), [(name, each) for name in EXACT for each in sorted(make_learner(name).objectives)]
)
def test_the_meta_gradient_equals_finite_differences(name: str, objective: str) -> None:
    model = MetaModel(FEATURES, HeadOnly(), make_learner(name))
    slow, episode, h = _moved_from_the_start(_slow(model)), _episode(2, objective), 1e-5
    leaves = {key: weight.clone().requires_grad_() for key, weight in slow.items()}
    gradients = _gradients(model.run_episode(leaves, episode, steps=3).meta_loss, leaves)
    draw, compared = torch.Generator().manual_seed(7), 0
    for (key, weight), gradient in zip(slow.items(), gradients, strict=True):
        direction = torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
        direction = direction / direction.norm()
        ends = [
            model.run_episode({**slow, key: weight + sign * h * direction}, episode, steps=3).meta_loss.detach()
            for sign in (1, -1)
        ]
        expected = (ends[0] - ends[1]) / (2 * h)
        torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-5, atol=1e-9)
        compared += abs(float(expected)) > 1e-6
    assert bool(compared) != (name in SHARED_ROW and objective == "classification")


@pytest.mark.parametrize("name", READING)
def test_features_get_the_gradient_of_what_is_read(name: str) -> None:
    learner, support, query = make_learner(name), clusters(3, 2, dtype=torch.float64), _query(2)
    slow = learner.initial_slow_weights(8, {}, steps=0, draw=torch.Generator())
    slow = _moved_from_the_start({key: weight.double() for key, weight in slow.items()})

    def logits(features: Tensor, asked: Tensor) -> Tensor:
        return learner.logits(learner.start(slow, replace(support, features=features)), asked)

    at = (support.features.clone().requires_grad_(), query.clone().requires_grad_())
    assert torch.autograd.gradcheck(logits, at, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", READING)
def test_zero_vectors_have_finite_gradients(name: str) -> None:
    learner, support = make_learner(name), clusters(2, 2)
    features = support.features.clone()
    features[0] = 0.0
    features.requires_grad_()
    asked = torch.zeros(1, 8, requires_grad=True)
    slow = learner.initial_slow_weights(8, {}, steps=0, draw=torch.Generator())
    logits = learner.logits(learner.start(slow, replace(support, features=features)), asked)
    for gradient in torch.autograd.grad(logits[0, 0] - logits[0, 1], [features, asked]):
        assert bool(gradient.isfinite().all())
        assert float(gradient.abs().max()) < 1e3


@pytest.mark.parametrize("name", READING)
def test_a_learner_that_reads_takes_no_step(name: str) -> None:
    model = MetaModel(FEATURES, HeadOnly(), make_learner(name))
    slow, support = _slow(model), _prepared(clusters(3, 2, dtype=torch.float64))
    start = model.start(slow, support)
    states = list(model.adapt(slow, support, start, steps=5))
    assert len(states) == 1
    for weight, kept in states[0].fast_weights.items():
        assert torch.equal(kept, start[0][weight])
    assert model.learner.learning_rates({}, start[0], step=0, n_classes=3) == {}
