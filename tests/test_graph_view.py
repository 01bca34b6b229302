"""What of a graph is drawn: the strongest nodes, their edges, and what is left out."""

import pytest
import torch
from networks import random_inputs, random_network

from gradsplinter import ReluNetwork, communities, computation_graph
from gradsplinter.graph_choice import view
from gradsplinter.graph_view import zero_note

NET = random_network((4, 9, 7, 6, 3))
X = random_inputs(500, 4)
GRAPH = computation_graph(NET, X)
ALL = view(GRAPH, most_nodes=10**6, most_edges=10**6)
SOME = view(GRAPH, most_nodes=40, most_edges=60)


def test_all_nodes_are_the_merged_components():
    for site in GRAPH.sites:
        merged = GRAPH.merged(site)
        nodes = [ALL.nodes[i] for i in ALL.of_site(site)]
        assert len(nodes) == len(merged.values)
        assert sorted(n.count for n in nodes) == sorted(merged.counts.tolist())
        assert sum(n.flow for n in nodes) == pytest.approx(
            float((GRAPH.splinters[site].counts.unsqueeze(1) * GRAPH.lengths(site)).sum())
        )
        flows = [n.flow for n in nodes]
        assert flows == sorted(flows, reverse=True)
    assert all(left.nodes == 0 and left.flow == 0 for left in ALL.left_out)
    assert ALL.left_out_edges == 0


def test_a_node_is_found_where_it_is_said_to_be():
    for found in (ALL, SOME):
        for i, node in enumerate(found.nodes):
            index = found.index[node.site]
            places = (index == i).nonzero()
            assert {d for _, d in places.tolist()} == set(node.directions)
            modes = {u for u, _ in places.tolist()}
            assert set(node.modes) <= modes
            assert len(modes) == node.n_modes
            for u, d in places.tolist():
                if node.site == GRAPH.start:
                    component = GRAPH.directions[d] / GRAPH.directions[d].norm()
                else:
                    component = GRAPH.component(node.site, u, d)
                assert torch.equal(node.vector, component)


def test_edges_between_sites_say_how_often_and_how_strongly():
    expected = {}
    for site in GRAPH.sites:
        above = ALL.index[site + 1][GRAPH.parents[site]]
        for u in range(GRAPH.splinters[site].n_modes):
            for d in range(3):
                pair = int(above[u, d]), int(ALL.index[site][u, d])
                if min(pair) >= 0:
                    count = int(GRAPH.splinters[site].counts[u])
                    times, total = expected.get(pair, (0, 0.0))
                    weight = float(GRAPH.weights(site)[u, d])
                    expected[pair] = times + count, total + count * weight
    found = {(e.a, e.b): e for e in ALL.edges if e.kind == "between"}
    assert set(found) == set(expected)
    for pair, (times, total) in expected.items():
        assert found[pair].count == times
        assert found[pair].weight == pytest.approx(total / times)


def test_edges_within_a_site_are_of_what_occurs_together():
    expected = {}
    for site in GRAPH.sites:
        cosines = GRAPH.cosines(site)
        for u in range(GRAPH.splinters[site].n_modes):
            for i, j in ((0, 1), (0, 2), (1, 2)):
                a, b = sorted((int(ALL.index[site][u, i]), int(ALL.index[site][u, j])))
                if a >= 0 and a != b:
                    count, total = expected.get((a, b), (0, 0.0))
                    times = int(GRAPH.splinters[site].counts[u])
                    expected[a, b] = count + times, total + times * float(cosines[u, i, j])
    found = {(e.a, e.b): e for e in ALL.edges if e.kind == "within"}
    assert set(found) == set(expected)
    for pair, (count, total) in expected.items():
        assert found[pair].count == count
        assert found[pair].weight == pytest.approx(total / count, abs=1e-6)


def test_edges_within_a_site_are_means_over_modes():
    """y0 has the gradient (1, 0) in three examples and (1, 0.1) in one, y1 always (0, 1)."""
    net = ReluNetwork(
        [torch.tensor([[1.0, 0], [0, 1], [0, 1]]), torch.tensor([[1.0, 0, 0.1], [0, 1, 0]])],
        [torch.tensor([0.0, 0, -1]), torch.zeros(2)],
    )
    x = torch.tensor([[1.0, 0.5], [2, 0.5], [3, 0.5], [1, 2]])
    found = view(computation_graph(net, x), angle=0.3)
    assert [found.nodes[i].count for i in found.of_site(0)] == [4, 4]
    (edge,) = [e for e in found.edges if e.kind == "within" and e.a in found.of_site(0)]
    assert edge.count == 4
    assert edge.weight == pytest.approx((3 * 0 + 1 * 0.1 / 1.01**0.5) / 4)


def test_edges_within_a_site_piece_by_piece(monkeypatch):
    expected = view(GRAPH, 10**6, 10**6, angle=0.3)
    monkeypatch.setattr("gradsplinter.graph_choice.AT_ONCE", 30)
    found = view(GRAPH, 10**6, 10**6, angle=0.3)
    assert len(found.edges) == len(expected.edges)
    for edge, other in zip(found.edges, expected.edges, strict=True):
        assert (edge.kind, edge.a, edge.b, edge.count) == (
            other.kind, other.a, other.b, other.count,
        )  # fmt: skip
        assert edge.weight == pytest.approx(other.weight, abs=1e-12)


def test_what_is_kept_is_the_strongest_and_hangs_together():
    assert len(SOME.nodes) <= 40
    assert len(SOME.edges) <= 120
    assert len(SOME.edges) + SOME.left_out_edges <= len(ALL.edges)
    everything = view(GRAPH, most_nodes=40, most_edges=10**6)
    below = {e.b for e in everything.edges if e.kind == "between"}
    for i, node in enumerate(SOME.nodes):
        assert node.site == GRAPH.start or i in below
    for left in SOME.left_out:
        kept = [SOME.nodes[i] for i in SOME.of_site(left.site)]
        all_nodes = [ALL.nodes[i] for i in ALL.of_site(left.site)]
        assert left.nodes == len(all_nodes) - len(kept)
        total = sum(n.flow for n in all_nodes)
        assert left.flow == pytest.approx(1 - sum(n.flow for n in kept) / total, abs=1e-12)
    first = GRAPH.sites[0]  # every direction is kept, so the strongest of all are
    kept = [SOME.nodes[i].flow for i in SOME.of_site(first)]
    assert kept == [ALL.nodes[i].flow for i in ALL.of_site(first)][: len(kept)]


@pytest.mark.parametrize("i", [0, 123, 499, -1])
def test_the_path_of_an_example(i):
    path = [ALL.nodes[k] for k in ALL.path(i)]
    for site in GRAPH.sites:
        mode = GRAPH.example(i)[site]
        components = GRAPH.components(site)[mode]
        expected = {tuple(c.tolist()) for c in components if bool(c.any())}
        assert {tuple(n.vector.tolist()) for n in path if n.site == site} == expected
    assert set(SOME.path(i)) <= set(range(len(SOME.nodes)))


def test_examples_come_before_stronger_nodes():
    rare = [int(i) for i in GRAPH.rarest(2)]
    assert len(SOME.path(rare[0])) < len(ALL.path(rare[0]))
    found = view(GRAPH, most_nodes=40, examples=rare)
    for i in rare:
        vectors = [tuple(found.nodes[n].vector.tolist()) for n in found.path(i)]
        assert vectors == [tuple(ALL.nodes[n].vector.tolist()) for n in ALL.path(i)]
    for before, now in zip(SOME.left_out, found.left_out, strict=True):
        assert (before.nodes, before.flow) <= (now.nodes, now.flow)
    assert len(found.nodes) == len(SOME.nodes)
    tiny = view(GRAPH, most_nodes=4, examples=rare)  # one node a site
    below = {e.b for e in tiny.edges if e.kind == "between"}
    assert all(node.site == GRAPH.start or i in below for i, node in enumerate(tiny.nodes))
    with pytest.raises(IndexError, match=r"^i must be an example in 0..499, got 500$"):
        view(GRAPH, examples=[500])


def test_communities_and_names():
    groups = {
        site: torch.arange(3).expand(GRAPH.splinters[site].n_modes, 3) for site in GRAPH.sites
    }
    found = view(GRAPH, communities=groups, directions=["a", "b", "<i>c"])
    for node in found.nodes:
        assert node.community in node.directions
    assert [node.name for node in found.nodes[:3]] == ["a", "b", "<i>c"]
    assert [node.community for node in found.nodes[:3]] == [0, 1, 2]
    part = view(GRAPH, communities={0: groups[0]})
    for node in part.nodes:
        assert (node.community is None) == (node.site != 0)
    inner = computation_graph(NET, X, start=2)
    assert view(inner).nodes[1].name == "d1"


def test_communities_as_they_were_found():
    found = communities(GRAPH)
    nodes = [node.community for node in view(GRAPH, communities=found).nodes]
    assert nodes == [node.community for node in view(GRAPH, communities=found.of(GRAPH)).nodes]
    assert None not in nodes


def test_a_dead_network_has_directions_and_no_edges():
    net = ReluNetwork([torch.eye(2), torch.eye(2)], [torch.full((2,), -9.0), torch.zeros(2)])
    found = view(computation_graph(net, torch.ones(5, 2)))
    assert [(n.site, n.count) for n in found.nodes[:2]] == [(2, 5), (2, 5)]
    assert found.path(0) == [0, 1, 2, 3]
    assert found.of_site(0) == []
    assert found.left_out[-1].flow == 0
    assert [(e.kind, e.weight) for e in found.edges if e.b > 1] == [
        *[("between", 1.0)] * 2,
        ("within", 0.0),
    ]  # orthogonal


def test_sites_without_gradients_are_said_to_be_and_why_where_it_is_known():
    eye, off = torch.eye(2), torch.full((2,), -9.0)
    dead = ReluNetwork([eye, eye, eye], [torch.zeros(2), off, torch.zeros(2)])
    note = "every gradient with respect to sites 1 and 0 is zero"
    graph = computation_graph(dead, torch.ones(5, 2))
    assert zero_note(graph) == f"{note}: no unit of site 2 is on in any example"
    assert repr(view(graph)).endswith(f"; {zero_note(graph)}")
    zeros = computation_graph(NET, X, torch.zeros(2, 3))
    assert zero_note(zeros) == "every gradient with respect to sites 3 and 2 and 1 and 0 is zero"
    tiny = ReluNetwork(
        [eye * 1e-30, eye * 1e-30, eye], [torch.ones(2)] * 3
    )  # too small for a float
    assert zero_note(computation_graph(tiny, torch.ones(5, 2))) == (
        "every gradient with respect to site 0 is zero"
    )
    assert zero_note(GRAPH) == ""
    assert "zero" not in repr(SOME)


def test_nodes_within_an_angle():
    found = view(GRAPH, most_nodes=10**6, most_edges=10**6, angle=0.3)
    for site in GRAPH.sites:
        assert len(found.of_site(site)) == len(GRAPH.merged(site, 0.3).values)
    assert len(found.nodes) < len(ALL.nodes)
    for merge in found.merges:
        merged = GRAPH.merged(merge.site, 0.3)
        assert (merge.components, merge.nodes) == (merged.n_components, len(merged.values))
        assert merge.widest == merged.widest <= 0.3
    site = found.merges[-1]
    assert site.widest > 0.1
    assert (
        f"{site.components:,} to {site.nodes:,} at site 0 (at most {site.widest:.2g} rad = "
        in repr(found)
    )
    assert "components within 0.3 rad = 17° merged: " in found.merge_note
    assert [m.widest for m in ALL.merges] == [0] * 4
    assert repr(ALL).endswith(
        f"{GRAPH.sizes()[3].components:,} to {len(ALL.of_site(0)):,} at site 0"
    )


def test_directions_and_a_node_a_site_are_always_kept():
    assert [len(view(GRAPH, most_nodes=1).of_site(site)) for site in range(5)] == [1, 1, 1, 1, 3]


def test_the_site_before_the_directions_has_a_node_for_each_where_there_is_room():
    ten = computation_graph(random_network((3, 8, 6, 10)), random_inputs(50, 3))
    for most, whole in ((29, False), (30, True), (60, True)):
        found = view(ten, most_nodes=most)
        assert bool((found.index[2] >= 0).any(dim=0).all()) == whole
        assert sum(len(found.of_site(site)) for site in found.sites) <= most
        assert len(found.of_site(0)) >= (most - 10) // 4
    late = computation_graph(ten.net, random_inputs(50, 3), start=2)  # many modes at its first site
    found = view(late, most_nodes=18)
    for d, name in enumerate(found.directions):
        flow = late.splinters[1].counts * late.lengths(1)[:, d]
        assert (found.index[1][flow.argmax(), d] >= 0) == (flow.max() > 0), name


def test_a_view_does_not_keep_what_it_leaves_out():
    node = SOME.nodes[-1]
    kept = len(SOME.of_site(0)) * NET.widths[0] * 4
    assert node.vector.untyped_storage().nbytes() == kept


def test_bad_input():
    with pytest.raises(
        ValueError, match=r"^communities must have shape \[1, 3\] at site 3, got \[3\]$"
    ):
        view(GRAPH, communities={3: torch.zeros(3).long()})
    with pytest.raises(
        TypeError, match=r"^communities must be int64, got torch.float32 at site 3$"
    ):
        view(GRAPH, communities={3: torch.zeros(1, 3)})
    with pytest.raises(ValueError, match=r"^most_nodes must be at least 1, got 0$"):
        view(GRAPH, most_nodes=0)
    with pytest.raises(ValueError, match=r"^directions must hold 3 names, got 1$"):
        view(GRAPH, directions=["a"])
