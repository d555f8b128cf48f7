"""Torch in bfloat16, and batches of fixed shapes for CUDA graphs, whose recording itself needs a GPU."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from metalearn.encoder.encoder import Encoder
from metalearn.encoder.pooling import PaddedBatch
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import TextInput
from service.engine import torch_runtime
from service.engine.runtime import start_runtime
from service.engine.torch_runtime import FixedBatch, TorchFeatures, fixed_shape
from service.settings import Precision, RuntimeName, SettingsInvalid
from tests.conftest import StartService
from tests.service.conftest import adapt, predict
from tests.service.test_runtime import CPU, INPUTS, close, stock, tuned_encoder


@pytest.mark.slow
def test_features_in_bfloat16_are_near_those_in_float32() -> None:
    encoder = stock()
    texts = encoder.tokenize(INPUTS)
    found, expected = TorchFeatures(encoder, "bfloat16")(texts), encoder.encode_batch(texts)
    assert (found.dtype, found.shape) == (torch.float32, expected.shape)
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.999
    assert not torch.allclose(found, expected, atol=1e-4), "it was computed in float32"
    assert torch.equal(encoder.encode_batch(texts), expected), "the encoder's own weights are as they were"


def test_lengths_that_bfloat16_cannot_count_are_pooled_right(tiny_encoder: Path) -> None:
    encoder = tuned_encoder(tiny_encoder, normalize=False)
    (short,), (long,) = (encoder.tokenize([TextInput("x " * count)]) for count in (10, 60))
    found, expected = TorchFeatures(encoder, "bfloat16")([short, long]), encoder.encode_batch([short, long])
    torch.testing.assert_close(found, expected, atol=0.02 * float(expected.abs().max()), rtol=0)


# ---- by which a service computes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", ["auto", "torch"])
def test_bfloat16_is_computed_by_torch(tiny_encoder: Path, wanted: RuntimeName) -> None:
    encoder = tuned_encoder(tiny_encoder)
    assert start_runtime(encoder, wanted, "bfloat16").name == "torch-bfloat16"


def test_bfloat16_is_not_for_onnxruntime(tiny_encoder: Path) -> None:
    with pytest.raises(SettingsInvalid, match="take --runtime torch, or --precision int8"):
        start_runtime(tuned_encoder(tiny_encoder), "onnxruntime", "bfloat16")


def test_bfloat16_that_is_far_off_is_not_taken(tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = TorchFeatures.__call__
    monkeypatch.setattr(TorchFeatures, "__call__", lambda self, *given: real(self, *given) * 1.2)
    encoder = tuned_encoder(tiny_encoder)
    with pytest.raises(SettingsInvalid, match="away from torch's: take --precision float32"):
        start_runtime(encoder, "auto", "bfloat16")


@pytest.mark.parametrize("emulated", [True, False])
def test_emulated_bfloat16_is_warned_of(
    tiny_encoder: Path, emulated: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("service.engine.runtime.bfloat16_is_emulated", lambda device: emulated)
    with caplog.at_level(logging.WARNING, logger="handful"):
        start_runtime(tuned_encoder(tiny_encoder), "auto", "bfloat16")
    assert ("float32 is many times faster" in caplog.text) is emulated


@pytest.mark.parametrize(
    ("precision", "expected"), [("auto", "torch-bfloat16"), ("bfloat16", "torch-bfloat16"), ("float32", "torch")]
)
@pytest.mark.parametrize("recorded", [True, False])
def test_on_a_gpu_graphs_are_tried_first(
    tiny_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    precision: Precision,
    expected: str,
    recorded: bool,
) -> None:
    made: list[bool] = []
    real = TorchFeatures.__init__

    def noted(self: TorchFeatures, encoder: Encoder, products: str, *, graphs: bool = False) -> None:
        made.append(graphs)
        if graphs and not recorded:
            raise RuntimeError("no graphs here")
        real(self, encoder, products)  # type: ignore[arg-type]

    monkeypatch.setattr(TorchFeatures, "__init__", noted)
    monkeypatch.setattr(Encoder, "_on_device", lambda self, rows, width: _padded(rows, width))
    encoder = tuned_encoder(tiny_encoder)
    encoder = replace(encoder, device=torch.device("cuda"))
    with caplog.at_level(logging.WARNING, logger="handful"):
        runtime = start_runtime(encoder, "auto", precision)
    assert runtime.name == expected
    assert made == ([True] if recorded or expected == "torch" else [True, False])
    assert ("no graphs here" in caplog.text) is not recorded


def _padded(rows: list[list[int]], width: int) -> torch.Tensor:
    return torch.tensor([row + [0] * (width - len(row)) for row in rows])


def test_a_service_in_bfloat16_answers_as_one_in_float32(start_service: StartService) -> None:
    answers = []
    for precision in ("float32", "bfloat16"):
        client = start_service(runtime="torch", precision=precision)
        adapt(client, precision)
        answers.append(predict(client, precision)["predictions"])
    assert client.get("/v1/checkpoint").json()["runtime"] == "torch-bfloat16"
    for one, other in zip(*answers, strict=True):
        assert one["label"] == other["label"]
        assert one["scores"] == pytest.approx(other["scores"], abs=0.02)


# ---- batches of fixed shapes ---------------------------------------------------------------------------------------


@given(rows=st.integers(1, 5000), width=st.integers(1, 600))
def test_a_fixed_shape_holds_the_batch(rows: int, width: int) -> None:
    shape = fixed_shape(rows, width)
    if shape is None:
        assert width > 512 or 2 * rows * max(8, 1.5 * width) > 4096
        return
    assert rows <= shape[0] < 2 * rows
    assert width <= shape[1] <= max(8, 1.5 * width)
    assert shape[0] * shape[1] <= 4096


def test_there_are_few_fixed_shapes() -> None:
    shapes = {fixed_shape(rows, width) for rows in range(1, 600) for width in range(1, 513)}
    assert len(shapes) < 100


def test_a_fixed_batch_has_the_features_of_its_texts(tiny_encoder: Path) -> None:
    encoder = tuned_encoder(tiny_encoder)
    texts = encoder.tokenize(INPUTS)
    batch = FixedBatch(CPU, 16, 64)
    for some in (texts, texts[1:2], texts[::-1], texts[:3], texts):  # what was there before leaves nothing
        batch.load(some)
        features = batch.features(encoder)
        assert features.isfinite().all()
        close(features[: len(some)], encoder.encode_batch(some))


def test_nothing_on_the_way_to_features_depends_on_what_the_device_holds(tiny_encoder: Path) -> None:
    encoder = tuned_encoder(tiny_encoder)
    with FakeTensorMode(allow_non_fake_inputs=True):  # tensors without data: whoever asks for some is refused
        ids = torch.ones(4, 16, dtype=torch.int32)
        features = encoder.padded_features(PaddedBatch(ids, ids, ids.bool(), ids.bool()))
        assert features.shape == (4, encoder.dim)
        with pytest.raises(DataDependentOutputException):
            bool(features.isfinite().all())


class _EagerBatch:
    """A stand-in for a CUDA graph."""

    made: list[tuple[int, int]]

    def __init__(self, encoder: Encoder, rows: int, width: int, *, pool: object) -> None:
        self.made.append((rows, width))
        self._encoder, self._batch = encoder, FixedBatch(CPU, rows, width)

    def __call__(self, texts: Sequence[TokenizedText]) -> torch.Tensor:
        self._batch.load(texts)
        return self._batch.features(self._encoder)[: len(texts)]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shapes that were recorded, on a machine whose graphs are computed anew each time."""
    _EagerBatch.made = []
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch_runtime, "_RecordedBatch", _EagerBatch)
    return _EagerBatch.made


def test_each_shape_is_recorded_once(tiny_encoder: Path, recorded: list[tuple[int, int]]) -> None:
    encoder = tuned_encoder(tiny_encoder)
    features = TorchFeatures(encoder, "float32", graphs=True)
    texts = encoder.tokenize(INPUTS)
    for _ in range(3):
        for batch in (texts, texts[:1], texts[1:2]):
            close(features(batch), encoder.encode_batch(batch))
    assert len(recorded) == len(set(recorded)) == 2, "one text of few words has the shape of another"


def test_large_batches_are_not_recorded(
    tiny_encoder: Path, recorded: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_runtime, "_MOST_TOKENS", 16)
    encoder = tuned_encoder(tiny_encoder)
    texts = encoder.tokenize(INPUTS)
    close(TorchFeatures(encoder, "float32", graphs=True)(texts), encoder.encode_batch(texts))
    assert recorded == []


def test_graphs_that_cannot_be_recorded_are_given_up(
    tiny_encoder: Path,
    recorded: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoder = tuned_encoder(tiny_encoder)
    features = TorchFeatures(encoder, "float32", graphs=True)
    texts = encoder.tokenize(INPUTS)
    features(texts[:1])

    def fails(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch_runtime, "_RecordedBatch", fails)
    with caplog.at_level(logging.WARNING, logger="handful"):
        for _ in range(2):
            close(features(texts), encoder.encode_batch(texts))
    assert [record.message for record in caplog.records] == ["CUDA graphs are given up: no memory"]
