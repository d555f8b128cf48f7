"""A learner that reads its support set in order, each example in the light of those before it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.learners.interface import ReadingLearner
from metalearn.learners.metric import directions
from metalearn.types import FastWeights, SlowWeights


@dataclass(frozen=True)
class Attention(ReadingLearner):
    """Causal attention over (feature, label) pairs, then attention of the query over what came of them.

    An example is a token: its feature's direction beside its label's code. A block of causal attention adds to each
    token a learned share of what it reads in itself and in the tokens before it. A query attends to the tokens by
    learned keys and reads out a code; a class's logit is the scaled inner product with its code. Untrained, this is
    close to a matching network, with probabilities in the place of their logarithms.

    Codes are random but fixed, a class's by its index, orthonormal among each ``code_dim`` classes in a row; there may
    be any number of classes. Renaming classes by their indices renames the logits as far as the learned maps treat
    all codes alike: exactly before meta-training, with at most ``code_dim`` classes; afterwards as far as
    meta-training over random orders of classes makes it so. The order of the examples matters.

    What differs from the paper: one block of attention, without temporal convolutions. What is read is added, where the
    paper puts it beside. Queries do not enter the sequence, so that they are answered alike, alone and together.

    Source: Mishra et al. 2018, "A simple neural attentive meta-learner" (SNAIL), section 3.

    Attributes:
        code_dim: Width of a label's code.
    """

    code_dim: int = 128
    name: str = "attention"

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """Maps of the block and of the reading, which pass features and codes on as they are, and factors."""
        token = torch.eye(dim + self.code_dim)
        return {
            "block.query": token[:dim],
            "block.key": token[:dim].clone(),
            "block.value": token.clone(),
            "block.log_share": torch.tensor(0.1).log(),
            "read.key": token[:dim].clone(),
            "read.value": token[dim:].clone(),
            "log_sharpness": torch.tensor(10.0).log(),
            "log_scale": torch.tensor(5.0).log(),
        }

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """Keys and values of the tokens; what the query needs of slow weights is folded into them."""
        codes = label_codes(support.n_classes, self.code_dim).to(support.features)
        weights = support.weights.to(support.features.dtype)
        tokens = torch.cat([directions(support.features), support.membership @ codes], dim=1)
        sharpness = slow["log_sharpness"].exp()
        scores = sharpness * (tokens @ slow["block.query"].T) @ (tokens @ slow["block.key"].T).T
        causal = torch.ones_like(scores, dtype=torch.bool).tril()
        attention = (scores + _log(weights)).masked_fill(~causal, -torch.inf).softmax(dim=1)
        tokens = tokens + slow["block.log_share"].exp() * attention @ (tokens @ slow["block.value"].T)
        return {
            "attention.keys": sharpness * directions(tokens @ slow["read.key"].T),
            "attention.values": slow["log_scale"].exp() * (tokens @ slow["read.value"].T) @ codes.T,
            "attention.weights": weights,
        }

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """The reading of the query, compared with each class's code."""
        scores = directions(features) @ fast_weights["attention.keys"].T + _log(fast_weights["attention.weights"])
        return scores.softmax(dim=1) @ fast_weights["attention.values"]


def label_codes(n_classes: int, width: int) -> Float[Tensor, "classes width"]:
    """Unit vectors, the same for a class's index whatever the number of classes; on the CPU, in float64."""
    draw = torch.Generator().manual_seed(0)
    squares = [torch.randn(width, width, generator=draw, dtype=torch.float64) for _ in range(0, n_classes, width)]
    return torch.cat([torch.linalg.qr(square).Q for square in squares])[:n_classes]


def _log(weights: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
    """The logarithm of weights. An example that weighs nothing gets next to nothing of the attention."""
    return weights.clamp_min(torch.finfo(weights.dtype).tiny).log()
