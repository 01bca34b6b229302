"""Exact linear regions of a network on a plane and on a segment of its input space.

All is computed in float64 on the CPU. The network is first restricted to the plane or segment; a
pre-activation z = b + Σ_k w_k a_k counts as zero, and so cuts nothing, where abs(z) is at most
1e-14 · (abs(b) + Σ_k abs(w_k) · A_k), with A_k the largest a_k that the bounds of the domain and of the
layers before allow. Regions do not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gradsplinter import _C, ops
from gradsplinter.checks import check_finite, check_integer, check_span
from gradsplinter.network import ReluNetwork
from gradsplinter.patterns import words_of

SLIVER = 1e-12
"""A region is called a sliver where area / perimeter is at most this share of the domain's."""

_SINE = 1e-12
"""Up to this sine of their angle two vectors count as parallel, and a corner as straight."""


class Affine(NamedTuple):
    """Functions that are affine in every region: gradient · (s, t) + constant."""

    gradients: Tensor
    """float64 [R, D, 2] by (s, t); on a segment [R, D] by t."""
    constants: Tensor
    """float64 [R, D]"""


class Flips(NamedTuple):
    """The units that flip across borders, one entry for each border and unit."""

    border: Tensor
    """int64 [F]: the side (on a plane) or breakpoint (on a segment), ascending."""
    site: Tensor
    """int64 [F]: 1 is the first hidden layer."""
    unit: Tensor
    """int64 [F]"""


class TooManyRegionsError(ValueError):
    """There are more regions than `max_regions`; `partial` holds those that were found."""

    def __init__(self, message: str, partial: Regions2D) -> None:
        super().__init__(message)
        self.partial = partial


@dataclass(frozen=True, eq=False, repr=False)
class Regions2D:
    """The linear regions of a network on the plane origin + s·u + t·v: R convex polygons.

    Region r has the corners `vertices[offsets[r]:offsets[r + 1]]`, counter-clockwise; side i goes from
    corner i to the next one of its region. Where a region beyond a side ends, there is a corner, so
    that each side has one neighbour and some corners are straight.
    """

    net: ReluNetwork
    """The network in float64."""
    origin: Tensor
    """float64 [h_0]"""
    axes: Tensor
    """float64 [2, h_0]: u and v."""
    domain: Tensor
    """float64 [K, 2]: a convex polygon of (s, t), counter-clockwise."""
    vertices: Tensor
    """float64 [S, 2]: (s, t) of all corners."""
    offsets: Tensor
    """int64 [R + 1]"""
    signatures: Tensor
    """int64 [R, words]: activation patterns of all hidden sites."""
    areas: Tensor
    """float64 [R], in units of (s, t)."""
    centroids: Tensor
    """float64 [R, 2]"""
    neighbours: Tensor
    """int64 [S]: the region beyond each side; -1 outside of the domain, -2 where it was not found
    because there are too many."""
    cleared: int
    """How often a corner lay so close to the border of a unit (see this module) that it was taken to
    lie on it: what is thinner than that tolerance is not told apart."""
    complete: bool = True
    """Whether these are all regions of the domain."""

    def __len__(self) -> int:
        return len(self.areas)

    def __repr__(self) -> str:
        widths = "-".join(map(str, self.net.widths))
        state = "" if self.complete else ", incomplete"
        return f"Regions2D({len(self):,} regions of {widths}, {self.n_edges:,} edges{state})"

    @cached_property
    def restricted(self) -> ReluNetwork:
        """The network as a function of (s, t)."""
        return _restrict(self.net, self.origin, self.axes)

    def inputs(self, points: Tensor) -> Tensor:
        """Inputs x `[N, h_0]` of points (s, t) `[N, 2]`."""
        return torch.addmm(self.origin, points, self.axes)

    @property
    def n_edges(self) -> int:
        """Edges between two regions, and those on the domain's border."""
        inside = int((self.neighbours >= 0).sum())
        return len(self.neighbours) - inside // 2

    @cached_property
    def side_region(self) -> Tensor:
        """int64 [S]: the region that each side belongs to."""
        return torch.arange(len(self)).repeat_interleave(self.offsets.diff())

    @cached_property
    def side_ends(self) -> Tensor:
        """float64 [S, 2]: the corner to which each side goes."""
        following = torch.arange(1, len(self.vertices) + 1)
        following[self.offsets[1:] - 1] = self.offsets[:-1]
        return self.vertices[following]

    @cached_property
    def perimeters(self) -> Tensor:
        """float64 [R], in units of (s, t)."""
        lengths = (self.side_ends - self.vertices).norm(dim=1)
        return torch.zeros_like(self.areas).index_add_(0, self.side_region, lengths)

    @property
    def slivers(self) -> Tensor:
        """bool [R]: regions so thin that rounding moves their borders by a notable share of it."""
        border = (self.domain.roll(-1, 0) - self.domain).norm(dim=1).sum()
        thin = SLIVER * float(self.areas.sum() / border)
        return self.areas / self.perimeters <= thin

    @cached_property
    def degrees(self) -> Tensor:
        """int64 [R]: with how many regions each one shares an edge."""
        inside = self.neighbours >= 0
        pairs = torch.stack([self.side_region[inside], self.neighbours[inside]], 1)
        of = pairs[ops.unique_rows(pairs).first, 0]
        return torch.bincount(of, minlength=len(self))

    @cached_property
    def flips(self) -> Flips:
        """The units that flip across each side between two regions.

        It is one unit, or all those whose borders coincide there.
        """
        inside = (self.neighbours >= 0).nonzero()[:, 0]
        changed = (
            self.signatures[self.side_region[inside]] ^ self.signatures[self.neighbours[inside]]
        )
        border, site, unit = _bits(changed, self.net)
        return Flips(inside[border], site, unit)

    def affine(self, directions: Tensor | None = None, site: int = -1) -> Affine:
        """The function V a^site of (s, t) in each region, by default the outputs.

        Args:
            directions: V `[D, h_site]`, float64; the nodes of the site by default.
            site: 1..L; negative ones count from the end, -1 is the output.

        Returns:
            `gradients` [R, D, 2] and `constants` [R, D].

        Raises:
            TypeError, ValueError: as `ops.jacobian`.
        """
        return _affine(self.restricted, self.signatures, self.centroids, directions, site)

    @cached_property
    def gradients(self) -> Tensor:
        """float64 [R, h_L, 2]: the gradient of every output by (s, t)."""
        return self.affine().gradients

    def input_gradients(self, directions: Tensor | None = None, site: int = -1) -> Tensor:
        """The same gradients as `affine`, by all inputs x: float64 `[R, D, h_0]`."""
        site = check_span(self.net.depth, 0, site)[1]
        words = _words_until(self.net, site)
        return ops.jacobian(self.net, self.signatures[:, :words], 0, site, directions)

    def locate(self, points: Tensor) -> Tensor:
        """The region of each point (s, t), by its activation pattern.

        Args:
            points: float64 `[N, 2]`.

        Returns:
            int64 `[N]`: -1 where no region has the pattern, as outside of the domain and on borders.
        """
        found = ops.signatures(self.restricted, points)
        first, _, ids = ops.unique_rows(torch.cat([self.signatures, found]))
        region = first[ids[len(self) :]]
        return torch.where(region < len(self), region, -1)


@dataclass(frozen=True, eq=False, repr=False)
class Regions1D:
    """The linear regions of a network on the segment a + t·(b - a): R pieces in order."""

    net: ReluNetwork
    """The network in float64."""
    a: Tensor
    """float64 [h_0]"""
    b: Tensor
    """float64 [h_0]"""
    breakpoints: Tensor
    """float64 [R + 1]: t, ascending from 0 to 1; piece r ends where piece r + 1 begins."""
    signatures: Tensor
    """int64 [R, words]: activation patterns of all hidden sites."""
    cleared: int
    """As in `Regions2D`."""

    def __len__(self) -> int:
        return len(self.signatures)

    def __repr__(self) -> str:
        widths = "-".join(map(str, self.net.widths))
        return f"Regions1D({len(self):,} regions of {widths})"

    @cached_property
    def restricted(self) -> ReluNetwork:
        """The network as a function of t."""
        return _restrict(self.net, self.a, (self.b - self.a).unsqueeze(0))

    def inputs(self, t: Tensor) -> Tensor:
        """Inputs x `[N, h_0]` of positions t `[N]`."""
        return self.a + t.unsqueeze(1) * (self.b - self.a)

    @property
    def middles(self) -> Tensor:
        """float64 [R]: t in the middle of each piece."""
        return (self.breakpoints[1:] + self.breakpoints[:-1]) / 2

    @cached_property
    def flips(self) -> Flips:
        """The units that flip at each inner breakpoint 1..R-1."""
        border, site, unit = _bits(self.signatures[1:] ^ self.signatures[:-1], self.net)
        return Flips(border + 1, site, unit)

    def affine(self, directions: Tensor | None = None, site: int = -1) -> Affine:
        """The function V a^site of t in each piece, by default the outputs.

        Args:
            directions, site: as in `Regions2D.affine`.

        Returns:
            `gradients` [R, D] (the slope by t) and `constants` [R, D].
        """
        at = self.middles.unsqueeze(1)
        gradients, constants = _affine(self.restricted, self.signatures, at, directions, site)
        return Affine(gradients.squeeze(2), constants)


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
    if (origin, u, v) == (None, None, None) and net.widths[0] == 2:
        origin, u, v = (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)
    origin, u, v = (
        _vector(value, name, net) for value, name in ((origin, "origin"), (u, "u"), (v, "v"))
    )
    axes = torch.stack([u, v])
    if not _independent(u, v):
        raise ValueError(
            "u and v must not be parallel or zero (of a plane through three examples: these must not "
            f"lie on a line), got vectors of length {u.norm():.6g} and {v.norm():.6g}"
        )
    corners = _polygon(((0, 0), (1, 0), (1, 1), (0, 1)) if domain is None else domain)
    threads = torch.get_num_threads()
    found = _C.PlaneRegions(*_hidden(net, origin, axes), corners, most, threads)
    n, sides = found.regions, found.sides
    vertices, centroids = _empty(sides, 2), _empty(n, 2)
    offsets, neighbours = _empty(n + 1, dtype=torch.int64), _empty(sides, dtype=torch.int64)
    signatures, areas = (
        _empty(n, _words_until(net, net.depth), dtype=torch.int64),
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
    a, b, c = (_vector(value, name, net) for value, name in ((a, "a"), (b, "b"), (c, "c")))
    triangle = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)) if domain is None else domain
    if not _independent(b - a, c - a):
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
    found = _C.LineRegions(*_hidden(net, a, (b - a).unsqueeze(0)))
    breakpoints = _empty(found.regions + 1)
    signatures = _empty(found.regions, _words_until(net, net.depth), dtype=torch.int64)
    found.write(breakpoints, signatures)
    return Regions1D(net, a, b, breakpoints, signatures, found.cleared)


def float64_network(net: ReluNetwork | nn.Module) -> ReluNetwork:
    """On the CPU; the same network if it is that already."""
    if isinstance(net, nn.Module):
        net = ReluNetwork.from_module(net)
    if not isinstance(net, ReluNetwork):
        raise TypeError(f"net must be a ReluNetwork or an nn.Module, got {type(net).__name__}")
    if net.dtype == torch.float64 and net.device.type == "cpu":
        return net
    return ReluNetwork(
        tuple(weight.cpu().double() for weight in net.weights),
        tuple(bias.cpu().double() for bias in net.biases),
    )


def _restrict(net: ReluNetwork, origin: Tensor, axes: Tensor) -> ReluNetwork:
    """The network as a function of the coordinates on the axes `[k, h_0]`."""
    weight, bias = _first_layer(net, origin, axes)
    return ReluNetwork((weight, *net.weights[1:]), (bias, *net.biases[1:]))


def _first_layer(net: ReluNetwork, origin: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    return net.weights[0] @ axes.mT, torch.addmv(net.biases[0], net.weights[0], origin)


def _hidden(net: ReluNetwork, origin: Tensor, axes: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Hidden layers of the restricted network."""
    if net.depth == 1:
        return [], []
    weight, bias = _first_layer(net, origin, axes)
    return [weight, *net.weights[1:-1]], [bias, *net.biases[1:-1]]


def _words_until(net: ReluNetwork, site: int) -> int:
    """Words of the signature of sites 1..site, the output having none."""
    return sum(words_of(width) for width in net.widths[1 : min(site + 1, net.depth)])


def _affine(
    net: ReluNetwork, signatures: Tensor, at: Tensor, directions: Tensor | None, site: int
) -> Affine:
    """Gradients of V a^site, and constants from its values at a point of each region `[R, k]`."""
    site = check_span(net.depth, 0, site)[1]
    gradients = ops.jacobian(net, signatures[:, : _words_until(net, site)], 0, site, directions)
    if site == net.depth:
        values = net(at)
        values = values if directions is None else values @ directions.mT
    else:
        if directions is None:
            directions = torch.eye(net.widths[site], dtype=torch.float64)
        read = ReluNetwork(
            (*net.weights[:site], directions),
            (*net.biases[:site], directions.new_zeros(len(directions))),
        )
        values = read(at)
    return Affine(gradients, values - (gradients @ at.unsqueeze(2)).squeeze(2))


def _bits(words: Tensor, net: ReluNetwork) -> tuple[Tensor, Tensor, Tensor]:
    """Row, site and unit of every bit of signatures `[rows, words]`, ordered by row and then unit."""
    per_site = [words_of(width) for width in net.widths[1:-1]]
    site_of = torch.arange(1, len(per_site) + 1).repeat_interleave(
        torch.tensor(per_site, dtype=torch.int64)
    )
    first = torch.tensor([0, *accumulate(per_site)])[site_of - 1]
    rows, columns = words.nonzero().unbind(1)
    left = words[rows, columns]
    found = []
    while len(rows):
        lowest = left & -left
        unit = torch.frexp(lowest.double().abs()).exponent.long() - 1
        found.append(torch.stack([rows, columns, unit], 1))
        left = left ^ lowest
        more = left != 0
        rows, columns, left = rows[more], columns[more], left[more]
    if not found:
        return rows, rows, rows
    row, column, unit = torch.cat(found).unbind(1)
    order = (row * words.shape[1] + column).mul(64).add(unit).argsort()
    row, column, unit = row[order], column[order], unit[order]
    return row, site_of[column], 64 * (column - first[column]) + unit


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


def _independent(u: Tensor, v: Tensor) -> bool:
    """Whether two vectors span a plane."""
    length = float(u @ u)
    if length == 0:
        return False
    rest = v - (u @ v) / length * u
    return float(rest @ rest) > _SINE**2 * float(v @ v)


def _polygon(value: Any) -> Tensor:
    """Corners of a convex polygon, counter-clockwise."""
    corners = _numbers(value, "domain")
    if corners.dim() != 2 or corners.shape[0] < 3 or corners.shape[1] != 2:
        raise ValueError(
            f"domain must have shape [K, 2] with at least 3 corners, got {list(corners.shape)}"
        )
    points = corners.tolist()
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
    return corners.contiguous()


def _empty(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.empty(shape, dtype=dtype)
