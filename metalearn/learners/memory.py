"""A learner that writes its support set, example after example, into a bounded memory, and reads queries from it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from metalearn.encoded_set import EncodedSet
from metalearn.learners.interface import ReadingLearner
from metalearn.learners.metric import directions
from metalearn.types import FastWeights, SlowWeights

_USAGE_DECAY = 0.99
"""The part of a slot's usage that is left after an example. It decides only which slot is least used, which has no
derivative, so that it cannot be learned."""


@dataclass(frozen=True)
class Memory(ReadingLearner):
    """A memory of slots, each with a key and with what its examples gave to each class.

    An example f with key P f is written in three moves: (1) it reads, with attention r over the slots by scaled cosine;
    (2) the least used slot is erased; (3) its key and its class are added to all slots in proportions
    g r + (1 - g) [least used], with a learned gate g. The usage of slots decays, and grows by r and by these
    proportions. A query reads in the same way; the class weights read, plus a learned smoothing, are its probabilities
    up to a factor. With g at 0, P the identity and a slot for each example this is a matching network.

    What differs from the paper: there is no recurrent controller, keys are projected features. Labels come with their
    examples and not a step later, so that an example is written to what it has itself read. Keys are as long as the
    projection makes their directions, so that the projection of queries is folded into the slots.

    Examples are written in rounds of one per class, and the last round has one of every class, the last of its class: a
    support set that is sorted by class and larger than the memory does not lose the first classes.

    Source: Santoro et al. 2016, "Meta-learning with memory-augmented neural networks", sections 3.1 and 3.2 (LRUA).

    Attributes:
        slots: Most slots; more only where there are more classes.
    """

    slots: int = 128
    name: str = "memory"

    def initial_slow_weights(
        self, dim: int, deep: FastWeights, *, steps: int, draw: torch.Generator
    ) -> dict[str, Tensor]:
        """Projection of keys, sharpness, gate (a logit) and smoothing."""
        return {
            "key": torch.eye(dim),
            "log_sharpness": torch.tensor(10.0).log(),
            "gate": torch.tensor(-4.0),
            "log_smoothing": torch.tensor(1e-3).log(),
        }

    def start(self, slow: SlowWeights, support: EncodedSet) -> FastWeights:
        """The memory after the last example; sharpness, projection and smoothing are folded into it."""
        order = rounds(support.membership)
        keys = directions(support.features)[order] @ slow["key"].T
        values = (support.membership * support.weights.unsqueeze(1))[order]
        n_slots = min(keys.shape[0], max(self.slots, support.n_classes))
        sharpness = slow["log_sharpness"].exp()
        slot_keys, slot_values = written(keys, values, n_slots, sharpness, slow["gate"].sigmoid())
        return {
            "memory.keys": sharpness * directions(slot_keys) @ slow["key"],
            "memory.values": slot_values + slow["log_smoothing"].exp(),
        }

    def logits(self, fast_weights: FastWeights, features: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Logarithms of the readings; the attention sums to 1, so that smoothed values are smoothed readings."""
        attention = (directions(features) @ fast_weights["memory.keys"].T).softmax(dim=1)
        return (attention @ fast_weights["memory.values"]).log()


def rounds(membership: Float[Tensor, "rows classes"]) -> Int[Tensor, " rows"]:
    """Rows in rounds of at most one per class, those with most left of their class first."""
    left = ((membership.sum(dim=0) - membership.cumsum(dim=0)) * membership).sum(dim=1)
    return left.argsort(descending=True, stable=True)


def written(
    keys: Float[Tensor, "rows dim"],
    values: Float[Tensor, "rows classes"],
    n_slots: int,
    sharpness: Float[Tensor, ""],
    gate: Float[Tensor, ""],
) -> tuple[Float[Tensor, "slots dim"], Float[Tensor, "slots classes"]]:
    """Keys and values of the slots after all rows are written, one after another.

    Args:
        keys: One per row.
        values: The contribution of each row to its class.
        n_slots: At most as many as rows, so that every slot is written to.
        sharpness: Factor of cosines.
        gate: Share that goes to the slots that were read; the rest goes to the least used one.
    """
    dim = keys.shape[1]
    slot = torch.arange(n_slots, device=keys.device)
    memory = keys.new_zeros(n_slots, dim + values.shape[1])  # keys and values side by side: one product updates both
    usage = keys.new_zeros(n_slots)
    for row in torch.cat([keys, values], dim=1):
        slot_keys = memory[:, :dim]
        squares = slot_keys.square().sum(dim=1)
        scores = sharpness * (slot_keys @ row[:dim]) / torch.where(squares > 0, squares, 1.0).sqrt()
        occupied = usage > 0  # an empty slot cannot be read, and is less used than any other
        read = scores.masked_fill(~occupied, torch.finfo(scores.dtype).min).softmax(dim=0) * occupied
        least_used = slot == usage.argmin()
        write = gate * read + (1 - gate) * least_used
        memory = torch.addr(memory.masked_fill(least_used.unsqueeze(1), 0.0), write, row)
        usage = _USAGE_DECAY * usage + (read + write).detach()
    return memory[:, :dim], memory[:, dim:]
