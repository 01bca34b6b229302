"""From data to the orthogonality score, against the naive way and what one would write by hand."""

import torch
from workloads import bits, name, network

import gradsplinter


def cosines(gradients):
    units = torch.nn.functional.normalize(gradients.double(), dim=2)
    return (units[:, 0] * units[:, 1]).sum(dim=1).abs()


def naive(module, x):
    """Differentiate every example, and sort the gradients to find the unique ones."""
    gradients = torch.func.vmap(torch.func.jacrev(module))(x)
    unique, counts = torch.unique(gradients.flatten(1), dim=0, return_counts=True)
    return float(1 - (cosines(unique.view(-1, *gradients.shape[1:])) * counts).sum() / len(x))


def by_hand(module, net, x):
    """Unique patterns first, then one masked product for each."""
    patterns, counts = torch.unique(bits(module, x), dim=0, return_counts=True)
    gradient = net.weights[-1].expand(len(patterns), -1, -1)
    first, second = patterns.float().split(net.widths[1:-1], dim=1)
    gradient = (gradient * second.unsqueeze(1)) @ net.weights[1]
    gradient = (gradient * first.unsqueeze(1)) @ net.weights[0]
    return float(1 - (cosines(gradient) * counts).sum() / len(x))


def bench_orthogonality(race):
    n = race.size(200_000, 2_000)
    module, net = network(4, 32, 32, 2)
    x = torch.rand(n, 4)
    ours = gradsplinter.splinter(net, x).orthogonality()
    assert abs(ours - naive(module, x)) < 1e-5
    assert abs(ours - by_hand(module, net, x)) < 1e-5
    race(
        f"data to orthogonality, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.splinter(net, x).orthogonality(),
            "unique patterns, masked matmul in torch": lambda: by_hand(module, net, x),
            "vmap(jacrev), torch.unique on gradients": lambda: naive(module, x),
        },
        rounds=3,
    )
