"""The exported graph of an encoder computes what transformers computes, in float32 and in 8-bit integers."""

import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from metalearn.encoder.encoder import Encoder, build_encoder
from metalearn.encoder.huggingface import HuggingFaceTransformer
from metalearn.encoder.stages import PoolingMode, Stages, encoder_stages
from metalearn.types import TextInput
from model_store import transformer_graph
from model_store.transformer_graph import exported_graph
from service.engine import exported_graph as runtime_of_exported
from service.engine.exported_graph import ExportedFeatures
from service.engine.runtime import start_runtime
from service.settings import SettingsInvalid
from tests.conftest import MakeOtherEncoder
from tests.other_encoders import LAYERED, OTHERS

CPU = torch.device("cpu")
PROMPT = "query: "
INPUTS = [
    TextInput("where is my card"),
    TextInput("a man sleeps", "somebody is awake"),
    TextInput("x"),
    TextInput("the parcel that was to come last week has been lost on its way, and nobody knows where"),
    TextInput("so", "it is"),
]
FAST = "mpnet"
ALL = [pytest.param(name, marks=[] if name == FAST else pytest.mark.slow) for name in (*OTHERS, "qwen3")]

Graphs = Callable[[str], bytes]


@pytest.fixture(scope="module")
def graph_of(make_other_encoder: MakeOtherEncoder) -> Graphs:
    """Exports the graph of each encoder once."""

    @functools.cache
    def export(name: str) -> bytes:
        graph = exported_graph(build_encoder(make_other_encoder(name), encoder_stages(max_tokens=64), CPU))
        assert graph is not None
        return graph

    return export


MakeEncoder = Callable[..., Encoder]


@pytest.fixture
def encoder_of(make_other_encoder: MakeOtherEncoder, graph_of: Graphs) -> MakeEncoder:
    """Makes encoders with their graphs."""

    def make(name: str, stages: Stages | None = None) -> Encoder:
        encoder = build_encoder(make_other_encoder(name), stages or encoder_stages(max_tokens=64), CPU)
        return replace(encoder, graph=graph_of(name))

    return make


def by_transformers(folder: Path, encoder: Encoder, mode: PoolingMode) -> torch.Tensor:
    """Features of each text by the package alone, pooled by hand; none is padded."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    rows = []
    for text in encoder.tokenize(INPUTS):
        with torch.no_grad():
            (states,) = model(input_ids=torch.tensor([text.ids])).last_hidden_state
        pooled = states[text.second_from or 0 :]
        rows.append({"mean": pooled.mean(dim=0), "first": pooled[0], "last": pooled[-1]}[mode])
    return F.normalize(torch.stack(rows), dim=1)


@pytest.mark.parametrize("name", ALL)
def test_features_are_those_of_transformers(
    make_other_encoder: MakeOtherEncoder, encoder_of: MakeEncoder, name: str
) -> None:
    folder = make_other_encoder(name)
    modes: tuple[PoolingMode, ...] = ("mean", "first", "last")
    for mode in modes:
        encoder = encoder_of(name, encoder_stages(max_tokens=64, mode=mode, prompt=PROMPT))
        texts = encoder.tokenize(INPUTS)
        expected = by_transformers(folder, encoder, mode)
        for found in (encoder.encode_batch(texts), ExportedFeatures(encoder)(texts)):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize("name", ALL)
def test_neighbours_change_no_bit(encoder_of: MakeEncoder, name: str, precision: Any) -> None:
    encoder = encoder_of(name)
    runtime, texts = ExportedFeatures(encoder, precision), encoder.tokenize(INPUTS)
    of_width: dict[int, list[int]] = {}
    texts += encoder.tokenize([TextInput(f"{i} cards") for i in range(7)])
    for row, text in enumerate(texts):
        of_width.setdefault(encoder.width([text]), []).append(row)
    assert max(map(len, of_width.values())) > 6
    for rows in of_width.values():
        together = runtime([texts[row] for row in rows])
        alone = torch.cat([runtime([texts[row]]) for row in rows])
        assert torch.equal(together, alone)


@pytest.mark.parametrize("name", [FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in LAYERED if n != FAST)])
def test_meta_trained_layers_take_their_places(encoder_of: MakeEncoder, name: str) -> None:
    plain = encoder_of(name)
    tuned = plain.with_weights({n: 1.3 * weight for n, weight in plain.upper_weights(1).items()})
    texts, runtime = tuned.tokenize(INPUTS), ExportedFeatures(tuned)
    expected = tuned.encode_batch(texts)
    torch.testing.assert_close(runtime(texts), expected, atol=1e-4, rtol=0)
    found, states = runtime.token_states(texts), tuned.token_states(texts)
    for row, text in enumerate(texts):
        torch.testing.assert_close(found[row, : len(text.ids)], states[row, : len(text.ids)], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(expected, plain.encode_batch(texts), atol=1e-3)


# ---- 8-bit integers --------------------------------------------------------------------------------------------------


LARGEST = 63
"""Instead of 127: with larger integers a CPU without VNNI cuts sums of products."""


class Rounded(TorchFunctionMode):
    """Products of weights as the graph in int8 has them: a scale for each token, and one for each output."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear:
            inputs, weight, *bias = args
            scales = weight.abs().amax(dim=1, keepdim=True) / LARGEST
            largest = inputs.abs().amax(dim=-1, keepdim=True).clamp_min(1e-30)
            rounded = (inputs / largest * LARGEST).round() * largest / LARGEST
            args = (rounded, (weight / scales).round() * scales, *bias)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ALL)
def test_integers_are_rounded_by_token_and_by_output(
    encoder_of: MakeEncoder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(runtime_of_exported, "_LARGEST", LARGEST)
    encoder = encoder_of(name)
    texts = encoder.tokenize(INPUTS)
    with Rounded():
        expected = encoder.encode_batch(texts)
    found, plain = ExportedFeatures(encoder, "int8")(texts), encoder.encode_batch(texts)
    # A number midway between two integers may go either way, which moves a text by a little
    assert float((found - expected).norm(dim=1).median()) < 1e-5
    assert float((plain - expected).norm(dim=1).min()) > 1e-3


@pytest.mark.parametrize(("precision", "expected"), [("float32", "onnxruntime"), ("int8", "onnxruntime-int8")])
def test_the_runtime_that_is_wanted_computes(encoder_of: MakeEncoder, precision: Any, expected: str) -> None:
    encoder = encoder_of(FAST)
    # Small, so that rounding stays within its bound
    encoder = encoder.with_weights({n: 0.1 * w if w.dim() == 2 else w for n, w in encoder.upper_weights(2).items()})
    assert start_runtime(encoder, "onnxruntime", precision).name == expected
    assert start_runtime(encoder, "torch").name == "torch"


# ---- the file --------------------------------------------------------------------------------------------------------


def test_the_graph_has_no_weights(graph_of: Graphs, make_other_encoder: MakeOtherEncoder) -> None:
    graph = onnx.load_from_string(graph_of(FAST))
    transformer = HuggingFaceTransformer.load(make_other_encoder(FAST))
    assert sum(len(each.raw_data) for each in graph.graph.initializer) < 1000
    names = {each.name for each in graph.graph.input} - {"ids", "types", "attended"}
    assert names <= transformer.named_weights().keys()
    assert {name for name in transformer.named_weights() if ".layer." in name} <= names
    assert [each.name for each in graph.graph.output] == ["states"]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda patch: patch.setattr(torch.onnx, "export", _failing), "no such operator"),
        (lambda patch: patch.setattr(transformer_graph, "_FURTHEST", 0.0), r"states .* are .* from torch's"),
    ],
)
def test_a_graph_that_cannot_be_exported_or_differs_is_left_out(
    make_other_encoder: MakeOtherEncoder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[pytest.MonkeyPatch], None],
    reason: str,
) -> None:
    encoder = build_encoder(make_other_encoder(FAST), encoder_stages(max_tokens=64), CPU)
    before = encoder.encode_batch(encoder.tokenize(INPUTS))
    spoil(monkeypatch)
    with caplog.at_level(logging.WARNING, "handful"):
        assert exported_graph(encoder) is None
    (record,) = caplog.records
    assert record.getMessage().startswith("torch will compute the encoder, since its graph cannot be exported: ")
    assert torch.equal(encoder.encode_batch(encoder.tokenize(INPUTS)), before)
    with pytest.raises(SettingsInvalid, match=r"no graph of its encoder \(mpnet\) .* take --runtime torch"):
        start_runtime(encoder, "onnxruntime")


def _failing(*_: Any, **__: Any) -> None:
    raise RuntimeError("no such operator\nin a long explanation")


def test_a_runtime_whose_features_depend_on_neighbours_is_refused(
    encoder_of: MakeEncoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = ExportedFeatures.__call__

    def leaning(self: ExportedFeatures, texts: Sequence[Any], *given: Any) -> torch.Tensor:
        return real(self, texts, *given) * (1 + 1e-6 * len(texts))

    monkeypatch.setattr(ExportedFeatures, "__call__", leaning)
    with caplog.at_level(logging.WARNING, "handful"):
        assert start_runtime(encoder_of(FAST), "auto").name == "torch"
    assert "features by onnxruntime depend on the other texts of a batch" in caplog.text
