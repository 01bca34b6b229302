"""The computation graph: how its cost grows with depth, beside the tree that it does without."""

from itertools import pairwise

import pytest
import torch
from workloads import name, network

import gradsplinter
from gradsplinter.data import load
from gradsplinter.train import TrainConfig, train


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


def he_network(*widths):
    """Layers that keep the size of activations (He et al. 2015), so that deep ones still have many modes."""
    torch.manual_seed(0)
    weights = [torch.randn(m, n) * (2 / n) ** 0.5 for n, m in pairwise(widths)]
    return gradsplinter.ReluNetwork(weights, [0.1 * torch.randn(m) for m in widths[1:]])


def check_stored(graph, sizes):
    """What is stored grows with depth × modes, but for the signatures: each site has the bits above it."""
    depth, most = len(sizes), max(size.modes for size in sizes)
    assert most <= graph.n_examples
    numbers = words = 0
    for site, s in graph.splinters.items():
        own = s.counts, s.first, graph.parents[site], graph.lengths(site)
        numbers += sum(tensor.numel() for tensor in own)
        words += s.signatures.numel()
    assert numbers <= (3 + len(graph.directions)) * depth * most
    assert words <= most * sum(range(depth))  # 32 units of a site in a word


@pytest.mark.parametrize("depth", [2, 5, 10, 20])
def bench_depth(race, depth):
    n = race.size(10_000, 500)
    net = he_network(4, *[32] * depth, 2)
    module = net.to_module().requires_grad_(False)
    x = torch.rand(n, 4)
    graph = gradsplinter.computation_graph(net, x)
    sizes = graph.sizes()
    last = sizes[-1]
    assert last.modes == gradsplinter.splinter(net, x).n_modes
    check_stored(graph, sizes)
    assert last.naive_nodes >= {2: 1e4, 5: 1e9, 10: 1e17, 20: 1e29}[depth]
    race(
        f"computation graph of {last.modes:,} modes at site 0 ({last.naive_nodes:.0e} nodes of a tree), "
        f"{name(net, n)}, He initialisation",
        {
            "ours, with sizes and lengths": lambda: gradsplinter.computation_graph(net, x).sizes(),
            "torch forward alone": lambda: module(x),
        },
    )


@pytest.mark.parametrize("name", ["digits", "mnist"])
def bench_digits(race, name):
    try:
        data = load(name, "all", download=False)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    n = race.size(10_000, 300)
    x, y = data.x[:n], torch.nn.functional.one_hot(data.y[:n], 10).float()
    torch.manual_seed(0)
    config = TrainConfig((x.shape[1], 64, 64, 10), race.size(600, 20), 2e-3, 256)
    net = train(config, x[None], y[None], [0], progress=False).networks[0]
    graph = gradsplinter.computation_graph(net, x)
    last = graph.sizes()[-1]
    assert last.modes == gradsplinter.splinter(net, x).n_modes
    assert last.naive_nodes > 100 * last.components
    source = {"digits": "digits of scikit-learn", "mnist": "digits of MNIST"}[name]
    race(
        f"computation graph of {last.modes:,} modes at site 0 ({last.naive_nodes:,} nodes of a tree), "
        f"{net!r}, {len(x):,} {source}",
        {
            "ours": lambda: gradsplinter.computation_graph(net, x),
            "ours, with sizes and lengths": lambda: gradsplinter.computation_graph(net, x).sizes(),
            "ours, with 300 nodes to draw": lambda: gradsplinter.view(
                gradsplinter.computation_graph(net, x)
            ),
        },
    )
