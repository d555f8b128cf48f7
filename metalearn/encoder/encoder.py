"""The shared encoder: texts -> features. Tokenizer and transformer come from a local folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metalearn.encoder.batches import padded_width
from metalearn.encoder.pooling import HiddenBatch, PaddedBatch, pooled
from metalearn.encoder.source import encoder_files
from metalearn.encoder.stages import Stages
from metalearn.encoder.tokenizing import TextTokenizer, TokenizedText
from metalearn.encoder.transformer import Transformer, load_transformer
from metalearn.errors import EncoderUnavailable
from metalearn.types import TextInput

NormsOfRows = Mapping[str, Float[Tensor, "texts 1 dim"]]
"""Weights and biases of norms, by the names of ``Encoder.upper_weights``; each text has its own."""


@runtime_checkable
class FeatureRuntime(Protocol):
    """Computes features, and states of tokens: torch, or another runtime to near the same numbers.

    Attributes:
        name: Names it to users.
        norms: The norms that each text may have of its own, as ``layers.INDEX.PART``.
    """

    @property
    def name(self) -> str: ...

    @property
    def norms(self) -> Sequence[str]: ...

    def __call__(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]: ...

    def token_states(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts tokens dim"]: ...


@dataclass(frozen=True, eq=False)
class Encoder:
    """A frozen transformer and what follows it. Built by ``build_encoder``; nothing of it changes afterwards.

    Of a pair, which the transformer reads as one text, the second text's tokens are pooled: they have seen the first
    text, and are what is asked about (a mention in its sentence, a hypothesis under its premise).

    ``tokenize`` may be called from any thread. What computes belongs to the one thread that owns the device.

    Attributes:
        transformer: The encoder's own layers.
        tokenizer: Reads texts.
        stages: The stages that the encoder was built of.
        device: Where the transformer runs.
        graph: The transformer's own ONNX graph, exported when a checkpoint was made; None for without.
    """

    transformer: Transformer
    tokenizer: TextTokenizer
    stages: Stages
    device: torch.device
    graph: bytes | None = None

    # ---- what it is --------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.transformer.dim

    @property
    def max_tokens(self) -> int:
        """The longest text, special tokens included."""
        return self.tokenizer.max_tokens

    @property
    def n_layers(self) -> int:
        """The number of the transformer's layers."""
        return self.transformer.n_layers

    @property
    def middle_layer(self) -> int:
        """The number of layers below the middle."""
        return self.n_layers // 2

    def upper_weights(self, layers: int) -> dict[str, Tensor]:
        """Weights of the top ``layers`` layers, as ``layers.INDEX.PART.weight`` and ``.bias``."""
        return self.transformer.layer_weights(self.n_layers - layers)

    def with_weights(self, weights: Mapping[str, Tensor]) -> "Encoder":
        """The same encoder with meta-trained weights in the place of its layers' own.

        Raises:
            EncoderUnavailable: A name or a shape is not the encoder's.
        """
        return replace(self, transformer=self.transformer.with_weights(weights))

    def in_bfloat16(self) -> "Encoder":
        """The same encoder with rounded weights, which computes in bfloat16; its features are float32 as well."""
        return replace(self, transformer=self.transformer.to(torch.bfloat16))

    # ---- whole features ----------------------------------------------------------------------------------------

    def tokenize(self, inputs: Sequence[TextInput]) -> list[TokenizedText]:
        """Token ids of each text or pair, not padded; see ``TextTokenizer``."""
        return self.tokenizer(inputs)

    @torch.no_grad()  # not inference_mode: autograd would later refuse its tensors
    def encode_batch(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Features of one batch, on the encoder's device, as float32.

        Args:
            texts: The texts to encode.
            norms_of_rows: Take the place of the encoder's own norms.
        """
        return self.padded_features(self.padded(texts), norms_of_rows)

    @torch.no_grad()
    def padded_features(
        self, padded: PaddedBatch, norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """``encode_batch`` of what is on the device: nothing waits for the device, whatever the texts are."""
        return self.finish_batch(self._begin(padded, 0), 0, norms_of_rows)

    @torch.no_grad()
    def token_states(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts tokens dim"]:
        """States of tokens, padded to the longest text: unit vectors after the middle and the last layer, added.

        The last layer of an encoder of sentences is made for their mean. The middle one knows more of single words:
        see docs/log.md.
        """
        middle = self.begin_batch(texts, self.middle_layer)
        last = self.transformer.run_layers(middle.hidden, middle.attended, first=self.middle_layer)
        return sum_of_directions(middle.hidden, last)

    def padded(self, texts: Sequence[TokenizedText]) -> PaddedBatch:
        """Texts on the encoder's device, padded to a width that follows from their own lengths."""
        width = self.width(texts)
        ids = self._on_device([text.ids for text in texts], width)
        types = self._on_device([text.type_ids for text in texts], width)
        # Also where none is padding: without a mask another kernel computes other bits
        attended = self._on_device([[1] * len(text.ids) for text in texts], width).bool()
        asked = self._on_device([asked_tokens(text) for text in texts], width).bool()
        return PaddedBatch(ids, types, attended, asked)

    # ---- lower and upper part ----------------------------------------------------------------------------------

    def begin_batch(self, texts: Sequence[TokenizedText], layers: int) -> HiddenBatch:
        """Runs the embeddings and the first ``layers`` layers, which are frozen."""
        return self._begin(self.padded(texts), layers)

    @torch.no_grad()
    def _begin(self, padded: PaddedBatch, layers: int) -> HiddenBatch:
        hidden = self.transformer.embed(padded.ids, padded.types, padded.attended)
        hidden = self.transformer.run_layers(hidden, padded.attended, last=layers)
        return HiddenBatch(hidden, padded.attended, padded.asked)

    def finish_batch(
        self, batch: HiddenBatch, layers: int, weights: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Runs the layers after the first ``layers``, and pools. Gradients may flow through it.

        Args:
            batch: The result of ``begin_batch``.
            layers: How many layers it has been through.
            weights: Take the place of the encoder's own, by the names of ``upper_weights``.
        """
        hidden = self.transformer.run_layers(batch.hidden, batch.attended, first=layers, weights=weights)
        return self.features_of(hidden, batch.asked)

    def features_of(
        self, hidden: Float[Tensor, "texts tokens dim"], asked: Bool[Tensor, "texts tokens"]
    ) -> Float[Tensor, "texts dim"]:
        """The stages after the transformer: features of the states of tokens, of which ``asked`` are pooled."""
        return pooled(hidden, asked, self.stages.pooling)

    def width(self, texts: Sequence[TokenizedText]) -> int:
        """The width that a batch is padded to; texts of one ``padded_width`` have it whatever else is in the batch."""
        return min(padded_width(max(len(text.ids) for text in texts)), self.transformer.max_tokens)

    def _on_device(self, rows: list[list[int]], width: int) -> Int[Tensor, "rows width"]:
        host = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        if self.device.type != "cuda":
            return host.to(self.device)
        return host.pin_memory().to(self.device, non_blocking=True)


@dataclass(frozen=True, eq=False)
class TorchRuntime:
    """The encoder itself as a runtime."""

    encoder: Encoder

    @property
    def name(self) -> str:
        """The name that users see."""
        return "torch"

    @property
    def norms(self) -> Sequence[str]:
        """No norms by name: torch takes any."""
        return ()

    def __call__(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """See ``Encoder.encode_batch``."""
        return self.encoder.encode_batch(texts, norms_of_rows)

    def token_states(self, texts: Sequence[TokenizedText]) -> Float[Tensor, "texts tokens dim"]:
        """See ``Encoder.token_states``."""
        return self.encoder.token_states(texts)


def sum_of_directions(
    middle: Float[Tensor, "texts tokens dim"], last: Float[Tensor, "texts tokens dim"]
) -> Float[Tensor, "texts tokens dim"]:
    """States of tokens for ``token_states``: the sum of two layers' states, each of unit length."""
    unit = torch.nn.functional.normalize
    return unit(middle.float(), dim=-1) + unit(last.float(), dim=-1)


def build_encoder(folder: Path, stages: Stages, device: torch.device, loaded: Encoder | None = None) -> Encoder:
    """The encoder of a folder.

    Args:
        folder: Has the files that ``encoder_files`` names.
        stages: How texts are read, and features made.
        device: Where the transformer runs.
        loaded: An encoder of the same files on the device, whose transformer and tokenizer are used.

    Raises:
        EncoderUnavailable: The folder lacks a file, or the files are not a transformer encoder's.
    """
    stage = stages.transformer
    if loaded is None:
        transformer = load_transformer(folder).to(device)
        tokenizer = TextTokenizer(folder / encoder_files(folder)[-1], stage.max_tokens, stage.prompt)
    else:
        transformer, tokenizer = loaded.transformer, loaded.tokenizer.reading(stage.max_tokens, stage.prompt)
    if stage.max_tokens > transformer.max_tokens:
        raise EncoderUnavailable(
            f"max_tokens is {stage.max_tokens}; the encoder in {folder} reads {transformer.max_tokens}"
        )
    return Encoder(transformer, tokenizer, stages, device)


def asked_tokens(text: TokenizedText) -> list[int]:
    """1 at each token that is pooled, 0 at all others: those of a pair's first text."""
    begin = text.second_from or 0
    return [0] * begin + [1] * (len(text.ids) - begin)
