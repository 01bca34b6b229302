"""What of a computation graph is drawn or exported: its strongest nodes, merged over modes, and edges.

The graph has a component for every mode and direction; here those of a site that are the same vector are
one node, and only so many nodes are kept. What is left out is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradsplinter.checks import check_integer
from gradsplinter.graph import ComputationGraph

MOST_MODES = 20
"""Modes that a node names, those with the most examples."""


@dataclass(frozen=True, eq=False)
class ViewNode:
    """A component of a site, or a direction of the start site."""

    name: str
    site: int
    vector: Tensor
    """[h_site], of length 1."""
    flow: float
    """Σ over examples and directions of the length of the gradient that comes through it."""
    count: int
    """Examples that use it, once for each direction that does."""
    directions: tuple[int, ...]
    """Directions of the start site that have it in some mode."""
    modes: tuple[int, ...]
    """Modes of the site that have it, the one with the most examples first; at most `MOST_MODES`."""
    n_modes: int
    community: int | None


@dataclass(frozen=True)
class ViewEdge:
    """Between two nodes of a view."""

    kind: Literal["between", "within"]
    """Between adjacent sites, or within a site."""
    a: int
    """Index of the node above; within a site of either."""
    b: int
    weight: float
    """Between sites the mean weight of the edges that became this one; within a site the cosine."""
    count: int
    """Examples in which both occur together, once for each direction or pair of directions."""


@dataclass(frozen=True)
class LeftOut:
    """What a view does not have of a site."""

    site: int
    nodes: int
    flow: float
    """Its share of the site's flow, 0 to 1."""


@dataclass(frozen=True, eq=False, repr=False)
class GraphView:
    """Some nodes and edges of a computation graph, as `view` chose them."""

    graph: ComputationGraph
    nodes: list[ViewNode]
    """Site by site from the start site back; those of a site by flow, the strongest first."""
    edges: list[ViewEdge]
    index: dict[int, Tensor]
    """By site, the start site too, int64 [U, D]: the node of each component; -1 where it is zero or
    left out."""
    left_out: list[LeftOut]
    """For each site."""
    left_out_edges: int
    directions: list[str]
    """Names of the directions."""

    @property
    def sites(self) -> tuple[int, ...]:
        """From the start site back."""
        return tuple(self.index)

    def of_site(self, site: int) -> list[int]:
        """The indices of the nodes of a site."""
        return [i for i, node in enumerate(self.nodes) if node.site == site]

    def path(self, i: int) -> list[int]:
        """The indices of the nodes that example i uses, from the start site back.

        Raises:
            IndexError: no such example.
        """
        modes = {self.graph.start: 0} | self.graph.example(i)
        return sorted({int(n) for s in self.sites for n in self.index[s][modes[s]] if n >= 0})

    def __repr__(self) -> str:
        sites = "; ".join(
            f"site {left.site}: {len(self.of_site(left.site)):,} nodes"
            + (f", {left.nodes:,} left out with {left.flow:.1%} of the flow" if left.nodes else "")
            for left in self.left_out
        )
        edges = f"{len(self.edges):,} edges" + (
            f", {self.left_out_edges:,} left out" if self.left_out_edges else ""
        )
        return f"GraphView: {edges}; {sites}"


def view(
    graph: ComputationGraph,
    most_nodes: int = 300,
    most_edges: int = 3000,
    *,
    angle: float | None = None,
    communities: Mapping[int, Tensor] | None = None,
    directions: Sequence[str] | None = None,
    examples: Sequence[int] = (),
) -> GraphView:
    """The strongest part of a graph, small enough to look at.

    Sites share the nodes evenly. Below the start site a node must have a kept one above it.

    Args:
        graph: what to draw.
        most_nodes: at most so many nodes, and at least one a site.
        most_edges: at most so many edges between sites, and so many within sites: those with the
            largest weight · count.
        angle: merge components within this angle, as `ComputationGraph.merged` does.
        communities: by site, int64 `[U, D]`: the community of each component, as `communities` finds
            them. A node has the one with the most of its flow.
        directions: names of the directions; `y0`, `y1`, ... for the outputs by default.
        examples: those whose nodes are kept before stronger ones.

    Raises:
        IndexError: no such example.
        ValueError: a number below 1, not one name for each direction.

    Examples:
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [2.0, 3.0]])
        >>> found = view(computation_graph(net, x))
        >>> found
        GraphView: 3 edges; site 2: 1 nodes; site 1: 1 nodes; site 0: 2 nodes
        >>> [found.nodes[i].name for i in found.path(1)]
        ['y0', '1.0', '0.1']
    """
    most_nodes = check_integer(most_nodes, "most_nodes", 1)
    most_edges = check_integer(most_edges, "most_edges", 1)
    names = _names(graph, directions)
    paths = [graph.example(i) for i in examples]
    nodes, index, left_out = _start(graph, names, communities)
    between: list[ViewEdge] = []
    within: list[ViewEdge] = []
    room, sites_left = most_nodes - len(nodes), len(graph.sites)
    above = index[graph.start]
    for site in graph.sites:
        first = [path[site] for path in paths]
        at_most = max(1, room // sites_left)
        kept = _nodes(graph, site, angle, above, at_most, first, communities, len(nodes))
        between += _edges_between(graph, site, above[graph.parents[site]], kept.index)
        within += _edges_within(graph, site, kept, len(nodes))
        nodes += kept.nodes
        index[site] = above = kept.index
        left_out.append(kept.left_out)
        room, sites_left = room - len(kept.nodes), sites_left - 1
    edges = _strongest(between, most_edges) + _strongest(within, most_edges)
    dropped = len(between) + len(within) - len(edges)
    return GraphView(graph, nodes, edges, index, left_out, dropped, names)


def _names(graph: ComputationGraph, directions: Sequence[str] | None) -> list[str]:
    count = len(graph.directions)
    if directions is None:
        letter = "y" if graph.start == graph.net.depth else "d"
        return [f"{letter}{i}" for i in range(count)]
    names = [str(name) for name in directions]
    if len(names) != count:
        raise ValueError(f"directions must hold {count} names, got {len(names)}")
    return names


def _start(
    graph: ComputationGraph, names: list[str], communities: Mapping[int, Tensor] | None
) -> tuple[list[ViewNode], dict[int, Tensor], list[LeftOut]]:
    """All directions, with the flow that leaves them."""
    lengths = graph.directions.double().norm(dim=1)
    units = graph.directions / torch.where(lengths == 0, 1, lengths).to(graph.directions).unsqueeze(
        1
    )
    of_first = None
    if communities is not None:
        first = graph.sites[0]
        of_first = _majority(
            torch.arange(len(names)).expand_as(communities[first]), communities[first],
            _flow(graph, first), len(names),
        )  # fmt: skip
    nodes = [
        ViewNode(
            name, graph.start, units[d], float(lengths[d]) * graph.n_examples, graph.n_examples,
            (d,), (0,), 1, None if of_first is None else of_first[d],
        )
        for d, name in enumerate(names)
    ]  # fmt: skip
    index = torch.where(lengths == 0, -1, torch.arange(len(names))).unsqueeze(0)
    return nodes, {graph.start: index}, [LeftOut(graph.start, 0, 0.0)]


@dataclass(frozen=True, eq=False)
class _Kept:
    nodes: list[ViewNode]
    index: Tensor
    left_out: LeftOut


def _flow(graph: ComputationGraph, site: int) -> Tensor:
    """float64 [U, D]"""
    return graph.splinters[site].counts.double().unsqueeze(1) * graph.lengths(site)


def _nodes(
    graph: ComputationGraph,
    site: int,
    angle: float | None,
    above: Tensor,
    room: int,
    first: list[int],
    communities: Mapping[int, Tensor] | None,
    begin: int,
) -> _Kept:
    """The strongest nodes below those that were kept; they get the numbers from `begin` on.

    Those of the modes `first` come before all others.
    """
    merged = graph.merged(site, angle)
    count = len(merged.values)
    there = merged.index >= 0
    of = merged.index[there]
    all_flow = _flow(graph, site)
    flow = torch.zeros(count, dtype=torch.float64).index_add_(0, of, all_flow[there])
    reached = all_flow * (above[graph.parents[site]] >= 0)
    rank = torch.zeros(count, dtype=torch.float64).index_add_(0, of, reached[there])
    wanted = torch.zeros(count + 1, dtype=torch.bool)  # the last entry is of what is zero
    wanted[merged.index[first]] = True
    rank[wanted[:-1] & (rank > 0)] = float("inf")
    order = rank.sort(descending=True, stable=True).indices[:room]
    order = order[rank[order] > 0]
    order = order[flow[order].sort(descending=True, stable=True).indices]
    number = torch.full((count + 1,), -1)  # the last entry is of what is zero
    number[order] = torch.arange(begin, begin + len(order))
    index = number[merged.index]
    dropped = flow.clone()
    dropped[order] = 0
    share = float(dropped.sum() / flow.sum()) if count > 0 else 0.0
    left = LeftOut(site, count - len(order), share)
    of_node = None
    if communities is not None:
        of_node = _majority(merged.index, communities[site], all_flow, count)
    places = _places(graph, site, merged.index, count)
    nodes = []
    for at, node in enumerate(order.tolist()):
        directions, modes, n_modes = places[node]
        nodes.append(
            ViewNode(
                f"{site}.{at}", site, merged.values[node], float(flow[node]),
                int(merged.counts[node]), directions, modes, n_modes,
                None if of_node is None else of_node[node],
            )
        )  # fmt: skip
    return _Kept(nodes, index, left)


def _places(
    graph: ComputationGraph, site: int, index: Tensor, count: int
) -> list[tuple[tuple[int, ...], tuple[int, ...], int]]:
    """Of each node, the directions and the modes that have it, and how many modes."""
    heaviest = graph.splinters[site].counts.sort(descending=True, stable=True).indices
    mode, direction = (index[heaviest] >= 0).nonzero().unbind(1)
    nodes = index[heaviest][mode, direction].tolist()
    directions: list[dict[int, None]] = [{} for _ in range(count)]
    modes: list[dict[int, None]] = [{} for _ in range(count)]
    for node, u, d in zip(nodes, heaviest[mode].tolist(), direction.tolist(), strict=True):
        directions[node][d] = None
        modes[node][u] = None
    return [
        (tuple(sorted(d)), tuple(u)[:MOST_MODES], len(u))
        for d, u in zip(directions, modes, strict=True)
    ]


def _majority(index: Tensor, communities: Tensor, flow: Tensor, count: int) -> list[int | None]:
    """Of each node, the community with the most flow; None where there is none."""
    there = (index >= 0) & (communities >= 0)
    if not bool(there.any()):
        return [None] * count
    kinds = int(communities.max()) + 1
    sums = torch.zeros(count * kinds, dtype=torch.float64)
    sums.index_add_(0, index[there] * kinds + communities[there], flow[there])
    best = sums.view(count, kinds).max(dim=1)
    return [
        int(which) if most > 0 else None
        for most, which in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def _edges_between(
    graph: ComputationGraph, site: int, above: Tensor, below: Tensor
) -> list[ViewEdge]:
    there = (above >= 0) & (below >= 0)
    counts = graph.splinters[site].counts.unsqueeze(1).expand_as(below)[there]
    pairs, ids = torch.stack([above[there], below[there]], dim=1).unique(dim=0, return_inverse=True)
    total = torch.zeros(len(pairs), dtype=torch.int64).index_add_(0, ids, counts)
    weights = torch.zeros(len(pairs), dtype=torch.float64)
    weights.index_add_(0, ids, graph.weights(site).double()[there] * counts)
    return [
        ViewEdge("between", a, b, weight, count)
        for (a, b), weight, count in zip(
            pairs.tolist(), (weights / total).tolist(), total.tolist(), strict=True
        )
    ]


def _edges_within(graph: ComputationGraph, site: int, kept: _Kept, begin: int) -> list[ViewEdge]:
    """Between nodes of different directions that occur in a common mode."""
    count = len(kept.nodes)
    number = kept.index - begin
    examples = graph.splinters[site].counts.double().unsqueeze(1)
    together = torch.zeros(count * count, dtype=torch.float64)
    for d in range(number.shape[1] - 1):
        left, right = torch.broadcast_tensors(number[:, d : d + 1], number[:, d + 1 :])
        there = (kept.index[:, d : d + 1] >= 0) & (kept.index[:, d + 1 :] >= 0) & (left != right)
        a, b = torch.minimum(left, right)[there], torch.maximum(left, right)[there]
        together.index_add_(0, a * count + b, examples.expand_as(there)[there])
    if count == 0:
        return []
    vectors = torch.stack([node.vector for node in kept.nodes]).double()
    cosines = (vectors @ vectors.T).clamp(-1, 1)
    a, b = (pairs := together.view(count, count)).nonzero().unbind(1)
    return [
        ViewEdge("within", begin + i, begin + j, cosine, int(times))
        for i, j, cosine, times in zip(
            a.tolist(), b.tolist(), cosines[a, b].tolist(), pairs[a, b].tolist(), strict=True
        )
    ]


def _strongest(edges: list[ViewEdge], most: int) -> list[ViewEdge]:
    if len(edges) <= most:
        return edges
    ranked = sorted(range(len(edges)), key=lambda i: -abs(edges[i].weight) * edges[i].count)
    return [edges[i] for i in sorted(ranked[:most])]
