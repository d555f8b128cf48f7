"""The protocol of a transformer in an encoder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metalearn.encoder.e5_file import E5_FILE
from metalearn.errors import EncoderUnavailable


@runtime_checkable
class Transformer(Protocol):
    """Token ids -> a vector per token, layer by layer. Nothing of it changes; ``with_weights`` and ``to`` make others.

    Attributes:
        architecture: Names it to users, as ``model_type`` of its ``config.json``.
        dim: Width of the vectors.
        n_layers: How many layers can be run, and tuned, one by one; 0 where ``embed`` runs all of it.
        max_tokens: The longest text that it reads.
    """

    @property
    def architecture(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def n_layers(self) -> int: ...

    @property
    def max_tokens(self) -> int: ...

    def embed(
        self,
        ids: Int[Tensor, "texts tokens"],
        types: Int[Tensor, "texts tokens"],
        attended: Bool[Tensor, "texts tokens"] | None,
    ) -> Float[Tensor, "texts tokens dim"]:
        """The input of the first layer; ``attended`` is None where no token is padding."""

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
            hidden: The input of layer ``first``.
            attended: None where no token is padding.
            first: Index of the first layer that runs.
            last: Index after the last one; all by default.
            weights: Take the place of the transformer's own, by the names of ``layer_weights``.
        """

    def named_weights(self) -> dict[str, Tensor]:
        """All weights, the embeddings' included."""

    def layer_weights(self, first: int) -> dict[str, Tensor]:
        """Weights of the layers from ``first`` on, as ``layers.INDEX.PART``."""

    def with_weights(self, weights: Mapping[str, Tensor]) -> "Transformer":
        """The same transformer with some of its layers' weights replaced, in their own type.

        Raises:
            EncoderUnavailable: A name or a shape is not the transformer's.
        """

    def to(self, where: torch.device | torch.dtype) -> "Transformer":
        """The same transformer on a device, or in a floating type."""


def load_transformer(folder: Path) -> Transformer:
    """The transformer of an encoder's folder.

    Raises:
        EncoderUnavailable: The folder lacks a file, or the files are not a transformer encoder's.
    """
    packed = (folder / E5_FILE).is_file()
    if packed or architecture_of(folder / "config.json") == "bert":
        from metalearn.encoder.bert import BertTransformer

        return BertTransformer.load_e5(folder / E5_FILE) if packed else BertTransformer.load(folder)
    from metalearn.encoder.huggingface import HuggingFaceTransformer

    return HuggingFaceTransformer.load(folder)


def architecture_of(path: Path) -> str:
    """The ``model_type`` of a ``config.json``.

    Raises:
        EncoderUnavailable: The file is missing, or has none.
    """
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EncoderUnavailable(f"cannot read {path}: {error}") from error
    found = fields.get("model_type") if isinstance(fields, dict) else None
    if not isinstance(found, str):
        raise EncoderUnavailable(f"{path} has no model_type")
    return found
