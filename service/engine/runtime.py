"""The runtime that computes features: torch, or ONNX Runtime, which is faster on CPUs."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import onnxruntime  # type: ignore[import-untyped]
import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.devices import bfloat16_is_emulated
from metalearn.encoder.encoder import Encoder, FeatureRuntime, NormsOfRows, TorchRuntime
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import TextInput
from service.engine.exported_graph import ExportedFeatures
from service.engine.onnx_graph import feature_graph, has_graph
from service.engine.onnx_session import session_options
from service.engine.threads import one_thread
from service.engine.torch_runtime import TorchFeatures
from service.settings import Precision, RuntimeName, SettingsInvalid

log = logging.getLogger("handful")

Products = Literal["float32", "bfloat16", "int8"]

_FURTHEST: dict[Products, float] = {"float32": 1e-4, "bfloat16": 0.05, "int8": 0.2}
"""Largest distance to torch's features in float32, relative to their length. Rounding alone makes some 1e-6, 0.01 and
0.08; at 0.2 vectors of unit length have a cosine of 0.98."""
_TRIED = (
    TextInput("where is my card"),
    TextInput("a man sleeps on a bench", "somebody is awake"),
    TextInput("?"),
    TextInput("the parcel that was to come last week has been lost on its way, and nobody knows where"),
)


class OnnxFeatures:
    """A runtime that computes features by ONNX Runtime on the CPU. Belongs to the compute thread."""

    def __init__(
        self,
        encoder: Encoder,
        precision: Literal["float32", "int8"] = "float32",
        *,
        spins_between: bool = False,
        norms: Sequence[str] = (),
    ) -> None:
        """Builds and loads the graph.

        Args:
            encoder: The encoder, on a CPU.
            precision: The number format of the layers' products.
            spins_between: See ``session_options``.
            norms: The norms that texts may have of their own; see ``feature_graph``.
        """
        content = feature_graph(encoder, int8=precision == "int8", norms=norms).SerializeToString()
        self.name = "onnxruntime" if precision == "float32" else f"onnxruntime-{precision}"
        self.norms = norms
        self._encoder = encoder
        own = encoder.transformer.layer_weights(0)
        self._own_norms = [own[name].view(1, 1, -1) for name in _weights_of(norms)]
        options = session_options(spins_between=spins_between)
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """See ``Encoder.encode_batch``."""
        return self._run("features", texts, norms_of_rows)

    def token_states(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts tokens dim"]:
        """See ``Encoder.token_states``."""
        return self._run("states", texts, None)

    def _run(self, output: str, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None) -> Tensor:
        encoder = self._encoder
        with one_thread():  # torch's threads would stay awake, and compete with ONNX Runtime's for the cores
            padded = encoder.padded(texts)
            embedded = encoder.transformer.embed(padded.ids, padded.types, padded.attended)
            inputs = {
                "embedded": embedded.numpy(),
                "attended": padded.attended.int().numpy(),
                "asked": padded.asked.float().numpy(),
            }
        if self.norms:
            rows = (
                [vector.expand(len(texts), 1, -1) for vector in self._own_norms]
                if norms_of_rows is None
                else [norms_of_rows[name] for name in _weights_of(self.norms)]
            )
            inputs["norms"] = torch.cat(rows, dim=1).numpy()
        (found,) = self._session.run([output], inputs)
        return torch.from_numpy(found)


def _weights_of(norms: Sequence[str]) -> list[str]:
    return [f"{norm}.{part}" for norm in norms for part in ("weight", "bias")]


def start_runtime(
    encoder: Encoder, wanted: RuntimeName, precision: Precision = "float32", *, norms: Sequence[str] = ()
) -> FeatureRuntime:
    """Starts the wanted runtime, after a comparison of its features with the encoder's.

    Args:
        encoder: The encoder, on its device.
        wanted: ``auto`` takes ONNX Runtime on a CPU, torch elsewhere or for bfloat16, and torch where the two do not
            agree, or where the encoder has no graph: neither written out nor exported.
        precision: ``auto`` takes int8 by ONNX Runtime and bfloat16 by torch on CUDA, and float32 where that is far from
            torch's features. Tasks with norms of their own adapt by torch in float32, so that it is float32 for them.
        norms: The norms that each task has of its own.

    Raises:
        SettingsInvalid: The given runtime and precision do not fit this device, or each other, or their features are
            far from torch's.
    """
    _check(encoder, wanted, precision)
    if _by_onnx(encoder) is None:
        log.info("an encoder of the architecture %s is computed by torch", encoder.transformer.architecture)
    candidates = _candidates(encoder, wanted, precision, norms)
    if not candidates:
        return TorchRuntime(encoder)
    texts = encoder.tokenize(_TRIED)
    for products, make in candidates:
        try:
            runtime = make()
            apart = _largest_distance(runtime, encoder, texts)
        except RuntimeError as error:
            trouble = f"{products} does not work: {error}"
        else:
            if apart <= _FURTHEST[products]:
                return runtime
            trouble = f"features by {runtime.name} are {apart:.1e} away from torch's"
        log.warning("given up: %s", trouble)
    asked_for = precision in {"int8", "bfloat16"}
    if asked_for or wanted == "onnxruntime":
        raise SettingsInvalid(f"{trouble}: take --{'precision float32' if asked_for else 'runtime torch'}")
    log.warning("computing with torch")
    return TorchRuntime(encoder)


def _largest_distance(runtime: FeatureRuntime, encoder: Encoder, texts: Sequence[TokenizedText]) -> float:
    """The largest relative distance of a runtime's features to torch's, with norms of the texts' own if it has any."""
    tried = [None, _tried_norms(encoder, runtime.norms)] if runtime.norms else [None]
    apart = []
    for norms_of_rows in tried:
        expected = encoder.encode_batch(texts, norms_of_rows)
        apart.append((runtime(texts, norms_of_rows) - expected).norm(dim=1) / expected.norm(dim=1))
    return float(torch.cat(apart).max())


def _tried_norms(encoder: Encoder, norms: Sequence[str]) -> NormsOfRows:
    """Norms for the comparison, different for each text."""
    own = encoder.transformer.layer_weights(0)
    moved = 1 + 0.1 * torch.arange(len(_TRIED), device=encoder.device).view(-1, 1, 1)
    return {name: own[name] * moved for name in _weights_of(norms)}


def _check(encoder: Encoder, wanted: RuntimeName, precision: Precision) -> None:
    on_cpu = encoder.device.type == "cpu"
    if precision == "int8" and (wanted == "torch" or not on_cpu):
        raise SettingsInvalid("int8 is for ONNX Runtime on a CPU: take --precision float32")
    if (precision == "int8" or wanted == "onnxruntime") and _by_onnx(encoder) is None:
        option = "--runtime torch" if wanted == "onnxruntime" else "--precision float32"
        raise SettingsInvalid(
            f"the checkpoint has no graph of its encoder ({encoder.transformer.architecture}) for ONNX Runtime: "
            f"take {option}"
        )
    if precision == "bfloat16" and wanted == "onnxruntime":
        raise SettingsInvalid("bfloat16 is for torch: take --runtime torch, or --precision int8")
    if wanted == "onnxruntime" and not on_cpu:
        raise SettingsInvalid(f"ONNX Runtime computes on the CPU here, not on {encoder.device}: take --runtime torch")
    if precision == "bfloat16" and bfloat16_is_emulated(encoder.device):
        log.warning("this CPU has no bfloat16 instructions: --precision float32 is many times faster")


def _candidates(
    encoder: Encoder, wanted: RuntimeName, precision: Precision, norms: Sequence[str]
) -> list[tuple[Products, Callable[[], FeatureRuntime]]]:
    """The runtimes that may compute, by precision, the best first; empty where the encoder computes by itself."""
    device, make = encoder.device.type, _by_onnx(encoder)
    if make is not None and (
        wanted == "onnxruntime" or (wanted == "auto" and device == "cpu" and precision != "bfloat16")
    ):
        by_itself = {"float32"} if norms else {"int8", "float32"}
        accepted = by_itself if precision == "auto" else {precision}
        by_onnx: tuple[Literal["int8", "float32"], ...] = ("int8", "float32")
        return [(each, partial(make, encoder, each, norms=norms)) for each in by_onnx if each in accepted]
    candidates: list[tuple[Products, Callable[[], FeatureRuntime]]] = []
    in_bfloat16 = precision == "bfloat16" or (precision == "auto" and device == "cuda")
    if device == "cuda" and has_graph(encoder):  # others may ask the device for numbers, which no CUDA graph can record
        products: Literal["bfloat16", "float32"] = "bfloat16" if in_bfloat16 else "float32"
        candidates.append((products, partial(TorchFeatures, encoder, products, graphs=True)))
    if in_bfloat16:
        candidates.append(("bfloat16", partial(TorchFeatures, encoder, "bfloat16")))
    return candidates


def _by_onnx(encoder: Encoder) -> type[OnnxFeatures] | type[ExportedFeatures] | None:
    """The runtime that computes the encoder by ONNX Runtime; None where there is no graph for it."""
    if has_graph(encoder):
        return OnnxFeatures
    return None if encoder.graph is None else ExportedFeatures
