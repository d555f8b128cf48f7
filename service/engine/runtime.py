"""What computes features: torch, or ONNX Runtime, which is faster on CPUs."""

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoder import Encoder, TokenizedText
from metalearn.types import TextInput
from service.engine.onnx_graph import feature_graph
from service.settings import Precision, RuntimeName, SettingsInvalid

log = logging.getLogger("handful")

Products = Literal["float32", "int8"]

_FURTHEST: dict[Products, float] = {"float32": 1e-4, "int8": 0.2}
"""Largest distance to torch's features, beside their length. Rounding alone makes some 1e-6 and 0.08; at 0.2 vectors of
unit length have a cosine of 0.98."""
_TRIED = (
    TextInput("where is my card"),
    TextInput("a man sleeps on a bench", "somebody is awake"),
    TextInput("?"),
    TextInput("the parcel that was to come last week has been lost on its way, and nobody knows where " * 3),
)


class OnnxFeatures:
    """Features by ONNX Runtime, on the CPU. Belongs to the compute thread."""

    def __init__(self, encoder: Encoder, precision: Products = "float32", *, spins_between: bool = False) -> None:
        """Builds and loads the graph.

        Args:
            encoder: On a CPU.
            precision: What its products are of.
            spins_between: Whether threads keep their cores busy also when nothing is computed, as is ONNX Runtime's
                default: faster where nothing else wants to run.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        if not spins_between:
            # Threads that slept would have to be woken for every product; idle ones would take the event loop's cores
            options.add_session_config_entry("session.force_spinning_stop", "1")
        options.log_severity_level = 3
        content = feature_graph(encoder, int8=precision == "int8").SerializeToString()
        self.name = "onnxruntime" if precision == "float32" else f"onnxruntime-{precision}"
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def __call__(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts dim"]:
        """See ``Encoder.encode_batch``."""
        shape = len(texts), max(len(text.ids) for text in texts)
        ids, types, attended = (np.zeros(shape, dtype=np.int32) for _ in range(3))
        for row, text in enumerate(texts):
            length = len(text.ids)
            ids[row, :length], types[row, :length], attended[row, :length] = text.ids, text.type_ids, 1
        (features,) = self._session.run(None, {"ids": ids, "types": types, "attended": attended})
        return torch.from_numpy(features)


def start_runtime(encoder: Encoder, wanted: RuntimeName, precision: Precision = "float32") -> None:
    """Lets the runtime that is wanted compute the encoder's features.

    Args:
        encoder: On its device.
        wanted: ``auto`` takes ONNX Runtime on a CPU, torch elsewhere, and torch where the two do not agree.
        precision: Of ONNX Runtime's products; ``auto`` takes int8, and float32 where that is far from torch's features.

    Raises:
        SettingsInvalid: ONNX Runtime was asked for, or a precision that it alone has, and the encoder is not on a CPU,
            or the two do not agree.
    """
    on_cpu = encoder.device.type == "cpu"
    if precision == "int8":
        if wanted == "torch" or not on_cpu:
            raise SettingsInvalid("int8 is for ONNX Runtime on a CPU: take --precision float32")
        wanted = "onnxruntime"
    if wanted == "torch" or (wanted == "auto" and not on_cpu):
        return
    if not on_cpu:
        raise SettingsInvalid(f"ONNX Runtime computes on the CPU here, not on {encoder.device}: take --runtime torch")
    texts = encoder.tokenize(_TRIED)
    expected = encoder.encode_batch(texts)
    choices: tuple[Products, ...] = ("int8", "float32") if precision == "auto" else (precision,)
    for products in choices:
        runtime = OnnxFeatures(encoder, products)
        apart = float(((runtime(texts) - expected).norm(dim=1) / expected.norm(dim=1)).max())
        if apart <= _FURTHEST[products]:
            encoder.run_with(runtime)
            return
        trouble = f"ONNX Runtime's features by {products} are {apart:.1e} away from torch's"
        log.warning("%s", trouble)
    if wanted == "onnxruntime":
        instead = "precision float32" if precision == "int8" else "runtime torch"
        raise SettingsInvalid(f"{trouble}: take --{instead}")
    log.warning("computing with torch")
