"""What `gradsplinter.regions` finds: linear regions on a plane and on a segment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from gradsplinter import ops
from gradsplinter.checks import DTYPES, check_finite, check_on_cpu, check_span, check_tensor
from gradsplinter.network import ReluNetwork
from gradsplinter.patterns import words_of
from gradsplinter.wording import counted

SLIVER = 1e-12
"""A region is called a sliver where area / perimeter is at most this share of the domain's."""


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


@dataclass(frozen=True, eq=False, repr=False)
class Regions2D:
    """The linear regions of a network on the plane origin + s·u + t·v: R convex polygons.

    Region r has the corners `vertices[offsets[r]:offsets[r + 1]]`, counter-clockwise; side i goes from
    corner i to the next one of its region. Where a region beyond a side ends, there is a corner, so
    that each side has one neighbour and some corners are straight.

    Attributes:
        net: the network in float64.
        origin: float64 [h_0]
        axes: float64 [2, h_0]: u and v.
        domain: float64 [K, 2]: a convex polygon of (s, t), counter-clockwise.
        vertices: float64 [S, 2]: (s, t) of all corners.
        offsets: int64 [R + 1]
        signatures: int64 [R, words]: activation patterns of all hidden sites.
        areas: float64 [R], in units of (s, t).
        centroids: float64 [R, 2]
        neighbours: int64 [S]: the region beyond each side; -1 outside of the domain, -2 where it
            was not found because there are too many.
        cleared: how often a corner lay so close to the border of a unit (see this module) that it
            was taken to lie on it: what is thinner than that tolerance is not told apart.
        complete: whether these are all regions of the domain.
    """

    net: ReluNetwork
    origin: Tensor
    axes: Tensor
    domain: Tensor
    vertices: Tensor
    offsets: Tensor
    signatures: Tensor
    areas: Tensor
    centroids: Tensor
    neighbours: Tensor
    cleared: int
    complete: bool = True

    def __len__(self) -> int:
        return len(self.areas)

    def __repr__(self) -> str:
        widths = "-".join(map(str, self.net.widths))
        state = "" if self.complete else ", incomplete"
        regions, edges = counted(len(self), "region"), counted(self.n_edges, "edge")
        return f"Regions2D({regions} of {widths}, {edges}{state})"

    @cached_property
    def restricted(self) -> ReluNetwork:
        """The network as a function of (s, t)."""
        return restrict(self.net, self.origin, self.axes)

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
        words = words_until(self.net, site)
        return ops.jacobian(self.net, self.signatures[:, :words], 0, site, directions)

    def locate(self, points: Tensor) -> Tensor:
        """The region of each point (s, t), by its activation pattern.

        Args:
            points: `[N, 2]`, float64, or float32, which is widened.

        Returns:
            int64 `[N]`: -1 outside of the domain, and where no region has the pattern, as on borders.

        Raises:
            TypeError, ValueError: another type, dtype or shape; points that are not finite.
        """
        check_tensor(points, "points", 2, DTYPES)
        if points.shape[1] != 2:
            raise ValueError(f"points must have shape [N, 2], got {list(points.shape)}")
        check_on_cpu(points.device, "points")
        check_finite(points, "points")
        points = points.double()
        found = ops.signatures(self.restricted, points, check_finite=False)
        first, _, ids = ops.unique_rows(torch.cat([self.signatures, found]))
        region = first[ids[len(self) :]]
        return torch.where((region < len(self)) & self._within(points), region, -1)

    def _within(self, points: Tensor) -> Tensor:
        """Bool [N]: whether points lie in the domain or within rounding of it."""
        edges = self.domain.roll(-1, 0) - self.domain
        apart = points.unsqueeze(1) - self.domain  # [N, K, 2]
        left = edges[:, 0] * apart[..., 1] - edges[:, 1] * apart[..., 0]
        room = 1e-12 * edges.norm(dim=1) * self.domain.abs().max()
        within: Tensor = (left >= -room).all(dim=1)
        return within


@dataclass(frozen=True, eq=False, repr=False)
class Regions1D:
    """The linear regions of a network on the segment a + t·(b - a): R pieces in order.

    Attributes:
        net: the network in float64.
        a: float64 [h_0]
        b: float64 [h_0]
        breakpoints: float64 [R + 1]: t, ascending from 0 to 1; piece r ends where piece r + 1
            begins.
        signatures: int64 [R, words]: activation patterns of all hidden sites.
        cleared: as in `Regions2D`.
    """

    net: ReluNetwork
    a: Tensor
    b: Tensor
    breakpoints: Tensor
    signatures: Tensor
    cleared: int

    def __len__(self) -> int:
        return len(self.signatures)

    def __repr__(self) -> str:
        widths = "-".join(map(str, self.net.widths))
        return f"Regions1D({counted(len(self), 'region')} of {widths})"

    @cached_property
    def restricted(self) -> ReluNetwork:
        """The network as a function of t."""
        return restrict(self.net, self.a, (self.b - self.a).unsqueeze(0))

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


def restrict(net: ReluNetwork, origin: Tensor, axes: Tensor) -> ReluNetwork:
    """The network as a function of the coordinates on the axes `[k, h_0]`."""
    weight, bias = first_layer(net, origin, axes)
    return ReluNetwork((weight, *net.weights[1:]), (bias, *net.biases[1:]))


def first_layer(net: ReluNetwork, origin: Tensor, axes: Tensor) -> tuple[Tensor, Tensor]:
    return net.weights[0] @ axes.mT, torch.addmv(net.biases[0], net.weights[0], origin)


def words_until(net: ReluNetwork, site: int) -> int:
    """Words of the signature of sites 1..site, the output having none."""
    return sum(words_of(width) for width in net.widths[1 : min(site + 1, net.depth)])


def _affine(
    net: ReluNetwork, signatures: Tensor, at: Tensor, directions: Tensor | None, site: int
) -> Affine:
    """Gradients of V a^site, and constants from its values at a point of each region `[R, k]`."""
    site = check_span(net.depth, 0, site)[1]
    gradients = ops.jacobian(net, signatures[:, : words_until(net, site)], 0, site, directions)
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
