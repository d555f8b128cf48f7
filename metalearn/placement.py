"""Where a task's fast weights live below its head: nowhere, in modulations, in low-rank updates, in whole layers."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.errors import InvalidModel
from metalearn.options import PlacementName
from metalearn.types import FastWeights

_NORM = re.compile(r"layers\.\d+\.[\w.]*norm\.weight", re.IGNORECASE)
_LAYER = re.compile(r"layers\.(\d+)\.")


@runtime_checkable
class Placement(Protocol):
    """Which weights of the body a task owns a version of, and how they enter it.

    Attributes:
        layers: How many of the body's top layers are touched.
    """

    @property
    def layers(self) -> int: ...

    def initial_slow_weights(self, body: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
        """Starts that are meta-learned beside the body's own weights."""

    def start(self, body: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> FastWeights:
        """The task's weights before the first inner step.

        Args:
            body: Slow weights of the body.
            own: Slow weights that ``initial_slow_weights`` named.
        """

    def body_weights(self, body: Mapping[str, Tensor], fast: FastWeights) -> Mapping[str, Tensor]:
        """The body's weights as the task sees them."""


@dataclass(frozen=True, slots=True)
class HeadOnly:
    """The task owns its head alone."""

    layers: int = 0

    def initial_slow_weights(self, body: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
        """No slow weights."""
        return {}

    def start(self, body: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> FastWeights:
        """No fast weights below the head."""
        return {}

    def body_weights(self, body: Mapping[str, Tensor], fast: FastWeights) -> Mapping[str, Tensor]:
        """The body's weights, unchanged."""
        return body


@dataclass(frozen=True, slots=True)
class Modulations:
    """Scales and shifts of what each layer norm of the top layers puts out.

    Elementwise, so that a batch of many tasks costs a gather and a product. A norm with weight w and bias b, modulated
    by scale s and shift t, is a norm with weight w s and bias b s + t.

    Source: Perez et al. 2018 (FiLM), eq. 2; Zintgraf et al. 2019 (CAVIA) for their adaptation in the inner loop.
    """

    layers: int

    def initial_slow_weights(self, body: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
        """Scale 1 and shift 0."""
        own: dict[str, Tensor] = {}
        for name in self.norms(body):
            own[f"{name}.scale"] = torch.ones_like(body[f"{name}.weight"])
            own[f"{name}.shift"] = torch.zeros_like(body[f"{name}.weight"])
        if not own:
            raise InvalidModel("modulations need layer norms with a bias, and the body has none in its top layers")
        return own

    def start(self, body: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> FastWeights:
        """The meta-learned scales and shifts."""
        return own

    def body_weights(self, body: Mapping[str, Tensor], fast: FastWeights) -> Mapping[str, Tensor]:
        """The body's weights with the modulations folded into the norms."""
        weights = dict(body)
        for name in self.norms(body):
            scale = fast[f"{name}.scale"]
            weights[f"{name}.weight"] = body[f"{name}.weight"] * scale
            weights[f"{name}.bias"] = body[f"{name}.bias"] * scale + fast[f"{name}.shift"]
        return weights

    def norms_of_rows(
        self, body: Mapping[str, Tensor], tasks: Sequence[FastWeights], task_of_row: Int[Tensor, " rows"]
    ) -> dict[str, Float[Tensor, "rows 1 dim"]]:
        """Weights and biases of the norms for a batch in which row i belongs to task ``task_of_row[i]``.

        Args:
            body: Slow weights of the body.
            tasks: Fast weights of each task; one without modulations sees the body as it is.
            task_of_row: On the body's device.
        """
        rows: dict[str, Tensor] = {}
        for name in self.norms(body):
            weight, bias = body[f"{name}.weight"], body[f"{name}.bias"]
            plain = {"scale": torch.ones_like(weight), "shift": torch.zeros_like(bias)}
            scale, shift = (
                torch.stack([task.get(f"{name}.{part}", none) for task in tasks]) for part, none in plain.items()
            )
            rows[f"{name}.weight"] = (weight * scale)[task_of_row].unsqueeze(1)
            rows[f"{name}.bias"] = (bias * scale + shift)[task_of_row].unsqueeze(1)
        return rows

    def norms(self, body: Mapping[str, Tensor]) -> list[str]:
        """Names of the norms that are modulated."""
        matching = [name.removesuffix(".weight") for name in _top_layers(body, self.layers) if _NORM.fullmatch(name)]
        return [name for name in matching if f"{name}.bias" in body]  # a norm without one has nothing to shift


@dataclass(frozen=True, slots=True)
class LowRank:
    """A product of two thin matrices added to each weight matrix of the top layers.

    Source: Hu et al. 2022 (LoRA), section 4.1, with the factor alpha / r at 1.
    """

    layers: int
    rank: int

    def initial_slow_weights(self, body: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
        """``down`` random, ``up`` zero, so that their product starts at zero."""
        own: dict[str, Tensor] = {}
        for name in self._matrices(body):
            fan_out, fan_in = body[name].shape
            down = torch.randn(self.rank, fan_in, generator=draw, dtype=body[name].dtype) * fan_in**-0.5
            own[f"{name}.down"] = down.to(body[name].device)
            own[f"{name}.up"] = body[name].new_zeros(fan_out, self.rank)
        return own

    def start(self, body: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> FastWeights:
        """The meta-learned factors."""
        return own

    def body_weights(self, body: Mapping[str, Tensor], fast: FastWeights) -> Mapping[str, Tensor]:
        """The body's weights with the products added."""
        updated = {name: body[name] + fast[f"{name}.up"] @ fast[f"{name}.down"] for name in self._matrices(body)}
        return {**body, **updated}

    def _matrices(self, body: Mapping[str, Tensor]) -> list[str]:
        return [name for name in _top_layers(body, self.layers) if body[name].dim() == 2]


@dataclass(frozen=True, slots=True)
class Full:
    """Every weight of the top layers, as in MAML."""

    layers: int

    def initial_slow_weights(self, body: Mapping[str, Tensor], draw: torch.Generator) -> dict[str, Tensor]:
        """No slow weights: the body's own weights are the start."""
        return {}

    def start(self, body: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> FastWeights:
        """The body's own weights."""
        return {name: body[name] for name in _top_layers(body, self.layers)}

    def body_weights(self, body: Mapping[str, Tensor], fast: FastWeights) -> Mapping[str, Tensor]:
        """The task's weights in the place of the body's."""
        return {name: fast.get(name, weight) for name, weight in body.items()}


def make_placement(name: PlacementName, *, layers: int, rank: int) -> Placement:
    """The placement called ``name``.

    Args:
        name: Where fast weights live.
        layers: How many of the body's top layers; ignored for ``head``.
        rank: Rank of low-rank updates; ignored otherwise.

    Raises:
        InvalidModel: No layer is named for a placement below the head, or low-rank updates have no rank.
    """
    if name == "head":
        return HeadOnly()
    if layers < 1:
        raise InvalidModel(f"fast weights in {name} need at least one layer")
    if name == "modulations":
        return Modulations(layers)
    if name == "low_rank" and rank < 1:
        raise InvalidModel(f"low-rank updates need a rank of at least one, not {rank}")
    return LowRank(layers, rank) if name == "low_rank" else Full(layers)


def _top_layers(body: Mapping[str, Tensor], layers: int) -> list[str]:
    index = {name: int(found[1]) for name in body if (found := _LAYER.match(name))}
    first = max(index.values(), default=-1) + 1 - layers
    return [name for name, i in index.items() if i >= first]
