"""Fast weights of a task, which are a linear head with one row per class, and batches of many tasks' heads."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from metalearn.types import FastWeights

HEAD_WEIGHT = "head.weight"
HEAD_BIAS = "head.bias"


def head_logits(fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
    """Logits of one task's head."""
    return torch.nn.functional.linear(features, fast_weights[HEAD_WEIGHT], fast_weights[HEAD_BIAS])


class StackedHeads(NamedTuple):
    """Heads of several tasks, padded to the largest number of classes.

    Attributes:
        weight: Zero where a task has fewer classes.
        bias: Minus infinity there, so that a softmax gives padding no probability.
    """

    weight: Float[Tensor, "tasks classes dim"]
    bias: Float[Tensor, "tasks classes"]


def stack_heads(heads: Sequence[FastWeights]) -> StackedHeads:
    """Pads and stacks heads over a common feature dimension."""
    weight = pad_sequence([head[HEAD_WEIGHT] for head in heads], batch_first=True)
    bias = pad_sequence([head[HEAD_BIAS] for head in heads], batch_first=True, padding_value=-torch.inf)
    return StackedHeads(weight, bias)


def mixed_logits(
    heads: StackedHeads, task_of_row: Int[Tensor, " rows"], features: Float[Tensor, "rows dim"]
) -> Float[Tensor, "rows classes"]:
    """Logits of a batch in which row i belongs to task ``task_of_row[i]``; minus infinity at padding.

    One gather and one batched product whatever the number of tasks.
    """
    if heads.weight.shape[0] == 1:
        return torch.nn.functional.linear(features, heads.weight[0], heads.bias[0])
    return torch.baddbmm(
        heads.bias[task_of_row].unsqueeze(2), heads.weight[task_of_row], features.unsqueeze(2)
    ).squeeze(2)


def rounded_head(fast_weights: FastWeights) -> dict[str, Tensor]:
    """The same fast weights with those above the body rounded to numbers of half precision, still as float32.

    They are most of what a store keeps, and need no more: a logit moves by some 1e-4 of the head's scale. A tensor with
    a number too large for half precision stays as it is.
    """
    return {name: weight if name.startswith("layers.") else _rounded(weight) for name, weight in fast_weights.items()}


def _rounded(weight: Tensor) -> Tensor:
    rounded = weight.half().to(weight.dtype)
    return torch.where(rounded.isfinite().all(), rounded, weight)


def is_finite(fast_weights: FastWeights) -> Bool[Tensor, ""]:
    """Whether every number in the fast weights is finite."""
    return torch.stack([torch.isfinite(weight).all() for weight in fast_weights.values()]).all()
