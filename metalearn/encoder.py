"""The shared encoder: texts -> features. Tokenizer and transformer come from a local folder."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from metalearn.bert import BertEncoder
from metalearn.errors import EncoderUnavailable
from metalearn.halves import Halves, TrainedView, side_by_side
from metalearn.hidden_batch import HiddenBatch, PaddedBatch, asked_tokens, pooled, tokens_of_first, wide
from metalearn.token_similarity import COLUMNS, token_similarity
from metalearn.tokenizing import TextTokenizer, TokenizedText
from metalearn.types import TextInput

__all__ = ["Encoder", "EncoderSettings", "FeatureRuntime", "NormsOfRows", "TokenizedText"]


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How an encoder reads a text.

    Attributes:
        max_tokens: Of longer texts, special tokens included, the middle is left out.
        normalize: Scale features to unit length.
        halves: For features beside those of meta-trained layers.
    """

    max_tokens: int = 256
    normalize: bool = True
    halves: Halves = field(default_factory=Halves)


NormsOfRows = Mapping[str, Float[Tensor, "texts 1 dim"]]
"""Weights and biases of norms, by the names of ``Encoder.upper_weights``; each text has its own."""


@runtime_checkable
class FeatureRuntime(Protocol):
    """What computes features in the place of ``Encoder.encode_batch``, to the same numbers or near them.

    Attributes:
        name: Names it to users.
        norms: Those that each text may have of its own, as ``layers.INDEX.PART``.
    """

    name: str
    norms: Sequence[str]

    def __call__(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]: ...


class Encoder:
    """A frozen transformer with mean pooling.

    Of a pair, which the transformer reads as one text, the second text's tokens are pooled: they have seen the first
    text, and are what is asked about (a mention in its sentence, a hypothesis under its premise).

    ``tokenize`` may be called from any thread: its settings are fixed at construction and never change afterwards.
    ``encode_batch`` belongs to the one thread that owns the device.

    Attributes:
        settings: How texts are read.
        device: Where the transformer runs.
        special_tokens: Ids of the tokens that frame the texts of a pair.
    """

    def __init__(self, folder: Path, settings: EncoderSettings, device: torch.device) -> None:
        """Loads tokenizer and weights.

        Args:
            folder: Has ``tokenizer.json``, ``config.json`` and ``model.safetensors``.
            settings: How texts are read.
            device: Where the transformer runs.

        Raises:
            EncoderUnavailable: The folder lacks a file, or the files are not a transformer encoder's.
        """
        self.settings = settings
        self.device = device
        self._tokenizer = TextTokenizer(folder / "tokenizer.json", settings.max_tokens)
        self.special_tokens = self._tokenizer.special_tokens
        self._model = BertEncoder.load(folder).eval().requires_grad_(False).to(device)
        self._special_tokens = torch.tensor(self.special_tokens, device=device)
        self._trained_view: TrainedView | None = None
        self._runtime: FeatureRuntime | None = None
        longest = self._model.config.max_position_embeddings
        if settings.max_tokens > longest:
            raise EncoderUnavailable(f"max_tokens is {settings.max_tokens}; the encoder in {folder} reads {longest}")

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self._model.config.hidden_size if self._trained_view is None else self.dim_beside

    @property
    def dim_beside(self) -> int:
        """Width of what ``beside_stock`` returns."""
        similarities = COLUMNS if self.settings.halves.token_similarity else 0
        return 2 * self._model.config.hidden_size + similarities

    def tokenize(self, inputs: Sequence[TextInput]) -> list[TokenizedText]:
        """Token ids of each text or pair, not padded; see ``TextTokenizer``."""
        return self._tokenizer(inputs)

    @property
    def n_layers(self) -> int:
        """How many layers the transformer has."""
        return self._model.config.num_hidden_layers

    @property
    def transformer(self) -> BertEncoder:
        """The stock one, for those who compute with it in another runtime."""
        return self._model

    @property
    def trained_view(self) -> TrainedView | None:
        """What ``place_beside`` placed."""
        return self._trained_view

    @property
    def runtime_name(self) -> str:
        """What computes features."""
        return "torch" if self._runtime is None else self._runtime.name

    def run_with(self, runtime: FeatureRuntime) -> None:
        """Lets something else than torch compute whole features; before the first text only.

        Layers that tasks have of their own, and training, stay with torch.
        """
        self._runtime = runtime

    @torch.no_grad()  # not inference_mode: autograd would later refuse its tensors
    def encode_batch(
        self, texts: Sequence[TokenizedText], norms_of_rows: NormsOfRows | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Features of one batch, on the encoder's device, as float32.

        The result of a row depends on the batch only in the last bits; the same batch gives the same bits.

        Args:
            texts: What to encode.
            norms_of_rows: Take the place of the encoder's own norms, where it has no layers beside them.
        """
        if self._runtime is not None and (norms_of_rows is None or self._runtime.norms):
            return self._runtime(texts, norms_of_rows)
        if norms_of_rows is not None:
            return self.finish_batch(self.begin_batch(texts, 0), 0, norms_of_rows)
        return self._features(self.begin_batch(texts, self._shared_layers))

    @torch.no_grad()
    def padded_features(self, padded: PaddedBatch) -> Float[Tensor, "texts dim"]:
        """``encode_batch`` by torch, of what is on the device: nothing waits for the device, whatever the texts are."""
        return self._features(self._begin(padded, self._shared_layers))

    @property
    def _shared_layers(self) -> int:
        return self.n_layers - (0 if self._trained_view is None else self._trained_view.layers)

    def _features(self, batch: HiddenBatch) -> Float[Tensor, "texts dim"]:
        """Of texts that have been through the layers that are shared."""
        if self._trained_view is None:
            return self.finish_batch(batch, self.n_layers)
        layers = self._shared_layers
        return self.beside_stock(batch, layers, self._trained_view.weights)

    def padded(self, texts: Sequence[TokenizedText]) -> PaddedBatch:
        """Texts on the encoder's device."""
        lengths = [len(text.ids) for text in texts]
        ids = self._on_device([text.ids for text in texts])
        types = self._on_device([text.type_ids for text in texts])
        attended = None
        if min(lengths) < max(lengths):
            attended = self._on_device([[1] * length for length in lengths]).bool()
        return PaddedBatch(ids, types, attended, any(text.type_ids[-1] for text in texts))

    def begin_batch(self, texts: Sequence[TokenizedText], layers: int) -> HiddenBatch:
        """Runs the embeddings and the first ``layers`` layers, which are frozen."""
        return self._begin(self.padded(texts), layers)

    @torch.no_grad()
    def _begin(self, padded: PaddedBatch, layers: int) -> HiddenBatch:
        ids, types, attended, has_pairs = padded
        hidden = self._model.run_layers(self._model.embed(ids, types), attended, last=layers)
        second = types.bool() if has_pairs else None
        if not (has_pairs or self.settings.halves.words_only):
            return HiddenBatch(hidden, attended)
        words = ~torch.isin(ids, self._special_tokens)
        words &= attended if attended is not None else True
        return HiddenBatch(hidden, attended, second, words)

    def finish_batch(
        self, batch: HiddenBatch, layers: int, weights: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "texts dim"]:
        """Runs the layers after the first ``layers``, and pools; autograd may look on.

        Args:
            batch: What ``begin_batch`` made.
            layers: How many layers it has been through.
            weights: Take the place of the encoder's own, by the names of ``upper_weights``.
        """
        hidden = self._model.run_layers(batch.hidden, batch.attended, first=layers, weights=weights)
        return self._scaled(pooled(hidden, asked_tokens(batch)))

    @torch.no_grad()
    def stock_features(self, batch: HiddenBatch, layers: int) -> Float[Tensor, "texts dim"]:
        """What the encoder as it came says of texts, for the half of the features beside the meta-trained ones.

        Pooled states of the last layers, mixed: an encoder that was trained to compare sentences has given up in its
        last layer some of what the layers before still tell. Of a pair, how far apart its texts are in each dimension.

        Args:
            batch: What ``begin_batch`` made.
            layers: How many layers it has been through.
        """
        mix, states, words = self.settings.halves.stock_mix, self._states(batch, layers), self._words_of(batch)
        features = self._mixed(states, mix, asked_tokens(batch, words))
        if batch.second is None:
            return features
        first = self._mixed(states, mix, tokens_of_first(batch, words))
        return torch.where(batch.second.any(dim=1, keepdim=True), (first - features).abs(), features)

    def beside_stock(
        self, batch: HiddenBatch, layers: int, weights: Mapping[str, Tensor]
    ) -> Float[Tensor, "texts dim_beside"]:
        """Features of meta-trained layers beside those of the encoder as it came; autograd may look on.

        Args:
            batch: What ``begin_batch`` made.
            layers: How many layers it has been through.
            weights: Of the meta-trained layers after these, by the names of ``upper_weights``.
        """
        halves = self.settings.halves
        states = self._states(batch, layers, weights)
        trained = self._mixed(states, halves.trained_mix, asked_tokens(batch, self._words_of(batch)))
        both = side_by_side(self.stock_features(batch, layers), trained, halves.share)
        if not halves.token_similarity:
            return both
        similarity = both.new_zeros(both.shape[0], COLUMNS)
        if batch.second is not None and batch.words is not None:
            similarity = halves.token_similarity * token_similarity(wide(batch.hidden), batch.words, batch.second)
        return torch.cat([both, similarity], dim=1)

    def _words_of(self, batch: HiddenBatch) -> Bool[Tensor, "texts tokens"] | None:
        """The tokens that count in means; None for all."""
        return batch.words if self.settings.halves.words_only else None

    def _states(
        self, batch: HiddenBatch, layers: int, weights: Mapping[str, Tensor] | None = None
    ) -> list[Float[Tensor, "texts tokens dim"]]:
        """After the first ``layers`` layers, and after each that follows."""
        states = [batch.hidden]
        for layer in range(layers, self.n_layers):
            states.append(
                self._model.run_layers(states[-1], batch.attended, first=layer, last=layer + 1, weights=weights)
            )
        return states

    def _mixed(
        self,
        states: Sequence[Float[Tensor, "texts tokens dim"]],
        mix: Sequence[float],
        kept: Bool[Tensor, "texts tokens"] | None,
    ) -> Float[Tensor, "texts dim"]:
        """Pooled states in their shares, those of the last one first."""
        parts = [
            share * self._scaled(pooled(hidden, kept)) for share, hidden in zip(mix, reversed(states), strict=False)
        ]
        return self._scaled(sum(parts[1:], start=parts[0]))

    def _scaled(self, features: Float[Tensor, "texts dim"]) -> Float[Tensor, "texts dim"]:
        return torch.nn.functional.normalize(features, dim=-1) if self.settings.normalize else features

    def upper_weights(self, layers: int) -> dict[str, Tensor]:
        """Weights of the top ``layers`` layers, as ``layers.INDEX.PART.weight`` and ``.bias``."""
        return self._model.layer_weights(self.n_layers - layers)

    def replace_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Puts meta-trained weights in the place of the stock ones; before the first text only.

        Raises:
            EncoderUnavailable: A name or a shape is not the encoder's.
        """
        own = self._model.layer_weights(0)
        for name, weight in weights.items():
            if name not in own or own[name].shape != weight.shape:
                raise EncoderUnavailable(f"the encoder has no weight {name} of shape {tuple(weight.shape)}")
            own[name].copy_(weight)

    def place_beside(self, layers: int, weights: Mapping[str, Tensor]) -> None:
        """Puts meta-trained top layers beside the stock ones, above the same lower layers; before the first text only.

        Features are those of both from then on; see ``side_by_side``.

        Args:
            layers: How many of the top layers were trained.
            weights: Theirs, by the names of ``upper_weights``.
        """
        self._trained_view = TrainedView(layers, {name: weight.to(self.device) for name, weight in weights.items()})

    def in_bfloat16(self) -> "Encoder":
        """One more with these weights, rounded, that computes in bfloat16; its features are float32 like these."""
        other = copy.copy(self)
        other._runtime = None
        other._model = copy.deepcopy(self._model).to(torch.bfloat16)
        if self._trained_view is not None:
            layers, weights = self._trained_view
            other._trained_view = TrainedView(layers, {name: weight.bfloat16() for name, weight in weights.items()})
        return other

    def _on_device(self, rows: list[list[int]]) -> Int[Tensor, "rows width"]:
        width = max(len(row) for row in rows)
        host = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        if self.device.type != "cuda":
            return host.to(self.device)
        return host.pin_memory().to(self.device, non_blocking=True)
