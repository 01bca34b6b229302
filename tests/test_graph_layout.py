"""Where the nodes of a view go, and in which groups they are."""

import pytest
import torch
from networks import random_inputs, random_network

from gradsplinter import computation_graph, graph_layout, view
from gradsplinter.graph_layout import COLORS, NO_GROUP, group_color, groups, order_nodes
from gradsplinter.graph_view import ViewEdge

NET = random_network((4, 9, 7, 6, 3))
GRAPH = computation_graph(NET, random_inputs(500, 4))


def crossings(found, order):
    place = {node: at for nodes in order.values() for at, node in enumerate(nodes)}
    total = 0
    for site in found.sites[1:]:
        edges = [e for e in found.edges if e.kind == "between" and found.nodes[e.b].site == site]
        a = torch.tensor([place[e.a] for e in edges])
        b = torch.tensor([place[e.b] for e in edges])
        total += int(((a[:, None] < a) & (b[:, None] > b)).sum())
    return total


@pytest.mark.parametrize("most", [10, 60, 10**6])
def test_every_node_has_a_place_and_edges_hardly_cross(most):
    found = view(GRAPH, most_nodes=most)
    order = order_nodes(found)
    by_flow = {site: found.of_site(site) for site in found.sites}
    assert {site: sorted(nodes) for site, nodes in order.items()} == by_flow
    assert list(order) == list(found.sites)
    assert order[4] == [0, 1, 2]
    # Nodes of a site are next to each other if they have the same node above; only a vector that comes
    # from two of them can make edges cross.
    assert crossings(found, order) <= crossings(found, by_flow) / 50


def test_going_back_mends_what_nodes_with_several_above_them_cross(monkeypatch):
    found = view(GRAPH, 10**6, 10**6, angle=0.1)
    after = crossings(found, order_nodes(found))
    monkeypatch.setattr(graph_layout, "SWEEPS", 1)
    once = crossings(found, order_nodes(found))
    by_flow = crossings(found, {site: found.of_site(site) for site in found.sites})
    assert after < once < by_flow / 2


def test_a_node_goes_to_the_mean_place_of_those_above():
    found = view(GRAPH, most_nodes=10**6)
    first = found.of_site(3)
    edges = [ViewEdge("between", 2 - i, n, 1.0, 1) for i, n in enumerate(first)]
    found.edges[:] = edges
    assert order_nodes(found)[3] == first[::-1]
    found.edges.append(ViewEdge("between", 0, first[0], 9.0, 1))  # now between 0 and 1
    assert order_nodes(found)[3] == [first[2], first[0], first[1]]


def test_communities_come_together():
    community = torch.tensor([1, 0, 1])
    of = {s: community.expand(GRAPH.splinters[s].n_modes, 3) for s in GRAPH.sites}
    found = view(GRAPH, communities=of)
    kinds = groups(found)
    assert kinds.names == ["community 0", "community 1"]
    assert [kinds.of[n] for n in range(3)] == [1, 0, 1]
    assert order_nodes(found)[4] == [1, 0, 2]
    assert kinds.color(1) == COLORS[0]
    for kind in (-1, 0):
        alike = {s: torch.full((GRAPH.splinters[s].n_modes, 3), kind) for s in GRAPH.sites}
        assert groups(view(GRAPH, communities=alike)).names == ["y0", "y1", "y2"]


def test_colors():
    assert len(set(COLORS)) == 10
    assert group_color(None) == NO_GROUP not in COLORS
    assert group_color(13) == COLORS[3]
