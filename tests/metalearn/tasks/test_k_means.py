"""k-means finds clusters that are there, and the same ones each time."""

import torch

from metalearn.tasks.k_means import k_means


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_clusters_far_apart_are_found() -> None:
    centres = 10 * torch.eye(6)
    points = (centres.unsqueeze(0) + 0.1 * torch.randn(40, 6, 6, generator=draw())).flatten(0, 1)
    found = k_means(points, 6, draw(1)).view(40, 6)
    assert (found == found[0]).all()
    assert len(set(found[0].tolist())) == 6


def test_where_it_ends_each_point_is_nearest_to_its_own_mean() -> None:
    points = torch.randn(300, 4, generator=draw())
    found = k_means(points, 7, draw(1), max_rounds=500)
    means = torch.stack([points[found == cluster].mean(dim=0) for cluster in range(7)])
    assert torch.equal(torch.cdist(points, means).argmin(dim=1), found)


def test_a_seed_decides() -> None:
    points = torch.randn(200, 5, generator=draw())
    assert torch.equal(k_means(points, 9, draw(1)), k_means(points, 9, draw(1)))
    assert not torch.equal(k_means(points, 9, draw(1)), k_means(points, 9, draw(2)))


def test_fewer_different_points_than_clusters() -> None:
    points = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(10, 1)
    assert k_means(points, 5, draw()).unique().tolist() == [0, 1]
    assert k_means(torch.ones(4, 3), 2, draw()).tolist() == [0, 0, 0, 0]
