"""The computation from embedded tokens to features as one ONNX graph, of ONNX Runtime's own transformer operators.

The graph is written out, and not traced: torch's exporter takes a minute where this takes a second, and its trace lacks
the fused operators that speed up a CPU most (attention in one piece, sums within norms).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from jaxtyping import Float
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from metalearn.encoder.bert import BertConfig, BertTransformer
from metalearn.encoder.encoder import Encoder
from metalearn.encoder.stages import PoolingMode

_OPERATORS_OF_RUNTIME = "com.microsoft"
"""The domain of the runtime's own operators; see its ContribOperators.md."""

_LARGEST = 127
"""The largest 8-bit integer of a range that is symmetric about zero."""


def has_graph(encoder: Encoder) -> bool:
    """Whether the graph of the encoder's architecture is written out here."""
    return isinstance(encoder.transformer, BertTransformer)


def feature_graph(encoder: Encoder, *, int8: bool = False, norms: Sequence[str] = ()) -> onnx.ModelProto:
    """Builds the graph that computes ``Encoder.encode_batch`` on a padded batch.

    Args:
        encoder: The encoder.
        int8: Whether the layers' products are of 8-bit integers: weights with a scale for each output, inputs with a
            scale for each token.
        norms: The norms that each text has of its own, as ``layers.INDEX.PART``.

    The embeddings are looked up outside, by ``Transformer.embed``: those of a large vocabulary would be kept twice.

    Inputs are ``embedded``, float32 of shape (texts, tokens, width), and two of shape (texts, tokens): ``attended``,
    int32, which is 1 at tokens and 0 at padding, and ``asked``, float32, which is 1 at the tokens that are pooled and 0
    at all others. Outputs are float32: ``features`` of shape (texts, width), and of shape (texts, tokens, width)
    ``middle``, after the middle layer, and ``states``, after the last one. With ``norms`` there is an input of that
    name, float32 of shape (texts, 2 x norms, width): of each norm its weight and its bias.
    """
    bert, pooling = encoder.transformer, encoder.stages.pooling
    if not isinstance(bert, BertTransformer):
        raise TypeError("only the graph of a BERT encoder is written out")
    build = _Builder(bert.config, int8=int8, norms=norms)
    weights, after = bert.layer_weights(0), ["embedded"]
    for i in range(encoder.n_layers):
        after.append(build.layer(after[-1], weights, i))
    features = build.pooled(after[-1], pooling.mode)
    if pooling.normalize:
        features = build("LpNormalization", features, axis=-1, p=2)
    return build.model({"features": features, "middle": after[encoder.middle_layer], "states": after[-1]})


class _Builder:
    """Builds a graph: every call adds a node and returns the name of its output."""

    def __init__(self, config: BertConfig, *, int8: bool, norms: Sequence[str]) -> None:
        self._config = config
        self._int8 = int8
        self._norms = norms
        self._nodes: list[onnx.NodeProto] = []
        self._number = itertools.count()
        self._constants: list[onnx.TensorProto] = []

    def __call__(
        self, operator: str, *inputs: str, domain: str = "", more: Sequence[str] = (), **attributes: Any
    ) -> str:
        name = f"{operator}_{next(self._number)}"
        self._nodes.append(helper.make_node(operator, inputs, [name, *more], name=name, domain=domain, **attributes))
        return name

    def of_runtime(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self(operator, *inputs, domain=_OPERATORS_OF_RUNTIME, **attributes)

    def constant(self, value: Tensor | np.ndarray[Any, Any] | np.generic) -> str:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def axis(self, axis: int) -> str:
        return self.constant(np.array([axis]))

    def layer(self, hidden: str, weights: Mapping[str, Tensor], index: int) -> str:
        """Adds a layer, as ``metalearn.encoder.bert.layer_forward`` computes it."""

        def matrix(name: str) -> Tensor:
            return weights[f"layers.{index}.{name}.weight"]

        def vector(name: str) -> str:
            return self.constant(weights[f"layers.{index}.{name}"])

        def normed(inputs: str, residual: str, norm: str, bias: str) -> str:
            name, epsilon = f"layers.{index}.{norm}", self._config.layer_norm_eps
            if name not in self._norms:
                vectors = (vector(f"{norm}.weight"), vector(f"{norm}.bias"), vector(f"{bias}.bias"))
                return self.of_runtime("SkipLayerNormalization", inputs, residual, *vectors, epsilon=epsilon)
            plain = (self.constant(torch.ones(dim)), self.constant(torch.zeros(dim)), vector(f"{bias}.bias"))
            unit = self.of_runtime("SkipLayerNormalization", inputs, residual, *plain, epsilon=epsilon)
            first = 2 * self._norms.index(name)
            weight, shift = (self("Gather", "norms", self.constant(np.array([i])), axis=1) for i in (first, first + 1))
            return self("Add", self("Mul", unit, weight), shift)

        heads, dim = self._config.num_attention_heads, self._config.hidden_size
        mixed = self.attention(hidden, matrix("query_key_value"), vector("query_key_value.bias"), heads)
        mixed = self.product(mixed, matrix("attention_output"))
        hidden = normed(mixed, hidden, "attention_norm", "attention_output")
        wide = self.of_runtime("BiasGelu", self.product(hidden, matrix("feed_forward")), vector("feed_forward.bias"))
        return normed(self.product(wide, matrix("output")), hidden, "output_norm", "output")

    def product(self, inputs: str, weight: Float[Tensor, "outputs inputs"]) -> str:
        if not self._int8:
            return self("MatMul", inputs, self.constant(weight.T))
        # A scale for each token, so that its neighbours in the batch do not affect it
        largest = self("ReduceMax", self("Abs", inputs), self.axis(-1), keepdims=1)
        largest = self("Max", largest, self.constant(np.float32(np.finfo(np.float32).tiny)))
        scale, zero = self.constant(np.float32(1 / _LARGEST)), self.constant(np.uint8(128))
        integers = self("QuantizeLinear", self("Div", inputs, largest), scale, zero)
        matrix, scales = self._quantized(weight)
        return self("Mul", self.of_runtime("MatMulIntegerToFloat", integers, matrix, scale, scales, zero), largest)

    def attention(self, hidden: str, weight: Float[Tensor, "outputs inputs"], bias: str, heads: int) -> str:
        if not self._int8:
            return self.of_runtime("Attention", hidden, self.constant(weight.T), bias, "attended", num_heads=heads)
        both = self.product(hidden, weight)
        parts = [f"{part}_{next(self._number)}" for part in ("key", "value")]
        query = self("Split", both, more=parts, axis=-1, num_outputs=3)
        return self.of_runtime("MultiHeadAttention", query, *parts, bias, "attended", num_heads=heads)

    def _quantized(self, weight: Float[Tensor, "outputs inputs"]) -> tuple[str, str]:
        """Quantizes weights; returns integers and the scale of each output. An output of zero weights stays zero."""
        scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(weight.dtype).tiny) / _LARGEST
        return self.constant((weight / scale.unsqueeze(1)).round().to(torch.int8).T), self.constant(scale)

    def pooled(self, hidden: str, mode: PoolingMode) -> str:
        """Adds the product of states and each token's share in the pooled one: a mean, or one token alone."""
        if mode == "mean":
            shares = self("Div", "asked", self("ReduceSum", "asked", self.axis(1), keepdims=1))
        else:
            count = self("CumSum", "asked", self.constant(np.int64(1)), reverse=int(mode == "last"))
            is_one = self("Cast", self("Equal", count, self.constant(np.float32(1))), to=TensorProto.FLOAT)
            shares = self("Mul", "asked", is_one)
        return self("Squeeze", self("MatMul", self("Unsqueeze", shares, self.axis(1)), hidden), self.axis(1))

    def model(self, made: Mapping[str, str]) -> onnx.ModelProto:
        self._nodes += [helper.make_node("Identity", [each], [name]) for name, each in made.items()]
        inputs = [
            helper.make_tensor_value_info(name, kind, ["texts", "tokens"])
            for name, kind in (("attended", TensorProto.INT32), ("asked", TensorProto.FLOAT))
        ]
        embedded: list[str | int | None] = ["texts", "tokens", self._config.hidden_size]
        inputs.append(helper.make_tensor_value_info("embedded", TensorProto.FLOAT, embedded))
        if self._norms:
            shape: list[str | int | None] = ["texts", 2 * len(self._norms), self._config.hidden_size]
            inputs.append(helper.make_tensor_value_info("norms", TensorProto.FLOAT, shape))
        pooled: list[str | int | None] = ["texts", self._config.hidden_size]
        shapes = [(name, pooled if name == "features" else embedded) for name in made]
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes]
        graph = helper.make_graph(self._nodes, "features", inputs, outputs, self._constants)
        sets = [helper.make_opsetid("", 18), helper.make_opsetid(_OPERATORS_OF_RUNTIME, 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=9)
