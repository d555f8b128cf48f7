"""A plane through a support set, on which texts are drawn."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.evidence.similarity import directions

_NO_DIFFERENCE = 1e-9
"""Variance that rounding leaves in a direction where texts do not differ."""


@dataclass(frozen=True, slots=True)
class Plane:
    """The plane in which the examples of a support set differ most.

    Attributes:
        examples: Features of the examples.
        mean: Mean direction of the examples.
        axes: Two directions of unit length; zeros where the examples differ in fewer.
        shown: Share of the examples' variance in the plane, from 0 to 1.
    """

    examples: Float[Tensor, "examples dim"]
    mean: Float[Tensor, " dim"]
    axes: Float[Tensor, "2 dim"]
    shown: float

    def places(self, texts: Float[Tensor, "texts dim"]) -> Float[Tensor, "texts 2"]:
        """Coordinates of texts; those of an example lie where the example lies.

        Args:
            texts: Features of the texts.
        """
        return (directions(self.examples, texts) - self.mean) @ self.axes.T


def fit_plane(examples: Float[Tensor, "examples dim"]) -> Plane:
    """The plane of the first two principal components of the directions by which similarity is measured.

    So texts that are near each other on the plane are similar in the sense of ``similarities``. The component that is
    largest on each axis is positive, which makes the plane the same each time.

    Args:
        examples: Features of the examples, at least one.
    """
    rows = directions(examples, examples)
    mean = rows.mean(dim=0)
    # In double precision, and of the products: as exact as is seen, and as fast for thousands of rows as for a few
    centred = (rows - mean).double()
    variance, components = torch.linalg.eigh(centred.T @ centred)
    variance, components = variance.flip(0).clamp_min(0), components.T.flip(0)
    found = int(min(2, (variance > _NO_DIFFERENCE).sum()))
    axes = rows.new_zeros(2, rows.shape[1])
    axes[:found] = components[:found].to(rows.dtype)
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    axes = torch.where(largest < 0, -axes, axes)
    shown = float(variance[:found].sum() / variance.sum()) if found else 1.0
    return Plane(examples, mean, axes, shown)
