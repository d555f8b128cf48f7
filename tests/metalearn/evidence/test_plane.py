"""The plane on which texts are drawn."""

import pytest
import torch

from metalearn.evidence.plane import fit_plane
from metalearn.evidence.similarity import directions


def clusters(classes: int, each: int, dim: int = 12) -> tuple[torch.Tensor, list[int]]:
    """Features around the corners of a cube, and their classes."""
    draw = torch.Generator().manual_seed(classes)
    targets = [kind for kind in range(classes) for _ in range(each)]
    centres = 3 * torch.randn(classes, dim, generator=draw)
    return centres[targets] + 0.3 * torch.randn(len(targets), dim, generator=draw), targets


def test_the_axes_are_the_principal_components_of_the_class_means() -> None:
    features, targets = clusters(4, 5)
    plane = fit_plane(features, targets)
    rows = directions(features, features).double()
    means = torch.stack([rows[torch.tensor(targets) == kind].mean(dim=0) for kind in range(4)])
    _, _, components = torch.linalg.svd(means - means.mean(dim=0), full_matrices=False)
    for axis, expected in zip(plane.axes.double(), components[:2], strict=True):
        assert abs(float(axis @ expected)) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2), atol=1e-5)
    spread = (rows - rows.mean(dim=0)).square().sum()
    assert plane.shown == pytest.approx(float(plane.places(features).double().square().sum() / spread), abs=1e-5)
    assert 0.2 < plane.shown < 1


def test_classes_lie_apart() -> None:
    features, targets = clusters(3, 6)
    places = fit_plane(features, targets).places(features)
    kinds = torch.tensor(targets)
    means = torch.stack([places[kinds == kind].mean(dim=0) for kind in range(3)])
    assert torch.cdist(places, means).argmin(dim=1).tolist() == targets


def test_two_classes_have_a_plane_too() -> None:
    features, targets = clusters(2, 5)
    plane = fit_plane(features, targets)
    assert torch.allclose(plane.axes @ plane.axes.T, torch.eye(2), atol=1e-5)
    assert plane.places(features).std(dim=0).min() > 0.01


def test_the_order_of_the_examples_plays_no_part() -> None:
    features, targets = clusters(4, 5)
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(1))
    other = fit_plane(features[order], [targets[i] for i in order])
    assert torch.allclose(other.places(features), fit_plane(features, targets).places(features), atol=1e-4)


@pytest.mark.parametrize("features", [torch.ones(1, 4), torch.ones(3, 4), torch.tensor([[1.0, 0], [0, 1]])])
def test_examples_that_differ_in_less_than_a_plane(features: torch.Tensor) -> None:
    places = fit_plane(features, [0] * len(features)).places(features)
    assert torch.isfinite(places).all()
    assert places[:, 1].abs().max() < 1e-6
