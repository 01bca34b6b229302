"""Borders and examples, regions around them, and regions that samples find."""

import pytest
import torch
from networks import random_network

from gradsplinter import ReluNetwork, ops
from gradsplinter.region_statistics import (
    RegionCounts,
    border_distances,
    local_complexity,
    sampled_counts,
    uniform_points,
)
from gradsplinter.regions import line, plane
from gradsplinter.train import initialise

F64 = torch.float64
WIDE = [[-30, -30], [30, -30], [30, 30], [-30, 30]]


def network(weights, biases):
    return ReluNetwork(
        [torch.tensor(w, dtype=F64) for w in weights], [torch.tensor(b, dtype=F64) for b in biases]
    )


def points(n, width, seed=0):
    return torch.randn(n, width, dtype=F64, generator=torch.Generator().manual_seed(seed))


def to_segment(at, a, b):
    """Distance of a point to segments `[n, 2]`."""
    along = b - a
    t = ((at - a) * along).sum(1) / along.square().sum(1)
    return (a + t.clamp(0, 1).unsqueeze(1) * along - at).norm(dim=1)


# --- distances -------------------------------------------------------------------------------------


@pytest.mark.parametrize("widths", [(2, 12, 1), (2, 9, 11, 2), (2, 7, 6, 5, 1)])
def test_distances_are_those_to_the_sides_of_the_region(widths):
    net = random_network(widths, 4, F64)
    found = plane(net, domain=WIDE)
    x = points(60, 2)
    region = found.locate(x)
    assert (region >= 0).all()
    nearest = border_distances(net, x)
    for i in range(len(x)):
        sides = (found.side_region == region[i]) & (found.neighbours >= 0)
        away = to_segment(x[i], found.vertices[sides], found.side_ends[sides])
        assert float(nearest.distance[i]) == pytest.approx(float(away.min()), rel=1e-9)
        # The unit that is named flips across that side.
        side = sides.nonzero().squeeze(1)[away.argmin()]
        border, site, unit = found.flips
        there = border == side
        named = zip(site[there].tolist(), unit[there].tolist(), strict=True)
        assert (int(nearest.site[i]), int(nearest.unit[i])) in set(named)


def test_distances_in_many_dimensions():
    """Straight towards the border the unit flips at that distance, and nothing flips before."""
    net = random_network((20, 15, 15, 3), 2, F64)
    x = points(30, 20)
    distance, site, unit = border_distances(net, x)
    for i in range(len(x)):
        until = ReluNetwork(net.weights[: int(site[i])], net.biases[: int(site[i])])
        at = x[i : i + 1].clone().requires_grad_()
        z = until.to_module()(at)[0, int(unit[i])]
        (slope,) = torch.autograd.grad(z, at)
        towards = -slope[0] * z.detach().sign() / slope.norm()
        crossed = line(net, x[i], x[i] + 2 * distance[i] * towards)
        assert float(crossed.breakpoints[1]) == pytest.approx(0.5, rel=1e-9)
        flipped = crossed.flips.border == 1
        assert crossed.flips.site[flipped].tolist() == [int(site[i])]
        assert crossed.flips.unit[flipped].tolist() == [int(unit[i])]


def test_examples_without_a_border():
    flat = network([[[1.0, 2.0]]], [[0.0]])  # no hidden layer
    dead = network([[[0.0, 0.0]], [[1.0]]], [[-1.0], [0.0]])
    for net in (flat, dead):
        distance, site, unit = border_distances(net, points(3, 2))
        assert distance.tolist() == [torch.inf] * 3
        assert site.tolist() == [0] * 3
        assert unit.tolist() == [-1] * 3
    on = network([[[1.0, 0.0]], [[1.0]]], [[0.0], [0.0]])
    assert border_distances(on, torch.zeros(1, 2)).distance.tolist() == [0]
    empty = border_distances(on, torch.zeros(0, 2))
    assert [len(column) for column in empty] == [0, 0, 0]


def test_units_behind_a_dead_layer_have_no_border():
    """Off at x, the first unit hides the second one, whose own border lies nearer."""
    net = network([[[1.0, 0.0]], [[1.0]], [[1.0]]], [[-3.0], [-1.0], [0.0]])
    assert border_distances(net, torch.zeros(1, 2)).distance.tolist() == [3]


# --- regions around examples -----------------------------------------------------------------------


def test_regions_in_a_square():
    net = network([[[1.0, 0], [0, 1]], [[1.0, 1]]], [[0.0, 0], [0.0]])
    x = torch.tensor([[0.0, 0], [0.3, 0.3], [0.3, 2], [2, 2]])
    assert local_complexity(net, x, 0.5, progress=False).tolist() == [4, 4, 2, 1]
    assert local_complexity(net, x, 0.25, progress=False).tolist() == [4, 1, 1, 1]


def test_regions_on_a_line():
    net = network([[[1.0], [1]], [[1.0, 1]]], [[0.0, -1], [0.0]])
    x = torch.tensor([[0.5], [0.0], [9.0]])
    assert local_complexity(net, x, 0.6, progress=False).tolist() == [3, 2, 1]


def test_random_planes_in_many_dimensions():
    net = random_network((10, 30, 30, 1), 1, F64)
    x = points(4, 10)
    counts = local_complexity(net, x, 0.5, seed=3, progress=False)
    assert torch.equal(counts, local_complexity(net, x, 0.5, seed=3, progress=False))
    assert not torch.equal(counts, local_complexity(net, x, 0.5, seed=4, progress=False))
    assert (counts > 1).all()
    # So small a square around an example lies in its region.
    close = float(border_distances(net, x).distance.min()) / 1.5
    assert local_complexity(net, x, close, progress=False).tolist() == [1] * 4


@pytest.mark.parametrize(
    ("radius", "error", "message"),
    [
        (0, ValueError, "radius must be positive and finite, got 0"),
        (float("nan"), ValueError, "radius must be positive and finite, got nan"),
        ("1", TypeError, "radius must be a number, got str"),
        (True, TypeError, "radius must be a number, got bool"),
    ],
)
def test_bad_radius(radius, error, message):
    net = random_network((2, 3, 1))
    with pytest.raises(error, match=message):
        local_complexity(net, torch.zeros(1, 2), radius)


def test_bad_inputs():
    net = random_network((2, 3, 1))
    with pytest.raises(ValueError, match=r"x must have shape \[N, 2\]"):
        border_distances(net, torch.zeros(1, 3))
    with pytest.raises(TypeError, match="x must be float32 or float64, got int64"):
        border_distances(net, torch.zeros(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="x must"):
        border_distances(net, torch.full((1, 2), torch.nan))


# --- sampling --------------------------------------------------------------------------------------


def test_samples_find_more_and_more():
    net = initialise([2, 16, 16, 1], 0)
    found = plane(net, domain=[[-1, -1], [1, -1], [1, 1], [-1, 1]])
    counts = sampled_counts(found, [0, 1, 10, 1000, 100_000])
    assert counts[:2].tolist() == [0, 1]
    assert (counts.diff() > 0).all()
    assert counts[-1] <= len(found)
    # The same as the patterns of the points, one number at a time.
    generator = torch.Generator().manual_seed(0)
    at = uniform_points(found.domain, 1000, generator)
    assert sampled_counts(found, [1000])[0] == len(
        ops.unique_rows(ops.signatures(found.restricted, at)).first
    )


def test_points_are_uniform_on_a_polygon():
    corners = torch.tensor([[0.0, 0], [4, 0], [4, 1], [1, 2]], dtype=F64)
    at = uniform_points(corners, 40_000, torch.Generator().manual_seed(0))
    edges, away = corners.roll(-1, 0) - corners, at.unsqueeze(1) - corners
    assert (edges[:, 0] * away[..., 1] - edges[:, 1] * away[..., 0] >= -1e-12).all()
    net = network([[[1.0, 0], [0, 1], [1, -1]], [[1.0] * 3]], [[-1.5, -0.8, -1.0], [0.0]])
    found = plane(net, domain=corners)
    hits = torch.bincount(found.locate(at), minlength=len(found))
    expected = found.areas / found.areas.sum() * len(at)
    assert len(found) >= 6
    assert ((hits - expected).abs() < 5 * expected.sqrt()).all()


def test_counts_during_training():
    regions = RegionCounts(domain=[[0, 0], [2, 0], [0, 2]])
    net = initialise([2, 10, 1], 0)
    assert regions(5, net) == len(plane(net, domain=[[0, 0], [2, 0], [0, 2]]))
    regions(6, net.to_module(), 3)
    assert regions.counts == {0: [(5, regions.counts[3][0][1])], 3: [(6, regions.counts[0][0][1])]}
