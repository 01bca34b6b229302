"""Independent tasks are found where they were planted, and none where there are none."""

import math
import sys

import pytest
import torch
from networks import on_meta, random_inputs

from gradsplinter import (
    ReluNetwork,
    communities,
    computation_graph,
    neuron_communities,
    scores,
    view,
)  # fmt: skip
from gradsplinter.tasks import ParallelProducts
from gradsplinter.train import TrainConfig, initialise, train

PAIRS = {n: [i // 2 for i in range(2 * n)] for n in (2, 3)}


@pytest.fixture(scope="module", params=[2, 3])
def trained(request):
    """Networks that learned some products side by side, and inputs."""
    task = ParallelProducts(request.param)
    x = task.sample(4000, generator=torch.Generator().manual_seed(7))
    config = TrainConfig((task.n_inputs, 32, 32, task.n_outputs), 2500, 5e-3, 256)
    several = x.expand(3, -1, -1)
    result = train(config, several, task.target(x).expand(3, -1, -1), range(3), progress=False)
    return result.networks, x[:2000]


def block_network():
    """Inputs 0, 1 and 2, 3 meet in hidden layers of their own; unit 4 of site 1 is dead."""
    first = torch.tensor([[1.0, 1, 0, 0], [1, -1, 0, 0], [0, 0, 1, 1], [0, 0, 1, -1], [0, 0, 0, 0]])
    second = torch.tensor([[1.0, 2, 0, 0, 0], [0, 0, 2, 1, 0], [1, -1, 0, 0, 0]])
    third = torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    biases = [torch.tensor([0.0, 0, 0, 0, -1]), torch.zeros(3), torch.zeros(2)]
    return ReluNetwork([first, second, third], biases)


def test_blocks_are_found_exactly():
    net, x = block_network(), random_inputs(300, 4)
    graph = computation_graph(net, x)
    for found in (communities(graph), neuron_communities(net, x)):
        assert found.n == 2
        assert found.units[0].tolist() == [0, 0, 1, 1]
        assert found.units[1].tolist() == [0, 0, 1, 1, -1]
        assert found.units[2].tolist() == [0, 1, 0]
        assert found.separation == 1
        assert found.modularity > 0
        assert bool((found.affinity.diagonal() == 0).all())
        assert torch.allclose(found.affinity, found.affinity.T)
    assert neuron_communities(net, x).chance < found.modularity
    assert math.isnan(communities(graph).chance)  # which is not compared with chance
    of = communities(graph).of(graph)
    for site in graph.sites:
        zero = graph.lengths(site) == 0
        expected = torch.arange(2).expand_as(zero)  # each output has a block of its own
        assert torch.equal(of[site], torch.where(zero, -1, expected))
    drawn = view(graph, communities=of)
    assert {node.community for node in drawn.nodes if node.directions == (0,)} == {0}
    assert repr(communities(graph)) == (
        "Communities: 2, separation 1.00, units of each: site 0: 2, 2; site 1: 2, 2; site 2: 2, 1"
    )


def test_modularity_and_separation_by_hand():
    """Rows (1/2, 1/2, 0, 0), (0, 0, 1/2, 1/2) and (0, 1/2, 1/2, 0) with p (1 - p) = 1/4 each."""
    rows = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]])
    net = ReluNetwork([rows, torch.ones(1, 3)], [torch.zeros(3), torch.zeros(1)])
    x = torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]])
    found = neuron_communities(net, x, permutations=0, least=0)
    assert found.affinity.tolist() == [
        [0, 1 / 16, 0, 0],
        [1 / 16, 0, 1 / 16, 0],
        [0, 1 / 16, 0, 1 / 16],
        [0, 0, 1 / 16, 0],
    ]
    # Of 3 edges 2 lie within; each half has 3 of 6 ends.
    assert found.modularity == pytest.approx(2 / 3 - 1 / 2)
    assert found.separation == pytest.approx((2 / 3 - 1 / 2) / (1 / 2))
    assert neuron_communities(net, x, least=0.5).n == 1


def test_planted_products_are_found(trained):
    networks, x = trained
    for net in networks:
        n = net.widths[-1]
        found = neuron_communities(net, x)
        assert found.units[0].tolist() == PAIRS[n]
        assert found.n == n
        graph = computation_graph(net, x)
        from_outputs = communities(graph)
        assert from_outputs.units[0].tolist() == PAIRS[n]
        components = graph.components(0).unflatten(2, (n, 2)).square().sum(dim=3)
        assert torch.equal(from_outputs.of(graph)[0], components.argmax(dim=2))


def test_the_same_seed_gives_the_same(trained):
    networks, x = trained
    first, second = (neuron_communities(networks[0], x, seed=3) for _ in range(2))
    assert first.chance == second.chance
    for site in first.units:
        assert torch.equal(first.units[site], second.units[site])


def test_untrained_networks_have_one_community():
    x = random_inputs(1000, 6)
    for seed in range(10):
        net = initialise((6, 32, 32, 3), seed)
        assert neuron_communities(net, x).n == communities(computation_graph(net, x)).n == 1


def test_tasks_that_share_an_input_are_one_community():
    rows = torch.tensor([[1.0, 1, 0], [1, -1, 0], [0, 1, 1], [0, 1, -1]])
    net = ReluNetwork([rows, torch.ones(1, 4)], [torch.zeros(4), torch.zeros(1)])
    assert neuron_communities(net, random_inputs(500, 3)).n == 1


def test_inputs_that_no_gradient_ties():
    net = ReluNetwork([torch.eye(3), torch.eye(3)], [torch.zeros(3), torch.zeros(3)])
    found = neuron_communities(net, random_inputs(100, 3))
    assert found.units[0].tolist() == found.units[1].tolist() == [0, 1, 2]
    assert (found.modularity, found.separation) == (0, 1)


def test_a_dead_network_has_no_community():
    net = ReluNetwork([torch.eye(2), torch.eye(2)], [torch.full((2,), -9.0), torch.zeros(2)])
    found = neuron_communities(net, torch.rand(10, 2))
    assert found.n == 0
    assert found.units[0].tolist() == found.units[1].tolist() == [-1, -1]
    graph = computation_graph(net, torch.rand(10, 2))
    assert communities(graph).of(graph)[0].tolist() == [[-1, -1]]


@pytest.mark.parametrize("start", [1, 2])
def test_a_graph_without_gradients_has_no_community(start):
    dead = torch.full((4,), -99.0)
    net = ReluNetwork([torch.eye(4), torch.eye(4), torch.ones(2, 4)], [dead, dead, torch.zeros(2)])
    graph = computation_graph(net, torch.rand(10, 4), start=start)
    found = communities(graph)
    assert found.n == 0
    assert all(bool((of == -1).all()) for of in found.of(graph).values())
    assert neuron_communities(net, torch.rand(10, 4)).n == 0


def test_inputs_that_only_neurons_use_that_are_always_on():
    """The second half of a network of two blocks, or all of it, is linear on the data."""
    weight = torch.zeros(8, 4)
    weight[:4, :2] = torch.tensor([[1.0, 1], [1, -1], [-1, 2], [2, 1]])
    weight[4:, 2:] = torch.tensor([[1.0, 1], [1, 2], [2, 1], [1, 3]])
    x = torch.cat([random_inputs(200, 2), random_inputs(200, 2).abs()], dim=1)
    outputs = torch.ones(1, 8)
    half = neuron_communities(ReluNetwork([weight, outputs], [torch.zeros(8), torch.zeros(1)]), x)
    assert half.n == 2
    assert half.units[0].tolist() == [0, 0, 1, 1]
    assert half.units[1].tolist() == [0] * 4 + [1] * 4
    linear = ReluNetwork([weight, outputs], [torch.full((8,), 99.0), torch.zeros(1)])
    both = neuron_communities(linear, x)
    assert both.n == 2
    assert both.units[0].tolist() == [0, 0, 1, 1]
    dense = ReluNetwork([weight + 1, outputs], [torch.full((8,), 99.0), torch.zeros(1)])
    one = neuron_communities(dense, x)
    assert one.n == 1
    assert one.units[0].tolist() == [0] * 4


def test_another_source():
    net, x = block_network(), random_inputs(300, 4)
    found = neuron_communities(
        net, x, source=1, permutations=0
    )  # three neurons: chance does it too
    assert found.units[1].tolist() == [0, 0, 1, 1, -1]
    assert list(found.units) == [1, 2]


def test_all_at_once_and_piece_by_piece(monkeypatch):
    net, x = block_network(), random_inputs(300, 4)
    graph = computation_graph(net, x)
    expected = communities(graph), neuron_communities(net, x)
    for module in (scores, sys.modules[communities.__module__]):
        monkeypatch.setattr(module, "AT_ONCE", 20)
    for at_once, by_pieces in zip(
        expected, (communities(graph), neuron_communities(net, x)), strict=True
    ):
        torch.testing.assert_close(by_pieces.affinity, at_once.affinity, rtol=1e-14, atol=0)
        assert all(torch.equal(by_pieces.units[s], of) for s, of in at_once.units.items())
    for site, of in expected[0].of(graph).items():
        assert torch.equal(communities(graph).of(graph)[site], of)


def test_bad_input():
    message = (
        r"^graph must be a ComputationGraph, .* got ReluNetwork; neuron_communities\(net, x\) "
    )
    with pytest.raises(TypeError, match=message):
        communities(initialise((4, 3, 2), 0))
    net, x = block_network(), random_inputs(20, 4)
    with pytest.raises(ValueError, match=r"^source must be before the last hidden site 2, got 2$"):
        neuron_communities(net, x, source=2)
    flat = ReluNetwork([torch.ones(2, 4)], [torch.zeros(2)])
    with pytest.raises(
        ValueError,
        match=r"^net must have a hidden layer, got ReluNetwork\(4-2, float32\)$",
    ):
        neuron_communities(flat, x)
    steep = ReluNetwork([w * 1e20 for w in net.weights], net.biases)
    with pytest.raises(ValueError, match=r"^net must have finite gradients, with"):
        neuron_communities(steep, x)
    with pytest.raises(ValueError, match=r"^net must have finite gradients, with"):
        communities(computation_graph(steep, x))
    with pytest.raises(NotImplementedError, match=r"^net must be on the CPU, got meta$"):
        neuron_communities(on_meta(net), x)
    with pytest.raises(ValueError, match=r"^least must be in 0\.\.1, got 2$"):
        neuron_communities(net, x, least=2)
    with pytest.raises(ValueError, match=r"^permutations must be at least 0, got -1$"):
        neuron_communities(net, x, permutations=-1)
    dead = ReluNetwork([w * 0 for w in net.weights], net.biases)  # nothing to split
    with pytest.raises(ValueError, match=r"^permutations must be at least 0, got -1$"):
        neuron_communities(dead, x, permutations=-1)
    with pytest.raises(ValueError, match=r"^seed must be at least 0, got -1$"):
        communities(computation_graph(dead, x), seed=-1)
    with pytest.raises(ValueError, match="x must have shape"):
        neuron_communities(net, x[:, :3])
