"""Which units of a network work together: independent tasks, found in the gradients alone.

Two units of a site belong together where the same gradients have entries at both. The affinity of two
units is Σ over gradients of weight · q_i · q_j, q being the squared entries of the gradient, which add up
to 1. Louvain's method (Blondel et al. 2008) splits the graph of affinities, whose number of communities need
not be known. A split counts only if it is sharp, and for neurons sharper than what chance makes of the same
entries.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradsplinter import ops
from gradsplinter.batches import Data, shape_of
from gradsplinter.checks import check_on_cpu
from gradsplinter.graph import ComputationGraph
from gradsplinter.modularity import (
    LEAST,
    PERMUTATIONS,
    Split,
    affinity_of,
    check_split,
    shuffled,
    split,
)
from gradsplinter.patterns import select_sites
from gradsplinter.scores import AT_ONCE
from gradsplinter.splinters import Splinters
from gradsplinter.table import SplinterTable, splinter
from gradsplinter.traced import Network, network_of

LEAST_FROM_DIRECTIONS = 0.25
"""Least separation of a split by the components of directions."""


@dataclass(frozen=True, eq=False, repr=False)
class Communities:
    """Groups of units, as `communities` or `neuron_communities` found them.

    Attributes:
        units: by site, int64 [h_site]: the community of each unit; -1 for one without a gradient.
        affinity: float64 [n, n]: of every two of the units that were split, the diagonal being 0.
        modularity: of the split of units that switch (Newman and Girvan 2004), if there are any; 0
            for one community.
        separation: 1 - affinity between communities / what chance gives; 0 for one community.
        chance: the highest modularity by chance; NaN where it was not asked for or not needed.
    """

    units: dict[int, Tensor]
    affinity: Tensor
    modularity: float
    separation: float
    chance: float

    @property
    def n(self) -> int:
        """How many communities there are."""
        return 1 + max(int(of.max()) for of in self.units.values())

    def of(self, graph: ComputationGraph) -> dict[int, Tensor]:
        """The community of each component of a graph: the one that has most of its squared entries.

        Returns:
            By site, int64 `[U, D]`, for `view`; -1 for a component that is zero or has no entry in any
            community. Sites without communities are left out.
        """
        found = {}
        for site in graph.sites:
            if site not in self.units:
                continue
            groups = [
                _largest(_sums(part.double().square(), self.units[site], self.n))
                for _, part in graph.pieces(site)
            ]
            found[site] = torch.cat(groups)
        return found

    def __repr__(self) -> str:
        sizes = "; ".join(
            f"site {site}: " + ", ".join(str(int((of == c).sum())) for c in range(self.n))
            for site, of in self.units.items()
        )
        return f"Communities: {self.n}, separation {self.separation:.2f}, units of each: {sizes}"


def communities(
    graph: ComputationGraph, *, least: float = LEAST_FROM_DIRECTIONS, seed: int = 0
) -> Communities:
    """Group the units of all sites of a graph by the components that go through them.

    A mode and a direction have a component at each site; all units in which these have entries are
    tied to each other, within sites and between. Each counts as often as there are examples.

    Args:
        graph: its directions, e.g. the outputs, say what is looked at.
        least: least separation of a split. The gradients of a direction are alike in all modes, so
            two directions can be apart by chance, as no test by shuffling shows.
        seed: of Louvain's method.

    Raises:
        ImportError: networkx is missing.
        TypeError: not a graph.
        ValueError: a number out of range; gradients that are not finite.

    Examples:
        Two inputs that are never used together:

        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> net = ReluNetwork([torch.eye(4), torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])],
        ...                   [torch.zeros(4), torch.zeros(2)])
        >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> communities(computation_graph(net, x)).units[0]
        tensor([0, 0, 1, 1])
    """
    if not isinstance(graph, ComputationGraph):
        raise TypeError(
            f"graph must be a ComputationGraph, as computation_graph(net, x) makes it, got "
            f"{type(graph).__name__}; neuron_communities(net, x) takes a network"
        )
    check_split(least, 0, seed)
    finest = graph.splinters[graph.end]
    sites = list(reversed(graph.sites))
    widths = [graph.net.widths[site] for site in sites]
    affinity = torch.zeros(sum(widths), sum(widths), dtype=torch.float64)
    used = torch.zeros(sum(widths), dtype=torch.bool)
    step = max(1, AT_ONCE // (finest.n_directions * sum(widths)))
    for modes in torch.arange(finest.n_modes).split(step):
        weights = finest.counts[modes].double().repeat_interleave(finest.n_directions)
        rows = torch.cat(_squares_along(graph, sites, modes), dim=1)
        affinity += affinity_of(rows, weights)
        used |= (rows > 0).any(dim=0)
    found = split(affinity, used, least, seed)
    return _communities(found, dict(zip(sites, found.groups.split(widths), strict=True)))


def _squares_along(graph: ComputationGraph, sites: list[int], modes: Tensor) -> list[Tensor]:
    """`[modes · D, h]` of each site, from the last one up: of the modes that these belong to."""
    found = []
    for site in sites:
        s = graph.splinters[site]
        gradients = ops.jacobian(s.net, s.signatures[modes], site, s.target, s.directions)
        found.append(_squares(gradients).flatten(0, 1))
        modes = graph.parents[site][modes]
    return found


def neuron_communities(
    net: Network | nn.Module,
    x: Data,
    *,
    source: int = 0,
    divisor: float | None = None,
    least: float = LEAST,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Communities:
    """Group the inputs and the neurons of a network without its outputs.

    First the inputs: each hidden neuron counts with the mean of its squared normalised gradients and
    the weight p (1 - p), p being the share of examples in which it is on, for a neuron that is always
    on only hands on a sum. Inputs that only such neurons use are grouped by these, after the others and
    apart from them. Then each neuron goes to the group of inputs with most of its gradient.

    Tasks that share inputs are one group, by construction. And a task is seen only by the inputs that
    it ties to each other, so it needs two of them: an input has no affinity with itself, and tasks of
    one input each are one group.

    Args:
        net, x, divisor: as in `splinter`.
        source: the site whose units stand for the inputs.
        least: least separation of a split.
        permutations: a split must have a higher modularity than so many graphs in which each neuron's
            gradient has its entries at random units.
        seed: of chance, and of Louvain's method.

    Raises:
        ImportError: networkx is missing.
        TypeError, ValueError, NotImplementedError: as `splinter`; no hidden site after `source`; a
            network that is not on the CPU; gradients that are not finite.
    """
    check_split(least, permutations, seed)
    checked = SplinterTable(network_of(net, shape_of(x)), source)
    net, source = checked.net, checked.source
    check_on_cpu(net.device, "net")
    if net.depth == 1:
        raise ValueError(f"net must have a hidden layer, got {net!r}")
    if source + 1 >= net.depth:
        raise ValueError(
            f"source must be before the last hidden site {net.depth - 1}, got {source}"
        )
    finest = splinter(net, x, source, net.depth - 1, divisor=divisor)
    rows, shares_on = {}, {}
    for site in range(source + 1, net.depth):
        rows[site], shares_on[site] = _mean_squares(_up_to(finest, site))
    on = torch.cat(list(shares_on.values()))
    every = torch.cat(list(rows.values()))
    found = _split_inputs(every, on * (1 - on), least, permutations, seed)
    groups = found.groups
    rest = (groups < 0) & (on @ every > 0)
    if bool(rest.any()):
        of_rest = _split_inputs(every[:, rest], on, least, permutations, seed)
        groups[rest] = of_rest.groups + found.n
        if found.n == 0:
            found = dataclasses.replace(of_rest, groups=groups)
    units = {source: groups}
    for site, of_neurons in rows.items():
        units[site] = _largest(_sums(of_neurons, groups, 1 + int(groups.max())))
    return _communities(found, units)


def _split_inputs(
    rows: Tensor, weights: Tensor, least: float, permutations: int, seed: int
) -> Split:
    used = weights @ rows > 0
    by_chance = shuffled(rows[:, used], weights, permutations, seed)
    return split(affinity_of(rows, weights), used, least, seed, by_chance)


def _up_to(s: Splinters, site: int) -> Splinters:
    """Of the neurons of a site before the target, without reading the data again."""
    bits = [s.net.bits[hidden] for hidden in range(s.source + 1, s.target + 1)]
    words = select_sites(s.signatures, bits, 0, site - s.source - 1).contiguous()
    first, _, ids = ops.unique_rows(words)
    counts = torch.zeros_like(first).index_add_(0, ids, s.counts)
    directions = torch.eye(s.net.widths[site], dtype=s.net.dtype)
    return Splinters(
        s.net, s.source, site, directions, words[first], counts, s.first[first], None, s.n_examples
    )


def _squares(gradients: Tensor) -> Tensor:
    """Squared entries `[..., h]`, float64, of gradients whose squares then add up to 1, or are 0."""
    squares = gradients.double().square()
    sums = squares.sum(dim=-1, keepdim=True)
    if not bool(torch.isfinite(sums).all()):
        raise ValueError(
            "net must have finite gradients, with squared lengths below 1.8e308, got others: products "
            "of its weights are too large"
        )
    return squares / torch.where(sums == 0, 1, sums)


def _mean_squares(s: Splinters) -> tuple[Tensor, Tensor]:
    """The mean over examples with a gradient, `[D, h]`, and the share of examples with one, `[D]`."""
    width = s.net.widths[s.source]
    sums = torch.zeros(s.n_directions, width, dtype=torch.float64)
    examples = torch.zeros(s.n_directions, dtype=torch.float64)
    for modes, gradients in s.pieces():
        squares, counts = _squares(gradients), s.counts[modes].double()
        sums += torch.einsum("u,udh->dh", counts, squares)
        examples += torch.einsum("u,ud->d", counts, (squares.sum(dim=2) > 0).double())
    return sums / examples.clamp(min=1).unsqueeze(1), examples / s.n_examples


def _largest(shares: Tensor) -> Tensor:
    """int64 `[...]`: the community with the largest share; -1 where none has one, or there is none."""
    if shares.shape[-1] == 0:
        return torch.full(shares.shape[:-1], -1)
    best = shares.max(dim=-1)
    return torch.where(best.values > 0, best.indices, -1)


def _sums(rows: Tensor, groups: Tensor, n: int) -> Tensor:
    """`[..., n]`: the sum over the units of each group."""
    member = torch.nn.functional.one_hot(groups + 1, n + 1)[:, 1:].double()
    return rows @ member


def _communities(found: Split, units: dict[int, Tensor]) -> Communities:
    return Communities(units, found.affinity, found.modularity, found.separation, found.chance)
