"""The ONNX graph of an encoder that ``transformers`` computes: exported once, when a checkpoint is made.

The graph has no weights. They are inputs, by the names of the encoder's own file, and are put in place when a server
loads the graph: so the file is small, and right for meta-trained layers as well.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from jaxtyping import Bool, Float, Int
from onnx import TensorProto
from torch import Tensor, nn

from metalearn.encoder.encoder import Encoder
from metalearn.encoder.huggingface import HuggingFaceTransformer

log = logging.getLogger("handful")

Array = np.ndarray[Any, Any]

INPUTS = ("ids", "types", "attended")
"""Inputs of the graph beside the weights. Of shape (texts, tokens): int64, int64, and bool."""

_OPERATORS = 18
"""The version of ONNX's operators."""
_FURTHEST = 1e-4
"""The largest difference of a state to torch's, relative to its length. Rounding alone makes some 1e-6."""


class GraphUnavailable(RuntimeError):
    """An encoder has no graph that computes what torch computes."""


def exported_graph(encoder: Encoder) -> bytes | None:
    """The graph of an encoder that ``transformers`` computes; None where there is none, and torch has to compute it.

    Its output is the states after the last layer.
    """
    transformer = encoder.transformer
    if not isinstance(transformer, HuggingFaceTransformer):
        return None
    try:
        graph = _exported(transformer)
        _check(graph, transformer, encoder.max_tokens)
    except Exception as error:  # whatever the exporter, the model's own code or the runtime raises
        reason = (str(error) or type(error).__name__).splitlines()[0]
        log.warning("torch will compute the encoder, since its graph cannot be exported: %s", reason)
        return None
    return graph


@dataclass(frozen=True)
class LoadedGraph:
    """A graph with its weights in place, ready to compute.

    Attributes:
        session: The runtime's.
        inputs: The inputs that its outputs depend on.
        weights: Kept for the session, which reads their memory.
    """

    session: onnxruntime.InferenceSession
    inputs: Sequence[str]
    weights: Sequence[onnxruntime.OrtValue]

    def states(self, texts: Mapping[str, Tensor]) -> Float[Tensor, "texts tokens dim"]:
        """States after the last layer of a batch of texts, which has a tensor for each of ``INPUTS``."""
        (found,) = self.session.run(None, {name: texts[name].numpy() for name in self.inputs})
        return torch.from_numpy(found)


def load_graph(
    graph: onnx.ModelProto, weights: Mapping[str, Array], options: onnxruntime.SessionOptions
) -> LoadedGraph:
    """Loads a graph, with weights in the place of its inputs. It changes the graph.

    The weights stay where they are: what the runtime need not rearrange is in memory once.
    """
    used = _needed(graph)
    inputs = [each for each in graph.graph.input if each.name in INPUTS and each.name in used]
    held = {name: np.ascontiguousarray(weights[name]) for name in sorted(used & weights.keys())}
    for name, weight in held.items():
        declared = graph.graph.initializer.add(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(weight.dtype),
            dims=weight.shape,
            data_location=TensorProto.EXTERNAL,
        )
        for key, value in (("location", "weights"), ("offset", "0"), ("length", str(weight.nbytes))):
            declared.external_data.add(key=key, value=value)
    del graph.graph.input[:]
    graph.graph.input.extend(inputs)
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(weight) for weight in held.values()]
    options.add_external_initializers(list(held), values)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return LoadedGraph(session, [each.name for each in inputs], values)


def _needed(graph: onnx.ModelProto) -> set[str]:
    """Drops the nodes that the output does not need; returns the names that the others read."""
    needed, nodes = {output.name for output in graph.graph.output}, []
    for node in reversed(graph.graph.node):
        if needed.isdisjoint(node.output):
            continue
        nodes.append(node)
        needed.update(node.input)
    del graph.graph.node[:]
    graph.graph.node.extend(reversed(nodes))
    return needed


def _exported(transformer: HuggingFaceTransformer) -> bytes:
    weights = transformer.named_weights()
    ids, types, attended = _batch(3, 12, transformer)
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings(), torch.no_grad(), tempfile.TemporaryDirectory() as place:
        warnings.simplefilter("ignore")  # the exporter's on its own age, and on constants that are checked below
        torch.onnx.export(
            _Traced(transformer),
            (ids, types, attended, tuple(weights.values())),
            Path(place, "graph.onnx"),
            input_names=[*INPUTS, *weights],
            output_names=["states"],
            dynamic_axes=dict.fromkeys((*INPUTS, "states"), axes),
            opset_version=_OPERATORS,
            dynamo=False,  # the other exporter needs a package more, and takes minutes
        )
        return Path(place, "graph.onnx").read_bytes()


class _Traced(nn.Module):
    """The transformer as a function of its weights."""

    def __init__(self, transformer: HuggingFaceTransformer) -> None:
        super().__init__()
        self._transformer = transformer

    def forward(
        self,
        ids: Int[Tensor, "texts tokens"],
        types: Int[Tensor, "texts tokens"],
        attended: Bool[Tensor, "texts tokens"],
        weights: Sequence[Tensor],
    ) -> Tensor:
        transformer = self._transformer
        with _in_place(transformer.model, dict(zip(transformer.weight_paths.values(), weights, strict=True))):
            return transformer.last_states(ids, types, attended)


@contextmanager
def _in_place(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Other weights in a module. ``torch.func.functional_call`` refuses to be traced."""
    places: list[tuple[dict[str, Any], str]] = []
    for path in weights:
        owner, _, name = path.rpartition(".")
        places.append((model.get_submodule(owner)._parameters, name))
    own = [parameters[name] for parameters, name in places]
    try:
        for (parameters, name), weight in zip(places, weights.values(), strict=True):
            parameters[name] = weight
        yield
    finally:
        for (parameters, name), weight in zip(places, own, strict=True):
            parameters[name] = weight


def _batch(texts: int, tokens: int, transformer: HuggingFaceTransformer) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, types and mask of texts of several lengths, the longest first."""
    ids = (torch.arange(texts * tokens).view(texts, tokens) * 7 + 3) % int(transformer.model.config.vocab_size)
    attended = (
        torch.arange(tokens) < torch.tensor([max(1, tokens - row * tokens // texts) for row in range(texts)])[:, None]
    )
    return ids * attended, torch.zeros_like(ids), attended


def _check(graph: bytes, transformer: HuggingFaceTransformer, max_tokens: int) -> None:
    """Compares the graph's states with torch's, for texts of several lengths."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    weights = {name: weight.numpy() for name, weight in transformer.named_weights().items()}
    loaded = load_graph(onnx.load_from_string(graph), weights, options)
    for texts, tokens in ((1, 4), (4, 8), (3, 40), (2, min(max_tokens, 200))):
        batch = _batch(texts, tokens, transformer)
        with torch.no_grad():
            expected = transformer.last_states(*batch)
        found = loaded.states(dict(zip(INPUTS, batch, strict=True)))
        apart = ((found - expected).norm(dim=2) / expected.norm(dim=2))[batch[2]].max()
        if not apart <= _FURTHEST:
            raise GraphUnavailable(f"states of {tokens} tokens are {apart:.1e} from torch's")
