"""Placements: which weights are fast, that they start without an effect, and how they enter the body."""

import re
from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's own abbreviation

from metalearn.body import Body, MlpBody, TextBody
from metalearn.encoder.encoder import Encoder
from metalearn.errors import InvalidModel
from metalearn.placement import (
    Full,
    HeadOnly,
    LowRank,
    Modulations,
    Placement,
    PlacementName,
    make_placement,
)
from metalearn.types import FastWeights, TextInput

PLACEMENTS: tuple[PlacementName, ...] = ("head", "modulations", "low_rank", "full")
DEEP = PLACEMENTS[1:]


class NormBody:
    """A smooth body with layer norms: per layer a linear map, a layer norm and tanh."""

    def __init__(self, widths: Sequence[int]) -> None:
        self.widths = tuple(widths)

    @property
    def dim(self) -> int:
        return self.widths[-1]

    def initial_weights(self, draw: torch.Generator) -> dict[str, Tensor]:
        weights = MlpBody(self.widths).initial_weights(draw)
        for i, width in enumerate(self.widths[1:]):
            weights[f"layers.{i}.norm.weight"] = 1 + 0.2 * torch.randn(width, generator=draw)
            weights[f"layers.{i}.norm.bias"] = 0.2 * torch.randn(width, generator=draw)
        return weights

    def features(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        for i, width in enumerate(self.widths[1:]):
            layer = {part: weights[f"layers.{i}.{part}"] for part in ("weight", "bias", "norm.weight", "norm.bias")}
            hidden = F.linear(inputs, layer["weight"], layer["bias"])
            inputs = torch.tanh(F.layer_norm(hidden, (width,), layer["norm.weight"], layer["norm.bias"]))
        return inputs

    def concatenated(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first, second])

    def some(self, inputs: Tensor, rows: Tensor) -> Tensor:
        """The inputs at these rows."""
        return inputs[rows]


def drawn(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def moved(weights: Mapping[str, Tensor], by: float = 0.3, seed: int = 5) -> dict[str, Tensor]:
    """The weights, each number of them pushed off its place at random."""
    draw = drawn(seed)
    return {
        name: weight + by * torch.randn(weight.shape, generator=draw).to(weight.dtype)
        for name, weight in weights.items()
    }


BODY = NormBody((3, 5, 4, 6))


def _begun(placement: Placement) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Body weights, the placement's own slow weights, and the start."""
    weights = BODY.initial_weights(drawn())
    own = placement.initial_slow_weights(weights, drawn(1))
    return weights, own, dict(placement.start(weights, own))


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", PLACEMENTS)
def test_at_the_start_features_are_the_bodys_own(name: PlacementName, layers: int) -> None:
    placement = make_placement(name, layers=layers, rank=2)
    weights, _, fast = _begun(placement)
    inputs = torch.randn(7, 3, generator=drawn(2))
    assert torch.equal(BODY.features(placement.body_weights(weights, fast), inputs), BODY.features(weights, inputs))


@pytest.mark.parametrize("name", PLACEMENTS)
def test_at_the_start_texts_have_the_encoders_own_features(name: PlacementName, encoder: Encoder) -> None:
    body = TextBody(encoder, 2)
    tokenized = encoder.tokenize([TextInput("a card that never came"), TextInput("why?")])
    placement = make_placement(name, layers=1, rank=3)
    weights = body.initial_weights(drawn())
    fast = placement.start(weights, placement.initial_slow_weights(weights, drawn(1)))
    found = body.features(placement.body_weights(weights, fast), body.prepare(tokenized))
    torch.testing.assert_close(found, encoder.encode_batch(tokenized), atol=1e-6, rtol=0)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", DEEP)
def test_only_the_top_layers_are_touched(name: PlacementName, layers: int) -> None:
    placement = make_placement(name, layers=layers, rank=2)
    weights, _, fast = _begun(placement)
    before = {each: weight.clone() for each, weight in weights.items()}
    seen = placement.body_weights(weights, moved(fast))
    assert seen.keys() == weights.keys()
    kept = "norm" if name == "modulations" else ".weight" if name == "low_rank" else ""
    for each, weight in seen.items():
        assert weight.shape == weights[each].shape
        touched = int(each.split(".")[1]) >= 3 - layers and kept in each
        touched = touched and not (name == "low_rank" and "norm" in each)
        assert torch.equal(weight, weights[each]) is not touched, each
    assert all(torch.equal(weights[each], weight) for each, weight in before.items()), "nothing is changed in place"


def test_layers_are_counted_by_number_not_by_spelling() -> None:
    body = {f"layers.{i}.weight": torch.ones(2, 2) for i in (2, 10, 9)}
    assert set(Full(2).start(body, {})) == {"layers.9.weight", "layers.10.weight"}


def test_a_head_alone_leaves_the_body_as_it_is() -> None:
    weights, own, fast = _begun(HeadOnly())
    assert own == fast == {}
    assert HeadOnly().body_weights(weights, {"head.weight": torch.ones(2, 6)}) is weights


@pytest.mark.parametrize("layers", [1, 3])
def test_modulations_have_a_scale_and_a_shift_per_norm(layers: int) -> None:
    _, own, fast = _begun(Modulations(layers))
    widths = {3 - i: BODY.widths[-i] for i in range(1, layers + 1)}
    expected = {f"layers.{i}.norm.{part}": (width,) for i, width in widths.items() for part in ("scale", "shift")}
    assert {name: tuple(weight.shape) for name, weight in fast.items()} == expected
    assert own.keys() == fast.keys()
    for name, weight in fast.items():
        assert torch.equal(weight, torch.full_like(weight, float(name.endswith("scale"))))


def test_modulations_scale_and_shift_what_a_norm_puts_out() -> None:
    weights, _, fast = _begun(Modulations(1))
    fast = moved(fast)
    inputs = torch.randn(7, 3, generator=drawn(2))
    below = NormBody(BODY.widths[:-1]).features(weights, inputs)
    hidden = F.linear(below, weights["layers.2.weight"], weights["layers.2.bias"])
    put_out = F.layer_norm(hidden, (6,), weights["layers.2.norm.weight"], weights["layers.2.norm.bias"])
    expected = torch.tanh(put_out * fast["layers.2.norm.scale"] + fast["layers.2.norm.shift"])
    found = BODY.features(Modulations(1).body_weights(weights, fast), inputs)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layers", [1, 2])
def test_norms_of_rows_are_those_of_each_rows_task(layers: int) -> None:
    placement = Modulations(layers)
    weights, _, fast = _begun(placement)
    tasks: list[FastWeights] = [moved(fast, by=0.1 * task) for task in range(4)]
    task_of_row = torch.tensor([2, 0, 0, 4, 3, 1, 4])
    found = placement.norms_of_rows(weights, [*tasks, {}], task_of_row)  # the last one has no modulations
    assert len(found) == 2 * layers
    for row, task in enumerate(task_of_row.tolist()):
        expected = placement.body_weights(weights, tasks[task]) if task < len(tasks) else weights
        for name, vectors in found.items():
            assert vectors.shape == (len(task_of_row), 1, len(weights[name]))
            torch.testing.assert_close(vectors[row, 0], expected[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("rank", [1, 3])
def test_low_rank_updates_have_two_thin_factors_per_matrix(rank: int) -> None:
    _, own, fast = _begun(LowRank(2, rank))
    expected = {
        "layers.1.weight.down": (rank, 5),
        "layers.1.weight.up": (4, rank),
        "layers.2.weight.down": (rank, 4),
        "layers.2.weight.up": (6, rank),
    }
    assert {name: tuple(weight.shape) for name, weight in fast.items()} == expected
    assert own.keys() == fast.keys()
    for name, weight in fast.items():
        assert bool((weight == 0).all()) is name.endswith("up")


def test_low_rank_updates_add_their_product() -> None:
    weights, _, fast = _begun(LowRank(1, 2))
    fast = moved(fast)
    seen = LowRank(1, 2).body_weights(weights, fast)
    product = seen["layers.2.weight"] - weights["layers.2.weight"]
    expected = fast["layers.2.weight.up"] @ fast["layers.2.weight.down"]
    torch.testing.assert_close(product, expected, atol=1e-6, rtol=0)
    assert int(torch.linalg.matrix_rank(product, atol=1e-4)) == 2


def test_low_rank_updates_start_at_zero_but_not_at_a_standstill() -> None:
    # with both factors zero no gradient would ever move either
    weights, _, fast = _begun(LowRank(1, 2))
    leaves = {name: weight.clone().requires_grad_() for name, weight in fast.items()}
    features = BODY.features(LowRank(1, 2).body_weights(weights, leaves), torch.randn(7, 3, generator=drawn(2)))
    features.square().sum().backward()
    assert float(leaves["layers.2.weight.up"].grad.abs().max()) > 0
    assert float(leaves["layers.2.weight.down"].grad.abs().max()) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", DEEP)
def test_fast_weights_have_the_bodys_type(name: PlacementName, dtype: torch.dtype) -> None:
    weights = {each: weight.to(dtype) for each, weight in BODY.initial_weights(drawn()).items()}
    placement = make_placement(name, layers=2, rank=2)
    fast = placement.start(weights, placement.initial_slow_weights(weights, drawn(1)))
    assert all(weight.dtype == dtype for weight in fast.values())
    assert all(weight.dtype == dtype for weight in placement.body_weights(weights, fast).values())


def test_full_starts_from_the_bodys_own_weights() -> None:
    weights, own, fast = _begun(Full(1))
    assert own == {}
    assert set(fast) == {name for name in weights if name.startswith("layers.2.")}
    assert all(fast[name] is weights[name] for name in fast)


@pytest.mark.parametrize(("name", "per_layer"), [("modulations", 4), ("low_rank", 8), ("full", 12)])
def test_a_transformer_layer_offers_its_two_norms_or_its_four_matrices(
    name: PlacementName, per_layer: int, encoder: Encoder
) -> None:
    weights = TextBody(encoder, 2).initial_weights(drawn())
    for layers in (1, 2):
        placement = make_placement(name, layers=layers, rank=2)
        fast = placement.start(weights, placement.initial_slow_weights(weights, drawn(1)))
        assert len(fast) == layers * per_layer
        assert {int(re.match(r"layers\.(\d+)\.", each)[1]) for each in fast} == set(range(2 - layers, 2))


def test_the_same_seed_gives_the_same_start() -> None:
    starts = [_begun(LowRank(2, 2))[2] for _ in range(2)]
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in starts[0])


def test_a_body_without_norms_cannot_be_modulated() -> None:
    body: Body = MlpBody((2, 3))
    with pytest.raises(InvalidModel, match="layer norms"):
        Modulations(1).initial_slow_weights(body.initial_weights(drawn()), drawn(1))


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("layers", [0, -1])
def test_a_placement_below_the_head_needs_a_layer(name: PlacementName, layers: int) -> None:
    with pytest.raises(InvalidModel, match="at least one layer"):
        make_placement(name, layers=layers, rank=2)


@pytest.mark.parametrize("rank", [0, -1])
def test_a_low_rank_update_needs_a_rank(rank: int) -> None:
    with pytest.raises(InvalidModel, match="rank"):
        make_placement("low_rank", layers=1, rank=rank)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_name_makes_its_placement(name: PlacementName) -> None:
    placement = make_placement(name, layers=2, rank=0 if name != "low_rank" else 1)
    assert isinstance(placement, Placement)
    assert placement.layers == (0 if name == "head" else 2)
    kinds = {"head": HeadOnly, "modulations": Modulations, "low_rank": LowRank, "full": Full}
    assert type(placement) is kinds[name]
