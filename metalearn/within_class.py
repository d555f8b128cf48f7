"""How the texts of one class differ from each other, and features in which that counts less."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot


class Narrowing(NamedTuple):
    """A symmetric map of some columns: factor (I - D D^T).

    Attributes:
        directions: D; one column for each direction that counts less.
        factor: Keeps the examples as long as they were, in the mean.
    """

    directions: Float[Tensor, "dim rank"]
    factor: Float[Tensor, ""]

    def of(self, rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        """Features under the map; or the head of features as they come, from a head of those under it."""
        return self.factor * (rows - (rows @ self.directions) @ self.directions.T)


@dataclass(frozen=True, slots=True)
class WithinClass:
    """Divides features by the square root of their covariance within classes, shrunk towards that of a sphere.

    What the texts of a class differ in tells nothing of the class. Source: regularised discriminant analysis, Friedman
    1989, with the shrinkage of a conjugate prior, so that a support set counts as much as it has examples. It counts
    less the fewer classes it has, and nothing with two: texts of one class then differ in what tells the classes apart,
    such as how pleased they are; see docs/log.md.

    Attributes:
        prior: How many examples, for each column, the sphere counts.
        sections: Widths of the parts that are looked at each by itself; further columns are left alone.
    """

    prior: float
    sections: tuple[int, ...]

    def narrowings(
        self, features: Float[Tensor, "examples dim"], classes: Int[Tensor, " examples"], n_classes: int
    ) -> tuple[Narrowing, ...]:
        """The map of each section.

        Args:
            features: Of the examples.
            classes: Theirs.
            n_classes: How many there are.
        """
        members = one_hot(classes, n_classes).to(features.dtype)
        counts = members.sum(dim=0)
        means = (members.T @ features) / counts.clamp_min(1).unsqueeze(1)
        differences = features - means[classes]
        seen = (counts > 0).sum()
        free = classes.shape[0] - seen  # degrees of freedom; none where each class has one example
        weight = free * (1 - 2 / seen).clamp_min(0)
        ends = [*accumulate(self.sections)]
        own, apart = (part.tensor_split(ends, dim=1)[:-1] for part in (features, differences))
        return tuple(self._narrowing(*both, weight) for both in zip(own, apart, strict=True))

    def _narrowing(
        self,
        features: Float[Tensor, "examples width"],
        differences: Float[Tensor, "examples width"],
        weight: Float[Tensor, ""],
    ) -> Narrowing:
        # Differences of a thousandth are those of texts that are the same but for rounding
        total = differences.square().sum().clamp_min(1e-6 * features.square().sum()).clamp_min(1e-12)
        # Beside the sphere's variance, that of a direction is 1 + strength times its sum of squares
        strength = weight / (self.prior * total)
        examples, width = differences.shape
        if examples < width:
            squares, vectors = _eigh(differences @ differences.T)
            # What makes unit vectors of these, 1 / sqrt(squares), and what a unit vector counts less, in one: squares
            # may be zero
            root = (1 + strength * squares.clamp_min(0)).sqrt()
            directions = differences.T @ (vectors * (strength / (root * (1 + root))).sqrt())
        else:
            squares, vectors = _eigh(differences.T @ differences)
            directions = vectors * (1 - (1 + strength * squares.clamp_min(0)).rsqrt()).sqrt()
        narrowed = Narrowing(directions, torch.ones_like(strength)).of(features)
        lengths = features.norm(dim=1).mean(), narrowed.norm(dim=1).mean()
        return Narrowing(directions, torch.where(lengths[1] > 0, lengths[0] / lengths[1], 1.0))


@dataclass(frozen=True)
class TaskView:
    """How a task sees features, which a head is told when it is done.

    Attributes:
        narrowings: Of the first columns; see ``WithinClass``.
        scales: What columns are multiplied with after that; None for nothing.
        centre: What is taken off features before all else; None for nothing.
    """

    narrowings: tuple[Narrowing, ...] = ()
    scales: Float[Tensor, " dim"] | None = None
    centre: Float[Tensor, " dim"] | None = None

    def of(self, features: Float[Tensor, "texts dim"]) -> Float[Tensor, "texts dim"]:
        """Features as the task sees them."""
        centred = features if self.centre is None else features - self.centre
        return self._scaled(_narrowed(centred, self.narrowings))

    def head(
        self, weight: Float[Tensor, "classes dim"], bias: Float[Tensor, " classes"]
    ) -> tuple[Float[Tensor, "classes dim"], Float[Tensor, " classes"]]:
        """The head that has the same logits for features as they come as this one has for those the task sees."""
        weight = _narrowed(self._scaled(weight), self.narrowings)
        return weight, bias if self.centre is None else bias - weight @ self.centre

    def _scaled(self, rows: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows dim"]:
        return rows if self.scales is None else rows * self.scales


def _narrowed(rows: Float[Tensor, "rows dim"], narrowings: Sequence[Narrowing]) -> Float[Tensor, "rows dim"]:
    if not narrowings:
        return rows
    ends = [*accumulate(narrowing.directions.shape[0] for narrowing in narrowings)]
    *parts, rest = rows.tensor_split(ends, dim=1)
    narrowed = [narrowing.of(part) for narrowing, part in zip(narrowings, parts, strict=True)]
    return torch.cat([*narrowed, rest], dim=1)


def _eigh(matrix: Float[Tensor, "size size"]) -> tuple[Float[Tensor, " size"], Float[Tensor, "size size"]]:
    there = matrix if matrix.device.type != "mps" else matrix.cpu()  # where it does not exist
    values, vectors = torch.linalg.eigh(there)
    return values.to(matrix.device), vectors.to(matrix.device)
