"""Errors of a gradient field, by hand and by what must hold of them."""

import math

import pytest
import torch
from networks import random_network

from gradsplinter import ReluNetwork
from gradsplinter.field import HEXAGON, best_rms, field_at, field_errors, network_field
from gradsplinter.formula import Formula
from gradsplinter.regions import plane

F64 = torch.float64


def linear(a, b):
    return ReluNetwork([torch.tensor([[a, b]], dtype=F64)], [torch.zeros(1, dtype=F64)])


def product(x):
    return x.flip(1)


def wide(seed=0):
    return random_network((2, 30, 30, 2), seed, F64)


def test_a_flat_network_against_the_product():
    errors = field_errors(plane(linear(1.0, 1.0)), product)
    assert errors.exact_rms**2 == pytest.approx(2 / 3, rel=1e-14)
    assert errors.rms**2 == pytest.approx(2 / 3, rel=1e-14)  # 2 ∫ (1 - x)² dx
    assert errors.relative == pytest.approx(1, rel=1e-14)
    assert errors.exact.tolist() == [pytest.approx([0.5, 0.5], rel=1e-14)]
    assert errors.rms_of_region.tolist() == [pytest.approx(errors.rms)]
    assert errors.relative_of_region.tolist() == [pytest.approx(1)]


def test_integrals_are_exact_for_whatever_regions():
    """Of polynomials of degree 2, here squares of linear fields."""
    found = plane(wide())
    errors = field_errors(found, product, 1)
    assert errors.exact_rms**2 == pytest.approx(2 / 3, rel=1e-12)
    total = (errors.exact * found.areas.unsqueeze(1)).sum(0)
    assert total.tolist() == pytest.approx([0.5, 0.5], rel=1e-12)
    # Region by region, |g - g*|² expands about the mean of g*.
    spread = (errors.rms_of_region.square() * found.areas).sum()
    assert float(spread) == pytest.approx(errors.rms**2, rel=1e-12)
    moved = (found.gradients[:, 1] - errors.exact).square().sum(1)
    around = errors.rms_of_region.square() - moved  # of g* about its mean: as of the polygon
    assert (around > 0).all()
    assert float((around * found.areas).sum()) == pytest.approx(
        2 / 3 - float((errors.exact.square().sum(1) * found.areas).sum()), rel=1e-9
    )


def test_a_network_that_is_right_has_no_error_in_any_region():
    """Two units that are always on carry the output; the others only cut."""
    cutting = random_network((2, 30, 1), 3, F64)
    net = ReluNetwork(
        [torch.cat([torch.eye(2, dtype=F64), cutting.weights[0]]),
         torch.tensor([[1.0, -2.0] + [0.0] * 30], dtype=F64)],
        [torch.cat([torch.ones(2, dtype=F64), cutting.biases[0]]), torch.zeros(1, dtype=F64)],
    )  # fmt: skip
    found = plane(net)
    assert len(found) > 20
    errors = field_errors(found, lambda x: torch.tensor([1.0, -2.0], dtype=F64).expand(len(x), 2))
    assert (errors.rms, errors.relative) == (0, 0)
    assert errors.angle <= 1e-5  # acos near 1
    assert not errors.rms_of_region.any()


@pytest.mark.parametrize(
    ("net", "exact", "angle"),
    [
        ((1.0, 0.0), (0.0, 2.0), 90), ((1.0, 0.0), (-3.0, 0.0), 180), ((1.0, 1.0), (1.0, 0.0), 45),
        ((0.0, 0.0), (1.0, 0.0), 90),
    ],
)  # fmt: skip
def test_angles(net, exact, angle):
    def field(x):
        return torch.tensor([exact], dtype=F64).expand(len(x), 2)

    errors = field_errors(plane(linear(*net)), field)
    assert errors.angle == pytest.approx(angle)
    assert errors.angle_of_region.tolist() == [pytest.approx(angle)]


def test_no_angle_where_there_is_no_direction():
    found = plane(linear(1.0, 0.0))
    errors = field_errors(found, torch.zeros_like)
    assert math.isnan(errors.angle)
    assert errors.angle_of_region.isnan().all()
    assert (errors.rms, errors.exact_rms, errors.relative) == (pytest.approx(1), 0, math.inf)
    assert errors.relative_of_region.tolist() == [math.inf]


@pytest.mark.parametrize("expression", ["sin(3*x1)*x2 + x1**2*exp(-x2)", "exp(x1*x2)*cos(4*x2)"])
def test_integrals_of_large_regions(expression):
    """One region, a field that is no polynomial: against the middles of a fine grid."""
    exact = Formula(expression)
    found = plane(linear(1.0, 0.5))
    errors = field_errors(found, lambda x: exact.gradient(x)[:, 0])
    axis = (torch.arange(600, dtype=F64) + 0.5) / 600
    wanted = exact.gradient(torch.cartesian_prod(axis, axis))[:, 0]
    got = torch.tensor([1.0, 0.5], dtype=F64)
    assert errors.exact_rms == pytest.approx(float(wanted.square().sum(1).mean().sqrt()), rel=1e-3)
    assert errors.rms == pytest.approx(
        float((wanted - got).square().sum(1).mean().sqrt()), rel=1e-3
    )
    cosine = torch.cosine_similarity(wanted, got.expand_as(wanted), eps=0)
    assert errors.angle == pytest.approx(float(cosine.acos().rad2deg().mean()), rel=3e-3)


def test_kinks_do_not_count():
    """Away from x1 = x2 the field of max(x1, x2)² + x1·x2 has det H = -1."""
    exact = Formula("max(x1, x2)**2 + x1*x2")
    found = plane(linear(1.0, 1.0))
    for steps in (100, 101, 250):  # all of them have cells on the diagonal
        value = best_rms(found, lambda x: exact.gradient(x)[:, 0], 1, steps=steps)
        assert value == pytest.approx(math.sqrt(HEXAGON), rel=0.02)


def test_a_plane_in_many_dimensions():
    """Fields are projected on the plane's axes, whatever their lengths."""
    net = ReluNetwork([torch.tensor([[1.0, 2.0, 3.0]], dtype=F64)], [torch.zeros(1, dtype=F64)])
    found = plane(net, [0, 0, 0], [2, 0, 0], [0, 0, 1])
    assert found.gradients.tolist() == [[[2, 3]]]
    errors = field_errors(found, lambda x: x)  # (s, t) → x = (2s, 0, t), so g* = (4s, t)
    assert errors.exact.tolist() == [pytest.approx([2, 0.5])]
    expected = (4 - 16 + 64 / 3 * 0.75) - 8 + 8  # ∫ (2 - 4s)² = 4/3, ∫ (3 - t)² = 19/3
    assert expected == 4
    assert errors.rms**2 == pytest.approx(4 / 3 + 19 / 3)


def test_the_field_of_the_network_at_points():
    net = wide(5)
    found = plane(net)
    points = torch.rand(200, 2, dtype=F64, generator=torch.Generator().manual_seed(0))
    x = points.clone().requires_grad_()
    for output in (0, 1):
        (expected,) = torch.autograd.grad(net.to_module()(x)[:, output].sum(), x)
        torch.testing.assert_close(network_field(found, points, output), expected)
    outside = torch.tensor([[50.0, 3.0]], dtype=F64)
    assert network_field(found, outside).isnan().all()


def test_the_constant_of_the_hexagon():
    """Its second moment by the regions' own integral."""
    corners = [[math.cos(k * math.pi / 3), math.sin(k * math.pi / 3)] for k in range(6)]
    errors = field_errors(plane(linear(0.0, 0.0), domain=corners), lambda x: x)
    area = 1.5 * math.sqrt(3)
    assert errors.rms**2 / area == pytest.approx(HEXAGON, rel=1e-12)


def test_the_best_partition():
    found = plane(linear(1.0, 1.0))
    for n in (1, 100):  # of the product: det H = -1 everywhere
        assert best_rms(found, product, n) == pytest.approx(math.sqrt(HEXAGON / n), rel=1e-8)
    triangle = plane(linear(1.0, 1.0), domain=[[0, 0], [4, 0], [0, 4]])
    # Of a domain of 8 times the area; a grid has a ragged edge along the slope.
    assert best_rms(triangle, product, 1) == pytest.approx(math.sqrt(8 * HEXAGON), rel=0.01)
    # Squares are 4 % worse than hexagons.
    steps = torch.arange(1, 10, dtype=F64) / 10
    units = torch.cat([torch.eye(2, dtype=F64).repeat_interleave(9, 0)])
    squares = ReluNetwork([units, torch.ones(1, 18, dtype=F64)],
                          [-steps.repeat(2), torch.zeros(1, dtype=F64)])  # fmt: skip
    grid = plane(squares)
    assert len(grid) == 100
    errors = field_errors(grid, product)
    spread = (field_at(grid, product, grid.centroids) - errors.exact).abs().max()
    assert float(spread) < 1e-12
    around = errors.rms_of_region.square() - (grid.gradients[:, 0] - errors.exact).square().sum(1)
    ratio = math.sqrt(float((around * grid.areas).sum())) / best_rms(grid, product, 100)
    assert ratio == pytest.approx(math.sqrt(1 / 6 / HEXAGON), rel=1e-6)


def test_bad_arguments():
    found = plane(linear(1.0, 1.0))
    with pytest.raises(ValueError, match=r"^output must be in 0\.\.0, got 1"):
        field_errors(found, product, 1)
    with pytest.raises(ValueError, match=r"^exact's gradient must be finite, got"):
        field_errors(found, lambda x: x / 0 * 0)
    with pytest.raises(TypeError, match=r"^exact must return a tensor, got list"):
        field_errors(found, lambda x: x.tolist())
    with pytest.raises(
        ValueError, match=r"^exact must return a tensor of shape \[6144, 2\], got \[6144\]"
    ):
        field_errors(found, lambda x: x[:, 0])
    with pytest.raises(ValueError, match=r"^regions must be at least 1, got 0"):
        best_rms(found, product, 0)
