"""The computation graph: how its cost grows with depth, beside the tree that it does without."""

import pytest
import torch
from workloads import name, network

import gradsplinter


def naive_tree(net, splinters):
    """The older way: from each output back, a node for every pattern of every site. -> nodes."""
    widths = net.widths[1:-1]
    patterns = [
        site.unique(dim=0).float()
        for site in gradsplinter.unpack_bits(splinters.signatures, widths)
    ]
    nodes = net.weights[-1]  # of the site before the output
    total = len(nodes)
    for weight, bits in zip(reversed(net.weights[:-1]), reversed(patterns), strict=True):
        units = torch.nn.functional.normalize(nodes, dim=1)
        nodes = ((units[:, None] * bits[None]) @ weight).flatten(0, 1)
        total += len(nodes)
    return total


def bench_toy(race):
    n = race.size(2_000, 500)
    _, net = network(4, 16, 16, 2)
    x = torch.rand(n, 4)
    graph = gradsplinter.computation_graph(net, x)
    sizes = graph.sizes()
    assert naive_tree(net, graph.splinters[0]) == sum(size.naive_nodes for size in sizes)
    for size in sizes:
        assert size.modes == gradsplinter.splinter(net, x, size.site).n_modes
    race(
        f"computation graph, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.computation_graph(net, x),
            "ours, with sizes and lengths": lambda: gradsplinter.computation_graph(net, x).sizes(),
            "patterns given, every node of the tree, in torch": lambda: naive_tree(
                net, graph.splinters[0]
            ),
        },
    )


@pytest.mark.parametrize("depth", [2, 5, 10, 20])
def bench_depth(race, depth):
    n = race.size(10_000, 500)
    module, net = network(4, *[32] * depth, 2)
    x = torch.rand(n, 4)
    graph = gradsplinter.computation_graph(net, x)
    last = graph.sizes()[-1]
    assert last.modes == gradsplinter.splinter(net, x).n_modes
    assert last.naive_nodes >= last.components
    race(
        f"computation graph of {last.modes:,} modes at site 0 ({last.naive_nodes:,} nodes of a tree), "
        f"{name(net, n)}",
        {
            "ours, with sizes and lengths": lambda: gradsplinter.computation_graph(net, x).sizes(),
            "torch forward alone": lambda: module(x),
        },
    )
