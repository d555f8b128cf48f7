"""Bodies: inputs to features as a function of weights, whatever batches the inputs come in."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from metalearn.body import Body, HiddenTexts, MlpBody, TextBody
from metalearn.encoder.batches import padded_width
from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.stages import encoder_stages
from metalearn.types import TextInput
from tests.metalearn.conftest import CPU
from tests.metalearn.test_placement import moved

WORDS = ["where", "is", "my", "new", "virtual", "card", "and", "why", "was", "I", "charged"]
INPUTS = [TextInput(" ".join(WORDS[: 1 + (5 * i) % 11])) for i in range(9)]


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("max_batch_tokens", [1, 20, 4096])
def test_features_do_not_depend_on_how_texts_are_batched(
    tiny_encoder: Path, layers: int, max_batch_tokens: int
) -> None:
    encoder = build_encoder(tiny_encoder, encoder_stages(max_tokens=64), CPU)
    body = TextBody(encoder, layers, max_batch_tokens=max_batch_tokens)
    assert isinstance(body, Body)
    assert body.dim == encoder.dim
    texts = encoder.tokenize(INPUTS)
    inputs = body.prepare(texts)
    widths = {padded_width(len(text.ids)) for text in texts}
    assert len(inputs.batches) == {1: 9, 4096: len(widths)}.get(max_batch_tokens, len(inputs.batches))
    weights = body.initial_weights(torch.Generator())
    assert weights.keys() == encoder.upper_weights(layers).keys()
    expected = torch.cat([encoder.encode_batch([text]) for text in texts])
    torch.testing.assert_close(body.features(weights, inputs), expected, atol=1e-5, rtol=0)
    # Weights that are left out are the encoder's own
    torch.testing.assert_close(body.features({}, inputs), expected, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=12)
@given(order=st.permutations(range(9)), cuts=st.sets(st.integers(1, 8)))
def test_joined_batches_come_back_in_the_texts_order(encoder: Encoder, order: list[int], cuts: set[int]) -> None:
    body, texts = TextBody(encoder, 1), encoder.tokenize(INPUTS)
    ends = [0, *sorted(cuts), 9]
    plan = [order[a:b] for a, b in itertools.pairwise(ends)]
    inputs = body.joined(plan, [body.begin([texts[i] for i in rows]) for rows in plan])
    assert isinstance(inputs, HiddenTexts)
    expected = torch.cat([encoder.encode_batch([text]) for text in texts])
    torch.testing.assert_close(body.features({}, inputs), expected, atol=1e-5, rtol=0)


def test_two_sets_of_texts_laid_end_to_end(encoder: Encoder) -> None:
    body = TextBody(encoder, 1, max_batch_tokens=30)
    first, second = (body.prepare(encoder.tokenize(part)) for part in (INPUTS[:4], INPUTS[4:]))
    both = body.features({}, body.concatenated(first, second))
    apart = torch.cat([body.features({}, first), body.features({}, second)])
    torch.testing.assert_close(both, apart, atol=0, rtol=0)


@settings(deadline=None, max_examples=30)
@given(data=st.data(), layers=st.integers(0, 2))
def test_some_texts_have_the_features_that_they_have_among_all(
    encoder: Encoder, data: st.DataObject, layers: int
) -> None:
    body = TextBody(encoder, layers, max_batch_tokens=24)
    texts = [TextInput("card " * n, "pair" if n % 3 == 0 else None) for n in (5, 1, 9, 3, 2, 6)]
    inputs = body.prepare(encoder.tokenize(texts))
    rows = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
    found = body.features({}, body.some(inputs, torch.tensor(rows)))
    torch.testing.assert_close(found, body.features({}, inputs)[rows], atol=1e-6, rtol=0)


def test_initial_weights_are_copies(tiny_encoder: Path) -> None:
    encoder = build_encoder(tiny_encoder, encoder_stages(max_tokens=64), CPU)
    body, texts = TextBody(encoder, 2), encoder.tokenize(INPUTS)
    before = encoder.encode_batch(texts)
    for weight in body.initial_weights(torch.Generator()).values():
        weight.zero_()
    assert torch.equal(encoder.encode_batch(texts), before)


@pytest.mark.parametrize("layers", [-1, 3])
def test_more_layers_than_the_encoder_has_are_refused(encoder: Encoder, layers: int) -> None:
    with pytest.raises(ValueError, match=f"layers is {layers}; the encoder has 2"):
        TextBody(encoder, layers)


def test_where_nothing_is_left_to_run_a_text_is_kept_as_one_vector(encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    width = encoder.width(texts)
    for layers, kept in ((0, 1), (1, width), (2, width)):
        body = TextBody(encoder, layers)
        batch = body.begin(texts)
        assert batch.hidden.shape == (9, kept, 32)
        assert batch.attended.shape == batch.asked.shape == (9, kept)
        assert not batch.hidden.requires_grad
        features = body.features({}, body.joined([range(9)], [batch]))
        torch.testing.assert_close(features, encoder.encode_batch(texts), atol=1e-6, rtol=0)


def test_gradients_reach_tuned_layers_and_nothing_of_the_encoder(encoder: Encoder) -> None:
    texts = encoder.tokenize(INPUTS)
    before, own = encoder.encode_batch(texts), {n: w.clone() for n, w in encoder.upper_weights(2).items()}
    body = TextBody(encoder, 1)
    weights = {n: w.requires_grad_() for n, w in moved(body.initial_weights(torch.Generator()), by=0.1).items()}
    features = body.features(weights, body.prepare(texts))
    probe = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad((features * probe).sum(), list(weights.values()))
    for name, gradient in zip(weights, gradients, strict=True):
        assert bool(gradient.isfinite().all())
        assert float(gradient.abs().max()) > 0, name
    assert not encoder.encode_batch(texts).requires_grad
    assert torch.equal(encoder.encode_batch(texts), before)
    assert all(torch.equal(weight, own[name]) for name, weight in encoder.upper_weights(2).items())


@pytest.mark.parametrize("layers", [0, 1])
def test_features_of_bfloat16_are_float32_and_close(encoder: Encoder, layers: int) -> None:
    exact, quick = (TextBody(encoder, layers, bf16=bf16) for bf16 in (False, True))
    weights = moved(exact.initial_weights(torch.Generator()), by=0.1)
    wanted, found = (body.features(weights, body.prepare(encoder.tokenize(INPUTS))) for body in (exact, quick))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0)
    assert not torch.equal(found, wanted)


def test_a_perceptron_by_hand() -> None:
    body = MlpBody((1, 2, 1))
    assert isinstance(body, Body)
    weights = {
        "layers.0.weight": torch.tensor([[1.0], [-1.0]]),
        "layers.0.bias": torch.tensor([0.0, 0.5]),
        "layers.1.weight": torch.tensor([[2.0, 3.0]]),
        "layers.1.bias": torch.tensor([-1.0]),
    }
    # relu(x), relu(0.5 - x), then relu(2 a + 3 b - 1)
    found = body.features(weights, torch.tensor([[2.0], [0.0], [-1.0], [0.25]]))
    torch.testing.assert_close(found, torch.tensor([[3.0], [0.5], [3.5], [0.25]]))
    both = body.concatenated(torch.ones(2, 1), torch.zeros(1, 1))
    assert both.tolist() == [[1.0], [1.0], [0.0]]


def test_a_perceptron_starts_with_the_variance_of_he() -> None:
    body = MlpBody((50, 400, 30))
    weights = body.initial_weights(torch.Generator().manual_seed(0))
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == {
        "layers.0.weight": (400, 50),
        "layers.0.bias": (400,),
        "layers.1.weight": (30, 400),
        "layers.1.bias": (30,),
    }
    assert float(weights["layers.0.weight"].var()) == pytest.approx(2 / 50, rel=0.05)
    assert float(weights["layers.1.weight"].var()) == pytest.approx(2 / 400, rel=0.05)
    assert not any(bool(weights[f"layers.{i}.bias"].any()) for i in range(2))
    again = body.initial_weights(torch.Generator().manual_seed(0))
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())


def test_a_perceptron_without_layers_passes_features_on() -> None:
    body, features = MlpBody((8,)), torch.randn(3, 8)
    assert body.dim == 8
    assert body.initial_weights(torch.Generator()) == {}
    assert body.features({"layers.0.weight": torch.ones(1)}, features) is features
