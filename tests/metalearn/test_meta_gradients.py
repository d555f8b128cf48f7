"""Meta-gradients against finite differences, against computations by hand and against another library; in float64."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import higher
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own abbreviation

from metalearn.body import Body, MlpBody, TextBody
from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.fast_weights import HEAD_BIAS, HEAD_WEIGHT
from metalearn.inner_loop import collect
from metalearn.learners import LearnerOptions, make_learner
from metalearn.meta_model import MetaModel
from metalearn.options import PlacementName
from metalearn.placement import make_placement
from metalearn.prepared import PreparedEpisode, PreparedSet
from metalearn.types import Objective, TextInput
from metalearn.update_rules import minibatch_gradient_descent, momentum, nesterov
from tests.metalearn.test_placement import DEEP, PLACEMENTS, NormBody, drawn, moved
from tests.pairs import pairs

BODY = NormBody((3, 5, 4))

SECOND_ORDER: Mapping[str, tuple[str, dict[str, Any]]] = {
    "maml": ("maml", {}),
    "anil": ("anil", {}),
    "metasgd": ("metasgd", {}),
    "protomaml": ("protomaml", {}),
    "per-layer-per-step": ("maml", {"rates": "per_layer_per_step"}),
}
"""Learners whose meta-gradients go through the inner gradients, with their options."""

RULES = ("gradient_descent", "minibatch_sgd", "momentum", "nesterov", "noisy_sgd", "adam")


def _model(learner: str, placement: PlacementName, *, body: Body = BODY, layers: int = 2, **options: Any) -> MetaModel:
    made = make_learner(learner, LearnerOptions(**{"head_rate": 0.3, "body_rate": 0.2} | options))
    if made.rule.batch_size:
        made = replace(made, rule=minibatch_gradient_descent(4))  # fewer than the support set has
    return MetaModel(body, make_placement(placement, layers=layers, rank=2), made)


def _slow(model: MetaModel, steps: int, by: float = 0.3) -> dict[str, Tensor]:
    """Slow weights in float64 off their start: a head of zeros would hide what goes through it."""
    initial = {name: weight.double() for name, weight in model.initial_slow_weights(steps=steps).items()}
    off = moved(initial, by)
    rates = {name: off[name] if "log_" in name else weight * (1 + 0.3 * by) for name, weight in initial.items()}
    return {name: rates[name] if "rate" in name else off[name] for name in initial}


def _points(per_class: int, seed: int, objective: Objective = "classification", n_classes: int = 3) -> PreparedSet:
    draw = drawn(seed)
    rows = n_classes * per_class
    inputs = torch.randn(rows, 3, generator=draw, dtype=torch.float64)
    weights = 0.5 + torch.rand(rows, generator=draw, dtype=torch.float64)
    targets = torch.arange(n_classes).repeat_interleave(per_class)
    if objective == "regression":
        targets = torch.randn(rows, n_classes, generator=draw, dtype=torch.float64)
    if objective == "multi_label":
        targets = (torch.rand(rows, n_classes, generator=draw) > 0.5).double()
        targets[:n_classes] = torch.eye(n_classes)
    return PreparedSet(inputs, targets, weights, n_classes, objective)


def _episode(objective: Objective = "classification", n_classes: int = 3) -> PreparedEpisode:
    return PreparedEpisode(_points(2, 1, objective, n_classes), _points(3, 2, objective, n_classes))


EPISODE = _episode()

INDEPENDENT = _episode("multi_label")
"""For learners whose classes share a start: between classes that exclude each other that start has no slope, as softmax
sees differences between logits only (the test of it is below)."""


def _separable_episode(learner: str) -> PreparedEpisode:
    """An episode in which no slow weight of the learner is without a slope."""
    return EPISODE if learner == "protomaml" else INDEPENDENT


def _meta_gradient(
    model: MetaModel, slow: Mapping[str, Tensor], episode: PreparedEpisode, steps: int
) -> dict[str, Tensor]:
    """The gradient of each slow weight; zero where it has none."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in slow.items()}
    loss = model.run_episode(leaves, episode, steps=steps).meta_loss
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def _assert_meta_gradient(
    model: MetaModel,
    slow: Mapping[str, Tensor],
    episode: PreparedEpisode,
    steps: int,
    *,
    by_part: bool = False,
    h: float = 1e-4,
) -> None:
    """Slopes along random directions are those of central differences, to 1e-5.

    Args:
        model: Whose meta-gradient it is.
        slow: Where.
        episode: The one that is run.
        steps: Inner steps.
        by_part: Takes one direction in all of the body, one in all starts and so on, instead of one in each weight.
        h: Distance of the inner pair of points; the error falls with its fourth power.
    """
    gradient = _meta_gradient(model, slow, episode, steps)
    draw = drawn(9)
    directions = {name: torch.randn(weight.shape, generator=draw).to(weight) for name, weight in slow.items()}
    # The cheapest of the three orders: they differ in gradients only
    plain = replace(model, learner=replace(model.learner, order="detached"))

    def loss(names: list[str], way: float) -> float:
        at = {**slow, **{name: slow[name] + way * directions[name] for name in names}}
        return float(plain.run_episode(at, episode, steps=steps).meta_loss)

    parts: dict[str, list[str]] = {}
    for name in slow:
        parts.setdefault(".".join(name.split(".")[:2]) if by_part else name, []).append(name)
    for part, names in parts.items():
        near, far = (loss(names, k * h) - loss(names, -k * h) for k in (1, 2))
        expected = (8 * near - far) / (12 * h)
        found = sum(float((gradient[name] * directions[name]).sum()) for name in names)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-10), part
        assert abs(expected) > 1e-6, f"{part}: a slope of {expected} proves nothing"


# --- finite differences -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("learner", "placement", "steps"), pairs([*SECOND_ORDER], PLACEMENTS, [1, 3]))
def test_second_order_meta_gradients_are_those_of_finite_differences(
    learner: str, placement: PlacementName, steps: int
) -> None:
    name, options = SECOND_ORDER[learner]
    model = _model(name, placement, **options)
    slow = _slow(model, steps)
    assert any("rate" in each for each in slow) is (learner not in ("maml", "anil"))
    _assert_meta_gradient(model, slow, _separable_episode(learner), steps, by_part=steps == 1)


@pytest.mark.parametrize(("learner", "rule", "steps"), pairs(["maml", "protomaml", "metasgd"], RULES, [1, 3]))
def test_meta_gradients_go_through_every_update_rule(learner: str, rule: str, steps: int) -> None:
    model = _model(learner, "full", update_rule=rule, head_rate=0.1, body_rate=0.05)
    _assert_meta_gradient(model, _slow(model, steps), _separable_episode(learner), steps, by_part=True)


@pytest.mark.parametrize("learner", ["maml", "metasgd"])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_meta_gradients_go_through_regression(placement: PlacementName, learner: str) -> None:
    model = _model(learner, placement, body_rate=0.1, head_rate=0.1)
    _assert_meta_gradient(model, _slow(model, 2), _episode("regression"), 2, by_part=True)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_meta_gradients_of_class_means_go_through_multi_label_tasks(placement: PlacementName) -> None:
    model = _model("protomaml", placement)
    _assert_meta_gradient(model, _slow(model, 2), INDEPENDENT, 2, by_part=True)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("learner", ["maml", "fomaml", "anil", "metasgd"])
def test_between_exclusive_classes_a_shared_start_has_no_slope(learner: str, placement: PlacementName) -> None:
    # softmax sees differences between logits only, so what all classes share cancels: the row has no effect, and the
    # first inner step leaves the weights below the head where they were
    model = _model(learner, placement)
    slow = _slow(model, 3)
    shared = ("learner.head.row", "learner.head.bias")
    gradient = _meta_gradient(model, slow, EPISODE, 3)
    elsewhere = _meta_gradient(model, {**slow, **{name: slow[name] + 1 for name in shared}}, EPISODE, 3)
    for name, value in gradient.items():
        expected = torch.zeros_like(value) if name in shared else elsewhere[name]
        torch.testing.assert_close(value, expected, atol=1e-10, rtol=1e-8)
    states = list(model.adapt(slow, EPISODE.support, model.start(slow, EPISODE.support), steps=2))
    for name in states[0].fast_weights:
        way = [float((state.fast_weights[name] - states[0].fast_weights[name]).abs().max()) for state in states]
        assert way[2] > 1e-6
        assert (way[1] > 1e-4) if name.startswith("head.") else (way[1] < 1e-14)


@pytest.mark.parametrize("layers", [1, 2])
def test_layers_below_the_fast_ones_have_their_meta_gradient(layers: int) -> None:
    model = _model("protomaml", "full", layers=layers, body=NormBody((3, 5, 4, 4)))
    _assert_meta_gradient(model, _slow(model, 2), EPISODE, 2)


@pytest.mark.parametrize("learner", ["maml", "protomaml"])
def test_every_number_of_a_small_networks_meta_gradient(learner: str) -> None:
    # the tests above go along directions; here is every coordinate, on the network of the sinusoids
    name, options = SECOND_ORDER[learner]
    model = _model(name, "full", body=MlpBody((3, 4, 2)), **options)
    slow, episode = _slow(model, 2), _separable_episode(learner)
    gradient = _meta_gradient(model, slow, episode, 2)
    h = 1e-6
    for each, weight in slow.items():
        for i in range(weight.numel()):
            ends = []
            for sign in (1, -1):
                at = weight.clone()
                at.view(-1)[i] += sign * h
                ends.append(float(model.run_episode({**slow, each: at}, episode, steps=2).meta_loss.detach()))
            assert float(gradient[each].view(-1)[i]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=2e-9)


# --- first order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("learner", "placement", "steps"), pairs([*SECOND_ORDER], PLACEMENTS, [1, 3]))
def test_first_order_is_not_second_order(learner: str, placement: PlacementName, steps: int) -> None:
    name, options = SECOND_ORDER[learner]
    second = _model(name, placement, **options)
    first = _model(name, placement, order="first", **options)
    slow = _slow(second, steps)
    gradients = [_meta_gradient(model, slow, _separable_episode(learner), steps) for model in (first, second)]
    differences = {each: float((gradients[0][each] - gradients[1][each]).abs().max()) for each in slow}
    starts = [each for each in slow if "rate" not in each and "log_scale" not in each]
    assert max(differences[each] for each in starts) > 1e-4
    if steps == 1:
        # one step's rates meet no later gradient: there the two agree
        assert all(differences[each] < 1e-12 for each in slow if "rate" in each)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_first_order_meta_gradient_is_the_gradient_at_the_adapted_weights(
    placement: PlacementName, steps: int
) -> None:
    model = _model("fomaml", placement)
    assert model.learner.order == "first"
    slow = _slow(model, steps)
    gradient = _meta_gradient(model, slow, INDEPENDENT, steps)
    adapted = collect(
        model.adapt(slow, INDEPENDENT.support, model.start(slow, INDEPENDENT.support), steps=steps)
    ).fast_weights
    at_adapted, expected = _query_gradients(model, slow, adapted)
    expected["learner.head.row"] = at_adapted.pop(HEAD_WEIGHT).sum(dim=0)  # every class starts from the one row
    expected["learner.head.bias"] = at_adapted.pop(HEAD_BIAS).sum()
    for name, value in at_adapted.items():
        at = f"body.{name}" if placement == "full" else f"fast.{name}"
        expected[at] = expected[at] + value
    assert bool(at_adapted) is (placement != "head")
    assert expected.keys() == gradient.keys()
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, atol=1e-12, rtol=1e-10)


def _query_gradients(
    model: MetaModel, slow: Mapping[str, Tensor], adapted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The query loss's gradients: by the adapted weights, and by slow weights that it sees beside them."""
    fast = {name: weight.detach().clone().requires_grad_() for name, weight in adapted.items()}
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in slow.items()}
    query = INDEPENDENT.query.encoded(model.features(leaves, fast, INDEPENDENT.query.inputs))
    loss = model.learner.meta_loss({}, fast, query)
    found = torch.autograd.grad(loss, [*fast.values(), *leaves.values()], allow_unused=True, materialize_grads=True)
    return dict(zip(fast, found, strict=False)), dict(zip(leaves, found[len(fast) :], strict=True))


def test_first_order_rates_are_judged_by_the_inner_gradients_they_scale() -> None:
    model = _model("metasgd", "full", order="first")
    slow = _slow(model, 1)
    gradient = _meta_gradient(model, slow, INDEPENDENT, 1)
    start = model.start(slow, INDEPENDENT.support).fast_weights
    leaves = {name: weight.detach().clone().requires_grad_() for name, weight in start.items()}
    support = INDEPENDENT.support.encoded(model.features(slow, leaves, INDEPENDENT.support.inputs))
    inner = torch.autograd.grad(model.learner.support_loss(leaves, support), list(leaves.values()))
    adapted = collect(
        model.adapt(slow, INDEPENDENT.support, model.start(slow, INDEPENDENT.support), steps=1)
    ).fast_weights
    outer, _ = _query_gradients(model, slow, adapted)
    for name, by_inner in zip(leaves, inner, strict=True):
        expected = -by_inner * outer[name]
        if name.startswith("head."):
            expected = 3 * expected.sum(dim=0)  # the classes share a rate, and it counts as often as there are classes
        torch.testing.assert_close(gradient[f"learner.rate.{name}"], expected, atol=1e-12, rtol=1e-10)


# --- Reptile ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_reptiles_gradient_is_the_way_back_from_the_adapted_weights(placement: PlacementName, steps: int) -> None:
    model = _model("reptile", placement)
    slow = _slow(model, steps)
    gradient = _meta_gradient(model, slow, INDEPENDENT, steps)
    support, query = INDEPENDENT.support, INDEPENDENT.query
    both = replace(
        support,
        inputs=torch.cat([support.inputs, query.inputs]),
        targets=torch.cat([support.targets, query.targets]),
        weights=torch.cat([support.weights, query.weights]),
    )
    start = model.start(slow, both).fast_weights
    adapted = collect(model.adapt(slow, both, model.start(slow, both), steps=steps)).fast_weights
    way = {name: weight - adapted[name] for name, weight in start.items()}
    assert all(float(value.abs().max()) > 1e-4 for value in way.values())
    expected = {name: torch.zeros_like(weight) for name, weight in slow.items()}
    expected["learner.head.row"] = way.pop(HEAD_WEIGHT).sum(dim=0)
    expected["learner.head.bias"] = way.pop(HEAD_BIAS).sum()
    for name, value in way.items():
        expected[f"body.{name}" if placement == "full" else f"fast.{name}"] = value
    for name, value in expected.items():
        assert torch.equal(gradient[name], value), name


# --- ProtoMAML's head is a function of the weights below it -----------------------------------------------------------


def _cross_entropy(logits: Tensor, part: PreparedSet) -> Tensor:
    picked = logits.log_softmax(dim=1)[torch.arange(len(logits)), part.targets]
    return -(picked * part.weights).sum() / part.weights.sum()


def _head_of_means(deep: Mapping[str, Tensor], scale: Tensor, part: PreparedSet) -> tuple[Tensor, Tensor]:
    features = BODY.features(deep, part.inputs)
    means, kept = [], []
    for k in range(part.n_classes):
        rows = part.targets == k
        counted = part.weights[rows].sum()
        means.append((features[rows] * part.weights[rows, None]).sum(dim=0) / counted)
        kept.append(counted / (counted + 2))
    middle = sum(means) / len(means)
    stacked = torch.stack([middle + part_kept * (mean - middle) for part_kept, mean in zip(kept, means, strict=True)])
    scale = scale * len(kept) / sum(kept)
    return 2 * scale * stacked, -scale * (stacked**2).sum(dim=1)


def _support_loss(deep: Mapping[str, Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    return _cross_entropy(F.linear(BODY.features(deep, EPISODE.support.inputs), weight, bias), EPISODE.support)


def _proto_maml_by_hand(
    slow: Mapping[str, Tensor], steps: int, *, total: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """Query loss and adapted weights, by torch.func and without any detaching.

    Args:
        slow: Slow weights.
        steps: Inner steps.
        total: Takes the first inner gradient along the head as well, which would be wrong.
    """
    deep = {name.removeprefix("body."): weight for name, weight in slow.items() if name.startswith("body.")}
    scale = slow["learner.log_scale"].exp()
    head_rate, body_rate = 3 * slow["learner.log_head_rate"].exp(), slow["learner.log_body_rate"].exp()
    weight, bias = _head_of_means(deep, scale, EPISODE.support)
    for step in range(steps):
        by_deep, by_weight, by_bias = torch.func.grad(_support_loss, argnums=(0, 1, 2))(deep, weight, bias)
        if total and step == 0:
            by_deep = torch.func.grad(lambda at: _support_loss(at, *_head_of_means(at, scale, EPISODE.support)))(deep)
        deep = {name: value - body_rate * by_deep[name] for name, value in deep.items()}
        weight, bias = weight - head_rate * by_weight, bias - head_rate * by_bias
    logits = F.linear(BODY.features(deep, EPISODE.query.inputs), weight, bias)
    return _cross_entropy(logits, EPISODE.query), {**deep, HEAD_WEIGHT: weight, HEAD_BIAS: bias}


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_an_inner_gradient_below_a_head_of_class_means_is_a_partial_one(steps: int) -> None:
    model = _model("protomaml", "full")
    slow = _slow(model, steps)
    loss, adapted = _proto_maml_by_hand(slow, steps)
    result = model.run_episode(slow, EPISODE, steps=steps)
    torch.testing.assert_close(result.meta_loss.detach(), loss, atol=1e-12, rtol=1e-12)
    for order in ("detached", "first", "second"):
        begun = model.start(slow, EPISODE.support)
        found = collect(model.adapt(slow, EPISODE.support, begun, steps=steps, order=order)).fast_weights
        for name, weight in adapted.items():
            torch.testing.assert_close(found[name].detach(), weight, atol=1e-12, rtol=1e-12)
    _, otherwise = _proto_maml_by_hand(slow, steps, total=True)
    name = "layers.1.weight"
    assert float((adapted[name] - otherwise[name]).abs().max()) > 1e-3, "the total gradient has to be another one"
    expected = torch.func.grad(lambda at: _proto_maml_by_hand(at, steps)[0])(slow)
    gradient = _meta_gradient(model, slow, EPISODE, steps)
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, atol=1e-11, rtol=1e-9)


# --- another library --------------------------------------------------------------------------------------------------


def _meta_gradient_by_higher(
    slow: Mapping[str, Tensor],
    episode: PreparedEpisode,
    steps: int,
    *,
    first_order: bool = False,
    **sgd: Any,
) -> dict[str, Tensor]:
    """The meta-gradient of the same network by ``higher`` (Grefenstette et al. 2019).

    Rates in ``slow`` are learned; otherwise they are 1/4 for the head and 1/8 below it (the library keeps them in
    float32, as it does the decay of momentum).
    """
    n_classes = episode.support.n_classes
    network = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, n_classes)).double()
    with torch.no_grad():
        for i, layer in enumerate((network[0], network[2])):
            layer.weight.copy_(slow[f"body.layers.{i}.weight"])
            layer.bias.copy_(slow[f"body.layers.{i}.bias"])
        network[4].weight.copy_(slow["learner.head.row"].expand(n_classes, -1))
        network[4].bias.copy_(slow["learner.head.bias"].expand(n_classes))

    def loss(outputs: Tensor, part: PreparedSet) -> Tensor:
        if part.objective == "classification":
            return _cross_entropy(outputs, part)
        if part.objective == "multi_label":
            per_row = nn.BCEWithLogitsLoss(reduction="none")(outputs, part.targets).mean(dim=1)
            return (per_row * part.weights).sum() / part.weights.sum()
        return ((outputs - part.targets).square().mean(dim=1) * part.weights).sum() / part.weights.sum()

    rates = [slow[name].clone().requires_grad_() for name in sorted(slow) if "rate" in name]
    by_group: Any = [rates[0].exp(), rates[1].exp() * n_classes] if rates else [1 / 8, n_classes / 4]
    groups = [{"params": network[:4].parameters()}, {"params": network[4].parameters()}]
    optimizer = torch.optim.SGD(
        [{**group, "lr": float(torch.as_tensor(rate).detach())} for group, rate in zip(groups, by_group, strict=True)],
        lr=0.1,
        **sgd,
    )
    with higher.innerloop_ctx(
        network, optimizer, copy_initial_weights=False, override={"lr": by_group} if rates else None
    ) as (functional, inner):
        for _ in range(steps):
            inner.step(
                loss(functional(episode.support.inputs), episode.support),
                grad_callback=(lambda found: [gradient.detach() for gradient in found]) if first_order else None,
            )
        loss(functional(episode.query.inputs), episode.query).backward()
    gradient = {f"body.layers.{i}.{n}": p.grad for i in (0, 1) for n, p in network[2 * i].named_parameters()}
    gradient |= {"learner.head.row": network[4].weight.grad.sum(dim=0), "learner.head.bias": network[4].bias.grad.sum()}
    return gradient | {
        name: rate.grad for name, rate in zip([n for n in sorted(slow) if "rate" in n], rates, strict=True)
    }


OF_HIGHER: Mapping[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "maml": ("maml", {}, {}),
    "fomaml": ("fomaml", {}, {"first_order": True}),
    "learned rates": ("maml", {"rates": "learned"}, {}),
    "momentum": ("maml", {"rule": momentum(7 / 8)}, {"momentum": 7 / 8}),
    "nesterov": ("maml", {"rule": nesterov(7 / 8)}, {"momentum": 7 / 8, "nesterov": True}),
    "fomaml with momentum": ("fomaml", {"rule": momentum(7 / 8)}, {"momentum": 7 / 8, "first_order": True}),
}
"""A learner, fields of it, and the other library's options for the same."""


@pytest.mark.parametrize(
    ("case", "objective", "steps"), pairs([*OF_HIGHER], ["classification", "multi_label", "regression"], [1, 2, 3])
)
def test_meta_gradients_are_those_of_higher(case: str, objective: Objective, steps: int) -> None:
    learner, fields, theirs = OF_HIGHER[case]
    model = _model(learner, "full", body=MlpBody((3, 5, 4)), head_rate=1 / 4, body_rate=1 / 8)
    model = replace(model, learner=replace(model.learner, **fields))
    slow, episode = _slow(model, steps), _episode(objective, n_classes=4)
    found = _meta_gradient(model, slow, episode, steps)
    expected = _meta_gradient_by_higher(slow, episode, steps, **theirs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=1e-8)
        assert float(value.abs().max()) > 1e-5 or objective == "classification"


# --- a transformer, whose fused attention has no second derivative ----------------------------------------------------

EQUAL = ("a card that never came", "a fee that was wrong", "the card is late again", "who charged me a fee")
MIXED = ("card", "I was charged a fee that I do not know of", "late card", "what is that fee on my statement for?")


@pytest.fixture(scope="module")
def exact_encoder(tiny_encoder: Path) -> Encoder:
    """The tiny encoder in float64."""
    encoder = build_encoder(tiny_encoder, encoder_stages(max_tokens=64), torch.device("cpu"))
    return replace(encoder, transformer=encoder.transformer.to(torch.float64))


def _text_episode(body: TextBody, texts: tuple[str, ...], objective: Objective) -> PreparedEpisode:
    def part(chosen: tuple[str, ...], targets: list[int]) -> PreparedSet:
        inputs = body.prepare(body.encoder.tokenize([TextInput(text) for text in chosen]))
        classes = F.one_hot(torch.tensor(targets)).double() if objective == "multi_label" else torch.tensor(targets)
        return PreparedSet(inputs, classes, torch.ones(len(targets), dtype=torch.float64), 2, objective)

    return PreparedEpisode(part(texts, [0, 1, 0, 1]), part(("where is my card", "a wrong fee"), [0, 1]))


@pytest.mark.parametrize(("learner", "placement", "texts"), pairs(["maml", "protomaml"], PLACEMENTS, [EQUAL, MIXED]))
def test_meta_gradients_go_through_a_transformer(
    learner: str, placement: PlacementName, texts: tuple[str, ...], exact_encoder: Encoder
) -> None:
    name, options = SECOND_ORDER[learner]
    model = _model(name, placement, body=TextBody(exact_encoder, 1), layers=1, **options)
    episode = _text_episode(model.body, texts, _separable_episode(learner).support.objective)
    padded = [batch.attended is not None and not batch.attended.all() for batch in episode.support.inputs.batches]
    assert any(padded) or texts is not MIXED
    slow = _slow(model, 2, by=0.1)
    assert all(weight.dtype == torch.float64 for weight in slow.values())
    _assert_meta_gradient(model, slow, episode, 2, by_part=True)


@pytest.mark.parametrize("texts", [EQUAL, MIXED], ids=["of equal length", "padded"])
@pytest.mark.parametrize("placement", DEEP)
def test_a_deep_second_order_step_in_float32_has_a_finite_meta_gradient(
    placement: PlacementName, texts: tuple[str, ...], encoder: Encoder
) -> None:
    model = _model("protomaml", placement, body=TextBody(encoder, 2), layers=2)
    slow = {name: weight.float() for name, weight in _slow(model, 1, by=0.05).items()}
    episode = _text_episode(model.body, texts, "classification")
    single = [replace(part, weights=part.weights.float()) for part in (episode.support, episode.query)]
    gradient = _meta_gradient(model, slow, PreparedEpisode(*single), 1)
    assert all(bool(value.isfinite().all()) and float(value.abs().max()) > 0 for value in gradient.values())


def test_fused_attention_still_has_no_second_derivative(
    exact_encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the day this fails, the inner loop may keep the fused kernel
    monkeypatch.setattr("metalearn.meta_model._differentiable_attention", lambda _: nullcontext())
    model = _model("maml", "full", body=TextBody(exact_encoder, 1), layers=1)
    with pytest.raises(RuntimeError, match="derivative"):
        _meta_gradient(model, _slow(model, 1, by=0.1), _text_episode(model.body, EQUAL, "multi_label"), 1)
