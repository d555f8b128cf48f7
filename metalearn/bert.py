"""The BERT encoder, small enough to read.

The encoder is written out, and not taken from transformers, because what a tenant owns enters its graph (see
docs/adr/0001), and because importing the library's modelling code alone takes longer than the rest of a server's start.
Tests hold it to transformers' own output.

Source: Devlin et al. 2019; layer for layer the ``BertModel`` of transformers without its pooler.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own abbreviation

from metalearn.errors import EncoderUnavailable


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
        """From ``config.json``.

        Raises:
            EncoderUnavailable: The file describes another architecture, or a variant that is not supported.
        """
        try:
            fields = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise EncoderUnavailable(f"cannot read {path}: {error}") from error
        if not isinstance(fields, dict):
            raise EncoderUnavailable(f"{path} holds no JSON object")
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


class _Linear(nn.Linear):
    """Without the random start, which the stored weights replace."""

    def reset_parameters(self) -> None:
        """Leaves the weights as they are."""


class _Embedding(nn.Embedding):
    """Without the random start, which the stored weights replace."""

    def reset_parameters(self) -> None:
        """Leaves the weights as they are."""


class BertLayer(nn.Module):
    """Self-attention and feed-forward, each followed by a residual sum and a layer norm. Holds weights only."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.query_key_value = _Linear(dim, 3 * dim)
        self.attention_output = _Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, config.layer_norm_eps)
        self.feed_forward = _Linear(dim, config.intermediate_size)
        self.output = _Linear(config.intermediate_size, dim)
        self.output_norm = nn.LayerNorm(dim, config.layer_norm_eps)


def layer_forward(
    config: BertConfig,
    weights: Mapping[str, Tensor],
    hidden: Float[Tensor, "texts tokens dim"],
    attended: Bool[Tensor, "texts 1 1 tokens"] | None,
) -> Float[Tensor, "texts tokens dim"]:
    """One layer as a function of its weights, so that a task may bring its own.

    Args:
        config: Shape of the encoder.
        weights: Named as in ``BertLayer``. Those of a norm may be of shape (texts, 1, dim): each text has its own.
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


class BertEncoder(nn.Module):
    """Token ids -> a vector per token."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        dim = config.hidden_size
        self.config = config
        self.words = _Embedding(config.vocab_size, dim)
        self.positions = _Embedding(config.max_position_embeddings, dim)
        self.types = _Embedding(config.type_vocab_size, dim)
        self.norm = nn.LayerNorm(dim, config.layer_norm_eps)
        self.layers = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))

    @classmethod
    def load(cls, folder: Path) -> "BertEncoder":
        """From a folder with ``config.json`` and ``model.safetensors``.

        Raises:
            EncoderUnavailable: A file is missing, or the two do not fit together.
        """
        config = BertConfig.load(folder / "config.json")
        try:
            stored = safetensors.torch.load_file(folder / "model.safetensors")
        except (OSError, safetensors.SafetensorError) as error:
            raise EncoderUnavailable(f"cannot read {folder / 'model.safetensors'}: {error}") from error
        encoder = cls(config)
        try:
            encoder.load_state_dict(_renamed(stored, config), assign=True)
        except (KeyError, RuntimeError) as error:
            raise EncoderUnavailable(f"the weights in {folder} do not fit its config.json: {error}") from error
        return encoder

    def embed(
        self, ids: Int[Tensor, "texts tokens"], types: Int[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts tokens dim"]:
        """What the first layer reads."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        embedded: Tensor = self.norm(self.words(ids) + self.types(types) + self.positions(positions))
        return embedded

    def run_layers(
        self,
        hidden: Float[Tensor, "texts tokens dim"],
        attended: Bool[Tensor, "texts tokens"] | None,
        *,
        first: int = 0,
        last: int | None = None,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "texts tokens dim"]:
        """Hidden states after the layers from ``first`` up to, not including, ``last``.

        Args:
            hidden: What layer ``first`` reads.
            attended: None where no token is padding.
            first: Index of the first layer that runs.
            last: Index after the last one; all by default.
            weights: Take the place of the encoder's own, by the names of ``layer_weights``.
        """
        mask = None if attended is None else attended[:, None, None, :]
        for i in list(range(len(self.layers)))[first:last]:
            own: dict[str, Tensor] = dict(self.layers[i].named_parameters())
            if weights is not None:
                own = {name: weights.get(f"layers.{i}.{name}", weight) for name, weight in own.items()}
            hidden = layer_forward(self.config, own, hidden, mask)
        return hidden

    def layer_weights(self, first: int) -> dict[str, Tensor]:
        """Weights of the layers from ``first`` on, as ``layers.INDEX.PART.weight`` and ``.bias``."""
        return {
            f"layers.{i}.{name}": weight.detach()
            for i in range(first, len(self.layers))
            for name, weight in self.layers[i].named_parameters()
        }

    def forward(
        self,
        ids: Int[Tensor, "texts tokens"],
        types: Int[Tensor, "texts tokens"],
        attended: Bool[Tensor, "texts tokens"] | None,
    ) -> Float[Tensor, "texts tokens dim"]:
        """Hidden states of the last layer; ``attended`` is None where no token is padding."""
        return self.run_layers(self.embed(ids, types), attended)


def _renamed(stored: dict[str, Tensor], config: BertConfig) -> dict[str, Tensor]:
    """The stored weights under this module's names, in float32; query, key and value side by side."""
    tensors = {name.removeprefix("bert."): tensor.float() for name, tensor in stored.items()}
    renamed = {
        "words.weight": tensors["embeddings.word_embeddings.weight"],
        "positions.weight": tensors["embeddings.position_embeddings.weight"],
        "types.weight": tensors["embeddings.token_type_embeddings.weight"],
        "norm.weight": tensors["embeddings.LayerNorm.weight"],
        "norm.bias": tensors["embeddings.LayerNorm.bias"],
    }
    names = {
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "feed_forward": "intermediate.dense",
        "output": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    for i in range(config.num_hidden_layers):
        for part in ("weight", "bias"):
            for ours, theirs in names.items():
                renamed[f"layers.{i}.{ours}.{part}"] = tensors[f"encoder.layer.{i}.{theirs}.{part}"]
            renamed[f"layers.{i}.query_key_value.{part}"] = torch.cat(
                [tensors[f"encoder.layer.{i}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            )
    return renamed
