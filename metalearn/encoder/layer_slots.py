"""Slots around the layers of a model of the transformers package: whether a layer runs, on what, with which weights."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the field's own abbreviation
from torch.overrides import TorchFunctionMode


@dataclass(slots=True)
class LayerRun:
    """One call of the model: the layers from ``first`` up to ``last`` run, all others pass on what they read.

    Attributes:
        first: Index of the first layer that runs.
        last: Index after the last one.
        hidden: What layer ``first`` reads; None for what the model has for it.
        weights: Take the place of the layers' own, by layer and by their names there.
        found: What layer ``last`` reads; None where the model has no such layer.
    """

    first: int
    last: int
    hidden: Tensor | None = None
    weights: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    found: Tensor | None = None


current_run: ContextVar[LayerRun] = ContextVar("run")


class LayerSlot(nn.Module):
    """Stands in the place of a layer; see ``LayerRun``."""

    def __init__(self, layer: nn.Module, index: int) -> None:
        super().__init__()
        self.layer = layer
        self._index = index
        self._outputs = 0  # of the tuple that the layer returns; 0 where it returns hidden states alone

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # models ask their layers for what kind of attention they have
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        run, index = current_run.get(), self._index
        hidden, *others = args or (kwargs.pop("hidden_states"),)
        if index == run.last:
            run.found = hidden
        if index == run.first and run.hidden is not None:
            hidden = run.hidden
        if not run.first <= index < run.last:
            return (hidden, *[None] * (self._outputs - 1)) if self._outputs else hidden
        given = run.weights.get(index)
        if given:
            output = torch.func.functional_call(self.layer, dict(given), (hidden, *others), kwargs)
        else:
            output = self.layer(hidden, *others, **kwargs)
        self._outputs = len(output) if isinstance(output, tuple) else 0
        return output


class NormOfEachText(nn.LayerNorm):
    """A norm whose weights may be of shape (texts, 1, dim): each text has its own."""

    def forward(self, inputs: Tensor) -> Tensor:
        if self.weight is None or self.weight.dim() == 1:
            return super().forward(inputs)
        return F.layer_norm(inputs, self.normalized_shape, eps=self.eps) * self.weight + self.bias


_PRODUCTS = {torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__}


class ContiguousProducts(TorchFunctionMode):
    """Products of matrices that lie in memory row by row.

    Attention multiplies views. Torch copies them where there are several texts and not where there is one, which
    changes last bits: see docs/adr/0007-features-depend-on-the-text-alone.md.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _PRODUCTS:
            args = [each.contiguous() if isinstance(each, Tensor) else each for each in args]
        return func(*args, **(kwargs or {}))
