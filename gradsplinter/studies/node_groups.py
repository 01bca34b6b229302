"""Another way to group a graph: Louvain's method on its components and edges themselves."""

from __future__ import annotations

import torch
from torch import Tensor

from gradsplinter.graph import ComputationGraph


def louvain_of_nodes(graph: ComputationGraph, seed: int = 0) -> dict[int, Tensor]:
    """By site, int64 `[U, D]`: the community of each component; -1 where the gradient is zero.

    Equal components of a site are one node. Between sites an edge counts with its weight, within a site
    with the cosine's absolute value, each as often as there are examples.
    """
    import networkx as nx  # noqa: PLC0415 (an extra)

    index, edges, n = {}, [], 0
    for site in graph.sites:
        of = graph.merged(site).index
        index[site] = torch.where(of >= 0, of + n, -1)
        counts = graph.splinters[site].counts.double().unsqueeze(1)
        if site != graph.sites[0]:
            above = index[site + 1][graph.parents[site]]
            edges.append(_edges(above, index[site], graph.weights(site) * counts))
        i, j = torch.triu_indices(len(graph.directions), len(graph.directions), offset=1)
        cosines = graph.cosines(site)[:, i, j].double().abs()
        edges.append(_edges(index[site][:, i], index[site][:, j], cosines * counts))
        n += int(of.max()) + 1
    nodes = nx.Graph()
    nodes.add_nodes_from(range(n))
    keys, weights = (torch.cat(parts) for parts in zip(*edges, strict=True))
    pairs, ids = keys.unique(dim=0, return_inverse=True)
    sums = torch.zeros(len(pairs), dtype=torch.float64).index_add_(0, ids, weights)
    nodes.add_weighted_edges_from(
        (a, b, weight) for (a, b), weight in zip(pairs.tolist(), sums.tolist(), strict=True)
    )
    label = torch.full((n + 1,), -1)  # the last entry is of what is zero
    for c, members in enumerate(nx.community.louvain_communities(nodes, seed=seed)):
        label[list(members)] = c
    return {site: label[of] for site, of in index.items()}


def _edges(a: Tensor, b: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """[E, 2] and [E]: of pairs that are both there, not the same, and tied."""
    there = (a >= 0) & (b >= 0) & (a != b) & (weights > 0)
    return torch.stack([a[there], b[there]], dim=1).sort(dim=1).values, weights[there].double()
