"""A plane through a support set, on which texts are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from metalearn.evidence.similarity import directions

_NO_DIFFERENCE = 1e-9
"""Variance that rounding leaves in a direction where texts do not differ."""


@dataclass(frozen=True, slots=True)
class Plane:
    """The plane in which the classes of a support set differ most.

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


def fit_plane(examples: Float[Tensor, "examples dim"], targets: Sequence[int]) -> Plane:
    """The plane in which the classes of a support set differ most, by the measure of ``similarities``.

    Its axes are the first principal components of the class means, each mean counted once per example. Where the means
    span less than a plane, as those of two classes do, what the examples differ in beside it completes the plane. The
    largest component of each axis is positive, which makes the plane the same each time.

    Args:
        examples: Features of the examples, at least one.
        targets: The class of each example.
    """
    rows = directions(examples, examples)
    mean = rows.mean(dim=0)
    # In double precision, and of the products: as exact as is seen, and as fast for thousands of rows as for a few
    centred = (rows - mean).double()
    classes = torch.tensor(targets, device=rows.device)
    membership = torch.nn.functional.one_hot(classes).to(centred)
    means = membership @ ((membership.T @ centred) / membership.sum(dim=0).clamp_min(1)[:, None])
    axes = centred.new_zeros(0, centred.shape[1])
    for differences in (means, centred):
        beside = differences - differences @ axes.T @ axes
        variance, components = torch.linalg.eigh(beside.T @ beside)
        found = components.T.flip(0)[variance.flip(0) > _NO_DIFFERENCE]
        axes = torch.cat([axes, found[: 2 - len(axes)]])
    total = centred.square().sum()
    shown = float((centred @ axes.T).square().sum() / total) if len(axes) else 1.0
    axes = torch.cat([axes, axes.new_zeros(2 - len(axes), axes.shape[1])]).to(rows.dtype)
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    return Plane(examples, mean, torch.where(largest < 0, -axes, axes), shown)
