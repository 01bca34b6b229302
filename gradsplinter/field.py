"""The gradient field of a network on a plane, exactly per region, against the exact one of a task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gradsplinter.checks import check_finite, check_integer
from gradsplinter.regions import Regions2D

Field = Callable[[Tensor], Tensor]
"""Inputs x `[N, h_0]` → the gradient of one function there, `[N, h_0]`."""

# Of a hexagon: the mean squared distance to its centre for area 1 is 5 / (18 √3). In the plane no
# other partition into cells of equal area does better (Fejes Tóth 1959; Gersho 1979).
HEXAGON = 5 / (18 * math.sqrt(3))

FINEST = 2_000
"""No triangle of the integration is larger than this part of the domain."""


@dataclass(frozen=True, eq=False)
class FieldErrors:
    """How the field of a network differs from an exact one; in the plane's coordinates (s, t)."""

    relative: float
    """sqrt(∫ ‖g - g*‖² / ∫ ‖g*‖²) over the domain; infinite where g* is 0 everywhere, NaN
    where g is too."""
    rms: float
    """sqrt(mean ‖g - g*‖²)."""
    exact_rms: float
    """sqrt(mean ‖g*‖²)."""
    angle: float
    """Degrees between g and g*, mean over the area where g* is not 0; 90 where g alone is 0. NaN where
    g* is 0 everywhere."""
    rms_of_region: Tensor
    """float64 [R]: sqrt(mean ‖g - g*‖²) over each region."""
    relative_of_region: Tensor
    """float64 [R]: sqrt(∫ ‖g - g*‖² / ∫ ‖g*‖²) over each region; infinite or NaN where g* is 0."""
    angle_of_region: Tensor
    """float64 [R]: degrees, mean over each region in the same way."""
    exact: Tensor
    """float64 [R, 2]: the mean of the exact field over each region."""


def field_errors(found: Regions2D, exact: Field, output: int = 0) -> FieldErrors:
    """Integrate over every region, in triangles, by a rule that is exact for polynomials of degree 2.

    So the errors are exact for fields that are linear in x, as those of products; angles and other fields
    are integrated in triangles of at most 1/2000 of the domain.

    Args:
        found: regions of the network.
        exact: the gradient of the task's function by x.
        output: the network's output that stands for it.

    Raises:
        TypeError, ValueError: output, or what `exact` returns.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> from gradsplinter.regions import plane
        >>> net = ReluNetwork([torch.tensor([[1.0, 1.0]])], [torch.zeros(1)])
        >>> errors = field_errors(plane(net), lambda x: x.flip(1))  # of the product
        >>> round(errors.relative, 6), round(errors.rms**2, 6)
        (1.0, 0.666667)
    """
    output = check_integer(output, "output", 0)
    if output >= found.net.widths[-1]:
        raise ValueError(f"output must be in 0..{found.net.widths[-1] - 1}, got {output}")
    points, weights, region = _quadrature(found)
    wanted = field_at(found, exact, points)
    got = found.gradients[region, output]
    square = (got - wanted).square().sum(1)
    lengths = got.norm(dim=1) * wanted.norm(dim=1)
    cosine = (got * wanted).sum(1) / lengths.where(lengths > 0, 1.0)
    angle = cosine.clamp(-1, 1).acos().rad2deg()
    there = (wanted != 0).any(1).double()

    def integral(values: Tensor) -> Tensor:
        shape = (len(found), *values.shape[1:])
        scaled = values * weights.view(-1, *[1] * (values.dim() - 1))
        return values.new_zeros(shape).index_add_(0, region, scaled)

    area, sized = integral(torch.ones_like(square)), integral(there)
    error, size, angles = (
        integral(square),
        integral(wanted.square().sum(1)),
        integral(angle * there),
    )
    # A region so thin that its area is 0 has a share of nothing.
    area_or_1 = area.where(area > 0, 1.0)
    return FieldErrors(
        relative=float((error.sum() / size.sum()).sqrt()),
        rms=float((error.sum() / area.sum()).sqrt()),
        exact_rms=float((size.sum() / area.sum()).sqrt()),
        angle=float(angles.sum() / sized.sum()),
        rms_of_region=(error / area_or_1).sqrt(),
        relative_of_region=(error / size).sqrt(),
        angle_of_region=angles / sized,
        exact=integral(wanted) / area_or_1.unsqueeze(1),
    )


def field_at(found: Regions2D, exact: Field, points: Tensor) -> Tensor:
    """A field in the plane's coordinates, `[N, 2]`, at points (s, t) `[N, 2]`."""
    gradient = exact(found.inputs(points))
    wanted = (len(points), found.net.widths[0])
    if not isinstance(gradient, Tensor):
        raise TypeError(f"exact must return a tensor, got {type(gradient).__name__}")
    if tuple(gradient.shape) != wanted:
        raise ValueError(
            f"exact must return a tensor of shape {list(wanted)}, got {list(gradient.shape)}"
        )
    check_finite(gradient, "exact's gradient")
    return gradient.to(torch.float64) @ found.axes.T


def network_field(found: Regions2D, points: Tensor, output: int = 0) -> Tensor:
    """The gradient of an output by (s, t) at points `[N, 2]`; NaN where no region has their pattern."""
    region = found.locate(points)
    gradient = found.gradients[region, output].clone()
    gradient[region < 0] = torch.nan
    return gradient


def best_rms(found: Regions2D, exact: Field, regions: int, *, steps: int = 100) -> float:
    """The rms error of the best field that is constant on each of so many regions, if they are many.

    It is sqrt(5 / (18 √3) / (A n)) ∫ sqrt(abs(det H)), with H the derivative of the exact field and A the
    domain's area: what the best partition into n cells reaches, each cell a hexagon where the field is
    taken as coordinates (Zador 1982; Gersho 1979). That is the leading term for many regions; where it is
    0, as for a constant field or one that changes along a line only, the error falls faster than n^-1/2. A
    network cannot choose its regions freely, so this is a line to compare with.

    Args:
        found: gives the plane and the domain.
        exact: the field; a few kinks do not matter, and count for nothing.
        regions: n.
        steps: a grid of steps · steps points for the integral.

    Examples:
        >>> from gradsplinter import ReluNetwork
        >>> from gradsplinter.regions import plane
        >>> net = ReluNetwork([torch.ones(1, 2)], [torch.zeros(1)])
        >>> round(best_rms(plane(net), lambda x: x.flip(1), 100), 5)  # of the product
        0.04005
    """
    regions = check_integer(regions, "regions", 1)
    points, weights = _grid(found.domain, check_integer(steps, "steps", 1))

    step = 1e-5 * (found.domain.amax(0) - found.domain.amin(0))
    derivative, near = (_derivative(found, exact, points, s) for s in (step, step / 2))
    # A difference across a kink doubles as the step is halved.
    kinked = (derivative - near).abs().amax((1, 2)) > 0.01 * near.abs().amax((1, 2)) + 1e-6
    derivative[kinked] = 0
    integral = float((torch.linalg.det(derivative).abs().sqrt() * weights).sum())
    return math.sqrt(HEXAGON / float(weights.sum()) / regions) * integral


def _derivative(found: Regions2D, exact: Field, points: Tensor, step: Tensor) -> Tensor:
    """Of the field by (s, t), `[N, 2, 2]`: central differences, with an error of 1e-9 or so."""
    columns = []
    for shift in torch.diag(step):
        change = field_at(found, exact, points + shift) - field_at(found, exact, points - shift)
        columns.append(change / (2 * shift.sum()))
    return torch.stack(columns, 2)


def _quadrature(found: Regions2D) -> tuple[Tensor, Tensor, Tensor]:
    """Points, their weights and regions: the middles of the sides of triangles.

    Triangles go around the first corner of each region, and large ones are divided, since what is
    integrated need not be a polynomial.
    """
    first = found.vertices[found.offsets[:-1]][found.side_region]
    corners = torch.stack([first, found.vertices, found.side_ends], 1)  # [T, 3, 2]
    region = found.side_region
    area = _triangle_areas(corners)
    corners, region = corners[area > 0], region[area > 0]
    most = float(found.areas.sum()) / FINEST
    while (large := _triangle_areas(corners) > most).any():
        a, b, c = corners[large].unbind(1)
        ab, bc, ca = (a + b) / 2, (b + c) / 2, (c + a) / 2
        parts = [
            torch.stack(part, 1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        ]
        corners = torch.cat([corners[~large], *parts])
        region = torch.cat([region[~large], region[large].repeat(4)])
    points = (corners + corners.roll(1, 1)) / 2
    weights = (_triangle_areas(corners) / 3).repeat_interleave(3)
    return points.flatten(0, 1), weights, region.repeat_interleave(3)


def _triangle_areas(corners: Tensor) -> Tensor:
    sides = corners[:, 1:] - corners[:, :1]
    areas: Tensor = torch.linalg.det(sides) / 2
    return areas


def _grid(domain: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Middles of equal cells of the bounding rectangle that lie in a convex polygon, and their areas."""
    low, high = domain.amin(0), domain.amax(0)
    axis = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    points = low + torch.cartesian_prod(axis, axis) * (high - low)
    edges = (domain.roll(-1, 0) - domain).unsqueeze(1)
    away = points - domain.unsqueeze(1)
    inside = (edges[..., 0] * away[..., 1] >= edges[..., 1] * away[..., 0]).all(0)
    cell = float((high - low).prod()) / steps**2
    return points[inside], torch.full((int(inside.sum()),), cell, dtype=torch.float64)
