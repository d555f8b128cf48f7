"""The body turns inputs into features, as a function of weights. It is the part below the head; a task may adapt it."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.encoder.batches import batch_tokens, plan_batches
from metalearn.encoder.encoder import Encoder, FeatureRuntime
from metalearn.encoder.pooling import HiddenBatch
from metalearn.encoder.tokenizing import TokenizedText


@runtime_checkable
class Body(Protocol):
    """Inputs -> features, as a function of weights named ``layers.INDEX.PART``, the last layer nearest to the head."""

    @property
    def dim(self) -> int:
        """Width of the features."""

    def initial_weights(self, draw: torch.Generator) -> dict[str, Tensor]:
        """Weights before any meta-training; empty where nothing of the body is trained or adapted."""

    def features(self, weights: Mapping[str, Tensor], inputs: Any) -> Float[Tensor, "rows dim"]:
        """Features of inputs of the body's own kind."""

    def concatenated(self, first: Any, second: Any) -> Any:
        """Inputs of both, those of ``first`` before those of ``second``."""

    def some(self, inputs: Any, rows: Int[Tensor, " rows"]) -> Any:
        """The inputs at ``rows``, in that order; the rows are on the CPU."""


@dataclass(frozen=True, slots=True)
class HiddenTexts:
    """Texts after the frozen lower layers, in batches of similar length.

    Attributes:
        batches: The input of the upper layers.
        order: Row i of the texts is row ``order[i]`` of the batches laid end to end.
    """

    batches: tuple[HiddenBatch, ...]
    order: Int[Tensor, " texts"]


class TextBody:
    """The top layers of a text encoder, pooled to one vector per text; the layers below are frozen."""

    def __init__(
        self,
        encoder: Encoder,
        layers: int,
        *,
        max_batch_tokens: int | None = None,
        bf16: bool = False,
    ) -> None:
        """Splits an encoder.

        Args:
            encoder: Runs the frozen part, and lends its weights as a start.
            layers: How many of the top layers are a function of weights.
            max_batch_tokens: Bound on rows times width of a padded batch; what suits the device by default.
            bf16: Multiply matrices in bfloat16; weights and features stay as they are.

        Raises:
            ValueError: The encoder does not have so many layers.
        """
        if not 0 <= layers <= encoder.n_layers:
            raise ValueError(f"layers is {layers}; the encoder has {encoder.n_layers}")
        self.encoder = encoder
        self.layers = layers
        self.max_batch_tokens = max_batch_tokens or batch_tokens(encoder.device)
        self.bf16 = bf16
        self._runtime: FeatureRuntime | None = None

    def computed_by(self, runtime: FeatureRuntime) -> "TextBody":
        """The same body, whose whole features a runtime computes. Layers with weights of their own stay with torch."""
        body = copy.copy(self)
        body._runtime = runtime
        return body

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.encoder.dim

    def initial_weights(self, draw: torch.Generator) -> dict[str, Tensor]:
        """The encoder's own weights of these layers."""
        return {name: weight.clone() for name, weight in self.encoder.upper_weights(self.layers).items()}

    def prepare(self, texts: Sequence[TokenizedText]) -> HiddenTexts:
        """Runs the frozen layers, batch by batch."""
        plan = plan_batches([len(text.ids) for text in texts], self.max_batch_tokens)
        return self.joined(plan, [self.begin([texts[i] for i in rows]) for rows in plan])

    def begin(self, texts: Sequence[TokenizedText]) -> HiddenBatch:
        """Runs the frozen layers on one batch."""
        with self._precision():
            if self.layers > 0:
                return self.encoder.begin_batch(texts, self.encoder.n_layers - self.layers)
            # Nothing is left to run: a vector per text is kept, as if it were its only token, and not one per token,
            # which for a large support set would be gigabytes
            compute = self._runtime or self.encoder.encode_batch
            return HiddenBatch.of_features(compute(texts))

    def joined(self, plan: Sequence[Sequence[int]], batches: Sequence[HiddenBatch]) -> HiddenTexts:
        """Batches whose rows are the texts named by ``plan``."""
        place = torch.tensor([row for rows in plan for row in rows])
        return HiddenTexts(tuple(batches), place.argsort().to(self.encoder.device))

    def features(self, weights: Mapping[str, Tensor], inputs: HiddenTexts) -> Float[Tensor, "texts dim"]:
        """Runs the top layers under the given weights."""
        if self.layers == 0:  # what ``begin`` kept is features already: not all of them are of unit length
            return torch.cat([batch.hidden[:, 0] for batch in inputs.batches])[inputs.order]
        done = self.encoder.n_layers - self.layers
        with self._precision():
            rows = torch.cat([self.encoder.finish_batch(batch, done, weights) for batch in inputs.batches])
        return rows[inputs.order].float() if self.bf16 else rows[inputs.order]

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.encoder.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def concatenated(self, first: HiddenTexts, second: HiddenTexts) -> HiddenTexts:
        """The batches of both; none is made wider."""
        order = torch.cat([first.order, second.order + first.order.shape[0]])
        return HiddenTexts(first.batches + second.batches, order)

    def some(self, inputs: HiddenTexts, rows: Int[Tensor, " rows"]) -> HiddenTexts:
        """Each batch with those of its texts that are wanted; waits for the device to learn which these are."""
        wanted = inputs.order[rows.to(inputs.order.device)].tolist()
        begin, batches, found = 0, [], []
        for batch in inputs.batches:
            end = begin + batch.hidden.shape[0]
            here = [place for place in wanted if begin <= place < end]
            if here:
                batches.append(batch.rows([place - begin for place in here]))
                found += here
            begin = end
        at = {place: i for i, place in enumerate(found)}
        return HiddenTexts(tuple(batches), torch.tensor([at[p] for p in wanted], device=inputs.order.device))


class MlpBody:
    """A multilayer perceptron with ReLU, for inputs that are numbers.

    Source: Finn et al. 2017, section 5.1 (two hidden layers of 40 units).
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """Takes the widths from the input to the features, such as ``(1, 40, 40)``."""
        self.widths = tuple(widths)

    @property
    def dim(self) -> int:
        """Width of the features."""
        return self.widths[-1]

    def initial_weights(self, draw: torch.Generator) -> dict[str, Tensor]:
        """He's start: normal with variance 2 / fan-in; biases zero."""
        weights = {}
        for i, (fan_in, fan_out) in enumerate(zip(self.widths, self.widths[1:], strict=False)):
            weights[f"layers.{i}.weight"] = torch.randn(fan_out, fan_in, generator=draw) * (2 / fan_in) ** 0.5
            weights[f"layers.{i}.bias"] = torch.zeros(fan_out)
        return weights

    def features(self, weights: Mapping[str, Tensor], inputs: Float[Tensor, "rows width"]) -> Float[Tensor, "rows dim"]:
        """The last hidden layer."""
        for i in range(len(self.widths) - 1):
            inputs = torch.relu(
                torch.nn.functional.linear(inputs, weights[f"layers.{i}.weight"], weights[f"layers.{i}.bias"])
            )
        return inputs

    def concatenated(
        self, first: Float[Tensor, "first width"], second: Float[Tensor, "second width"]
    ) -> Float[Tensor, "both width"]:
        """The rows of both, one set after the other."""
        return torch.cat([first, second])

    def some(self, inputs: Float[Tensor, "inputs width"], rows: Int[Tensor, " rows"]) -> Float[Tensor, "rows width"]:
        """The inputs at these rows."""
        return inputs[rows.to(inputs.device)]
