"""How far two inputs of a network run through the same units, site by site."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from gradsplinter import ops
from gradsplinter.draws import generator_of
from gradsplinter.network import ReluNetwork
from gradsplinter.patterns import words_of
from gradsplinter.regions import float64_network, line
from gradsplinter.scores import unit_rows
from gradsplinter.studies.field_cases import Case
from gradsplinter.table import splinter

EXAMPLES = 2000
SEGMENTS = 100
"""Examples in which each input is moved."""


@dataclass(frozen=True)
class Mixing:
    """How far two inputs run through the same units of a site, in one network."""

    task: str
    """Or the part of its examples, where these are looked at apart."""
    seed: int
    trained: bool
    site: int
    pair: str
    orthogonality: float
    """1 - mean abs(cos) of ∂a^site/∂x_i and ∂a^site/∂x_j."""
    overlap: float
    """Mean cos of abs(g · ∂a^site/∂x_i) and abs(g · ∂a^site/∂x_j), with g = ∂y/∂a^site: how far the output
    reads both from the same units."""


@dataclass(frozen=True)
class Switching:
    """Which layer's units change what the other inputs do as one input moves, in one network."""

    task: str
    seed: int
    trained: bool
    site: int
    moved: str
    share: float
    """Of the jumps of the gradient by the other inputs, see `switching`."""


def measure(
    net: ReluNetwork, case: Case, seed: int, *, trained: bool
) -> tuple[list[Mixing], list[Switching]]:
    """All of it for one network, on fresh examples of its task."""
    every = case.sample(EXAMPLES, generator_of(seed, "fresh examples"))
    parts = {case.name: torch.ones(len(every), dtype=torch.bool)}
    mixing, switches = [], []
    for part, some in (parts if case.parts is None else case.parts(every)).items():
        x = every[some]
        mixing += [Mixing(part, seed, trained, *row) for row in input_mixing(net, x)]
        for moved, (low, high) in enumerate(case.ranges):
            shares = switching(net, x[:SEGMENTS], moved, low, high).tolist()
            switches += [
                Switching(part, seed, trained, site, f"x{moved + 1}", share)
                for site, share in enumerate(shares, 1)
            ]
    return mixing, switches


def input_mixing(net: ReluNetwork, x: Tensor) -> list[tuple[int, str, float, float]]:
    """For every hidden site and pair of inputs: (site, "xi, xj", orthogonality, overlap).

    In a mode, ∂a^site/∂x_i says which units of the site input i moves; times g = ∂y/∂a^site, unit by
    unit, it is what the first output reads of it there. Orthogonality is 1 - mean abs(cos) of the
    former for two inputs, overlap the mean cos of the absolute values of the latter: 1 where the
    output reads both from the same units, 0 where it reads them from different ones. Means are over
    modes, weighted by their examples.

    Examples:
        >>> import torch
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> input_mixing(net, torch.rand(10, 2))
        [(1, 'x1, x2', 1.0, 0.0)]
    """
    found = splinter(net, x)
    counts = found.counts.double() / found.counts.sum()
    rows = []
    for site in range(1, net.depth):
        moved = _forward(net, found.signatures, site)  # [U, h_site, h_0]
        read = _backward(net, found.signatures, site).unsqueeze(2) * moved
        for i, j in combinations(range(net.widths[0]), 2):
            cosine = _cosine(moved[..., i], moved[..., j]).abs()
            overlap = _cosine(read[..., i].abs(), read[..., j].abs())
            rows.append(
                (site, f"x{i + 1}, x{j + 1}", float(1 - counts @ cosine), float(counts @ overlap))
            )
    return rows


def switching(net: ReluNetwork, x: Tensor, moved: int, low: float, high: float) -> Tensor:
    """Which layer's units change what the other inputs do, as one input moves.

    Input `moved` goes from `low` to `high` while the others stay as in an example. At each breakpoint
    units flip and the gradient of the first output by the other inputs jumps; the length of the jump
    counts for the layer of these units (the first one, where layers flip together). Breakpoints are
    found exactly.

    Args:
        net: a network.
        x: examples `[N, h_0]`.
        moved: an input.
        low, high: where it goes.

    Returns:
        float64 `[L - 1]`: the share of each hidden layer in all jumps; 0 everywhere if there are none.

    Examples:
        >>> net = ReluNetwork([torch.tensor([[1.0, 1.0]]), torch.ones(1, 1)], [torch.tensor([-1.0]), torch.zeros(1)])
        >>> switching(net, torch.rand(5, 2), 1, 0.0, 1.0)
        tensor([1.], dtype=torch.float64)
    """
    net = float64_network(net)
    sizes = torch.zeros(net.depth - 1, dtype=torch.float64)
    others = [i for i in range(net.widths[0]) if i != moved]
    begins, ends = x.double().clone(), x.double().clone()
    begins[:, moved], ends[:, moved] = low, high
    found = [line(net, a, b) for a, b in zip(begins, ends, strict=True)]
    gradients = ops.jacobian(net, torch.cat([of.signatures for of in found]))[:, 0, others]
    for of, pieces in zip(found, gradients.split([len(of) for of in found]), strict=True):
        jumps = pieces.diff(dim=0).norm(dim=1)
        border, site, _ = of.flips
        first = border.diff(prepend=border.new_zeros(1)) != 0  # sites of a breakpoint ascend
        sizes.index_add_(0, site[first] - 1, jumps[border[first] - 1])
    return sizes / sizes.sum().where(sizes.sum() > 0, 1.0)


def _forward(net: ReluNetwork, signatures: Tensor, site: int) -> Tensor:
    """∂a^site/∂x in each mode, float64 `[U, h_site, h_0]`."""
    words = sum(words_of(width) for width in net.widths[1 : site + 1])
    return ops.jacobian(net, signatures[:, :words], 0, site).double()


def _backward(net: ReluNetwork, signatures: Tensor, site: int) -> Tensor:
    """The gradient of the first output by a^site, float64 `[U, h_site]`."""
    words = sum(words_of(width) for width in net.widths[1 : site + 1])
    return ops.jacobian(net, signatures[:, words:].contiguous(), site)[:, 0].double()


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of rows; 0 where one is zero."""
    return (unit_rows(a) * unit_rows(b)).sum(1)
