"""Features by ONNX Runtime on a CPU, from the graph that was exported when the checkpoint was made.

The graph computes the states of tokens; torch pools them. Products may be of 8-bit integers, as in ``onnx_graph``.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import helper, numpy_helper
from torch import Tensor

from metalearn.encoder.batches import plan_batches
from metalearn.encoder.encoder import Encoder, NormsOfRows
from metalearn.encoder.huggingface import HuggingFaceTransformer
from metalearn.encoder.tokenizing import TokenizedText
from metalearn.types import TextInput
from model_store.transformer_graph import Array, load_graph
from service.engine.onnx_session import session_options

_OPERATORS_OF_RUNTIME = "com.microsoft"
_LARGEST = 127

Weights = dict[str, Array]


_INDEPENDENT = [TextInput(" ".join(["card"] * n + ["fees"])) for n in (1, 2, 3, 4, 5, 6, 9, 20, 21, 40)]
"""Texts of several widths, some of them with others of their width beside them."""


class ExportedFeatures:
    """A runtime that computes features from the exported graph. Belongs to the compute thread."""

    def __init__(
        self, encoder: Encoder, precision: Literal["float32", "int8"] = "float32", *, norms: Sequence[str] = ()
    ) -> None:
        """Puts the weights into the graph, and loads it.

        Args:
            encoder: The encoder, on a CPU, with its graph.
            precision: The number format of the layers' products.
            norms: The norms that texts may have of their own: none here. The encoder itself computes such texts.

        Raises:
            RuntimeError: The features of a text depend on its neighbours in a batch.
        """
        transformer = encoder.transformer
        if encoder.graph is None or not isinstance(transformer, HuggingFaceTransformer):
            raise TypeError("the encoder has no exported graph")
        graph = onnx.load_from_string(encoder.graph)
        weights = {name: weight.detach().numpy() for name, weight in transformer.named_weights().items()}
        if precision == "int8":
            _use_integers(graph, weights)
        self.name = "onnxruntime" if precision == "float32" else f"onnxruntime-{precision}"
        self.norms: Sequence[str] = ()
        self._encoder = encoder
        self._graph = load_graph(graph, weights, session_options())
        self._check_independence()

    def __call__(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """See ``Encoder.encode_batch``."""
        padded = self._encoder.padded(texts)
        return self._encoder.features_of(self._graph.states(padded._asdict()), padded.asked)

    def token_states(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts tokens dim"]:
        """See ``Encoder.token_states``: computed by torch, since the graph has no states of the middle layer."""
        return self._encoder.token_states(texts)

    def _check_independence(self) -> None:
        """Compares the bits of texts alone and beside others of their width; see docs/adr/0007."""
        texts = self._encoder.tokenize(_INDEPENDENT)
        for rows in plan_batches([len(text.ids) for text in texts], 512):
            together = self([texts[row] for row in rows])
            alone = torch.cat([self([texts[row]]) for row in rows])
            if not torch.equal(together, alone):
                raise RuntimeError(f"features by {self.name} depend on the other texts of a batch")


def _use_integers(graph: onnx.ModelProto, weights: Weights) -> None:
    """Puts products of 8-bit integers in the place of those with a matrix of weights.

    As in ``onnx_graph``, weights have a scale for each output, and inputs a scale for each token, so that a token's
    neighbours do not affect it.
    """
    transposed = {
        node.output[0]: node.input[0]
        for node in graph.graph.node
        if node.op_type == "Transpose" and node.input[0] in weights and weights[node.input[0]].ndim == 2
    }
    constants: Weights = {
        "tiny": np.array(np.finfo(np.float32).tiny, np.float32),
        "scale": np.array(1 / _LARGEST, np.float32),
        "zero": np.array(128, np.uint8),
        "last": np.array([-1]),
    }
    graph.graph.initializer.extend(numpy_helper.from_array(v, f"int8.{n}") for n, v in constants.items())
    nodes: list[onnx.NodeProto] = []
    rounded: set[str] = set()
    for node in graph.graph.node:
        name = transposed.get(node.input[1]) if node.op_type == "MatMul" else None
        if name is None:
            nodes.append(node)
            continue
        inputs = node.input[0]
        if inputs not in rounded:  # queries, keys and values have the same
            rounded.add(inputs)
            nodes += _rounded(inputs)
        if f"{name}.int8" not in weights:
            weights |= _quantized(name, weights[name])
        parts = (f"{inputs}.int8", f"{name}.int8", "int8.scale", f"{name}.scales", "int8.zero")
        product = f"{node.output[0]}.of_units"
        nodes.append(helper.make_node("MatMulIntegerToFloat", parts, [product], domain=_OPERATORS_OF_RUNTIME))
        nodes.append(helper.make_node("Mul", [product, f"{inputs}.largest"], node.output))
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    graph.opset_import.append(helper.make_opsetid(_OPERATORS_OF_RUNTIME, 1))


def _rounded(inputs: str) -> list[onnx.NodeProto]:
    """Nodes that scale each token's vector to its largest number, and round it."""
    size, most, largest, unit, integers = (f"{inputs}.{part}" for part in ("size", "most", "largest", "unit", "int8"))
    return [
        helper.make_node("Abs", [inputs], [size]),
        helper.make_node("ReduceMax", [size, "int8.last"], [most], keepdims=1),
        helper.make_node("Max", [most, "int8.tiny"], [largest]),
        helper.make_node("Div", [inputs, largest], [unit]),
        helper.make_node("QuantizeLinear", [unit, "int8.scale", "int8.zero"], [integers]),
    ]


def _quantized(name: str, weight: Array) -> Weights:
    """Integers of a matrix of shape (outputs, inputs), transposed, and the scale of each output."""
    scales = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / np.float32(_LARGEST)
    integers = np.rint(weight / scales[:, None]).astype(np.int8)
    return {f"{name}.int8": np.ascontiguousarray(integers.T), f"{name}.scales": scales.astype(np.float32)}
