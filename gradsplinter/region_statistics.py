"""How far examples are from borders, how many regions lie around them, and how many samples find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gradsplinter import ops
from gradsplinter.checks import check_integer, check_tensor
from gradsplinter.network import ReluNetwork
from gradsplinter.patterns import words_of
from gradsplinter.regions import Regions2D, float64_network, plane
from gradsplinter.traced import Network

_ROOM = 2**24
"""Entries of gradients or pre-activations that are held at once."""


class BorderDistances(NamedTuple):
    """How far each example is from the nearest border of its region, and whose border that is."""

    distance: Tensor
    """float64 [N], Euclidean, in input space; infinite where no unit ever flips."""
    site: Tensor
    """int64 [N]; 0 where there is no border."""
    unit: Tensor
    """int64 [N]; -1 where there is no border."""


def border_distances(net: Network | nn.Module, x: Tensor) -> BorderDistances:
    """The exact distance of examples to the nearest border of their linear region.

    In its region every pre-activation z_j is affine, so the region is the intersection of half-spaces,
    and an example in it lies min_j abs(z_j) / ‖∇z_j‖ from the boundary. Borders further off may belong
    to other regions, those nearer cannot be.

    Args:
        net: as in `regions.plane`.
        x: inputs `[N, h_0]`, float32 or float64.

    Raises:
        TypeError, ValueError: as `signatures`.

    Examples:
        >>> net = ReluNetwork([torch.tensor([[3.0, 4.0]]), torch.ones(1, 1)], [torch.tensor([-5.0]), torch.zeros(1)])
        >>> border_distances(net, torch.tensor([[0.0, 0.0], [3.0, 4.0]])).distance
        tensor([1., 4.], dtype=torch.float64)
    """
    net = float64_network(net)
    x = _inputs(net, x)
    units = sum(net.widths[1:-1])
    parts = [_nearest(net, part) for part in x.split(max(1, _ROOM // max(units, 1)))]
    if not parts:
        parts = [BorderDistances(x.new_zeros(0), *torch.zeros(2, 0, dtype=torch.int64))]
    return BorderDistances(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _nearest(net: ReluNetwork, x: Tensor) -> BorderDistances:
    signatures, _, _, ids = ops.unique_signatures(net, x)
    distance = x.new_full((len(x),), torch.inf)
    site_of = torch.zeros(len(x), dtype=torch.int64)
    unit_of = torch.full((len(x),), -1)
    words = 0
    for site in range(1, net.depth):
        until = ReluNetwork(net.weights[:site], net.biases[:site])  # whose output is z of the site
        slopes = _slopes(until, signatures[:, :words])
        away = until(x).abs() / slopes[ids]
        away.masked_fill_(slopes[ids] == 0, torch.inf)  # constant in the region
        nearest, unit = away.min(1)
        nearer = nearest < distance
        distance[nearer], site_of[nearer], unit_of[nearer] = nearest[nearer], site, unit[nearer]
        words += words_of(net.widths[site])
    return BorderDistances(distance, site_of, unit_of)


def _slopes(net: ReluNetwork, signatures: Tensor) -> Tensor:
    """‖∇y_j‖ of every output in each mode, `[U, h_L]`."""
    at_once = max(1, _ROOM // (net.widths[-1] * net.widths[0]))
    parts = [ops.jacobian(net, some).norm(dim=2) for some in signatures.split(at_once)]
    return torch.cat(parts)


def local_complexity(
    net: Network | nn.Module, x: Tensor, radius: float, *, seed: int = 0, progress: bool = True
) -> Tensor:
    """How many linear regions lie in a small square around each example.

    The square has side 2 · `radius` and lies in a random plane through the example; in the plane
    itself where the network has two inputs, and on the line where it has one. Regions are counted
    exactly. The idea is that of Humayun, Balestriero and Baraniuk, "Deep Networks Always Grok and
    Here is Why" (2024), who count the units whose border comes near.

    Args:
        net: as in `regions.plane`.
        x: inputs `[N, h_0]`, float32 or float64.
        radius: half of the side, positive.
        seed: of the planes.
        progress: show a bar.

    Returns:
        int64 `[N]`, at least 1.

    Raises:
        TypeError, ValueError: as `signatures`; a radius that is not positive and finite.

    Examples:
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> local_complexity(net, torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]]), 1.0, progress=False)
        tensor([4, 2, 1])
    """
    net = float64_network(net)
    x = _inputs(net, x)
    if isinstance(radius, bool) or not isinstance(radius, int | float):
        raise TypeError(f"radius must be a number, got {type(radius).__name__}")
    if not 0 < radius < torch.inf:
        raise ValueError(f"radius must be positive and finite, got {radius}")
    generator = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
    axes = torch.eye(2, dtype=torch.float64)
    if net.widths[0] == 1:  # the second axis does nothing
        weight = torch.cat([net.weights[0], torch.zeros_like(net.weights[0])], 1)
        net = ReluNetwork((weight, *net.weights[1:]), net.biases)
        x = torch.cat([x, torch.zeros_like(x)], 1)
    counts = []
    for origin in tqdm(x, desc="regions", unit="example", disable=not progress):
        if net.widths[0] > 2:
            axes = torch.linalg.qr(_normal(net.widths[0], generator))[0].T
        corner = origin - radius * axes.sum(0)
        counts.append(len(plane(net, corner, *(2 * radius * axes))))
    return torch.tensor(counts, dtype=torch.int64)


def _normal(n: int, generator: torch.Generator) -> Tensor:
    return torch.randn(n, 2, dtype=torch.float64, generator=generator)


def sampled_counts(found: Regions2D, samples: Sequence[int], *, seed: int = 0) -> Tensor:
    """How many of the regions are found by so many random points of the domain.

    Args:
        found: all regions.
        samples: numbers of points; fewer ones are the first of the more.
        seed: of the points, uniform on the domain.

    Returns:
        int64 `[len(samples)]`: different activation patterns among them.

    Examples:
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [-torch.ones(2) / 2, torch.zeros(1)])
        >>> sampled_counts(plane(net), [0, 1, 1000])
        tensor([0, 1, 4])
    """
    numbers = [check_integer(n, f"samples[{i}]", 0) for i, n in enumerate(samples)]
    generator = torch.Generator().manual_seed(check_integer(seed, "seed", 0))
    points = uniform_points(found.domain, max(numbers, default=0), generator)
    first = ops.unique_signatures(found.restricted, points).first
    return torch.tensor([int((first < n).sum()) for n in numbers], dtype=torch.int64)


def uniform_points(polygon: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Points `[n, 2]` uniform on a convex polygon of corners `[K, 2]`."""
    sides = polygon[1:] - polygon[0]
    areas = (sides[:-1, 0] * sides[1:, 1] - sides[:-1, 1] * sides[1:, 0]).abs()
    triangle, along, across = torch.rand(3, n, dtype=torch.float64, generator=generator)
    which = torch.searchsorted(areas.cumsum(0) / areas.sum(), triangle).clamp_max(len(areas) - 1)
    # Points of the parallelogram's other half are turned back into the triangle.
    beyond = along + across > 1
    along, across = torch.where(beyond, 1 - along, along), torch.where(beyond, 1 - across, across)
    return polygon[0] + along.unsqueeze(1) * sides[which] + across.unsqueeze(1) * sides[which + 1]


class RegionCounts:
    """Counts regions during training: a callback of `train`, or to be called in a loop of your own.

    Args:
        origin, u, v, domain: what `plane` is to look at.

    Examples:
        >>> from gradsplinter.train import TrainConfig, train
        >>> x = torch.rand(1, 100, 2)
        >>> regions = RegionCounts()
        >>> _ = train(TrainConfig((2, 8, 1), steps=20), x, x.prod(2, keepdim=True), [0],
        ...           checkpoints=[0, 10, 20], callback=regions, progress=False)
        >>> [step for step, count in regions.counts[0]]
        [0, 10, 20]
    """

    def __init__(
        self, origin: Any = None, u: Any = None, v: Any = None, domain: Any = None
    ) -> None:
        self.where = (origin, u, v, domain)
        self.counts: dict[int, list[tuple[int, int]]] = {}
        """(step, number of regions) of each network, by its number."""

    def __call__(self, step: int, network: Network | nn.Module, i: int = 0) -> int:
        """Count, and keep and return the count."""
        count = len(plane(network, *self.where))
        self.counts.setdefault(i, []).append((step, count))
        return count


def _inputs(net: ReluNetwork, x: Tensor) -> Tensor:
    check_tensor(x, "x", 2, (torch.float32, torch.float64))
    return net.check_inputs(x.detach().cpu().double())
