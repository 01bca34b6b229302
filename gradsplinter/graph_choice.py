"""A computation graph → its strongest nodes, merged over modes, and the edges between them.

The graph has a component for every mode and direction; here those of a site that are the same vector are
one node, and only so many nodes are kept. What is left out is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gradsplinter import ops
from gradsplinter.checks import check_integer
from gradsplinter.communities import Communities
from gradsplinter.graph import ComputationGraph
from gradsplinter.graph_view import GraphView, LeftOut, SiteMerge, ViewEdge, ViewNode
from gradsplinter.scores import AT_ONCE

MOST_MODES = 20
"""Modes that a node names, those with the most examples."""


def view(
    graph: ComputationGraph,
    most_nodes: int = 300,
    most_edges: int = 3000,
    *,
    angle: float | None = None,
    communities: Communities | Mapping[int, Tensor] | None = None,
    directions: Sequence[str] | None = None,
    examples: Sequence[int] = (),
) -> GraphView:
    """The strongest part of a graph, small enough to look at.

    Sites share the nodes evenly. Below the start site a node must have a kept one above it. The site
    before it has a node for each direction, if that takes at most half of the nodes that are to be shared.

    Args:
        graph: what to draw.
        most_nodes: at most so many nodes, with the directions, all of which are always kept, and at
            least one node at each other site.
        most_edges: at most so many edges between sites, and so many within sites: those with the
            largest weight · count.
        angle: merge components within this angle, as `ComputationGraph.merged` does.
        communities: what `communities` or `neuron_communities` found; or by site, int64 `[U, D]`, the
            community of each component. A node has the one with the most of its flow, and none at a site that is not there;
            a direction that of its components at the site before the start site.
        directions: names of the directions; `y0`, `y1`, ... for the outputs by default.
        examples: those whose nodes are kept before stronger ones.

    Raises:
        IndexError: no such example.
        TypeError: communities of another dtype.
        ValueError: a number below 1, not one name for each direction, communities of another shape,
            gradients that are not finite.

    Examples:
        >>> from gradsplinter import ReluNetwork, computation_graph
        >>> net = ReluNetwork([torch.eye(2), torch.ones(1, 2)], [torch.zeros(2), torch.zeros(1)])
        >>> x = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [2.0, 3.0]])
        >>> found = view(computation_graph(net, x))
        >>> for line in str(found).split("; "):
        ...     print(line)
        GraphView: 3 edges
        site 2: 1 node
        site 1: 1 node
        site 0: 2 nodes
        equal components merged: 1 to 1 at site 1, 2 to 2 at site 0
        >>> [found.nodes[i].name for i in found.path(1)]
        ['y0', '1.0', '0.1']
    """
    most_nodes = check_integer(most_nodes, "most_nodes", 1)
    most_edges = check_integer(most_edges, "most_edges", 1)
    names = _names(graph, directions)
    of_components = _checked(graph, communities)
    paths = [graph.example(i) for i in examples]
    nodes, index, left_out = _start(graph, names, of_components)
    between, within, merges = [], [], []
    room, sites_left = most_nodes - len(nodes), len(graph.sites)
    above = index[graph.start]
    for site in graph.sites:
        first = [path[site] for path in paths]
        at_most = max(1, room // sites_left)
        each = site == graph.sites[0] and len(names) <= room // 2
        if each:
            at_most = max(at_most, len(names))
        kept = _nodes(graph, site, angle, above, at_most, first, each, of_components, len(nodes))
        nodes += kept.nodes
        between.append(_between(graph, site, above[graph.parents[site]], kept.index, len(nodes)))
        within.append(_within(graph, site, kept.index, len(nodes)))
        index[site] = above = kept.index
        left_out.append(kept.left_out)
        merges.append(kept.merge)
        room, sites_left = room - len(kept.nodes), sites_left - 1
    edges = _strongest("between", between, most_edges) + _strongest("within", within, most_edges)
    dropped = sum(len(found.a) for found in between + within) - len(edges)
    return GraphView(graph, nodes, edges, index, left_out, dropped, names, angle, merges)


def _checked(
    graph: ComputationGraph, communities: Communities | Mapping[int, Tensor] | None
) -> Mapping[int, Tensor]:
    if isinstance(communities, Communities):
        communities = communities.of(graph)
    for site, of in (communities or {}).items():
        expected = list(graph.usage(site).shape)
        if list(of.shape) != expected:
            raise ValueError(
                f"communities must have shape {expected} at site {site}, got {list(of.shape)}"
            )
        if of.dtype != torch.int64:
            raise TypeError(f"communities must be int64, got {of.dtype} at site {site}")
    return communities or {}


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
    graph: ComputationGraph, names: list[str], communities: Mapping[int, Tensor]
) -> tuple[list[ViewNode], dict[int, Tensor], list[LeftOut]]:
    """All directions, with the flow that leaves them."""
    lengths = graph.directions.double().norm(dim=1)
    units = graph.directions / torch.where(lengths == 0, 1, lengths).to(graph.directions).unsqueeze(
        1
    )
    first = graph.sites[0]
    flow = _flow(graph, first)
    own = torch.arange(len(names)).expand_as(flow)
    of_direction = _majority(own, communities.get(first), flow, len(names))
    nodes = [
        ViewNode(
            name, graph.start, units[d], float(lengths[d]) * graph.n_examples, graph.n_examples,
            (d,), (0,), 1, of_direction[d],
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
    merge: SiteMerge


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
    each: bool,
    communities: Mapping[int, Tensor],
    begin: int,
) -> _Kept:
    """The strongest nodes below those that were kept; they get the numbers from `begin` on.

    Those of the modes `first` come before all others, and then, for `each`, the strongest of each direction.
    """
    merged = graph.merged(site, angle)
    count = len(merged.values)
    there = merged.index >= 0
    of = merged.index[there]
    all_flow = _flow(graph, site)
    flow = torch.zeros(count, dtype=torch.float64).index_add_(0, of, all_flow[there])
    reached = all_flow * (above[graph.parents[site]] >= 0)
    rank = torch.zeros(count, dtype=torch.float64).index_add_(0, of, reached[there])
    if each:
        strongest = merged.index[reached.argmax(dim=0), torch.arange(reached.shape[1])]
        rank[strongest[(reached > 0).any(dim=0)]] += rank.sum()
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
    of_node = _majority(merged.index, communities.get(site), all_flow, count)
    places = _places(graph, site, index - begin, len(order))
    vectors = merged.values[order]  # a copy, so that all the others can go
    nodes = [
        ViewNode(
            f"{site}.{at}", site, vectors[at], float(flow[node]), int(merged.counts[node]),
            *places[at], of_node[node],
        )
        for at, node in enumerate(order.tolist())
    ]  # fmt: skip
    return _Kept(nodes, index, left, SiteMerge(site, merged.n_components, count, merged.widest))


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


def _majority(
    index: Tensor, communities: Tensor | None, flow: Tensor, count: int
) -> list[int | None]:
    """Of each node, the community with the most flow; None where there is none."""
    if communities is None:
        return [None] * count
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


class _Edges(NamedTuple):
    """Between pairs of nodes, in ascending order."""

    a: Tensor
    b: Tensor
    weight: Tensor
    times: Tensor


def _between(
    graph: ComputationGraph, site: int, above: Tensor, below: Tensor, n_nodes: int
) -> _Edges:
    there = (above >= 0) & (below >= 0)
    counts = graph.splinters[site].counts.unsqueeze(1).expand_as(below)[there]
    weights = graph.weights(site)[there]
    return _means(above[there] * n_nodes + below[there], weights * counts, counts, n_nodes)


def _within(graph: ComputationGraph, site: int, index: Tensor, n_nodes: int) -> _Edges:
    """Between nodes of different directions that occur in a common mode: some modes at a time."""
    s = graph.splinters[site]
    some = (index >= 0).any(dim=0).nonzero().squeeze(1)  # directions that were kept somewhere
    several = ((index >= 0).sum(dim=1) > 1).nonzero().squeeze(1)
    i, j = torch.triu_indices(len(some), len(some), offset=1)
    none = torch.empty(0, dtype=torch.int64)
    keys, sums, counts = [none], [none.double()], [none]
    for modes in several.split(max(1, AT_ONCE // max(1, len(some)) ** 2)):
        left, right = index[modes][:, some[i]], index[modes][:, some[j]]
        there = (left >= 0) & (right >= 0) & (left != right)
        cosines = ops.gram(s.net, s.signatures[modes], s.source, s.target, s.directions[some])
        times = s.counts[modes].unsqueeze(1).expand_as(there)[there]
        pairs = torch.minimum(left, right) * n_nodes + torch.maximum(left, right)
        keys.append(pairs[there])
        sums.append(cosines[:, i, j][there].double() * times)
        counts.append(times)
    return _means(torch.cat(keys), torch.cat(sums), torch.cat(counts), n_nodes)


def _means(keys: Tensor, sums: Tensor, counts: Tensor, n_nodes: int) -> _Edges:
    """An edge for each pair of nodes: the key of a and b is a · n_nodes + b."""
    pairs, ids = keys.unique(return_inverse=True)
    total = torch.zeros(len(pairs), dtype=torch.int64).index_add_(0, ids, counts)
    weights = torch.zeros(len(pairs), dtype=torch.float64).index_add_(0, ids, sums)
    return _Edges(pairs // n_nodes, pairs % n_nodes, weights / total, total)


def _strongest(
    kind: Literal["between", "within"], of_sites: list[_Edges], most: int
) -> list[ViewEdge]:
    edges = _Edges(*(torch.cat(columns) for columns in zip(*of_sites, strict=True)))
    strength = edges.weight.abs() * edges.times
    kept = strength.sort(descending=True, stable=True).indices[:most].sort().values
    return [
        ViewEdge(kind, *row)
        for row in zip(*(column[kept].tolist() for column in edges), strict=True)
    ]
