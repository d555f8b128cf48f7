"""k-means clustering with the k-means++ start."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_CHUNK = 8192  # points whose distances to all centres are held at once


def k_means(
    points: Float[Tensor, "points dim"], n_clusters: int, draw: torch.Generator, *, max_rounds: int = 50
) -> Int[Tensor, " points"]:
    """The cluster of each point, from 0.

    A cluster that loses its last point keeps its centre, and may stay empty.

    Args:
        points: The points to cluster, on the CPU.
        n_clusters: How many centres; fewer where fewer points differ.
        draw: Decides where the centres start.
        max_rounds: Most times that the centres move; it ends earlier once no point changes its cluster.

    Source: Lloyd 1982; Arthur and Vassilvitskii 2007, "k-means++: The Advantages of Careful Seeding".
    """
    centres = _start(points, n_clusters, draw)
    nearest = _nearest(points, centres)
    for _ in range(max_rounds):
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=len(centres)).unsqueeze(1)
        centres = torch.where(sizes > 0, sums / sizes.clamp(min=1), centres)
        previous, nearest = nearest, _nearest(points, centres)
        if torch.equal(nearest, previous):
            break
    return nearest


def _start(points: Float[Tensor, "points dim"], n_clusters: int, draw: torch.Generator) -> Float[Tensor, "centres dim"]:
    """Points as centres, each drawn by its squared distance to the nearest one before it."""
    norms = points.square().sum(dim=1)
    distances = torch.ones_like(norms)  # the first is drawn uniformly
    chosen: list[int] = []
    while len(chosen) < n_clusters:
        # By hand: torch.multinomial takes no more than 2^24 points
        cumulated = distances.double().cumsum(0)
        if cumulated[-1] == 0:
            break
        target = torch.rand((), generator=draw, dtype=torch.float64) * cumulated[-1]
        row = min(int(torch.searchsorted(cumulated, target, right=True)), len(points) - 1)
        # As products, for speed: rounding may leave a point a little off itself
        to_row = (norms - 2 * (points @ points[row]) + norms[row]).clamp(min=0)
        to_row[row] = 0
        distances = torch.minimum(distances, to_row) if chosen else to_row
        chosen.append(row)
    return points[chosen]


def _nearest(points: Float[Tensor, "points dim"], centres: Float[Tensor, "centres dim"]) -> Int[Tensor, " points"]:
    """The nearest centre of each point: |point|² is the same for all centres, and left out."""
    offsets = centres.square().sum(dim=1) / 2
    return torch.cat([(offsets - chunk @ centres.T).argmin(dim=1) for chunk in torch.split(points, _CHUNK)])
