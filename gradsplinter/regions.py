"""Exact linear regions of a network on a plane and on a segment of its input space.

All is computed in float64 on the CPU. The network is first restricted to the plane or segment; a
pre-activation z = b + Σ_k w_k a_k counts as zero, and so cuts nothing, where abs(z) is at most
1e-14 · (abs(b) + Σ_k abs(w_k) · A_k), with A_k the largest a_k that the bounds of the domain and of the
layers before allow. Regions do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gradsplinter import _C
from gradsplinter.checks import check_finite, check_integer
from gradsplinter.network import ReluNetwork
from gradsplinter.region_results import (
    SLIVER,
    Affine,
    Flips,
    Regions1D,
    Regions2D,
    first_layer,
    words_until,
)

__all__ = [
    "SLIVER",
    "Affine",
    "Flips",
    "Regions1D",
    "Regions2D",
    "TooManyRegionsError",
    "float64_network",
    "line",
    "plane",
    "plane_through",
]

_SINE = 1e-12
"""Up to this sine of their angle two vectors count as parallel, and a corner as straight."""


class TooManyRegionsError(ValueError):
    """There are more regions than `max_regions`; `partial` holds those that were found."""

    def __init__(self, message: str, partial: Regions2D) -> None:
        super().__init__(message)
        self.partial = partial


def plane(
    net: ReluNetwork | nn.Module,
    origin: Tensor | Sequence[float] | None = None,
    u: Tensor | Sequence[float] | None = None,
    v: Tensor | Sequence[float] | None = None,
    domain: Tensor | Sequence[Sequence[float]] | None = None,
    *,
    max_regions: int = 1_000_000,
) -> Regions2D:
    """All linear regions of a network on a part of the plane x = origin + s·u + t·v.

    A planar mesh with shared vertices is cut by the units of one layer after the other; every edge is
    cut once for both of its regions.

    Args:
        net: a `ReluNetwork`, or a module that `ReluNetwork.from_module` takes.
        origin, u, v: `[h_0]`; by default the plane of a network's two inputs.
        domain: convex polygon of (s, t) `[K, 2]`; by default the unit square.
        max_regions: stop where there are more.

    Returns:
        `Regions2D`.

    Raises:
        TypeError: net, or what is not numbers.
        ValueError: a shape that does not fit, values that are not finite, u and v parallel, a domain
            that is not a convex polygon.
        TooManyRegionsError: there are more than `max_regions`; its `partial` holds those found.

    Examples:
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.tensor([-0.5, -0.25]), torch.zeros(1)])
        >>> found = plane(net)
        >>> found
        Regions2D(4 regions of 2-2-1, 12 edges)
        >>> found.areas.tolist(), found.signatures[:, 0].tolist()
        ([0.375, 0.125, 0.375, 0.125], [3, 1, 2, 0])
    """
    net = float64_network(net)
    most = check_integer(max_regions, "max_regions", 1)
    origin, axes = _plane(net, origin, u, v)
    corners = _polygon(((0, 0), (1, 0), (1, 1), (0, 1)) if domain is None else domain)
    threads = torch.get_num_threads()
    hidden = _hidden(net, origin, axes, corners.abs().amax(dim=0))
    found = _C.PlaneRegions(*hidden, corners, min(most, 2**62), threads)
    n, sides = found.regions, found.sides
    vertices, centroids = _empty(sides, 2), _empty(n, 2)
    offsets, neighbours = _empty(n + 1, dtype=torch.int64), _empty(sides, dtype=torch.int64)
    signatures, areas = (
        _empty(n, words_until(net, net.depth), dtype=torch.int64),
        _empty(n),
    )
    found.write(vertices, offsets, signatures, areas, centroids, neighbours, threads)
    result = Regions2D(
        net=net, origin=origin, axes=axes, domain=corners, vertices=vertices, offsets=offsets,
        signatures=signatures, areas=areas, centroids=centroids, neighbours=neighbours,
        cleared=found.cleared, complete=found.complete,
    )  # fmt: skip
    if not found.complete:
        raise TooManyRegionsError(
            f"max_regions must be at least the number of regions, got {most:,} and found {n:,} so far; "
            "the exception's `partial` holds these",
            result,
        )
    return result


def plane_through(
    net: ReluNetwork | nn.Module,
    a: Tensor | Sequence[float],
    b: Tensor | Sequence[float],
    c: Tensor | Sequence[float],
    domain: Tensor | Sequence[Sequence[float]] | None = None,
    *,
    max_regions: int = 1_000_000,
) -> Regions2D:
    """`plane` through three inputs: a, b and c lie at (s, t) = (0, 0), (1, 0) and (0, 1).

    Args:
        net, domain, max_regions: as in `plane`; by default the domain is the triangle of the three.
        a, b, c: `[h_0]`, not on a line.

    Examples:
        >>> net = ReluNetwork([torch.eye(3), torch.ones(1, 3)], [torch.zeros(3), torch.zeros(1)])
        >>> plane_through(net, [1, 0, 0], [0, 1, 0], [-1, -1, 1])
        Regions2D(4 regions of 3-3-1, 9 edges)
    """
    net = float64_network(net)
    rounding = _rounding(a, b, c)
    a, b, c = (_vector(value, name, net) for value, name in ((a, "a"), (b, "b"), (c, "c")))
    if not bool(torch.isfinite(torch.stack([b - a, c - a])).all()):
        raise ValueError("b - a and c - a must be finite, got inputs too far apart for float64")
    if bool((c - a).any()):  # differences are as exact as the largest input
        largest = max(float(value.abs().max()) for value in (a, b, c))
        rounding *= max(1.0, largest / float((c - a).abs().max()))
    triangle = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)) if domain is None else domain
    if not _independent(b - a, c - a, rounding):
        raise ValueError("a, b and c must not lie on a line, got three collinear inputs")
    return plane(net, a, b - a, c - a, triangle, max_regions=max_regions)


def line(
    net: ReluNetwork | nn.Module, a: Tensor | Sequence[float], b: Tensor | Sequence[float]
) -> Regions1D:
    """All linear regions of a network on the segment x = a + t·(b - a), with t in [0, 1].

    Args:
        net: a `ReluNetwork`, or a module that `ReluNetwork.from_module` takes.
        a, b: `[h_0]`, not the same.

    Returns:
        `Regions1D`.

    Raises:
        TypeError: net, or what is not numbers.
        ValueError: a shape that does not fit, values that are not finite, a equal to b.

    Examples:
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.tensor([-0.5, -0.25]), torch.zeros(1)])
        >>> found = line(net, [0.0, 0.0], [1.0, 1.0])
        >>> found.breakpoints.tolist(), found.flips.unit.tolist()
        ([0.0, 0.25, 0.5, 1.0], [1, 0])
        >>> found.affine().gradients.flatten().tolist()
        [0.0, 1.0, 2.0]
    """
    net = float64_network(net)
    a, b = _vector(a, "a", net), _vector(b, "b", net)
    if torch.equal(a, b):
        raise ValueError("a and b must differ, got a segment of length zero")
    step = b - a
    if not bool(step.isfinite().all()):
        raise ValueError("b - a must be finite, got inputs too far apart for float64")
    found = _C.LineRegions(*_hidden(net, a, step.unsqueeze(0), torch.ones(1, dtype=torch.float64)))
    breakpoints = _empty(found.regions + 1)
    signatures = _empty(found.regions, words_until(net, net.depth), dtype=torch.int64)
    found.write(breakpoints, signatures)
    return Regions1D(net, a, b, breakpoints, signatures, found.cleared)


def float64_network(net: ReluNetwork | nn.Module) -> ReluNetwork:
    """On the CPU; the same network if it is that already."""
    if isinstance(net, nn.Module):
        net = ReluNetwork.from_module(net)
    if not isinstance(net, ReluNetwork):
        raise TypeError(f"net must be a ReluNetwork or an nn.Module, got {type(net).__name__}")
    return net.float64


def _hidden(
    net: ReluNetwork, origin: Tensor, axes: Tensor, farthest: Tensor
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Hidden layers of the restricted network, and the sizes of the first layer's sums.

    Restricting the network rounds: a bias b + W·origin can be much smaller than its terms. Whether a
    pre-activation is 0 is decided by the sizes of these, over coordinates as far as `farthest` [k].
    """
    if net.depth == 1:
        return [], [], torch.zeros(0, dtype=torch.float64)
    weight, bias = first_layer(net, origin, axes)
    reach = origin.abs() + farthest @ axes.abs()
    terms = torch.addmv(net.biases[0].abs(), net.weights[0].abs(), reach)
    if not math.isfinite(weight.sum() + terms.sum()):  # no bias is larger than its terms
        raise ValueError(
            "net must be finite on the plane or segment, got a first layer there that is not: inputs and "
            "weights are too large together"
        )
    return [weight, *net.weights[1:-1]], [bias, *net.biases[1:-1]], terms


def _plane(net: ReluNetwork, origin: Any, u: Any, v: Any) -> tuple[Tensor, Tensor]:
    """Origin `[h_0]` and axes `[2, h_0]`."""
    if origin is None and u is None and v is None and net.widths[0] == 2:
        return torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    rounding = _rounding(u, v)
    origin, u, v = (
        _vector(value, name, net) for value, name in ((origin, "origin"), (u, "u"), (v, "v"))
    )
    if not _independent(u, v, rounding):
        raise ValueError(
            "u and v must not be parallel or zero (of a plane through three examples: these must not "
            f"lie on a line), got vectors of length {u.norm():.6g} and {v.norm():.6g}"
        )
    return origin, torch.stack([u, v])


def _vector(value: Any, name: str, net: ReluNetwork) -> Tensor:
    if value is None:
        raise ValueError(f"{name} must be given, since the network has {net.widths[0]} inputs")
    vector = _numbers(value, name)
    if tuple(vector.shape) != (net.widths[0],):
        raise ValueError(
            f"{name} must have shape [{net.widths[0]}] like the network's inputs, "
            f"got {list(vector.shape)}"
        )
    return vector


def _numbers(value: Any, name: str) -> Tensor:
    """float64 on the CPU, finite."""
    try:
        numbers = torch.as_tensor(value)
        if numbers.is_floating_point() and not hasattr(value, "dtype"):
            numbers = torch.as_tensor(
                value, dtype=torch.float64
            )  # the precision of Python's floats
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} must be a tensor or a sequence of numbers: {error}") from error
    if numbers.is_complex() or numbers.dtype == torch.bool:
        raise TypeError(f"{name} must be real numbers, got {numbers.dtype}")
    numbers = numbers.detach().to("cpu", torch.float64)
    check_finite(numbers, name)
    return numbers


def _independent(u: Tensor, v: Tensor, rounding: float) -> bool:
    """Whether two vectors span a plane, given how far their entries may be rounded together."""
    longest, other = float(u.abs().max()), float(v.abs().max())
    if not (0 < longest < math.inf and 0 < other < math.inf):
        return False
    u, v = u / longest, v / other  # so that squares stay finite
    squares, dot, along = float(v @ v), float(u @ v), float(u @ u)
    rest = v - dot / along * u
    return float(rest @ rest) > max(_SINE, rounding) ** 2 * squares


def _rounding(*values: Any) -> float:
    """Eight times the relative rounding of the least exact of these; Python's numbers are float64."""
    eps = 2.0**-52
    for value in values:
        if hasattr(value, "dtype"):
            dtype = torch.as_tensor(value).dtype
            if dtype.is_floating_point:
                eps = max(eps, torch.finfo(dtype).eps)
    return 8 * eps


def _polygon(value: Any) -> Tensor:
    """Corners of a convex polygon, counter-clockwise."""
    corners = _numbers(value, "domain")
    if corners.dim() != 2 or corners.shape[0] < 3 or corners.shape[1] != 2:
        raise ValueError(
            f"domain must have shape [K, 2] with at least 3 corners, got {list(corners.shape)}"
        )
    points = corners.tolist()
    s0, t0 = points[0]
    area = 0.0  # twice
    for (s, t), (s_next, t_next) in pairwise(points):
        area += (s - s0) * (t_next - t0) - (t - t0) * (s_next - s0)
    if not math.isfinite(area):
        raise ValueError("domain must have an area below 1.8e308, got corners too far apart")
    units = []  # along the edges
    for i, ((s, t), (s_next, t_next)) in enumerate(
        zip(points, points[1:] + points[:1], strict=True)
    ):
        length = math.hypot(s_next - s, t_next - t)
        if length == 0:
            raise ValueError(f"domain must have no corner twice in a row, got corner {i} twice")
        units.append(((s_next - s) / length, (t_next - t) / length))
    turns = []  # from each edge to the next one
    for (a, b), (c, d) in zip(units, units[1:] + units[:1], strict=True):
        turns.append(math.atan2(a * d - b * c, a * c + b * d))
    whole = sum(turns) / (2 * math.pi)  # how often the border goes around
    if whole < 0:
        return _polygon(corners.flip(0))
    if abs(whole - 1) > 0.01 or min(turns) < -_SINE or max(turns) > math.pi - _SINE:
        raise ValueError(
            "domain must be a convex polygon that does not cross itself, its corners in order, "
            f"got one that turns by {[round(math.degrees(turn), 3) for turn in turns]} degrees"
        )
    if area == 0:
        raise ValueError("domain must have an area above 5e-324, got corners too near each other")
    return corners.contiguous()


def _empty(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.empty(shape, dtype=dtype)
