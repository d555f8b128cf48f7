"""ONNX Runtime computes the features that torch computes."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.source import locate_encoder
from metalearn.encoder.stages import PoolingMode, encoder_stages
from metalearn.model_spec import ModelSpec
from metalearn.types import TextInput
from service.engine import runtime as runtimes
from service.engine.runtime import OnnxFeatures, start_runtime
from service.settings import Precision, RuntimeName, SettingsInvalid
from tests.conftest import STOCK_ENCODER, MakeCheckpoint, StartService
from tests.service.conftest import adapt, predict

CPU = torch.device("cpu")
INPUTS = [
    TextInput("where is my card"),
    TextInput("x"),
    TextInput("a man sleeps", "somebody is awake in the house"),
    TextInput("a much longer text, that goes on and on " * 20),
    TextInput("so", "it is"),
    TextInput("日本語 and ünïcode"),
    TextInput("a man sleeps on a train", "a man sleeps"),
    TextInput("!", "日本語"),
]


def tuned_encoder(folder: Path, *, normalize: bool = True, mode: PoolingMode = "mean") -> Encoder:
    """An encoder whose last layer was tuned."""
    encoder = build_encoder(folder, encoder_stages(max_tokens=64, normalize=normalize, mode=mode), CPU)
    draw = torch.Generator().manual_seed(1)
    moved = {n: w + 0.05 * torch.randn(w.shape, generator=draw) for n, w in encoder.upper_weights(1).items()}
    return encoder.with_weights(moved)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5 * float(expected.abs().max()), rtol=0)


@cache
def stock() -> Encoder:
    """The stock encoder; made once, since it is large."""
    return build_encoder(locate_encoder(STOCK_ENCODER, Path()), encoder_stages(), CPU)


@cache
def stock_runtime(precision: Literal["float32", "int8"]) -> OnnxFeatures:
    return OnnxFeatures(stock(), precision)


@pytest.mark.parametrize("normalize", [True, False])
def test_features_are_torchs(tiny_encoder: Path, normalize: bool) -> None:
    encoder = tuned_encoder(tiny_encoder, normalize=normalize)
    runtime = OnnxFeatures(encoder)
    texts = encoder.tokenize(INPUTS)
    for batch in (texts, texts[:1], texts[2:3], texts[:2], [texts[2], texts[4]]):
        expected = encoder.encode_batch(batch)
        found = runtime(batch)
        assert (found.dtype, found.shape) == (torch.float32, expected.shape)
        close(found, expected)


def test_features_of_the_default_encoder_are_torchs() -> None:
    encoder = stock()
    texts = encoder.tokenize(INPUTS)
    close(stock_runtime("float32")(texts), encoder.encode_batch(texts))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.tuples(st.text(max_size=40), st.none() | st.text(max_size=40)), min_size=1, max_size=6))
def test_whatever_the_texts_hold(tiny_encoder: Path, words: list[tuple[str, str | None]]) -> None:
    encoder, runtime = _made(tiny_encoder)
    texts = [text for text in encoder.tokenize([TextInput(*each) for each in words if each[0]]) if not text.empty]
    if texts:
        close(runtime(texts), encoder.encode_batch(texts))


@cache
def _made(folder: Path) -> tuple[Encoder, OnnxFeatures]:
    encoder = tuned_encoder(folder)
    return encoder, OnnxFeatures(encoder)


@pytest.mark.parametrize("mode", ["first", "last"])
def test_one_token_is_pooled_as_torch_pools_it(tiny_encoder: Path, mode: PoolingMode) -> None:
    encoder = tuned_encoder(tiny_encoder, mode=mode)
    texts = encoder.tokenize(INPUTS)
    close(OnnxFeatures(encoder)(texts), encoder.encode_batch(texts))


@pytest.mark.parametrize(("wanted", "expected"), [("auto", "onnxruntime"), ("onnxruntime",) * 2, ("torch",) * 2])
def test_the_runtime_that_is_wanted_computes(tiny_encoder: Path, wanted: RuntimeName, expected: str) -> None:
    encoder = tuned_encoder(tiny_encoder)
    before = encoder.encode_batch(encoder.tokenize(INPUTS))
    runtime = start_runtime(encoder, wanted)
    assert runtime.name == expected
    after = runtime(encoder.tokenize(INPUTS))
    close(after, before)
    assert torch.equal(after, before) is (expected == "torch")


def test_torch_embeds_on_one_thread_and_keeps_its_number(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, found = tuned_encoder(tiny_encoder), []
    runtime, embed = OnnxFeatures(encoder), type(encoder.transformer).embed

    def noted(*given: Any) -> torch.Tensor:
        found.append(torch.get_num_threads())
        return embed(*given)

    monkeypatch.setattr(type(encoder.transformer), "embed", noted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        runtime(encoder.tokenize(INPUTS[:2]))
        assert (found, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_features_that_differ_are_not_taken(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = OnnxFeatures.__call__
    monkeypatch.setattr(OnnxFeatures, "__call__", lambda self, *given: real(self, *given) * 1.01)
    encoder = tuned_encoder(tiny_encoder)
    with pytest.raises(SettingsInvalid, match=r"away from torch's: take --runtime torch"):
        start_runtime(encoder, "onnxruntime")
    with caplog.at_level(logging.WARNING, logger="handful"):
        runtime = start_runtime(encoder, "auto")
    assert "computing with torch" in caplog.text
    assert runtime.name == "torch"


def test_int8_features_are_near_torchs_and_depend_on_their_text_alone() -> None:
    encoder, runtime = stock(), stock_runtime("int8")
    texts = encoder.tokenize(INPUTS)
    found, expected = runtime(texts), encoder.encode_batch(texts)
    cosines = torch.nn.functional.cosine_similarity(found, expected)
    assert cosines.min() > 0.98
    assert not torch.allclose(found, expected, atol=1e-4), "it was computed in float32"
    # Scales are each token's own: neighbours, whosever they are, move no more than in float32
    for row, text in enumerate(texts):
        close(runtime([text])[0], found[row])
    loud = encoder.tokenize([TextInput("!!!!! ##### 0000 " * 30), TextInput("x" * 200)])
    close(runtime([*texts, *loud])[: len(texts)], found)


# ---- norms of their own ----------------------------------------------------------------------------------------------


def norms_of(encoder: Encoder, layers: int) -> list[str]:
    """The norms of the top layers."""
    return [name.removesuffix(".weight") for name in encoder.upper_weights(layers) if name.endswith("norm.weight")]


def drawn_norms(encoder: Encoder, norms: Sequence[str], rows: int) -> dict[str, torch.Tensor]:
    """Other weights and biases for each row."""
    own, draw = encoder.upper_weights(encoder.n_layers), torch.Generator().manual_seed(rows)
    names = [f"{norm}.{part}" for norm in norms for part in ("weight", "bias")]
    return {n: own[n] + 0.3 * torch.randn(rows, 1, own[n].shape[0], generator=draw) for n in names}


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("normalize", [True, False])
def test_each_text_is_read_under_its_own_norms(tiny_encoder: Path, layers: int, normalize: bool) -> None:
    encoder = tuned_encoder(tiny_encoder, normalize=normalize)
    norms = norms_of(encoder, layers)
    assert len(norms) == 2 * layers
    runtime, texts = OnnxFeatures(encoder, norms=norms), encoder.tokenize(INPUTS)
    of_rows = drawn_norms(encoder, norms, len(texts))
    found, by_torch = runtime(texts, of_rows), encoder.encode_batch(texts, of_rows)
    for row, text in enumerate(texts):
        weights = {name: vectors[row, 0] for name, vectors in of_rows.items()}
        (alone,) = encoder.finish_batch(encoder.begin_batch([text], 0), 0, weights)
        close(by_torch[row], alone)
        close(found[row], alone)
        close(runtime([text], {name: vectors[row : row + 1] for name, vectors in of_rows.items()})[0], alone)
    plain = encoder.encode_batch(texts)
    close(runtime(texts), plain)
    assert not torch.allclose(plain, by_torch, atol=1e-2)


def test_in_int8_each_text_is_read_under_its_own_norms() -> None:
    encoder = stock()
    norms, texts = norms_of(encoder, 3), encoder.tokenize(INPUTS)
    of_rows = {
        name: 0.9 * vector.expand(len(texts), 1, -1)
        for name, vector in encoder.upper_weights(3).items()
        if "norm" in name
    }
    runtime = OnnxFeatures(encoder, "int8", norms=norms)
    cosines = torch.nn.functional.cosine_similarity(runtime(texts, of_rows), encoder.encode_batch(texts, of_rows))
    assert cosines.min() > 0.98


@pytest.mark.parametrize(
    ("precision", "expected"), [("auto", "onnxruntime"), ("float32", "onnxruntime"), ("int8", "onnxruntime-int8")]
)
def test_with_norms_of_their_own_texts_are_read_in_float32_unless_int8_is_asked_for(
    tiny_encoder: Path, precision: Precision, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In int8 random weights are past the limit; which runtime is chosen is the question here
    monkeypatch.setitem(runtimes._FURTHEST, "int8", 1)
    encoder = tuned_encoder(tiny_encoder)
    assert start_runtime(encoder, "auto", precision, norms=norms_of(encoder, 2)).name == expected


def test_a_runtime_that_takes_no_heed_of_norms_is_not_taken(
    tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = OnnxFeatures.__call__
    monkeypatch.setattr(OnnxFeatures, "__call__", lambda self, texts, _: real(self, texts))
    encoder = tuned_encoder(tiny_encoder)
    with pytest.raises(SettingsInvalid, match="away from torch's"):
        start_runtime(encoder, "onnxruntime", norms=norms_of(encoder, 1))


def test_a_weight_of_zeros_stays_zero_in_int8(tiny_encoder: Path) -> None:
    encoder = tuned_encoder(tiny_encoder)
    weights = encoder.transformer.weights
    for name, weight in weights.items():
        if name.endswith(("feed_forward.weight", "query_key_value.weight")):
            weight[:3] = 0
    found = OnnxFeatures(encoder, "int8")(encoder.tokenize(INPUTS))
    assert found.isfinite().all()


def test_int8_is_asked_for_where_there_is_none(tiny_encoder: Path) -> None:
    encoder = tuned_encoder(tiny_encoder)
    with pytest.raises(SettingsInvalid, match="take --precision float32"):
        start_runtime(encoder, "torch", "int8")
    encoder = replace(encoder, device=torch.device("meta"))
    with pytest.raises(SettingsInvalid, match="take --precision float32"):
        start_runtime(encoder, "auto", "int8")


def test_int8_is_taken_by_itself_and_float32_where_it_is_far_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = stock()
    # On a CPU without VNNI the stock encoder is a little past the limit
    monkeypatch.setitem(runtimes._FURTHEST, "int8", 0.25)
    monkeypatch.setattr(runtimes, "OnnxFeatures", lambda _, precision, **__: stock_runtime(precision))
    assert start_runtime(encoder, "auto", "auto").name == "onnxruntime-int8"
    assert not caplog.records
    real = OnnxFeatures.__call__

    def far_off(self: OnnxFeatures, *given: Any) -> torch.Tensor:
        return real(self, *given) * (1.3 if self.name.endswith("int8") else 1)

    monkeypatch.setattr(OnnxFeatures, "__call__", far_off)
    with caplog.at_level(logging.WARNING, logger="handful"):
        runtime = start_runtime(encoder, "auto", "auto")
    assert runtime.name == "onnxruntime"
    assert "features by onnxruntime-int8 are" in caplog.text


def test_int8_that_is_far_off_is_not_taken(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = OnnxFeatures.__call__
    monkeypatch.setattr(OnnxFeatures, "__call__", lambda self, *given: real(self, *given).roll(1, dims=1))
    with pytest.raises(SettingsInvalid, match="away from torch's: take --precision float32"):
        start_runtime(tuned_encoder(tiny_encoder), "auto", "int8")


def test_a_service_computes_in_int8_where_it_is_asked_to(
    start_service: StartService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(runtimes._FURTHEST, "int8", 1)
    client = start_service(precision="int8")
    assert client.get("/v1/checkpoint").json()["runtime"] == "onnxruntime-int8"
    adapt(client)
    assert all(prediction["label"] for prediction in predict(client)["predictions"])


def test_off_the_cpu_it_is_torch(tiny_encoder: Path) -> None:
    encoder = tuned_encoder(tiny_encoder)
    encoder = replace(encoder, device=torch.device("meta"))
    assert start_runtime(encoder, "auto").name == "torch"
    with pytest.raises(SettingsInvalid, match="on the CPU here, not on meta"):
        start_runtime(encoder, "onnxruntime")


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(),
        ModelSpec("matching"),
        ModelSpec("protomaml", "modulations", 1),
    ],
)
def test_a_service_answers_the_same_by_either(
    start_service: StartService, make_checkpoint: MakeCheckpoint, spec: ModelSpec
) -> None:
    answers = []
    for runtime in ("torch", "onnxruntime"):
        client = start_service(checkpoint=str(make_checkpoint(spec)), runtime=runtime)
        assert client.get("/v1/checkpoint").json()["runtime"] == runtime
        assert f'runtime="{runtime}"' in client.get("/metrics").text
        adapt(client, runtime, steps=3)
        answers.append(predict(client, runtime)["predictions"])
    for one, other in zip(*answers, strict=True):
        assert one["label"] == other["label"]
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-3)
