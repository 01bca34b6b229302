"""From data to the orthogonality score, against the naive way and what one would write by hand."""

import pytest
import torch
from bench_jacobian import autograd_per_output, vmap_jacrev
from workloads import bits, name, network

import gradsplinter


def cosines(gradients):
    """The mean over pairs of directions, for each mode [U]."""
    units = torch.nn.functional.normalize(gradients.double(), dim=2)
    i, j = torch.triu_indices(gradients.shape[1], gradients.shape[1], offset=1)
    return (units @ units.mT).abs()[:, i, j].mean(dim=1)


def naive(gradients):
    """Sort the gradients of all examples to find the unique ones."""
    unique, counts = torch.unique(gradients.flatten(1), dim=0, return_counts=True)
    mean = (cosines(unique.view(-1, *gradients.shape[1:])) * counts).sum() / len(gradients)
    return float(1 - mean)


def by_hand(module, net, x):
    """Unique patterns first, then one masked product for each."""
    patterns, counts = torch.unique(bits(module, x), dim=0, return_counts=True)
    masks = patterns.float().split(net.widths[1:-1], dim=1)
    gradient = net.weights[-1].expand(len(patterns), -1, -1)
    for weight, mask in zip(reversed(net.weights[:-1]), reversed(masks), strict=True):
        gradient = (gradient * mask.unsqueeze(1)) @ weight
    return float(1 - (cosines(gradient) * counts).sum() / len(x))


@pytest.mark.parametrize(("widths", "n"), [((4, 32, 32, 2), 10**6), ((784, 128, 128, 10), 60_000)])
def bench_orthogonality(race, widths, n):
    n = race.size(n, 2_000)
    module, net = network(*widths)
    x = torch.rand(n, widths[0])
    ours = gradsplinter.splinter(net, x).orthogonality()
    part = x if widths[0] < 100 else x[:20_000]  # the naive ways, in memory and time one has
    names = (
        "autograd per output, torch.unique on gradients",
        "vmap(jacrev), torch.unique on gradients",
    )
    ways = dict(zip(names, (autograd_per_output, vmap_jacrev), strict=True))
    expected = gradsplinter.splinter(net, part).orthogonality()
    for gradients in ways.values():
        assert abs(expected - naive(gradients(module, part))) < 1e-5
    assert abs(ours - by_hand(module, net, x)) < 1e-5
    race(
        f"data to orthogonality, {name(net, n)}",
        {
            "ours": lambda: gradsplinter.splinter(net, x).orthogonality(),
            "unique patterns, masked matmul in torch": lambda: by_hand(module, net, x),
            **{
                way: lambda gradients=gradients: naive(gradients(module, part))
                for way, gradients in ways.items()
            },
        },
        rounds=3,
        pieces=dict.fromkeys(names, len(part) / len(x)),
    )


def bench_stream(race):
    """Time and memory of a stream: nanoseconds an example do not depend on how many there are."""
    module, net = network(4, 32, 32, 2)
    batch = torch.rand(race.size(10**5, 2_000), 4)

    def stream(batches):
        table = gradsplinter.SplinterTable(net)
        table.update(batch for _ in range(batches))
        return table

    found = stream(3).modes()
    assert found.examples == 3 * len(batch)
    assert torch.equal(found.counts, 3 * gradsplinter.splinter(net, batch).counts)
    race(
        f"a stream of batches into a table, for each {name(net, len(batch))}",
        {
            "ours, 10 batches": lambda: stream(10),
            "ours, 100 batches": lambda: stream(100),
            "ours, 1,000 batches": lambda: stream(1_000),
            "torch forward alone": lambda: module(batch),
        },
        rounds=3,
        pieces={"ours, 10 batches": 10, "ours, 100 batches": 100, "ours, 1,000 batches": 1_000},
    )
