"""How far two inputs of a network run through the same units, site by site."""

from __future__ import annotations

from itertools import combinations

from torch import Tensor

from gradsplinter import ops
from gradsplinter.network import ReluNetwork
from gradsplinter.patterns import words_of
from gradsplinter.scores import unit_rows
from gradsplinter.table import splinter


def input_mixing(net: ReluNetwork, x: Tensor) -> list[tuple[int, str, float, float]]:
    """For every hidden site and pair of inputs: (site, "xi xj", orthogonality, overlap).

    In a mode, ∂a^site/∂x_i says which units of the site input i moves; times g = ∂y/∂a^site, unit by
    unit, it is what the first output reads of it there. Orthogonality is 1 - mean abs(cos) of the
    former for two inputs, overlap the mean cos of the absolute values of the latter: 1 where the
    output reads both from the same units, 0 where it reads them from different ones. Means are over
    modes, weighted by their examples.

    Examples:
        >>> import torch
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> input_mixing(net, torch.rand(10, 2))
        [(1, 'x1 x2', 1.0, 0.0)]
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
                (site, f"x{i + 1} x{j + 1}", float(1 - counts @ cosine), float(counts @ overlap))
            )
    return rows


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
